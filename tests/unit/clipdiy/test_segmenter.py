"""Segmenter with the tiny golden networks: sizes, states, identities."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, VOCABULARY, photo

from clipdiy.build import build_segmenter
from clipdiy.config import CleanUp, CropGrid, ObjectnessConfig
from clipdiy.errors import ConfigError, FeaturesError
from clipdiy.features import ImageFeatures
from clipdiy.photo import Photo
from clipdiy.segmenter import Segmenter
from clipdiy.vocabulary import make_vocabulary


@pytest.fixture(scope="module")
def segmenter():
    return build_segmenter(TINY, warm_up=False)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 300), (300, 1), (217, 333), (640, 480), (31, 900)], ids=str)
@pytest.mark.parametrize("label_map", ["full", "square"])
def test_any_size(segmenter, size_hw, label_map):
    model = Segmenter(replace(TINY, label_map=label_map), segmenter.clip, segmenter._found, name="x", weights_id="x")
    result = model.segment(model.encode([photo(0, *size_hw)])[0], VOCABULARY)
    assert result.label_map.shape == size_hw
    assert result.label_map.dtype == np.uint16
    assert result.label_map.max() < len(VOCABULARY)
    assert result.area.sum() == pytest.approx(1)
    assert result.score.shape == (4,)
    assert ((result.score >= 0) & (result.score <= 1)).all()
    assert (result.score[result.area == 0] == 0).all()
    assert 0 <= result.image_score <= 1


def test_label_map_has_the_size_of_the_original_not_of_the_pixels(segmenter):
    reduced = Photo(photo(0, 100, 80).pixels, (1000, 800))
    assert segmenter.segment(segmenter.encode([reduced])[0], VOCABULARY).size_hw == (1000, 800)


def test_a_batch_is_the_photos_one_by_one(segmenter):
    photos = [photo(1, 90, 120), photo(2, 120, 90), photo(3, 90, 120)]
    together = segmenter.encode(photos)
    for single, batched in zip(photos, together, strict=True):
        alone = segmenter.encode([single])[0]
        for a, b in zip(alone.crop_embeddings, batched.crop_embeddings, strict=True):
            torch.testing.assert_close(a, b, atol=2e-3, rtol=0)
        np.testing.assert_array_equal(
            segmenter.segment(alone, VOCABULARY).label_map, segmenter.segment(batched, VOCABULARY).label_map
        )
    assert segmenter.encode([]) == []


def test_features_survive_their_bytes(segmenter):
    features = segmenter.encode([photo(4, 50, 70)])[0]
    back = ImageFeatures.from_bytes(features.to_bytes())
    np.testing.assert_array_equal(
        segmenter.segment(features, VOCABULARY).label_map, segmenter.segment(back, VOCABULARY).label_map
    )


def test_no_state_between_calls_from_many_threads(segmenter):
    photos = [photo(seed, 40, 60) for seed in range(4)]
    vocabularies = [make_vocabulary(names) for names in (["cat"], ["dog", "tree"], ["a", "b", "c"])]

    def work(i):
        features = segmenter.encode([photos[i % 4]])[0]
        return segmenter.segment(features, vocabularies[i % 3]).label_map

    expected = [work(i) for i in range(12)]
    with ThreadPoolExecutor(6) as pool:
        for got, wanted in zip(pool.map(work, range(12)), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_features_of_another_core_are_refused(segmenter):
    other = Segmenter(
        replace(TINY, grid=CropGrid(patch_px=(256,))), segmenter.clip, segmenter._found, name="x", weights_id="x"
    )
    with pytest.raises(FeaturesError, match="encode the image again"):
        other.segment(segmenter.encode([photo(0, 20, 20)])[0], VOCABULARY)


@pytest.mark.parametrize(
    ("change", "features_change"),
    [
        ({"grid": CropGrid(patch_px=(256, 128), stride_ratio=1.0)}, True),
        ({"objectness": ObjectnessConfig(square_px=72)}, True),
        ({"label_map": "square"}, False),
        ({"clean_up": CleanUp(0.5)}, False),
    ],
    ids=["stride", "objectness size", "label map", "clean-up"],
)
def test_identities(segmenter, change, features_change):
    def make(config):
        return Segmenter(config, segmenter.clip, segmenter._found, name="x", weights_id="w")

    before, after = make(TINY), make(replace(TINY, **change))
    assert before.identity == make(TINY).identity
    assert before.identity != after.identity
    assert (before.encoder_identity != after.encoder_identity) == features_change


def test_other_weights_are_another_core(segmenter):
    a, b = (Segmenter(TINY, segmenter.clip, segmenter._found, name="x", weights_id=id_) for id_ in "ab")
    assert a.encoder_identity != b.encoder_identity


def test_objectness_none_is_plain_clip(segmenter):
    plain = Segmenter(
        replace(TINY, objectness=ObjectnessConfig(method="none")), segmenter.clip, None, name="x", weights_id="x"
    )
    features = plain.encode([photo(5, 60, 60)])[0]
    assert features.objectness is None
    assert plain.explain(features, VOCABULARY).objectness is None
    plain.segment(features, VOCABULARY)
    with pytest.raises(ConfigError):
        Segmenter(TINY, segmenter.clip, None, name="x", weights_id="x")


def test_found_bkg_is_hard(segmenter):
    config = replace(TINY, objectness=ObjectnessConfig(method="found-bkg", square_px=64))
    model = Segmenter(config, segmenter.clip, segmenter._found, name="x", weights_id="x")
    objectness = model.encode([photo(6, 60, 60)])[0].objectness
    assert not objectness.is_logit
    assert set(objectness.grid.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(segmenter, dtype):
    half = build_segmenter(replace(TINY, dtype=dtype), warm_up=False)
    exact, near = (model.encode([photo(7, 80, 80)])[0].crop_embeddings[0] for model in (segmenter, half))
    assert torch.nn.functional.cosine_similarity(exact.float(), near.float(), dim=-1).min() > 0.99


def test_explain_has_every_map(segmenter):
    explanation = segmenter.explain(segmenter.encode([photo(8, 50, 90)])[0], VOCABULARY)
    assert len(explanation.scale_similarity) == 2
    for similarity in (*explanation.scale_similarity, explanation.similarity, explanation.guided):
        assert similarity.shape == (4, 256, 256)
    assert explanation.objectness.shape == (256, 256)


def test_prompts_are_averaged_as_unit_vectors(segmenter):
    one, other, both = (
        segmenter.clip.embed_vocabulary(make_vocabulary([("x", phrases)]))[1]
        for phrases in (["cat"], ["sofa"], ["cat", "sofa"])
    )
    torch.testing.assert_close(both, torch.nn.functional.normalize(one + other, dim=0), atol=1e-6, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; the same code runs on the CPU above")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_cuda_agrees_with_the_cpu(segmenter, dtype):
    on_gpu = build_segmenter(replace(TINY, device="cuda", dtype=dtype), warm_up=False)
    picture = photo(9, 120, 160)
    gpu, cpu = (model.encode([picture])[0] for model in (on_gpu, segmenter))
    for a, b in zip(gpu.crop_embeddings, cpu.crop_embeddings, strict=True):
        assert torch.nn.functional.cosine_similarity(a.float(), b.float(), dim=-1).min() > 0.99
    labels = on_gpu.segment(gpu, VOCABULARY).label_map
    assert (labels == segmenter.segment(cpu, VOCABULARY).label_map).mean() > 0.95
