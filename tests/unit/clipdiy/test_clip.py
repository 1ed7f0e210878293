"""Both towers of a CLIP with random weights: what goes in, what comes out, what is kept, what never changes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from text_networks import PROMPTS, TOKENIZER, make_encoder, make_network

from clipdiy import clip as clip_module
from clipdiy.clip import ClipEncoder, normalised_in
from clipdiy.errors import ShapeError
from clipdiy.vocabulary import make_vocabulary


@pytest.fixture
def network():
    return make_network()


@pytest.fixture
def encoder(network):
    return make_encoder(network)


def crops(count, seed=0, side=32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def test_pixels_are_normalised_by_channel(network):
    encoder = ClipEncoder(
        network,
        TOKENIZER,
        input_px=32,
        mean=(0.0, 0.5, 1.0),
        std=(1.0, 0.5, 0.25),
        device=torch.device("cpu"),
        dtype=torch.float32,
        crop_batch=4,
    )
    white = encoder.normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))
    torch.testing.assert_close(white.flatten(), torch.tensor([1.0, 1.0, 0.0]))
    black = encoder.normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))
    torch.testing.assert_close(black.flatten(), torch.tensor([0.0, -1.0, -4.0]))
    grey = encoder.normalise(torch.full((1, 3, 1, 1), 51, dtype=torch.uint8))
    torch.testing.assert_close(grey.flatten(), torch.tensor([0.2, -0.6, -3.2]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_16_bits_pixels_are_normalised_in_fewer_passes(dtype):
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, -1, -1)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((110.0, 125.0, 140.0), (60.0, 66.0, 70.0)))
    found = normalised_in(dtype, images, mean, std)
    assert found.dtype == dtype
    expected = ((images - mean) / std).to(dtype)  # rounded once
    torch.testing.assert_close(found.float(), expected.float(), atol=1e-6, rtol=torch.finfo(dtype).eps)


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_crops_are_embedded_one_by_one_whatever_the_batch(network, encoder, count):
    embedded = encoder.embed_crops(crops(count))
    assert (embedded.shape, embedded.dtype) == ((count, 16), torch.float32)
    with torch.inference_mode():
        alone = [network.encode_image(encoder.normalise(crop[None]), normalize=True)[0] for crop in crops(count)]
    torch.testing.assert_close(embedded, torch.stack(alone), atol=1e-5, rtol=0)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(count))


def test_no_batch_is_larger_than_was_said(network, encoder):
    sizes = []
    network.visual.register_forward_pre_hook(lambda _module, arguments: sizes.append(len(arguments[0])))
    encoder.embed_crops(crops(9))
    assert sizes == [4, 4, 1]


@pytest.mark.parametrize(
    "wrong",
    [crops(1, side=31), crops(1)[0], crops(1).float(), crops(1)[:, :1]],
    ids=["side", "no batch", "float", "grey"],
)
def test_crops_of_another_shape_are_refused(encoder, wrong):
    with pytest.raises(ShapeError, match=r"\(N, 3, 32, 32\) uint8"):
        encoder.embed_crops(wrong)


def test_something_else_executes_the_image_tower_of_a_new_encoder_only(encoder):
    before = encoder.embed_crops(crops(2))

    def engine(images):
        assert images.dtype == torch.float32
        return torch.eye(16)[: len(images)] * 7

    other = encoder.executed_by(engine, "an engine")
    assert torch.equal(other.embed_crops(crops(2)), torch.eye(16)[:2])
    assert (encoder.arithmetic, other.arithmetic) == ("torch.float32", "an engine")
    assert torch.equal(encoder.embed_crops(crops(2)), before), "the first one is as it was"
    assert torch.equal(other.embed_texts(["cat"]), encoder.embed_texts(["cat"]))


def test_embedding_size_is_that_of_crops_and_texts(encoder):
    assert encoder.embedding_size == encoder.embed_texts(["cat"]).shape[1] == 16


def test_a_label_is_the_mean_of_its_prompts_as_unit_vectors(encoder):
    vocabulary = make_vocabulary(["cat", ("pet", ["dog", "hamster"])], template="{}")
    background, cat, pet = encoder.embed_vocabulary(vocabulary)
    texts = dict(
        zip(
            ("background", "cat", "dog", "hamster"),
            encoder.embed_texts(["background", "cat", "dog", "hamster"]),
            strict=True,
        )
    )
    torch.testing.assert_close(background, texts["background"])
    torch.testing.assert_close(cat, texts["cat"])
    torch.testing.assert_close(pet, F.normalize(texts["dog"] + texts["hamster"], dim=0))


def test_a_prompt_runs_through_the_tower_once(network, encoder):
    rows = []
    network.transformer.register_forward_pre_hook(lambda _module, arguments: rows.append(len(arguments[0])))
    encoder.embed_texts(["cat", "dog", "cat"])
    encoder.embed_texts(["dog", "cat"])
    encoder.embed_vocabulary(make_vocabulary(["cat", "tree"], template="{}"))
    assert rows == [2, 2], "cat and dog; then background and tree"


@pytest.mark.parametrize("kept", [1, 3])
def test_texts_used_longest_ago_are_forgotten_first(monkeypatch, network, kept):
    monkeypatch.setattr(clip_module, "TEXT_CACHE_SIZE", kept)
    encoder = make_encoder(network)
    for text in ("a", "b", "c", "a", "d"):
        encoder.embed_texts([text])
    assert [text for text, _ in encoder._known_texts.items()] == ["c", "a", "d"][-kept:]
    assert len(encoder.embed_texts(PROMPTS)) == len(PROMPTS), "more at once than are kept"


def test_a_number_of_vocabularies_is_kept(monkeypatch, network):
    monkeypatch.setattr(clip_module, "VOCABULARY_CACHE_SIZE", 2)
    encoder = make_encoder(network)
    vocabularies = [make_vocabulary([name]) for name in ("a", "b", "c")]
    first = encoder.embed_vocabulary(vocabularies[0])
    assert encoder.embed_vocabulary(vocabularies[0]) is first
    for vocabulary in vocabularies:
        encoder.embed_vocabulary(vocabulary)
    assert encoder.embed_vocabulary(vocabularies[0]) is not first
    torch.testing.assert_close(encoder.embed_vocabulary(vocabularies[0]), first)


def test_many_threads_embed_a_new_text_once(network, encoder):
    rows = []
    network.transformer.register_forward_pre_hook(lambda _module, arguments: rows.append(len(arguments[0])))
    together = threading.Barrier(8)

    def work(_):
        together.wait()
        return encoder.embed_texts(["cat", "dog"])

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert rows == [2]
    assert all(torch.equal(one, results[0]) for one in results)


def test_logit_scale_is_the_exponential_of_what_was_learned(network, encoder):
    network.logit_scale.fill_(2.0)
    assert encoder.logit_scale == pytest.approx(7.389, abs=1e-3)
