"""Data sets: miniature folders read pixel by pixel, and what is said when something is missing."""

import json
import sys

import numpy as np
import pytest
from miniature import square_polygon, write_coco, write_indexed, write_voc
from PIL import Image

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import open_dataset
from clipdiy.evaluate.datasets.coco import open_coco
from clipdiy.evaluate.datasets.sample import fingerprint
from clipdiy.evaluate.datasets.scenes import open_scenes, write_scenes
from clipdiy.evaluate.datasets.voc import VOC_CLASSES, open_folder, open_voc
from clipdiy.evaluate.instances import open_instances
from clipdiy.starter.scenes import NOUNS, compose_scene

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


CROWD = {"size": [4, 6], "counts": [0, 8, 16]}  # the first two columns


def coco(tmp_path):
    annotations = [
        {"image_id": 7, "category_id": 17, "segmentation": square_polygon(1, 0, 4, 2)},
        {"image_id": 7, "category_id": 17, "segmentation": square_polygon(4, 2, 6, 4)},
        {"image_id": 7, "category_id": 3, "segmentation": square_polygon(3, 0, 6, 2)},
        {"image_id": 7, "category_id": 3, "segmentation": CROWD, "iscrowd": 1},
    ]
    return write_coco(tmp_path, {7: (4, 6), 5: (3, 3)}, annotations)


def test_coco_merges_instances_and_ignores_crowds(tmp_path):
    dataset = open_dataset(f"coco:{coco(tmp_path)}", tmp_path)
    assert dataset.classes == ("car", "cat")  # by id
    assert dataset.image_ids == ("5", "7")
    assert dataset.published_count == 5000
    # Two cats are one class; the car lies over the first; the crowd of cars is ignored but where a cat lies on it.
    np.testing.assert_array_equal(
        dataset.read("7").truth,
        [[255, 2, 2, 1, 1, 1], [255, 2, 2, 1, 1, 1], [255, 255, 0, 0, 2, 2], [255, 255, 0, 0, 2, 2]],
    )
    np.testing.assert_array_equal(dataset.read("5").truth, np.zeros((3, 3)))


def test_a_partial_coco_is_said(tmp_path):
    with pytest.raises(DatasetError, match=r"no annotations/instances_val2017\.json.*annotations_trainval2017\.zip"):
        open_coco(tmp_path)
    coco(tmp_path)
    (tmp_path / "val2017" / "000000000005.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 of 2 files are missing \(.*000000000005\.jpg\).*val2017\.zip"):
        open_coco(tmp_path)
    (tmp_path / "annotations" / "instances_val2017.json").write_text('{"images": 3}')
    with pytest.raises(DatasetError, match="no COCO instances file"):
        open_coco(tmp_path)


def test_coco_without_pycocotools_names_the_extra(tmp_path, monkeypatch):
    coco(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(DatasetError, match=r"pip install 'clip-diy-label-studio\[eval\]'"):
        open_coco(tmp_path)


def test_scenes_are_written_and_read_without_loss(tmp_path):
    dataset = open_dataset("scenes:3:3", tmp_path)
    assert dataset.classes == NOUNS
    assert dataset.title == "3 scenes of 2 to 4 objects, seed 3"
    for number, image_id in enumerate(dataset.image_ids):
        sample = dataset.read(image_id)
        scene = compose_scene(3_000_000 + number, size_hw=sample.photo.size_hw, n_objects=(2, 4))
        np.testing.assert_array_equal(sample.truth, scene.labels)
        np.testing.assert_array_equal(sample.photo.pixels, scene.image)
    assert len({dataset.read(image_id).photo.size_hw for image_id in dataset.image_ids}) == 3


def test_scenes_of_one_object(tmp_path):
    dataset = open_dataset("scenes:0:2:single", tmp_path)
    for image_id in dataset.image_ids:
        assert len(np.unique(dataset.read(image_id).truth)) == 2


def test_scenes_are_written_once_and_anew_when_asked_for_others(tmp_path):
    write_scenes(tmp_path, 0, 1)
    picture = tmp_path / "JPEGImages" / "scene-0-0000.png"
    before = picture.stat().st_mtime_ns
    write_scenes(tmp_path, 0, 1)
    assert picture.stat().st_mtime_ns == before
    assert len(open_scenes(tmp_path, 0, 2).image_ids) == 2


def test_true_masks_of_scenes_are_a_results_file(tmp_path):
    dataset = open_scenes(tmp_path, 1, 1)
    truth = dataset.read(dataset.image_ids[0]).truth
    objectness = open_instances(tmp_path / "instances.json").objectness(dataset.image_ids[0], truth.shape)
    np.testing.assert_array_equal(objectness.grid.numpy() > 0, truth > 0)
    first = json.loads((tmp_path / "instances.json").read_text())[0]
    assert first["score"] == 1.0


@pytest.mark.parametrize(
    "spec",
    ["voc", "voc:", "cityscapes:/x", "scenes:x", "scenes:1:y", "scenes:1:2:three", "scenes:-1", "scenes:1:0",
     "scenes:1000"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path, spec):
    with pytest.raises(DatasetError):
        open_dataset(spec, tmp_path)


def test_fingerprints_tell_data_sets_apart(tmp_path):
    one, two = open_dataset("scenes:3:1", tmp_path), open_dataset("scenes:3:2", tmp_path)
    assert fingerprint(one) != fingerprint(two)
    assert fingerprint(one) == fingerprint(open_dataset("scenes:3:1", tmp_path))
