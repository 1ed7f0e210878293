"""The authors' rules of counting beside ours: each difference on a miniature where it decides."""

import json
from dataclasses import asdict
from queue import Queue

import numpy as np
import pytest
from miniature import TINY, square_polygon, write_coco, write_voc
from PIL import Image
from typer.testing import CliRunner

from clipdiy.cli import app
from clipdiy.errors import ConfigError
from clipdiy.evaluate.datasets import open_dataset
from clipdiy.evaluate.evaluator import Evaluator, Plan
from clipdiy.evaluate.protocol import AUTHORS, CLEAN, PROTOCOLS
from clipdiy.evaluate.runner import _start_worker, _Worker
from clipdiy.evaluate.variants import VARIANTS

# Overlapping cats and cars of 50 x 50 and a crowd of cars; a picture with 999 labelled pixels, one with 1000, one with
# none, and one whose two annotations have 1200 pixels together but 600 in all.
ANNOTATIONS = [
    {"image_id": 1, "category_id": 17, "segmentation": square_polygon(0, 0, 50, 50)},
    {"image_id": 1, "category_id": 3, "segmentation": square_polygon(25, 0, 75, 50)},
    {"image_id": 1, "category_id": 3, "segmentation": {"size": [50, 100], "counts": [3000, 2000]}, "iscrowd": 1},
    {"image_id": 2, "category_id": 3, "segmentation": square_polygon(0, 0, 27, 37)},
    {"image_id": 3, "category_id": 3, "segmentation": square_polygon(0, 0, 25, 40)},
    {"image_id": 5, "category_id": 3, "segmentation": square_polygon(0, 0, 20, 30)},
    {"image_id": 5, "category_id": 17, "segmentation": square_polygon(0, 0, 20, 30)},
]
SIZES = {1: (50, 100), 2: (50, 50), 3: (50, 50), 4: (50, 50), 5: (50, 50)}


@pytest.fixture
def coco(tmp_path):
    return f"coco:{write_coco(tmp_path / 'coco', SIZES, ANNOTATIONS)}"


def test_clean_puts_the_last_instance_on_top_and_ignores_crowds(coco, tmp_path):
    dataset = open_dataset(coco, tmp_path, CLEAN)
    assert (dataset.image_ids, dataset.left_out) == (("1", "2", "3", "4", "5"), 0)
    (row,) = np.unique(dataset.read("1").truth, axis=0)
    np.testing.assert_array_equal(row, [2] * 25 + [1] * 50 + [255] * 25)


def test_authors_let_the_first_instance_win_and_crowds_count(coco, tmp_path):
    dataset = open_dataset(coco, tmp_path, AUTHORS)
    (row,) = np.unique(dataset.read("1").truth, axis=0)
    np.testing.assert_array_equal(row, [2] * 50 + [1] * 50)


def test_a_crowd_that_comes_first_wins_with_the_authors(tmp_path):
    crowd = ANNOTATIONS[2]
    root = write_coco(tmp_path, {1: (50, 100)}, [{**crowd, "segmentation": {"size": [50, 100], "counts": [0, 5000]}},
                                                 ANNOTATIONS[0]])  # fmt: skip
    assert (open_dataset(f"coco:{root}", tmp_path, AUTHORS).read("1").truth == 1).all()
    assert set(np.unique(open_dataset(f"coco:{root}", tmp_path).read("1").truth)) == {2, 255}


def test_authors_leave_out_pictures_with_fewer_than_1000_labelled_pixels(coco, tmp_path):
    dataset = open_dataset(coco, tmp_path, AUTHORS)
    assert (dataset.image_ids, dataset.left_out) == (("1", "3"), 3)


def test_the_rules_are_those_that_the_documentation_names():
    ours, theirs = asdict(CLEAN), asdict(AUTHORS)
    assert ours == {
        "name": "clean",
        "first_on_top": False,
        "crowds_count": False,
        "least_labelled_px": 0,
        "voc_dining_table": "dining table",
        "voc_tv": "tv/monitor",
        "own_size": False,
        "pillow_sizes": False,
        "answer_as_compared": False,
        "turned": True,
        "absent_counts": False,
    }
    assert {name: value for name, value in theirs.items() if value != ours[name]} == {
        "name": "authors",
        "first_on_top": True,
        "crowds_count": True,
        "least_labelled_px": 1000,
        "voc_dining_table": "diningtable",
        "pillow_sizes": True,
        "answer_as_compared": True,
        "turned": False,
        "absent_counts": True,
    }
    others = asdict(PROTOCOLS["mmseg"])
    assert {name: value for name, value in others.items() if value != ours[name]} == {
        "name": "mmseg",
        "voc_tv": "tvmonitor",
        "own_size": True,
    }


def test_names_are_written_as_each_wrote_them(tmp_path):
    write_voc(tmp_path, [[[0, 1]]])
    names = {name: open_dataset(f"voc:{tmp_path}", tmp_path, rules).classes for name, rules in PROTOCOLS.items()}
    changed = {name: sorted(set(classes) - set(names["clean"])) for name, classes in names.items()}
    assert changed == {"clean": [], "authors": ["diningtable"], "mmseg": ["tvmonitor"]}
    assert names["mmseg"] == (*names["clean"][:-1], "tvmonitor")
    assert names["authors"].index("diningtable") == names["clean"].index("dining table")


@pytest.mark.parametrize(
    ("size_hw", "clean", "authors"),
    [
        ((375, 500), (448, 597), (448, 597)),
        ((500, 333), (673, 448), (672, 448)),
        ((427, 640), (448, 671), (448, 671)),
        ((480, 640), (448, 597), (448, 597)),
        ((333, 500), (448, 673), (448, 672)),
        ((448, 448), (448, 448), (448, 448)),
    ],
    ids=str,
)
def test_the_longer_side_is_rounded_or_cut(size_hw, clean, authors):
    assert CLEAN.compared_size(size_hw, 448) == clean
    assert AUTHORS.compared_size(size_hw, 448) == authors


def test_truth_is_read_from_the_centres_of_pixels_or_from_their_corners():
    truth = np.arange(5, dtype=np.uint8)[None]
    # Output pixel i of 2 lies over input 2.5 i to 2.5 (i + 1): its corner over 0 and 2, its centre over 1 and 3.
    np.testing.assert_array_equal(CLEAN.resize(truth, (1, 2)), [[0, 2]])
    np.testing.assert_array_equal(AUTHORS.resize(truth, (1, 2)), [[1, 3]])
    random = np.random.default_rng(0).integers(0, 21, (33, 50), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(random).resize((67, 44), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(AUTHORS.resize(random, (44, 67)), expected)


def command(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_the_command_counts_by_the_authors_rules(coco, tmp_path):
    arguments = (
        coco, "--preset", "starter", "--clip", TINY.clip, "--found", TINY.found, "--device", "cpu", "--no-boundary",
        "--out", tmp_path / "out",
    )  # fmt: skip
    found = {}
    for protocol in PROTOCOLS:
        result = command(*arguments, "--protocol", protocol)
        content = json.loads((tmp_path / "out" / "results.json").read_text())
        assert content["protocol"] == protocol
        found[protocol] = content["dataset"]["pictures"], "pictures are left out" in result.output
    assert found == {"clean": (5, False), "authors": (2, True), "mmseg": (5, False)}
    clean = command(*arguments, "--protocol", "clean", "--resume")
    assert isinstance(clean.exception, ConfigError)
    assert "another evaluation" in str(clean.exception)


def test_every_process_counts_by_the_same_rules(coco, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    monkeypatch.setattr(_Worker, "evaluator", None, raising=False)
    numbers = Queue()
    numbers.put(0)
    _start_worker(Plan(TINY, (VARIANTS["clip-diy"],), protocol=AUTHORS), coco, tmp_path, numbers)
    assert _Worker.evaluator.dataset.image_ids == ("1", "3")
    assert _Worker.evaluator.plan.protocol is AUTHORS


def test_an_evaluation_compares_at_its_protocols_size(tmp_path):
    write_voc(tmp_path / "set", [np.zeros((33, 50))], ending="png")
    (tmp_path / "set" / "classes.txt").write_text("cat")
    sizes = {}
    for name, protocol in PROTOCOLS.items():
        plan = Plan(TINY, (VARIANTS["clip-diy"],), short_px=44, boundary=False, protocol=protocol)
        evaluator = Evaluator(plan, open_dataset(f"folder:{tmp_path / 'set'}", tmp_path))
        sizes[name] = (
            evaluator.evaluate("a").outcomes["clip-diy"].confusion.sum(),
            evaluator.look("a", "clip-diy").truth.shape,
        )
    # MMSegmentation asks for a map of the picture's own size, and compares there.
    assert sizes == {"clean": (44 * 67, (44, 67)), "authors": (44 * 66, (44, 66)), "mmseg": (33 * 50, (33, 50))}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--protocol", "mine"], "there are: clean, authors, mmseg"),
        (["--protocol", "authors", "--full"], "leave it out"),
    ],
    ids=["unknown", "not how they were made"],
)
def test_what_cannot_be_meant_is_refused(coco, arguments, said):
    refused = command(coco, *arguments).exception
    assert isinstance(refused, ConfigError)
    assert said in str(refused)
