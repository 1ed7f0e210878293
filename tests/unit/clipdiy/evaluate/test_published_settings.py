"""The numbers and choices that published figures hang on: each is read off what comes out, not off a constant."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from miniature import TINY, write_voc
from tiny import VOCABULARY, photo
from typer.testing import CliRunner

from clipdiy.build import build_segmenter
from clipdiy.clean_up import clean_up
from clipdiy.cli import app
from clipdiy.config import CleanUp, CropGrid, ObjectnessConfig, preset
from clipdiy.evaluate.datasets.voc import open_folder, open_voc
from clipdiy.evaluate.evaluator import Evaluator, Plan
from clipdiy.evaluate.protocol import PROTOCOLS
from clipdiy.evaluate.variants import VARIANTS
from clipdiy.label_maps import square_label_map
from clipdiy.objectness.found import image_size_for

# As the development kit numbers them, and as the paper's prompts are written; the authors write `diningtable`.
VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
    "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv/monitor",
)  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_truth_and_prediction_meet_at_a_shorter_side_of_448_or_at_their_own(tmp_path, protocol):
    write_voc(tmp_path, [np.zeros((20, 30))], ending="png")
    (tmp_path / "classes.txt").write_text("cat")
    plan = Plan(TINY, (VARIANTS["clip-diy"],), boundary=False, protocol=protocol)
    evaluator = Evaluator(plan, open_folder(tmp_path, protocol))
    height, width = (20, 30) if protocol.name == "mmseg" else (448, 672)
    assert evaluator.evaluate("a").outcomes["clip-diy"].confusion.sum() == height * width
    assert evaluator.look("a", "clip-diy").prediction.shape == (height, width)


@pytest.mark.parametrize(
    ("option", "label_map", "min_area"),
    [((), "square", 0), (("--published",), "square", 0), (("--full",), "full", 0.001)],
    ids=["by default", "published", "full"],
)
def test_full_and_published_mean_what_they_say(tmp_path, option, label_map, min_area):
    write_voc(tmp_path / "set", [np.zeros((20, 30))], ending="png")
    (tmp_path / "set" / "classes.txt").write_text("cat")
    arguments = [
        "evaluate",
        f"folder:{tmp_path / 'set'}",
        "--preset",
        "starter",
        "--clip",
        TINY.clip,
        "--device",
        "cpu",
    ]
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [*arguments, "--found", TINY.found, "--out", str(out), "--no-boundary", *option])
    assert result.exit_code == 0, result.output
    content = json.loads((out / "results.json").read_text())
    config = content["configurations"]["clip-diy"]
    assert (config["label_map"], config["clean_up"]["min_area"]) == (label_map, min_area)
    assert content["way"] == ("full" if label_map == "full" else "published")


def test_voc_classes_stand_at_their_published_positions(tmp_path):
    write_voc(tmp_path, [[[0]]])
    assert open_voc(tmp_path).classes == VOC


@pytest.mark.parametrize(
    ("size_hw", "seen_hw"),
    [((480, 640), (480, 640)), ((640, 427), (640, 427)), ((960, 1280), (480, 640)), ((1280, 641), (640, 320))],
    ids=str,
)
def test_found_sees_voc_and_coco_at_their_own_size(size_hw, seen_hw):
    for name in ("paper", "paper-b16"):
        assert image_size_for(size_hw, preset(name).objectness) == seen_hw
    assert image_size_for(size_hw, ObjectnessConfig(square_px=256)) == (256, 256)


@pytest.mark.parametrize("size_hw", [(7, 10), (4, 4), (3, 5), (9, 4)], ids=str)
def test_a_square_label_map_reaches_the_photos_size_by_rounding_down(size_hw):
    # A grid as large as the square: the label map on it is known, one class a cell.
    named = torch.randperm(16, generator=torch.Generator().manual_seed(0)).reshape(4, 4) + 1
    grid = torch.nn.functional.one_hot(named, 17).permute(2, 0, 1).float()
    labels = square_label_map((grid,), None, size_hw, 4).numpy()
    height, width = size_hw
    expected = [[int(named[y * 4 // height, x * 4 // width]) for x in range(width)] for y in range(height)]
    np.testing.assert_array_equal(labels, expected)


def test_the_segmenter_cleans_up_below_the_share_of_the_picture_that_is_configured():
    segmenter = build_segmenter(replace(TINY, label_map="full"), warm_up=False)
    features = segmenter.encode([photo(5, 90, 70)])[0]

    def label_map(min_area):
        config = replace(TINY, label_map="full", clean_up=CleanUp(min_area))
        return segmenter.with_config(config).segment(features, VOCABULARY).label_map

    raw = label_map(0)
    share = 0.02
    expected, too_much, too_little = (clean_up(raw, factor * share * 90 * 70) for factor in (1, 10, 0.1))
    assert (expected != too_much).any()
    assert (expected != too_little).any()
    np.testing.assert_array_equal(label_map(share), expected)


@pytest.mark.parametrize("name", ["paper", "paper-b16"])
def test_presets_are_the_published_grid(name):
    config = preset(name)
    assert config.grid == CropGrid(square_px=256, patch_px=(256, 128, 64), stride_ratio=0.5)
    assert config.prompt_template == "a photo of a {}"
    assert (config.pamr, config.prune_logits) == (None, None)
