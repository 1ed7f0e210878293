"""CLIP-DINOiser as a row of an evaluation: its own prompts and windows, and the background of each kind of set."""

import json
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from dinoiser_tiny import CONFIG, PHOTO, changed
from miniature import blocks, plan, write_pair, write_voc
from PIL import Image

from clipdiy.dinoiser.config import Windows
from clipdiy.dinoiser.method import Dinoiser
from clipdiy.evaluate.datasets import open_dataset
from clipdiy.evaluate.datasets.mapped import MappedSet
from clipdiy.evaluate.evaluator import Evaluator
from clipdiy.evaluate.predictions import Predictions
from clipdiy.evaluate.protocol import MMSEG
from clipdiy.evaluate.runner import Job, run
from clipdiy.photo import Photo
from clipdiy.segmentation import Segmentation
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


# Each set as it is published, and one picture of it: values in its own files of its first class, of its last, of what
# is none of them and of what is ignored; and the published number of classes.
FILES = {
    "voc": (1, 20, 0, 255, 20),
    "voc20": (1, 20, 0, 255, 20),
    "context": (1, 59, 0, 255, 59),
    "context59": (1, 59, 0, 255, 59),
    "stuff": (0, 181, 255, 255, 171),
    "object": (0, 89, 91, 255, 80),
    "ade20k": (1, 150, 0, 0, 150),
    "cityscapes": (7, 33, 0, 255, 19),
}
BACKGROUND = {"voc": "refined", "object": "refined", "context": "plain"}
# F first class, L last class, N none of them, I ignored.
DRAWN = ("FFLL", "FFLI", "NNNN")
ANSWERED = ("FFFL", "FLLL", "NNNL")
# By hand. First class: 3 hits of 4 in the truth and 4 in the answer. Last class: 2 hits of 3 and, where the classes
# alone count, 3. Where the background does, it has 3 hits of 4 and 3, and the last class one answer more.
CLASSES_ALONE = {1: 3 / 5, -1: 2 / 4}
WITH_BACKGROUND = {0: 3 / 4, 1: 3 / 5, -1: 2 / 5}
# Also what is ignored elsewhere: 3 hits of 5 and 3, and the last class 2 hits of 3 and 5.
ALL_ELSE_IS_BACKGROUND = {0: 3 / 5, 1: 3 / 5, -1: 2 / 6}
EXPECTED = dict.fromkeys(FILES, CLASSES_ALONE) | {
    "voc": WITH_BACKGROUND,
    "context": WITH_BACKGROUND,
    "object": ALL_ELSE_IS_BACKGROUND,
}


def write_set(kind, root, truth):
    if kind.startswith("voc"):
        write_voc(root, [truth])
        return
    photo, annotation = {
        "context": ("JPEGImages/a.jpg", "SegmentationClassContext/a.png"),
        "context59": ("JPEGImages/a.jpg", "SegmentationClassContext/a.png"),
        "stuff": ("val2017/a.jpg", "stuffthingmaps/val2017/a.png"),
        "object": ("val2017/a.jpg", "stuffthingmaps/val2017/a.png"),
        "ade20k": ("images/validation/a.jpg", "annotations/validation/a.png"),
        "cityscapes": ("leftImg8bit/val/a/a_leftImg8bit.png", "gtFine/val/a/a_gtFine_labelIds.png"),
    }[kind]
    write_pair(root / photo, root / annotation, truth)
    if kind.startswith("context"):
        names = root / "ImageSets" / "SegmentationContext" / "val.txt"
        names.parent.mkdir(parents=True)
        names.write_text("a")


@pytest.mark.parametrize("kind", FILES)
def test_every_published_set_by_hand(tmp_path, monkeypatch, kind):
    """What the method is asked, and what its answers are worth; only the answers are given."""
    *values, count = FILES[kind]
    in_file = dict(zip("FLNI", values, strict=True))
    background = BACKGROUND.get(kind, "none")
    # Where every pixel has a class it has one also where the truth names none.
    position = {"F": 1, "L": count, "N": 0 if background != "none" else 1}
    asked = []

    def answer(self, features, vocabulary, options):
        asked.append((self.settings, vocabulary, options))
        label_map = np.array([[position[one] for one in row] for row in ANSWERED], np.uint16)
        return Segmentation(label_map, np.zeros(count + 1), np.zeros(count + 1, np.float32), 0.0)

    monkeypatch.setattr(Dinoiser, "segment", answer)
    write_set(kind, tmp_path / "set", [[in_file[one] for one in row] for row in DRAWN])
    spec = f"{kind}:{tmp_path / 'set'}"
    dataset = open_dataset(spec, tmp_path, MMSEG)
    finished = run(evaluator(dataset), Job(spec, tmp_path, tmp_path / "records.jsonl"))
    [(settings, vocabulary, options)] = asked
    assert (settings.way, settings.background) == ("windows", background)
    assert options.background == (background != "none")
    assert vocabulary == make_vocabulary(dataset.classes, template=TEMPLATES)
    found = finished.tallies["dinoiser"].quality
    expected = EXPECTED[kind]
    assert len(found.iou) == count + (background != "none")
    there = np.flatnonzero(~np.isnan(found.iou))
    assert len(there) == len(expected)
    np.testing.assert_allclose(found.iou[there], [*expected.values()])
    assert found.miou == pytest.approx(sum(expected.values()) / len(expected))
