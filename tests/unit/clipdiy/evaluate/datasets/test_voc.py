"""PASCAL VOC and folders like it: miniature sets read pixel by pixel, and what is said when something is missing."""

import numpy as np
import pytest
from miniature import write_indexed, write_voc
from PIL import Image

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import open_dataset
from clipdiy.evaluate.datasets.voc import VOC_CLASSES, open_folder, open_voc

TRUTHS = [[[0, 1, 255], [20, 0, 0]], [[5, 5], [0, 255], [0, 0]]]


@pytest.mark.parametrize("below", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_is_found_from_any_of_its_folders(tmp_path, below):
    write_voc(tmp_path / below, TRUTHS)
    dataset = open_dataset(f"voc:{tmp_path}", tmp_path)
    assert dataset.image_ids == ("a", "b")
    assert (dataset.name, dataset.published_count) == ("voc", 1449)
    sample = dataset.read("a")
    np.testing.assert_array_equal(sample.truth, TRUTHS[0])
    assert sample.photo.size_hw == (2, 3)


def test_voc_has_the_published_class_names():
    assert len(VOC_CLASSES) == 20
    assert VOC_CLASSES[0] == "aeroplane"
    assert {"dining table", "potted plant", "tv/monitor"} < set(VOC_CLASSES)


def test_a_folder_brings_its_own_classes(tmp_path):
    write_voc(tmp_path, [[[0, 1], [2, 255]]], ending="png")
    (tmp_path / "classes.txt").write_text("background\ncat\n\n dog \n")
    dataset = open_dataset(f"folder:{tmp_path}", tmp_path)
    assert dataset.classes == ("cat", "dog")
    np.testing.assert_array_equal(dataset.read("a").truth, [[0, 1], [2, 255]])


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("ImageSets/Segmentation/val.txt", "no ImageSets/Segmentation/val.txt"),
        ("classes.txt", "no classes.txt"),
        ("JPEGImages/b.jpg", r"1 of 4 files are missing \(.*b\.jpg\)"),
        ("SegmentationClass/a.png", r"1 of 4 files are missing \(.*a\.png\)"),
    ],
)
def test_what_is_missing_is_said_with_what_is_expected_where(tmp_path, missing, said):
    write_voc(tmp_path, TRUTHS)
    (tmp_path / "classes.txt").write_text("\n".join(VOC_CLASSES))
    (tmp_path / missing).unlink()
    with pytest.raises(DatasetError, match=f"(?s){said}.*Expected is a folder with"):
        open_folder(tmp_path)
    if missing != "classes.txt":
        with pytest.raises(DatasetError, match=r"(?s)VOCtrainval_11-May-2012\.tar.*JPEGImages/NAME\.jpg"):
            open_voc(tmp_path)


def test_many_missing_files_are_counted_and_a_few_named(tmp_path):
    write_voc(tmp_path, [[[0]]] * 9)
    for photo in (tmp_path / "JPEGImages").iterdir():
        photo.unlink()
    with pytest.raises(DatasetError, match=r"9 of 18 files are missing \(.*a\.jpg, .*b\.jpg, .*c\.jpg and 6 more\)"):
        open_voc(tmp_path)


def test_truth_that_cannot_be_right_is_refused(tmp_path):
    write_voc(tmp_path, TRUTHS)
    dataset = open_voc(tmp_path)
    write_indexed(tmp_path / "SegmentationClass" / "a.png", [[0, 21, 0], [0, 0, 77]])
    with pytest.raises(DatasetError, match=r"a\.png holds the values \[21, 77\]; expected 0\.\.20"):
        dataset.read("a")
    write_indexed(tmp_path / "SegmentationClass" / "a.png", [[0, 1]])
    with pytest.raises(DatasetError, match=r"\(2, 3\).*truth \(1, 2\)"):
        dataset.read("a")
    Image.new("RGB", (3, 2)).save(tmp_path / "SegmentationClass" / "a.png")
    with pytest.raises(DatasetError, match="must be an indexed"):
        dataset.read("a")
    (tmp_path / "SegmentationClass" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset.read("a")


def test_empty_and_overlong_lists_are_refused(tmp_path):
    write_voc(tmp_path, TRUTHS)
    (tmp_path / "classes.txt").write_text("\n".join(f"class {i}" for i in range(255)))
    with pytest.raises(DatasetError, match="1 to 254 classes"):
        open_folder(tmp_path)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("\n")
    with pytest.raises(DatasetError, match="names no picture"):
        open_voc(tmp_path)
