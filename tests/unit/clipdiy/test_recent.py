from concurrent.futures import ThreadPoolExecutor

from clipdiy.recent import Recent


def test_what_was_not_used_for_longest_is_forgotten():
    recent = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert [recent.get(key) for key in "abc"] == [1, None, 3]
    assert len(recent) == 2


def test_looking_whether_something_is_there_is_no_use():
    recent = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert "a" in recent
    recent.put("c", 3)
    assert "a" not in recent


def test_putting_again_is_a_use_and_replaces():
    recent = Recent(2, most_bytes=100, size_of=len)
    recent.put("a", "xxx")
    recent.put("b", "y")
    assert recent.put("a", "zz") == "zz"
    assert recent.used_bytes == 3
    recent.put("c", "")
    assert [recent.get(key) for key in "abc"] == ["zz", None, ""]


def test_bytes_are_bounded():
    recent = Recent(10, most_bytes=5, size_of=len)
    recent.put(1, "aa")
    recent.put(2, "bbb")
    assert recent.used_bytes == 5
    recent.put(3, "c")
    assert [recent.get(key) for key in (1, 2, 3)] == [None, "bbb", "c"]
    assert recent.put(4, "too large") == "too large"
    assert [recent.get(key) for key in (2, 3, 4)] == ["bbb", "c", None], "the others stay"
    recent.put(3, "too large")
    assert recent.get(3) is None, "its earlier value is none of it"
    assert recent.used_bytes == 3


def test_without_sizes_nothing_is_weighed():
    recent = Recent(2, most_bytes=0)
    recent.put("a", "xx")
    assert recent.get("a") == "xx"
    assert recent.used_bytes == 0


def test_pop():
    recent = Recent(2, most_bytes=5, size_of=len)
    recent.put("a", "xx")
    assert recent.pop("a") == "xx"
    assert recent.pop("a") is None
    assert recent.used_bytes == len(recent) == 0


def test_add_says_whether_it_is_new():
    recent = Recent(2)
    assert recent.add("a", 1)
    assert not recent.add("a", 2)
    assert recent.get("a") == 2


def test_many_threads():
    recent = Recent(5, most_bytes=50, size_of=lambda value: value)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: (recent.put(i % 9, i % 13), recent.get(i % 7), recent.pop(i % 3)), range(5000)))
    assert recent.used_bytes == sum(recent.get(key) or 0 for key in range(9)) <= 50
    assert len(recent) <= 5
