"""The product against the plain reading of the paper, on random pictures, vocabularies and sizes.

The product keeps features in half precision, and resizes with torch what the reference resizes with Pillow (they differ
by 1 of 255 here and there, to which tiny random networks are more sensitive than trained ones). So cosines differ a
little, and pixels on the border of two classes may go to either; a pixel where one class is clearly ahead may not.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY

from backend.outputs.brush import encode_label_map
from benchmarks.networks import reference_of
from clipdiy.aggregate import grid_similarity
from clipdiy.build import build_segmenter
from clipdiy.config import CropGrid, ObjectnessConfig
from clipdiy.guide import ObjectnessField
from clipdiy.photo import Photo
from clipdiy.segmenter import Segmenter
from clipdiy.vocabulary import make_vocabulary

CONFIG = replace(TINY, objectness=ObjectnessConfig(square_px=96), dtype="float32")
WORDS = ("cat", "dog", "a very long name of a thing", "sofa", "tree", "bus", "sky", "rusty-red bicycle", "ümlaut")
MARGIN = 1e-2  # in cosines, which span about 1 here


@pytest.fixture(scope="module")
def networks():
    segmenter = build_segmenter(CONFIG, warm_up=False)
    return segmenter.clip, segmenter._objectness_network


@pytest.fixture(scope="module")
def make(networks):
    """Both programs, with the same weights, for a configuration."""

    def both(**changes):
        config = replace(CONFIG, **changes)
        ours = Segmenter(config, *networks, name="tiny", weights_id="tiny")
        return ours, reference_of(ours)

    return both


def picture(seed, height, width):
    """Patches of colour with noise on them, so that crops differ."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 7, 3))
    rows, cols = np.arange(height) * 5 // height, np.arange(width) * 7 // width
    return np.clip(coarse[rows][:, cols] + rng.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)


def prompts_of(vocabulary):
    return [prompts[0] for prompts in vocabulary.prompts]


def assert_same_but_for_borders(labels, guided):
    named = guided.gather(0, torch.from_numpy(labels.astype(np.int64))[None])[0]
    assert float((guided.max(dim=0).values - named).max()) <= MARGIN


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10_000),
    size_hw=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6),
)
def test_any_picture_and_vocabulary(make, seed, size_hw, words):
    ours, reference = make()
    pixels, vocabulary = picture(seed, *size_hw), make_vocabulary(words)
    labels = ours.segment(ours.encode([Photo.from_array(pixels)])[0], vocabulary).label_map
    guided = reference.guided(pixels, reference.embed(prompts_of(vocabulary)))
    assert_same_but_for_borders(labels, guided)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"grid": CropGrid()}, id="three scales, half overlap"),
        pytest.param({"grid": CropGrid(stride_ratio=1.0)}, id="three scales, no overlap"),
        pytest.param({"grid": CropGrid(square_px=128, patch_px=(128, 32))}, id="another square"),
        pytest.param({"objectness": ObjectnessConfig()}, id="FOUND at the photo's own size"),
        pytest.param({"objectness": ObjectnessConfig(long_px=64)}, id="FOUND on a reduced photo"),
    ],
)
@pytest.mark.parametrize("size_hw", [(61, 90), (130, 57)], ids=str)
def test_configurations(make, changes, size_hw):
    ours, reference = make(**changes)
    pixels, vocabulary = picture(1, *size_hw), make_vocabulary(WORDS)
    features = ours.encode([Photo.from_array(pixels)])[0]
    texts = reference.embed(prompts_of(vocabulary))
    torch.testing.assert_close(ours.clip.embed_vocabulary(vocabulary), texts, atol=1e-5, rtol=0)
    grids = grid_similarity([scale.float() for scale in features.crop_embeddings], texts)
    for got, wanted in zip(grids, reference.grids(pixels, texts), strict=True):
        torch.testing.assert_close(got, wanted, atol=MARGIN, rtol=0)
        assert float((got - wanted).abs().mean()) <= MARGIN / 2
    objectness = ObjectnessField(features.objectness, size_hw).rows(0, size_hw[0])
    torch.testing.assert_close(objectness, reference.objectness(pixels), atol=1e-2, rtol=0)
    assert_same_but_for_borders(ours.segment(features, vocabulary).label_map, reference.guided(pixels, texts))


def test_masks(make):
    _, reference = make()
    pixels, vocabulary = picture(2, 80, 70), make_vocabulary(["cat", "dog"])
    labels = reference.segment(pixels, prompts_of(vocabulary))
    codes = encode_label_map(labels.astype(np.uint16), [c for c in (1, 2) if (labels == c).any()])
    assert list(codes.values()) == reference.predict(pixels, prompts_of(vocabulary))


def test_keys_of_every_layer_run_to_its_end_are_those_of_the_cut_one(networks):
    _, found = networks
    images = torch.randn(2, 3, 40, 72, generator=torch.Generator().manual_seed(0))
    reference = reference_of(Segmenter(CONFIG, *networks, name="tiny", weights_id="tiny"))
    with torch.inference_mode():
        torch.testing.assert_close(found(images).keys, reference.keys(images), atol=1e-5, rtol=1e-5)
