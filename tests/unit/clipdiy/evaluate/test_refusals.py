"""What would give a wrong figure without a word: each is an error that names the file, or is put right."""

import json

import numpy as np
import pytest
from miniature import TINY, square_polygon, write_coco, write_indexed, write_voc
from PIL import ExifTags, Image
from typer.testing import CliRunner

from clipdiy.cli import app
from clipdiy.errors import ConfigError, DatasetError, ImageError, ObjectnessError
from clipdiy.evaluate.datasets import open_dataset
from clipdiy.evaluate.datasets.coco import open_coco
from clipdiy.evaluate.datasets.sample import fingerprint
from clipdiy.evaluate.protocol import AUTHORS
from clipdiy.photo import decode_photo

SQUARE = {"image_id": 7, "category_id": 17, "segmentation": square_polygon(0, 0, 3, 2)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"category_id": 99}, r"is of category 99, which is not among its 2 categories \(3, 17"),
        ({"category_id": None}, "is of category None"),
        ({"segmentation": []}, "its segmentation is empty"),
        ({"segmentation": None}, "a list of polygons or an RLE, got None"),
        ({"segmentation": [[1, 2, 3]]}, r"3 or more points, got \[1, 2, 3\]"),
        ({"segmentation": [[0, 0, 3, 2]]}, "3 or more points"),
        ({"segmentation": [[0, 0, 3, 2, 1, 1, 5]]}, "3 or more points"),
        ({"segmentation": [[0, 0, 3, 2, 1, "x"]]}, "3 or more points"),
        ({"segmentation": [0, 0, 3, 2, 1, 1]}, "3 or more points, got 0"),
        ({"segmentation": {"size": [8, 12], "counts": [0, 96]}}, r"of size \[8, 12\], the picture \[4, 6\]"),
        ({"segmentation": {"size": [4, 6], "counts": [0, 23]}}, "must add up to the picture's 4 x 6"),
        ({"segmentation": {"size": [4, 6], "counts": [0, -1, 25]}}, "must add up"),
        ({"segmentation": {"size": [4, 6], "counts": 3}}, "got 3"),
        ({"segmentation": {"counts": [0, 24]}}, "a list of polygons or an RLE"),
    ],
    ids=[
        "unlisted category", "no category", "empty", "null", "three numbers", "a box", "odd", "text", "flat list",
        "RLE of another size", "too few pixels", "negative run", "counts", "no size",
    ],
)  # fmt: skip
def test_annotations_that_cannot_be_meant_are_named_before_anything_is_evaluated(tmp_path, change, said):
    write_coco(tmp_path, {7: (4, 6)}, [SQUARE, SQUARE | change])
    with pytest.raises(DatasetError, match=rf"annotation 2 of 000000000007\.jpg.*{said}"):
        open_coco(tmp_path)


@pytest.mark.parametrize(
    ("where", "field", "said"),
    [("annotations", "segmentation", "annotation 1 of .* has no segmentation"), ("images", "height", "no 'height'")],
)
def test_missing_fields_are_named(tmp_path, where, field, said):
    write_coco(tmp_path, {7: (4, 6)}, [SQUARE])
    file = tmp_path / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    del content[where][0][field]
    file.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=said):
        open_coco(tmp_path)


def test_a_photo_of_another_size_than_its_annotations_is_refused(tmp_path):
    write_coco(tmp_path, {7: (4, 6)}, [])
    Image.new("RGB", (7, 4)).save(tmp_path / "val2017" / "000000000007.jpg")
    with pytest.raises(DatasetError, match=r"000000000007\.jpg: the picture is \(4, 7\).*its truth \(4, 6\)"):
        open_coco(tmp_path).read("7")


def test_a_photo_cut_in_half_is_named(tmp_path):
    write_voc(tmp_path / "voc", [np.zeros((60, 80))])
    path = tmp_path / "voc" / "JPEGImages" / "a.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=r"JPEGImages.a\.jpg: the JPEG cannot be decoded, it is damaged or cut off"):
        open_dataset(f"voc:{tmp_path / 'voc'}", tmp_path).read("a")


def write_turned(root, stored, orientation, truth):
    """Write a PNG that is to be turned, with a truth; return the data set's name."""
    write_voc(root, [np.zeros((2, 2))], ending="png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(root / "JPEGImages" / "a.png", exif=exif)
    write_indexed(root / "SegmentationClass" / "a.png", truth)
    (root / "classes.txt").write_text("cat")
    return f"folder:{root}"


STORED = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("size_hw", [(4, 6), (6, 4)], ids=["truth over the stored", "truth over the turned"])
def test_a_truths_size_tells_whether_its_photo_is_turned(tmp_path, orientation, size_hw):
    spec = write_turned(tmp_path / "set", STORED, orientation, np.ones(size_hw))
    sample = open_dataset(spec, tmp_path).read("a")
    assert sample.photo.size_hw == size_hw
    turned = decode_photo((tmp_path / "set" / "JPEGImages" / "a.png").read_bytes(), max_px=100).pixels
    np.testing.assert_array_equal(sample.photo.pixels, STORED if size_hw == (4, 6) else turned)


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [(2, STORED), (3, STORED), (4, STORED), (6, STORED[:, :4]), (8, STORED[:, :4])],
    ids=["mirrored", "upside down", "flipped", "square, right", "square, left"],
)
def test_a_turned_photo_whose_truth_does_not_tell_is_refused(tmp_path, orientation, stored):
    spec = write_turned(tmp_path / "set", stored, orientation, np.ones(stored.shape[:2]))
    with pytest.raises(DatasetError, match=r"a\.png is to be turned by its EXIF orientation"):
        open_dataset(spec, tmp_path).read("a")
    # The authors' program never turns.
    np.testing.assert_array_equal(open_dataset(spec, tmp_path, AUTHORS).read("a").photo.pixels, stored)


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_an_orientation_that_turns_nothing_is_fine(tmp_path, orientation):
    spec = write_turned(tmp_path / "set", STORED, orientation, np.ones((4, 6)))
    np.testing.assert_array_equal(open_dataset(spec, tmp_path).read("a").photo.pixels, STORED)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_the_authors_see_every_photo_as_it_is_stored(tmp_path, orientation):
    spec = write_turned(tmp_path / "set", STORED, orientation, np.ones((4, 6)))
    np.testing.assert_array_equal(open_dataset(spec, tmp_path, AUTHORS).read("a").photo.pixels, STORED)


def test_a_jpeg_is_turned_back_as_a_png_is(tmp_path):
    write_voc(tmp_path, [np.ones((40, 60))])
    path = tmp_path / "JPEGImages" / "a.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif, quality=100)
    assert decode_photo(path.read_bytes(), max_px=10_000).size_hw == (60, 40)
    with Image.open(path) as stored:
        np.testing.assert_array_equal(
            open_dataset(f"voc:{tmp_path}", tmp_path).read("a").photo.pixels, np.array(stored)
        )


def test_damaged_exif_turns_nothing(tmp_path):
    write_voc(tmp_path, [np.ones((40, 60))])
    path = tmp_path / "JPEGImages" / "a.jpg"
    with Image.open(path) as image:
        image.save(path, exif=b"Exif\0\0damaged")
    assert open_dataset(f"voc:{tmp_path}", tmp_path).read("a").photo.size_hw == (40, 60)


@pytest.mark.parametrize("edited", ["SegmentationClass/b.png", "JPEGImages/a.jpg"])
def test_a_fingerprint_changes_with_every_file(tmp_path, edited):
    write_voc(tmp_path, [[[0, 1]], [[1, 1]]])
    before = fingerprint(open_dataset(f"voc:{tmp_path}", tmp_path))
    assert before == fingerprint(open_dataset(f"voc:{tmp_path}", tmp_path))
    path = tmp_path / edited
    if path.suffix == ".png":
        write_indexed(path, [[2, 1]])
    else:
        Image.new("RGB", (2, 1), "red").save(path)
    assert before != fingerprint(open_dataset(f"voc:{tmp_path}", tmp_path))


def test_a_fingerprint_changes_with_cocos_annotations(tmp_path):
    write_coco(tmp_path / "one", {7: (4, 6)}, [SQUARE])
    write_coco(tmp_path / "two", {7: (4, 6)}, [SQUARE | {"segmentation": square_polygon(0, 0, 4, 2)}])
    assert fingerprint(open_coco(tmp_path / "one")) != fingerprint(open_coco(tmp_path / "two"))


def command(*arguments):
    options = ("--preset", "starter", "--clip", TINY.clip, "--found", TINY.found, "--device", "cpu", "--no-boundary")
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments), *options], catch_exceptions=False)


def test_edited_truths_are_not_continued(tmp_path):
    write_voc(tmp_path / "voc", [np.zeros((30, 40)), np.ones((30, 40))])
    arguments = (f"voc:{tmp_path / 'voc'}", "--out", tmp_path / "out")
    command(*arguments)
    assert command(*arguments, "--resume").exit_code == 0
    write_indexed(tmp_path / "voc" / "SegmentationClass" / "a.png", np.ones((30, 40)))
    with pytest.raises(ConfigError, match="another evaluation"):
        command(*arguments, "--resume")


def test_instances_of_other_pictures_stop_the_evaluation_and_of_some_are_said(tmp_path):
    write_voc(tmp_path / "voc", [np.zeros((4, 4)), np.ones((4, 4))])
    file = tmp_path / "instances.json"
    arguments = (f"voc:{tmp_path / 'voc'}", "--out", tmp_path / "out", "--variants", "cutler", "--instances", file)
    file.write_text(json.dumps([{"image_id": 1, "segmentation": square_polygon(0, 0, 2, 2), "score": 1}]))
    with pytest.raises(ObjectnessError, match="knows none of the 2 pictures"):
        command(*arguments)
    file.write_text(json.dumps([{"image_id": "b", "segmentation": square_polygon(0, 0, 2, 2), "score": 1}]))
    assert "knows nothing of 1 of 2 pictures ('a', ...)" in command(*arguments).output
