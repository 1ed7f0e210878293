"""Text embeddings on disk: embedded once for all processes, and never believed when damaged."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from text_networks import PROMPTS, make_encoder, make_network, untrimmed

from clipdiy.text_cache import ENDING, TextCache
from clipdiy.vocabulary import make_vocabulary


class Broken:
    """A tokenizer for encoders that must not need one any more."""

    def __call__(self, texts):
        raise AssertionError(f"embedded again: {texts}")


@pytest.fixture
def network():
    return make_network()


def test_another_process_finds_what_was_embedded(network, tmp_path):
    vocabulary = make_vocabulary(["cat", ("pet", ["dog", "hamster"])])
    first = make_encoder(network, TextCache(tmp_path, "e1")).embed_vocabulary(vocabulary)
    later = make_encoder(network, TextCache(tmp_path, "e1"), Broken()).embed_vocabulary(vocabulary)
    assert torch.equal(first, later)


def test_a_running_process_sees_what_another_one_wrote(network, tmp_path):
    one, other = (make_encoder(network, TextCache(tmp_path, "e1")) for _ in range(2))
    other.embed_texts(["cat"])
    embedded = one.embed_texts(["dog"])
    other._tokenizer = Broken()
    assert torch.equal(other.embed_texts(["dog"]), embedded)


def test_encoders_are_kept_apart(network, tmp_path):
    make_encoder(network, TextCache(tmp_path, "e1")).embed_texts(["cat"])
    other = make_network(seed=1)
    embedded = make_encoder(other, TextCache(tmp_path, "e2")).embed_texts(["cat"])
    torch.testing.assert_close(embedded, untrimmed(other, ["cat"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
        lambda data: data.replace(b"CDIYT\x01", b"CDIYT\x02"),
        lambda data: b"\x80\x04X a pickle",
    ],
    ids=["empty", "cut off", "a bit flipped", "another version", "something else"],
)
def test_damaged_files_do_not_count(network, tmp_path, damage, caplog):
    make_encoder(network, TextCache(tmp_path, "e1")).embed_texts(["cat"])
    [file] = tmp_path.rglob(f"*{ENDING}")
    file.write_bytes(damage(file.read_bytes()))
    embedded = make_encoder(network, TextCache(tmp_path, "e1")).embed_texts(["cat"])
    torch.testing.assert_close(embedded, untrimmed(network, ["cat"]), atol=1e-5, rtol=0)
    assert str(file) in caplog.text


def test_a_folder_that_cannot_be_written(network, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    make_encoder(network, TextCache(tmp_path / "file", "e1")).embed_texts(["cat"])
    assert "not kept" in caplog.text


def test_no_half_file_is_left(network, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("clipdiy.text_cache.os.replace", full)
    make_encoder(network, TextCache(tmp_path, "e1")).embed_texts(["cat"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_many_small_files_become_one(network, tmp_path, monkeypatch):
    monkeypatch.setattr("clipdiy.text_cache.MOST_FILES", 3)
    encoder = make_encoder(network, TextCache(tmp_path, "e1"))
    words = ["cat", "dog", "sofa", "tree"]
    embedded = torch.cat([encoder.embed_texts([word]) for word in words])
    assert len(list(tmp_path.rglob(f"*{ENDING}"))) == 1
    assert torch.equal(make_encoder(network, TextCache(tmp_path, "e1"), Broken()).embed_texts(words), embedded)


def test_the_folder_does_not_grow_without_end(network, tmp_path, monkeypatch):
    monkeypatch.setattr("clipdiy.text_cache.MOST_BYTES", 500)
    encoder = make_encoder(network, TextCache(tmp_path, "e1"))
    for i in range(20):
        encoder.embed_texts([f"thing {i}"])
    assert sum(path.stat().st_size for path in tmp_path.rglob(f"*{ENDING}")) < 700


class Overtaken(TextCache):
    """Another process removes every file as soon as this one knows of it."""

    def _sizes(self):
        sizes = super()._sizes()
        self.overtaken = [*sizes]
        for name in sizes:
            (self._folder / name).unlink()
        return sizes


@pytest.mark.parametrize("limit", ["MOST_FILES", "MOST_BYTES"])
def test_another_process_may_be_quicker(tmp_path, monkeypatch, caplog, limit):
    TextCache(tmp_path, "e1").put({"cat": torch.ones(3)})
    monkeypatch.setattr(f"clipdiy.text_cache.{limit}", 1)
    cache = Overtaken(tmp_path, "e1")
    cache.put({"dog": torch.zeros(3)})
    assert len(cache.overtaken) == 1
    assert list(TextCache(tmp_path, "e1").unread()) == ["dog"]
    assert caplog.text == ""


def test_a_file_that_went_while_files_were_listed(tmp_path, caplog):
    cache = TextCache(tmp_path, "e1")
    cache.put({"cat": torch.ones(3)})
    (tmp_path / "e1" / f"gone{ENDING}").symlink_to("nowhere")
    cache.put({"dog": torch.zeros(3)})
    assert sorted(TextCache(tmp_path, "e1").unread()) == ["cat", "dog"]
    assert caplog.text == ""


def test_the_oldest_go_first_and_no_more_than_have_to(tmp_path, monkeypatch):
    cache = TextCache(tmp_path, "e1")
    for age, word in enumerate(["cat", "dog", "cow"]):
        cache.put({word: torch.ones(3)})
        [file] = [file for file in (tmp_path / "e1").iterdir() if file.stat().st_mtime > 1000]
        os.utime(file, (100 + age, 100 + age))
    one = file.stat().st_size
    monkeypatch.setattr("clipdiy.text_cache.MOST_BYTES", 2 * one)
    cache.put({"hen": torch.ones(3)})
    assert sorted(TextCache(tmp_path, "e1").unread()) == ["cow", "dog", "hen"]


def test_many_processes_at_once(network, tmp_path):
    def work(i):
        return make_encoder(network, TextCache(tmp_path, "e1")).embed_texts([f"thing {i % 4}", "cat"])

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(12)))
    for i, embedded in enumerate(results):
        torch.testing.assert_close(embedded, untrimmed(network, [f"thing {i % 4}", "cat"]), atol=1e-5, rtol=0)


def test_prompts_of_any_sign_survive(network, tmp_path):
    make_encoder(network, TextCache(tmp_path, "e1")).embed_texts(PROMPTS)
    make_encoder(network, TextCache(tmp_path, "e1"), Broken()).embed_texts(PROMPTS)
