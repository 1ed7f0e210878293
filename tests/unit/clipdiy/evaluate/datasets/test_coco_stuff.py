"""The pixel maps of COCO-Stuff: a miniature set, with all classes and with the objects alone."""

import numpy as np
import pytest
from miniature import write_pair

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import counted_classes, open_dataset
from clipdiy.evaluate.datasets.coco_stuff import COCO_STUFF_CLASSES, STUFF, THINGS
from clipdiy.evaluate.protocol import AUTHORS

# COCO's identifiers less one: 1 person, 13 stop sign, 90 toothbrush; 92 banner, 157 sky-other, 182 wood.
TRUTH = [[0, 12, 89], [91, 156, 181], [255, 0, 255]]


def write(root, photos="val2017", truths="stuffthingmaps/val2017"):
    write_pair(root / photos / "000000000139.jpg", root / truths / "000000000139.png", TRUTH)
    write_pair(root / photos / "000000000285.jpg", root / truths / "000000000285.png", [[22]])
    return root


def test_classes_stand_at_their_published_positions():
    assert (len(THINGS), len(STUFF), len(set(COCO_STUFF_CLASSES))) == (80, 91, 171)
    names = ("person", "stop sign", "bear", "toothbrush", "banner", "sky-other", "wood")
    assert [COCO_STUFF_CLASSES.index(name) + 1 for name in names] == [1, 12, 22, 80, 81, 146, 171]
    assert {"wall-brick", "floor-marble", "window-blind"} < set(STUFF)


@pytest.mark.parametrize(
    ("photos", "truths"),
    [
        ("val2017", "stuffthingmaps/val2017"),
        ("val2017", "stuffthingmaps_trainval2017/val2017"),
        ("images/val2017", "annotations/val2017"),
    ],
)
def test_identifiers_become_positions_and_their_gaps_close(tmp_path, photos, truths):
    write(tmp_path, photos, truths)
    # What MMSegmentation makes of a map is no picture of its own.
    write_pair(tmp_path / "x.jpg", tmp_path / truths / "000000000139_labelTrainIds.png", TRUTH)
    dataset = open_dataset(f"stuff:{tmp_path}", tmp_path)
    assert (dataset.name, dataset.background, dataset.published_count) == ("stuff", "none", 5000)
    assert counted_classes(dataset) == dataset.classes == COCO_STUFF_CLASSES
    turned = [open_dataset(f"{kind}:{tmp_path}", tmp_path, AUTHORS).turned for kind in ("stuff", "object")]
    assert (dataset.turned, turned) == (True, [False, False])
    assert dataset.image_ids == ("000000000139", "000000000285")
    np.testing.assert_array_equal(dataset.read("000000000139").truth, [[1, 12, 80], [81, 146, 171], [255, 1, 255]])
    # 23 less one is the bear, before which only identifier 12 is unused.
    np.testing.assert_array_equal(dataset.read("000000000285").truth, [[22]])


def test_every_gap_lies_where_coco_left_it(tmp_path):
    """On both sides of each of the 11 identifiers that were never used."""
    numbers = {
        **{"fire hydrant": 11, "stop sign": 13, "giraffe": 25, "backpack": 27, "umbrella": 28, "handbag": 31},
        **{"bottle": 44, "wine glass": 46, "bed": 65, "dining table": 67, "toilet": 70, "tv": 72},
        **{"refrigerator": 82, "book": 84, "toothbrush": 90, "banner": 92},
    }
    write(tmp_path)
    path = tmp_path / "stuffthingmaps" / "val2017" / "000000000285.png"
    write_pair(tmp_path / "val2017" / "000000000285.jpg", path, [[number - 1 for number in numbers.values()]])
    [row] = open_dataset(f"stuff:{tmp_path}", tmp_path).read("000000000285").truth
    assert [COCO_STUFF_CLASSES[position - 1] for position in row] == [*numbers]


def test_of_the_objects_all_else_is_background(tmp_path):
    write(tmp_path)
    dataset = open_dataset(f"object:{tmp_path}", tmp_path)
    assert (dataset.name, dataset.background, dataset.classes) == ("object", "refined", THINGS)
    assert counted_classes(dataset) == ("background", *THINGS)
    np.testing.assert_array_equal(dataset.read("000000000139").truth, [[1, 12, 80], [0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("kind", ["stuff", "object"])
def test_what_is_wrong_is_said_with_the_files_name(tmp_path, kind):
    write(tmp_path)
    dataset = open_dataset(f"{kind}:{tmp_path}", tmp_path)
    truths = tmp_path / "stuffthingmaps" / "val2017"
    # 12 less one was never used; there is nothing beyond 182 less one.
    write_pair(tmp_path / "x.jpg", truths / "000000000285.png", [[11, 182]])
    said = r"000000000285\.png holds the values \[11, 182\]; expected 0\.\.10, 12\.\.24, 26\.\.27.*91\.\.181, 255"
    with pytest.raises(DatasetError, match=said):
        dataset.read("000000000285")
    (tmp_path / "val2017" / "000000000139.jpg").unlink()
    with pytest.raises(
        DatasetError, match=r"1 of 4 files are missing \(.*139\.jpg\).*stuffthingmaps_trainval2017\.zip"
    ):
        open_dataset(f"{kind}:{tmp_path}", tmp_path)
    write(tmp_path)
    (truths / "000000000139.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 4 files are missing \(.*139\.png\)"):
        open_dataset(f"{kind}:{tmp_path}", tmp_path)
    with pytest.raises(DatasetError, match="there is no stuffthingmaps/val2017"):
        open_dataset(f"{kind}:{tmp_path / 'val2017'}", tmp_path)
