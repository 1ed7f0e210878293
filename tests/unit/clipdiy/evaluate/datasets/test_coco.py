"""COCO-Object out of instances."""

import json
import sys

import numpy as np
import pytest
from miniature import square_polygon, write_coco

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import open_dataset
from clipdiy.evaluate.datasets.coco import open_coco

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


@pytest.mark.parametrize(
    ("pictures", "categories", "said"),
    [(0, 2, "has 0 pictures and 2 categories"), (2, 0, "has 2 pictures and 0 categories")],
)
def test_a_coco_of_nothing_is_said(tmp_path, pictures, categories, said):
    file = coco(tmp_path) / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    content["images"] = content["images"][:pictures]
    content["categories"] = content["categories"][:categories]
    content["annotations"] = []
    file.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=said):
        open_coco(tmp_path)


def test_coco_without_pycocotools_names_the_extra(tmp_path, monkeypatch):
    coco(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(DatasetError, match=r"pip install 'clip-diy-label-studio\[eval\]'"):
        open_coco(tmp_path)
