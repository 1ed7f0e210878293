"""PASCAL VOC, as torchvision and our own evaluation read it."""

import numpy as np
import pytest
from data_sets import maps_of_five, pixels, project_of_five, source
from PIL import Image
from torchvision.datasets import VOCSegmentation

from backend.errors import ExportError
from backend.export.classes import Classes
from backend.export.exporting import export_project
from backend.export.voc import ROOT, VocWriter
from backend.export.writing import DataSet
from clipdiy.evaluate.datasets.voc import open_folder


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "set"
    export_project(source(project_of_five(), ignore=("Unsure",), val_share=0), "voc", out)
    return out


def expected(number):
    label_map = maps_of_five()[number]
    return np.where(label_map == 65_535, 255, label_map)


def test_as_torchvision_reads_it(out):
    found = VOCSegmentation(str(out), year="2012", image_set="train", download=False)
    assert len(found) == 4
    for (image, mask), number in zip(found, (11, 12, 14, 15), strict=True):
        assert mask.mode == "P"
        assert (np.asarray(mask) == expected(number)).all()
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels(number)).max() <= 6
    assert len(VOCSegmentation(str(out), year="2012", image_set="trainval", download=False)) == 4
    assert (out / ROOT / "ImageSets/Segmentation/val.txt").read_text() == ""


def test_nobody_takes_an_unlabelled_picture_for_an_empty_one(out):
    assert (out / ROOT / "ImageSets/Segmentation/unlabelled.txt").read_text() == "000013-picture13\n"
    assert (out / ROOT / "JPEGImages/000013-picture13.jpg").exists()
    assert not (out / ROOT / "SegmentationClass/000013-picture13.png").exists()


def test_as_our_own_evaluation_reads_it(tmp_path):
    out = tmp_path / "set"
    export_project(source(project_of_five(), ignore=("Unsure",), val_share=1), "voc", out)
    found = open_folder(out / ROOT)
    assert found.classes == ("Cat", "Dog")
    assert [name[:6] for name in found.image_ids] == ["000011", "000012", "000014", "000015"]
    for name in found.image_ids:
        assert (found.read(name).truth == expected(int(name[:6]))).all()


def test_colours(out):
    with Image.open(out / ROOT / "SegmentationClass/000015-picture15.png") as image:
        colours = np.array(image.getpalette()).reshape(-1, 3)
    assert colours[0].tolist() == [0, 0, 0]
    assert colours[255].tolist() == [224, 224, 192]
    assert len({tuple(colour) for colour in colours[[0, 1, 2, 255]].tolist()}) == 4


def test_a_class_has_one_line(tmp_path):
    VocWriter(tmp_path, DataSet("t", Classes(("a\nb", "c  d"))))
    assert (tmp_path / ROOT / "classes.txt").read_text() == "a b\nc d\n"


def test_room_for_254_labels(tmp_path):
    (tmp_path / "a").mkdir()
    VocWriter(tmp_path / "a", DataSet("t", Classes(tuple(map(str, range(254))))))
    with pytest.raises(ExportError, match="room for 254 labels, the project has 255"):
        VocWriter(tmp_path / "b", DataSet("t", Classes(tuple(map(str, range(255))))))
