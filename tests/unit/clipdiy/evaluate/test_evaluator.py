"""Variants evaluated together, from shared features."""

import json
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from miniature import FIVE_CLASSES, TINY, plan

from clipdiy.config import CropGrid, preset
from clipdiy.errors import ConfigError
from clipdiy.evaluate.confusion import confusion_matrix
from clipdiy.evaluate.datasets.voc import open_folder
from clipdiy.evaluate.evaluator import Evaluator, pin_dtype, union_grids
from clipdiy.evaluate.figures import comparison_panel, confusion_picture
from clipdiy.evaluate.resizing import resize_nearest, short_side_size


@pytest.mark.parametrize(
    "key", ["clip-diy", "no-multi-scale", "no-objectness", "found-bkg", "stride-full", "pamr", "prune-2"]
)
def test_shared_features_give_what_each_variant_encodes_for_itself(evaluator, key):
    # Each variant's own segmenter, from the photo on, against the parts that all variants share.
    segmenter, dataset = evaluator.segmenters[key], evaluator.dataset
    for image_id in dataset.image_ids[:2]:
        sample = dataset.read(image_id)
        size_hw = short_side_size(sample.photo.size_hw, 56)
        features = segmenter.encode([sample.photo])[0]
        label_map = resize_nearest(segmenter.segment(features, evaluator.vocabulary).label_map, size_hw)
        expected = confusion_matrix(resize_nearest(sample.truth, size_hw), label_map, 4)
        counted = evaluator.evaluate(image_id).outcomes[key].confusion
        assert counted.sum() == expected.sum() > 0
        # The batches are others, so single crops may differ in the last bit.
        assert np.abs(counted - expected).sum() <= 0.01 * expected.sum()


def test_the_published_way_and_the_full_one_differ(folder):
    published = Evaluator(plan("clip-diy"), open_folder(folder)).evaluate("a").outcomes["clip-diy"]
    config = replace(TINY, label_map="full")
    full = Evaluator(plan("clip-diy", config=config), open_folder(folder)).evaluate("a").outcomes["clip-diy"]
    assert published.confusion.sum() == full.confusion.sum()
    assert (published.confusion != full.confusion).any()


def test_what_a_system_takes_is_milliseconds_of_segmenting_alone(folder, monkeypatch):
    seconds = count(1000.0, 1.25)
    monkeypatch.setattr("clipdiy.evaluate.evaluator._clock_of", lambda _method: lambda: next(seconds))
    outcomes = Evaluator(plan("clip-diy", "no-objectness"), open_folder(folder)).evaluate("a").outcomes
    assert [outcome.segment_ms for outcome in outcomes.values()] == [1250, 1250]


def test_coarser_strides_are_part_of_finer_ones():
    grids = [CropGrid(patch_px=(256, 64)), CropGrid(patch_px=(128,), stride_ratio=1.0), CropGrid(patch_px=(128,))]
    assert union_grids(grids) == [CropGrid(patch_px=(256, 128, 64))]
    odd = [CropGrid(patch_px=(128,), stride_ratio=0.5), CropGrid(patch_px=(128,), stride_ratio=0.75)]
    assert [grid.stride_ratio for grid in union_grids(odd)] == [0.5, 0.75]


def test_cutler_needs_its_masks(folder):
    with pytest.raises(ConfigError, match="--instances FILE"):
        Evaluator(plan("cutler"), open_folder(folder))


def test_cutler_takes_them(folder, tmp_path):
    everything = {"size": [60, 80], "counts": [0, 4800]}
    path = tmp_path / "cutler.json"
    path.write_text(json.dumps([{"image_id": "a", "segmentation": everything, "score": 0.9}]))
    evaluator = Evaluator(plan("cutler", "no-objectness", instances=path), open_folder(folder))
    # Objectness 1 everywhere leaves no background, 0 everywhere nothing else (where similarity is positive).
    assert evaluator.look("a", "cutler").prediction.min() > 0
    assert evaluator.evaluate("b").outcomes["cutler"].confusion.shape == (4, 4)
    assert len(evaluator.doubts) == 1
    assert "nothing of 4 of 5 pictures" in evaluator.doubts[0]


def test_a_picture_is_looked_at_with_the_system_that_is_named(evaluator):
    outcomes = evaluator.evaluate("a").outcomes
    for key in ("no-objectness", "clip-diy", "no-multi-scale", "found-bkg"):
        seen = evaluator.look("a", key)
        np.testing.assert_array_equal(confusion_matrix(seen.truth, seen.prediction, 4), outcomes[key].confusion)
    assert (outcomes["clip-diy"].confusion != outcomes["no-objectness"].confusion).any()


def test_pictures_are_drawn(evaluator):
    seen = evaluator.look("a", "clip-diy")
    np.testing.assert_array_equal(seen.pixels, evaluator.dataset.read("a").photo.pixels)
    panel = comparison_panel(seen, ("background", *FIVE_CLASSES), "a")
    assert panel.width > 3 * 400
    counts = np.array([[50, 2, 0, 0], [5, 70, 1, 0], [0, 0, 0, 0], [1, 0, 0, 9]])
    picture = np.asarray(confusion_picture(counts, ("background", *FIVE_CLASSES), "x"))
    assert picture.shape[2] == 3
    large = confusion_picture(np.eye(81, dtype=np.int64), [f"class {i}" for i in range(81)], "x")
    assert large.width < 2000


def test_arithmetic_does_not_depend_on_what_is_faster_here(evaluator):
    assert pin_dtype(preset("paper", device="cpu")).dtype == "float32"
    assert pin_dtype(preset("paper", device="cpu", dtype="bfloat16")).dtype == "bfloat16"
    assert evaluator.plan.config.dtype == "float32"
