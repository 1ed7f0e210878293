"""Cityscapes: a miniature set, with the archive's numbers and with those of training."""

import numpy as np
import pytest
from miniature import write_pair

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import counted_classes, open_dataset
from clipdiy.evaluate.datasets.cityscapes import CITYSCAPES_CLASSES
from clipdiy.evaluate.protocol import AUTHORS

LINDAU, MUNSTER = "lindau_000000_000019", "munster_000001_000019"
# 7 road, 11 building, 23 sky, 33 bicycle; 1 the own car, 9 parking and 29 a caravan are not evaluated.
BY_ID = {LINDAU: [[7, 11, 23], [1, 33, 9]], MUNSTER: [[0, 29, 26]]}
BY_TRAIN_ID = {LINDAU: [[0, 2, 10], [255, 18, 255]], MUNSTER: [[255, 255, 13]]}
EXPECTED = {LINDAU: [[1, 3, 11], [255, 19, 255]], MUNSTER: [[255, 255, 14]]}


def write(root, truths=BY_ID, ending="labelIds"):
    for name, values in truths.items():
        city = name.split("_")[0]
        write_pair(
            root / "leftImg8bit" / "val" / city / f"{name}_leftImg8bit.png",
            root / "gtFine" / "val" / city / f"{name}_gtFine_{ending}.png",
            values,
        )
    return root


def check(dataset):
    assert dataset.image_ids == (LINDAU, MUNSTER)
    for name, expected in EXPECTED.items():
        np.testing.assert_array_equal(dataset.read(name).truth, expected)


def test_the_archives_numbers_become_positions(tmp_path):
    write(tmp_path)
    # Those of training beside them change nothing, nor do colours.
    write(tmp_path, {LINDAU: [[18, 18, 18], [18, 18, 18]]}, "labelTrainIds")
    write(tmp_path, {LINDAU: [[99, 99, 99], [99, 99, 99]]}, "color")
    (tmp_path / "gtFine" / "val" / ".DS_Store").write_bytes(b"")
    dataset = open_dataset(f"cityscapes:{tmp_path}", tmp_path)
    check(dataset)
    assert (dataset.turned, open_dataset(f"cityscapes:{tmp_path}", tmp_path, AUTHORS).turned) == (True, False)
    assert (dataset.name, dataset.background, dataset.published_count) == ("cityscapes", "none", 500)
    assert counted_classes(dataset) == dataset.classes == CITYSCAPES_CLASSES
    assert (len(CITYSCAPES_CLASSES), CITYSCAPES_CLASSES[0], CITYSCAPES_CLASSES[18]) == (19, "road", "bicycle")
    assert dataset.photo_name(LINDAU) == f"{LINDAU}_leftImg8bit"


def test_all_34_numbers_are_read_as_cityscapes_means_them(tmp_path):
    ids = [*range(34), 255]
    by_id = {
        "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
        "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26,
        "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
    }  # fmt: skip
    dataset = open_dataset(f"cityscapes:{write(tmp_path, {LINDAU: [ids]})}", tmp_path)
    read = dict(zip(ids, dataset.read(LINDAU).truth[0].tolist(), strict=True))
    assert {dataset.classes[position - 1]: number for number, position in read.items() if position != 255} == by_id


def test_the_numbers_of_training_serve_where_there_are_no_others(tmp_path):
    write(tmp_path, BY_TRAIN_ID, "labelTrainIds")
    check(open_dataset(f"cityscapes:{tmp_path}", tmp_path))


@pytest.mark.parametrize(
    ("ending", "wrong", "known"), [("labelIds", 34, r"0\.\.33"), ("labelTrainIds", 19, r"0\.\.18")]
)
def test_a_number_that_means_nothing_is_refused(tmp_path, ending, wrong, known):
    write(tmp_path, {LINDAU: [[wrong, 7, wrong]]}, ending)
    said = rf"{LINDAU}_gtFine_{ending}\.png holds the values \[{wrong}\]; expected {known}, 255"
    with pytest.raises(DatasetError, match=said):
        open_dataset(f"cityscapes:{tmp_path}", tmp_path).read(LINDAU)


def test_what_is_missing_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "gtFine" / "val" / "munster" / f"{MUNSTER}_gtFine_labelIds.png").unlink()
    said = r"Cityscapes at .* 1 of 4 files are missing \(.*munster_000001_000019_gtFine_labelIds\.png\).*gtFine_trainv"
    with pytest.raises(DatasetError, match=said):
        open_dataset(f"cityscapes:{tmp_path}", tmp_path)
    write(tmp_path)
    (tmp_path / "leftImg8bit" / "val" / "lindau" / f"{LINDAU}_leftImg8bit.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 4 files are missing \(.*lindau_000000_000019_leftImg8bit\.png\)"):
        open_dataset(f"cityscapes:{tmp_path}", tmp_path)
    with pytest.raises(DatasetError, match=r"no Cityscapes at .*: there is no gtFine/val"):
        open_dataset(f"cityscapes:{tmp_path / 'gtFine'}", tmp_path)
    (tmp_path / "empty" / "gtFine" / "val" / "lindau").mkdir(parents=True)
    with pytest.raises(DatasetError, match="has no picture"):
        open_dataset(f"cityscapes:{tmp_path / 'empty'}", tmp_path)
