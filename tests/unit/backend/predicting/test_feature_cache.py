import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
import torch

from backend.images.versions import Validator
from backend.predicting.feature_cache import FeatureCache, content_of
from clipdiy.features import ImageFeatures

CORE = "core-1"
SIZE = 6 + 32 + len(ImageFeatures((torch.zeros(1, 1, 8),), None, (3, 4), CORE).to_bytes())
"""Of one image's features, with the digest of their key before them."""


def features(value=0.0, core=CORE):
    return ImageFeatures((torch.full((1, 1, 8), value),), None, (3, 4), core)


def value_of(kept):
    return None if kept is None else float(kept.crop_embeddings[0][0, 0, 0])


def key(i):
    return content_of(str(i).encode())


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path, memory_bytes=10 * SIZE, disk_bytes=100 * SIZE)


def test_what_is_put_is_got(cache):
    assert cache.get(key(1), CORE) is None
    cache.put(key(1), CORE, features(0.5))
    assert value_of(cache.get(key(1), CORE)) == 0.5
    assert cache.get(key(2), CORE) is None
    assert cache.get(key(1), "core-2") is None


def test_it_outlives_the_process(cache, tmp_path):
    cache.put(key(1), CORE, features(0.25))
    again = FeatureCache(tmp_path, memory_bytes=0, disk_bytes=100 * SIZE)
    assert value_of(again.get(key(1), CORE)) == 0.25


def test_memory_keeps_to_its_limit_and_drops_what_was_not_used_for_longest():
    cache = FeatureCache(None, memory_bytes=3 * SIZE, disk_bytes=0)
    for i in range(3):
        cache.put(key(i), CORE, features())
    cache.get(key(0), CORE)
    cache.put(key(3), CORE, features())
    assert cache.get(key(1), CORE) is None
    assert [value_of(cache.get(key(i), CORE)) is not None for i in range(4)] == [True, False, True, True]


def test_the_same_key_again_is_not_counted_twice():
    cache = FeatureCache(None, memory_bytes=3 * SIZE, disk_bytes=0)
    cache.put(key(1), CORE, features(1))
    for _ in range(10):
        cache.put(key(0), CORE, features())
    assert value_of(cache.get(key(1), CORE)) == 1, "there is room for three"


def test_disk_keeps_to_its_limit_and_drops_what_was_not_used_for_longest(tmp_path):
    cache = FeatureCache(tmp_path, memory_bytes=0, disk_bytes=10 * SIZE)
    for i in range(10):
        cache.put(key(i), CORE, features(i))
    for age, path in enumerate(files(tmp_path)):
        os.utime(path, (1000 + age, 1000 + age))
    cache.get(key(0), CORE)
    cache.put(key(10), CORE, features(10))
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 10 * SIZE
    assert value_of(cache.get(key(0), CORE)) == 0
    assert value_of(cache.get(key(10), CORE)) == 10


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-1], lambda data: data[:40] + b"x" + data[41:], lambda data: b"pickle"],
    ids=["empty", "cut off", "changed", "something else"],
)
def test_a_damaged_file_is_thrown_away(cache, tmp_path, damage, caplog):
    cache.put(key(1), CORE, features())
    [path] = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    again = FeatureCache(tmp_path, memory_bytes=SIZE, disk_bytes=100 * SIZE)
    assert again.get(key(1), CORE) is None
    assert files(tmp_path) == []
    assert "damaged" in caplog.text
    again.put(key(1), CORE, features(1))
    assert value_of(again.get(key(1), CORE)) == 1


@pytest.mark.parametrize("other", [(key(2), CORE), (key(1), "core-2")], ids=["another image", "another core"])
def test_features_under_another_ones_name_are_not_believed(cache, tmp_path, other, caplog):
    """As after a backup that was put back wrongly: whole files, exchanged."""
    cache.put(key(1), CORE, features(1))
    content, core = other
    cache.put(content, core, features(2, core))
    one, two = (next(tmp_path.rglob(f"{name}-{made_by}*")) for name, made_by in ((key(1), CORE), other))
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)
    again = FeatureCache(tmp_path, memory_bytes=10 * SIZE, disk_bytes=100 * SIZE)
    assert again.get(key(1), CORE) is None
    assert again.get(content, core) is None
    assert "another image" in caplog.text
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    cache = FeatureCache(blocked, memory_bytes=10 * SIZE, disk_bytes=10 * SIZE)
    for i in range(3):
        cache.put(key(i), CORE, features(i))
        assert value_of(cache.get(key(i), CORE)) == i
    assert caplog.text.count("going on without") == 1


def test_a_full_disk_leaves_no_unfinished_file(cache, tmp_path, monkeypatch, caplog):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("backend.predicting.feature_cache.os.replace", full)
    cache.put(key(1), CORE, features())
    assert files(tmp_path) == []
    assert "No space left on device" in caplog.text
    assert cache.get(key(1), CORE) is not None


def test_many_threads(cache):
    def work(i):
        cache.put(key(i % 7), CORE, features(i % 7))
        return value_of(cache.get(key(i % 7), CORE))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(200))) == [i % 7 for i in range(200)]


def _work_in_a_process(arguments):
    folder, start = arguments
    cache = FeatureCache(folder, memory_bytes=0, disk_bytes=20 * SIZE)
    wrong = 0
    for i in range(start, start + 60):
        cache.put(key(i % 30), CORE, features(i % 30))
        got = value_of(cache.get(key(i % 30), CORE))
        wrong += got not in (None, i % 30)
    return wrong


def test_several_processes_in_one_folder(tmp_path):
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(_work_in_a_process, [(tmp_path, start) for start in (0, 10, 20)])) == [0, 0, 0]
    assert not [path for path in files(tmp_path) if path.suffix == ".part"]
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 25 * SIZE


def test_sources(cache):
    assert cache.source("a") is None
    cache.remember_source("a", key(1), Validator(etag="x"))
    assert cache.source("a").content == key(1)
    cache.remember_source("b", key(1), None)
    assert cache.source("b") is None
