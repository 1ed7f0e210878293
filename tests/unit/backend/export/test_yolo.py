"""YOLO's segments, read by the rule of the format."""

import json

import cv2
import numpy as np
import pytest
from data_sets import SIZE_HW, encoded, maps_of_five, pixels, project_of_five, source

from backend.export.exporting import export_project
from backend.outputs.polygons import fill


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "set"
    export_project(source(project_of_five(), ignore=("Unsure",), val_share=0), "yolo", out)
    return out


def segments(path):
    for line in path.read_text().splitlines():
        number, *shares = line.split(" ")
        points = np.array(shares, float).reshape(-1, 2)
        assert len(points) >= 3
        assert points.min() >= 0
        assert points.max() <= 1
        yield int(number), points * SIZE_HW[::-1]


def label_file(out, number):
    return out / f"labels/train/0000{number}-picture{number}.txt"


def without_ignored(label_map):
    return np.where(label_map == 65_535, 0, label_map)


@pytest.mark.parametrize("number", maps_of_five())
def test_a_pixel_is_in_it_whose_centre_is(out, number):
    made = np.zeros(SIZE_HW, np.uint16)
    for position, points in segments(label_file(out, number)):
        made[fill(points, SIZE_HW)] = position + 1
    assert (made == without_ignored(maps_of_five()[number])).all()


@pytest.mark.parametrize("number", maps_of_five())
def test_readers_that_paint_the_border_too_are_a_pixel_wider_at_most_and_keep_holes(out, number):
    """As ultralytics and supervision read them: points rounded to whole pixels, filled with OpenCV."""
    expected = without_ignored(maps_of_five()[number])
    for position, points in segments(label_file(out, number)):
        mask = np.zeros(SIZE_HW, np.uint8)
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
        one = (expected == position + 1).astype(np.uint8)
        wider = mask & ~cv2.dilate(one, np.ones((3, 3), np.uint8))
        # A seam may lead across another hole: it has no width, but they paint a line.
        assert wider.sum() <= 0.01 * one.sum()
        assert not (one & ~mask).any()


def test_data_yaml(out):
    # Every JSON is YAML; names as a list, which no reader sorts.
    assert json.loads((out / "data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "names": ["Cat", "Dog"],
    }


def test_pictures_and_labels_go_together(out):
    for kind in ("images", "labels"):
        assert (out / kind / "val").is_dir()
        assert {path.stem for path in (out / kind / "train").iterdir()} == {
            f"0000{number}-picture{number}" for number in (11, 12, 14, 15)
        }
    assert label_file(out, 12).read_text() == "", "nothing is there"
    assert (out / "images/unlabelled/000013-picture13.png").read_bytes() == encoded(pixels(13))
    assert not (out / "labels/unlabelled").exists()
