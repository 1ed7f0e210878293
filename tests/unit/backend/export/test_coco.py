"""COCO, as pycocotools reads it, and by the reading rule of its panoptic tools."""

import json

import numpy as np
import pytest
from data_sets import SIZE_HW, box, encoded, maps_of_five, pixels, prediction, project_of_five, region, source, task
from PIL import Image
from pycocotools import mask as codes
from pycocotools.coco import COCO

from backend.export.exporting import export_project


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "set"
    export_project(source(project_of_five(), ignore=("Unsure",), val_share=0), "coco", out)
    return out


def read(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("kind", ["instances", "stuff"])
def test_as_pycocotools_reads_it(out, kind):
    found = COCO(out / f"annotations/{kind}_train.json")
    assert found.getImgIds() == [11, 12, 14, 15], "also those without a mask"
    assert [(one["id"], one["name"]) for one in found.loadCats(found.getCatIds())] == [(1, "Cat"), (2, "Dog")]
    for number, label_map in maps_of_five().items():
        made = np.zeros(SIZE_HW, np.uint16)
        for one in found.loadAnns(found.getAnnIds([number])):
            mask = found.annToMask(one).astype(bool)
            assert not made[mask].any(), "nothing overlaps"
            assert one["area"] == mask.sum() == codes.area(one["segmentation"])
            assert one["bbox"] == codes.toBbox(one["segmentation"]).tolist()
            made[mask] = one["category_id"]
        assert (made == np.where(label_map == 65_535, 0, label_map)).all()
    [image] = found.loadImgs([11])
    assert (image["height"], image["width"]) == SIZE_HW
    assert (out / "train" / image["file_name"]).read_bytes() == encoded(pixels(11))


def test_an_instance_is_a_connected_part_and_says_its_score(tmp_path):
    parts = box(0, 0, 5, 5) | box(20, 20, 30, 30)
    tasks = [task(3, predictions=[prediction(region(parts, "Dog", score=0.75))])]
    export_project(source(tasks, val_share=1), "coco", tmp_path / "set")
    found = read(tmp_path / "set/annotations/instances_val.json")["annotations"]
    assert [(one["id"], one["area"], one["score"]) for one in found] == [(1, 25, 0.75), (2, 100, 0.75)]
    assert [one["bbox"] for one in found] == [[0, 0, 5, 5], [20, 20, 10, 10]]
    [one] = read(tmp_path / "set/annotations/stuff_val.json")["annotations"]
    assert one["area"] == 125


def test_ids_of_annotations_are_used_once(out):
    for kind in ("instances", "stuff"):
        ids = [one["id"] for one in read(out / f"annotations/{kind}_train.json")["annotations"]]
        assert ids == [*range(1, len(ids) + 1)]
        assert len(ids) >= 5


def test_panoptic_pictures(out):
    """The rule of COCO's panoptic tools: the id is R + 256 G + 65,536 B, and ids and segments are the same set."""
    made = read(out / "annotations/panoptic_train.json")
    categories = {one["id"]: one for one in made["categories"]}
    assert all(one["isthing"] == 1 for one in categories.values())
    assert [one["image_id"] for one in made["annotations"]] == [one["id"] for one in made["images"]] == [11, 12, 14, 15]
    for annotation in made["annotations"]:
        with Image.open(out / "annotations/panoptic_train" / annotation["file_name"]) as image:
            rgb = np.asarray(image).astype(np.uint32)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65_536 * rgb[..., 2]
        segments = annotation["segments_info"]
        assert {one["id"] for one in segments} == set(np.unique(ids)) - {0}
        label_map = np.zeros(SIZE_HW, np.uint16)
        for one in segments:
            assert one["category_id"] in categories
            assert one["area"] == (ids == one["id"]).sum()
            label_map[ids == one["id"]] = one["category_id"]
        expected = maps_of_five()[annotation["image_id"]]
        assert (label_map == np.where(expected == 65_535, 0, expected)).all()


def test_more_parts_than_a_byte_holds(tmp_path):
    mask = np.zeros(SIZE_HW, bool)
    mask[::2, ::2] = True
    tasks = [task(3, predictions=[prediction(region(mask))])]
    export_project(source(tasks, val_share=0), "coco", tmp_path / "set")
    [made] = read(tmp_path / "set/annotations/panoptic_train.json")["annotations"]
    assert len(made["segments_info"]) == 18 * 25
    with Image.open(tmp_path / "set/annotations/panoptic_train" / made["file_name"]) as image:
        rgb = np.asarray(image).astype(int)
    assert len(np.unique(rgb @ [1, 256, 65_536])) == 451


def test_semantic_pictures(out):
    for number, label_map in maps_of_five().items():
        with Image.open(out / f"annotations/semantic_train/0000{number}-picture{number}.png") as image:
            assert (np.asarray(image) == np.where(label_map == 65_535, 255, label_map)).all()


def test_splits_without_pictures_and_pictures_without_answers(out):
    for kind in ("instances", "stuff", "panoptic"):
        empty = read(out / f"annotations/{kind}_val.json")
        assert (empty["images"], empty["annotations"], len(empty["categories"])) == ([], [], 2)
    unlabelled = read(out / "annotations/instances_unlabelled.json")
    assert [one["id"] for one in unlabelled["images"]] == [13]
    assert unlabelled["annotations"] == []
    assert (out / "unlabelled/000013-picture13.png").exists()
    assert sorted(path.name for path in (out / "annotations").iterdir()) == [
        "instances_train.json",
        "instances_unlabelled.json",
        "instances_val.json",
        "panoptic_train",
        "panoptic_train.json",
        "panoptic_val.json",
        "semantic_train",
        "stuff_train.json",
        "stuff_val.json",
    ]


def test_more_labels_than_a_byte_holds(tmp_path):
    labels = "".join(f'<Label value="l{i}"/>' for i in range(300))
    config = '<View><Image name="img" value="$image"/>'
    config += f'<BrushLabels name="brush" toName="img">{labels}</BrushLabels></View>'
    tasks = [task(3, predictions=[prediction(region(box(0, 0, 9, 9), "l299"), region(box(20, 20, 22, 22), "none"))])]
    export_project(source(tasks, config=config, val_share=0), "coco", tmp_path / "set")
    with Image.open(tmp_path / "set/annotations/semantic_train/000003-picture3.png") as image:
        assert np.unique(np.asarray(image)).tolist() == [0, 300, 65_535]
    assert read(tmp_path / "set/dataset.json")["ignored"] == 65_535
