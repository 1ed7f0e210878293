"""Text embeddings: trimmed as exact as untrimmed, kept in memory and on disk."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F

from clipdiy.clip import ClipEncoder
from clipdiy.text_cache import ENDING, TextCache
from clipdiy.text_tower import causal_text_tower
from clipdiy.vocabulary import make_vocabulary

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
TOKENIZER = open_clip.SimpleTokenizer()
PROMPTS = [
    "a photo of a cat",
    "cat",
    "",
    "a photo of a rusty red bicycle that leans against the wall of a house by the sea",
    " ".join(["word"] * 200),
    "a photo of a cat.",
    "ümlaut 🐈",
]


def make_network(text=None, custom=False, seed=0):
    torch.manual_seed(seed)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    network = kind(embed_dim=16, vision_cfg=dict(VISION), text_cfg={**TEXT, **(text or {})}).eval()
    return network.requires_grad_(False)


def make_encoder(network, text_cache=None, tokenizer=TOKENIZER):
    return ClipEncoder(
        network,
        tokenizer,
        input_px=32,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        device=torch.device("cpu"),
        dtype=torch.float32,
        crop_batch=4,
        text_cache=text_cache,
    )


def untrimmed(network, prompts):
    with torch.inference_mode():
        return F.normalize(network.encode_text(TOKENIZER(prompts)), dim=-1)


@pytest.mark.parametrize("custom", [False, True], ids=["CLIP", "CustomTextCLIP"])
@pytest.mark.parametrize(
    "text",
    [{}, {"pool_type": "eos", "eos_id": 49407}, {"proj_type": "none", "width": 16}, {"proj_bias": True}],
    ids=["end token is the highest", "end token by its number", "no projection", "projection with a bias"],
)
def test_trimmed_is_untrimmed(custom, text):
    network = make_network(text, custom)
    assert causal_text_tower(network) is not None
    torch.testing.assert_close(
        make_encoder(network).embed_texts(PROMPTS), untrimmed(network, PROMPTS), atol=1e-5, rtol=0
    )


def test_only_the_tokens_that_count_are_run(monkeypatch):
    network = make_network()
    seen = []
    network.transformer.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments[0].shape[1]))
    make_encoder(network).embed_texts(["a photo of a cat", "cat"])
    assert seen == [7]


@pytest.mark.parametrize(
    "text",
    [
        {"pool_type": "last"},
        {"pool_type": "first"},
        {"no_causal_mask": True},
        {"embed_cls": True},
    ],
    ids=["read at the last token", "read at the first", "looks both ways", "class token"],
)
def test_other_towers_run_as_they_are(text):
    network = make_network(text, custom=True)
    assert causal_text_tower(network) is None
    torch.testing.assert_close(
        make_encoder(network).embed_texts(PROMPTS), untrimmed(network, PROMPTS), atol=1e-5, rtol=0
    )


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


def test_the_starter_is_trimmed():
    folder = Path(__file__).parents[3] / "clipdiy" / "starter" / "weights" / "clip"
    network = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    assert causal_text_tower(network) is not None
    with torch.inference_mode():
        whole = F.normalize(network.encode_text(tokenizer(PROMPTS)), dim=-1)
    torch.testing.assert_close(
        make_encoder(network, tokenizer=tokenizer).embed_texts(PROMPTS), whole, atol=1e-5, rtol=0
    )
