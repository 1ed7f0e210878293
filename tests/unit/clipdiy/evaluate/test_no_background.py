"""Sets without a background: every pixel has one of the classes, and nothing else is counted."""

import csv
import json

import numpy as np
import pytest
from miniature import FIVE_SIZES, TINY, plan, write_five, write_indexed
from PIL import Image
from typer.testing import CliRunner

from clipdiy.cli import app
from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import opening
from clipdiy.evaluate.datasets.mapped import MappedSet
from clipdiy.evaluate.datasets.voc import open_folder
from clipdiy.evaluate.evaluator import Evaluator
from clipdiy.evaluate.figures import confusion_picture
from clipdiy.evaluate.predictions import Predictions
from clipdiy.evaluate.protocol import AUTHORS, CLEAN
from clipdiy.evaluate.resizing import resize_nearest, short_side_size
from clipdiy.evaluate.runner import Job, run
from clipdiy.starter.scenes import compose_scene

CLASSES = ("cat", "sofa", "sky")  # of which the tiny networks find two in scenes


def open_three(path, protocol=CLEAN):
    """Open the five pictures as three classes without a background."""
    voc = open_folder(path)
    pairs = {
        name: (path / "JPEGImages" / f"{name}.png", path / "SegmentationClass" / f"{name}.png")
        for name in voc.image_ids
    }
    return MappedSet("three", "Three", CLASSES, "none", pairs, {0: 255, 1: 1, 2: 2, 3: 3, 255: 255})


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    root = write_five(tmp_path_factory.mktemp("data") / "three")
    for number, size_hw in enumerate(FIVE_SIZES):
        scene = compose_scene(number, size_hw=size_hw)
        Image.fromarray(scene.image).save(root / "JPEGImages" / f"{'abcde'[number]}.png")
    return open_three(root)


def test_every_pixel_of_a_class_is_counted_by_the_largest_similarity(three):
    evaluator = Evaluator(plan("clip-diy", "no-objectness", "maskclip-no-objectness"), three)
    found = np.zeros((3, 3), int)
    for image_id in three.image_ids[:3]:
        outcomes = evaluator.evaluate(image_id).outcomes
        sample = three.read(image_id)
        segmenter = evaluator.segmenters["clip-diy"]
        similarity = segmenter.square_maps(segmenter.encode([sample.photo])[0], evaluator.vocabulary).similarity
        best = np.asarray(similarity[1:].argmax(dim=0), np.uint8)
        compared = short_side_size(sample.photo.size_hw, 56)
        prediction = resize_nearest(resize_nearest(best, sample.photo.size_hw), compared)
        truth = resize_nearest(sample.truth, compared)
        expected = [[((truth == t + 1) & (prediction == p)).sum() for p in range(3)] for t in range(3)]
        np.testing.assert_array_equal(outcomes["clip-diy"].confusion, expected)
        assert 0 < np.sum(expected) == (truth != 255).sum() < truth.size
        # All classes get one factor from objectness: it decides nothing.
        np.testing.assert_array_equal(outcomes["no-objectness"].confusion, expected)
        assert outcomes["maskclip-no-objectness"].confusion.sum() == np.sum(expected)
        assert outcomes["clip-diy"].boundary.shape == (3, 2)
        assert evaluator.look(image_id, "clip-diy").prediction.min() >= 1
        found += outcomes["clip-diy"].confusion
    assert (found.sum(axis=0) > 0).sum() >= 2


def test_a_background_that_is_not_there_does_not_lower_the_mean(three, tmp_path):
    """The authors' rule counts an absent class as 0; the background is no class here."""
    evaluator = Evaluator(plan("clip-diy", protocol=AUTHORS, boundary=False), three)
    tally = run(evaluator, Job("", tmp_path, tmp_path / "records.jsonl")).tallies["clip-diy"]
    assert tally.confusion.shape == (3, 3)
    hits = np.diag(tally.confusion)
    iou = hits / (tally.confusion.sum(axis=0) + tally.confusion.sum(axis=1) - hits)
    assert tally.quality.miou == pytest.approx(iou.mean())


def test_label_maps_of_other_programs_have_no_background_either(three, tmp_path):
    write_indexed(tmp_path / "a.png", np.full((60, 80), 3))
    written = Predictions("Mine", tmp_path)
    evaluator = Evaluator(plan(boundary=False, variants=(written.variant,)), three)
    counts = evaluator.evaluate("a").outcomes["predictions:Mine"].confusion
    assert counts.sum() == counts[:, 2].sum() > 0
    write_indexed(tmp_path / "a.png", np.full((60, 80), 0))
    with pytest.raises(
        DatasetError, match=r"a\.png holds the values \[0\]; expected 1\.\.3 for 3 classes, there is no back"
    ):
        written.read(three, "a", (60, 80))


def test_the_command_names_no_background(three, tmp_path, monkeypatch):
    monkeypatch.setitem(opening.AT_A_PLACE, "three", open_three)
    place = three.pairs["a"][0].parents[1]
    result = CliRunner().invoke(
        app,
        ["evaluate", f"three:{place}", "--preset", "starter", "--clip", TINY.clip, "--found", TINY.found, "--full",
         "--out", str(tmp_path), "--limit", "2", "--figures", "1", "--device", "cpu", "--no-boundary"],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "background" not in result.output
    content = json.loads((tmp_path / "results.json").read_text())
    assert tuple(content["variants"]["clip-diy"]["class_iou"]) == CLASSES
    rows = csv.DictReader((tmp_path / "classes.csv").read_text().splitlines())
    assert tuple(row["class"] for row in rows) == CLASSES
    expected = confusion_picture(np.eye(3, dtype=np.int64), CLASSES, "x")
    with Image.open(tmp_path / "figures" / "confusion.png") as picture:
        assert picture.size == expected.size, "as wide as its longest name"
