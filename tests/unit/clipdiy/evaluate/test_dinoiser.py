"""CLIP-DINOiser as a row of an evaluation: its own prompts and windows, and the background of each kind of set."""

import json
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from dinoiser_tiny import CONFIG, PHOTO, changed
from miniature import blocks, plan, write_pair
from PIL import Image

from clipdiy.dinoiser.config import Windows
from clipdiy.evaluate.datasets.mapped import MappedSet
from clipdiy.evaluate.evaluator import Evaluator
from clipdiy.evaluate.predictions import Predictions
from clipdiy.evaluate.protocol import MMSEG
from clipdiy.photo import Photo
from clipdiy.vocabulary import make_vocabulary

WINDOWS = Windows(short_px=None, window_px=96, stride_px=96)
TEMPLATES = ("a photo of a {}", "there is a {} here")
BASE = changed(CONFIG, windows=WINDOWS, prompt_templates=TEMPLATES, label_map="square")
CLASSES = ("cat", "dog", "sofa")
PICTURE = Photo.from_array(np.ascontiguousarray(PHOTO.pixels[:150, -200:]))
SIZE_HW = PICTURE.size_hw


def one_picture(folder, background):
    pair = folder / "a.png", folder / "truth.png"
    write_pair(*pair, blocks(1, *SIZE_HW, 4))
    Image.fromarray(PICTURE.pixels).save(pair[0])
    positions = {0: 255 if background == "none" else 0, 1: 1, 2: 2, 3: 3, 255: 255}
    return MappedSet("mine", "Mine", CLASSES, background, {"a": pair}, positions)


def evaluator(dataset, config=BASE, **changes):
    return Evaluator(plan("dinoiser", config=config, protocol=MMSEG, boundary=False, **changes), dataset)


@pytest.fixture(scope="module")
def of_each_kind(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return {
        background: evaluator(one_picture(root / background, background)) for background in ("refined", "plain", "none")
    }


@pytest.mark.parametrize("background", ["refined", "plain", "none"])
def test_it_answers_as_published_for_this_kind_of_set(of_each_kind, background):
    found = of_each_kind[background]
    dinoiser = found.segmenters["dinoiser"].with_config(changed(BASE, way="windows", background=background))
    features = dinoiser.encode([PICTURE])[0]
    assert len(features.tiles) >= 2
    expected = dinoiser.segment(features, make_vocabulary(CLASSES, template=TEMPLATES)).label_map
    truth = found.dataset.read("a").truth
    first = int(background == "none")
    rows = range(first, 4)
    counts = [[((truth == t) & (expected == p)).sum() for p in rows] for t in rows]
    np.testing.assert_array_equal(found.evaluate("a").outcomes["dinoiser"].confusion, counts)
    np.testing.assert_array_equal(found.look("a", "dinoiser").prediction, expected)
    assert expected.min() >= first
    assert found.segmenters["dinoiser"].config.method_config.background == background
    assert json.dumps(found.description)


def test_the_kinds_differ(of_each_kind):
    shares = [(found.look("a", "dinoiser").prediction == 0).mean() for found in of_each_kind.values()]
    assert shares[0] > shares[1] > shares[2] == 0


def test_what_changes_its_answers_changes_what_records_are_of(tmp_path):
    dataset = one_picture(tmp_path, "plain")
    identities = [
        json.dumps(evaluator(dataset, config).identity)
        for config in (
            BASE,
            replace(BASE, label_map="full"),
            changed(BASE, prompt_templates=TEMPLATES[:1]),
            changed(BASE, gamma=0.3),
        )
    ]
    assert len(set(identities)) == 4
    assert identities[0] == json.dumps(evaluator(dataset).identity)


def test_it_stands_beside_other_systems_in_the_order_of_the_plan(tmp_path, monkeypatch):
    seconds = count(1000.0, 1.25)
    monkeypatch.setattr("clipdiy.evaluate.evaluator._clock_of", lambda _method: lambda: next(seconds))
    dataset = one_picture(tmp_path, "none")
    write_pair(tmp_path / "x.png", tmp_path / "written" / "a.png", np.full(SIZE_HW, 2))
    written = Predictions("Mine", tmp_path / "written")
    both = evaluator(dataset)
    both = Evaluator(replace(both.plan, variants=(written.variant, *both.plan.variants)), dataset)
    outcomes = both.evaluate("a").outcomes
    assert list(outcomes) == ["predictions:Mine", "dinoiser"]
    assert outcomes["dinoiser"].segment_ms == 1250
    assert outcomes["predictions:Mine"].segment_ms == 0
    assert outcomes["predictions:Mine"].confusion.sum() == outcomes["dinoiser"].confusion.sum() > 0
