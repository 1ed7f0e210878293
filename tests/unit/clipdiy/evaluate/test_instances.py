"""CutLER objectness (Eq. 5): by hand, from a results file, from a detector that speaks torchvision's way."""

import json

import numpy as np
import pytest
import torch

from clipdiy.errors import ObjectnessError, ShapeError
from clipdiy.evaluate.instances import combine_instances, detector_objectness, open_instances
from clipdiy.photo import Photo


def mask(*rows):
    return np.array([[letter == "#" for letter in row] for row in rows])


LEFT, TOP, ALL = mask("##..", "##.."), mask("####", "...."), mask("####", "####")


@pytest.mark.parametrize(
    ("masks", "scores", "expected"),
    [
        ([LEFT, TOP], [0.5, 0.5], [[1, 1, 0.5, 0.5], [0.5, 0.5, 0, 0]]),
        ([LEFT, TOP], [0.3, 0.9], [[1, 1, 0.75, 0.75], [0.25, 0.25, 0, 0]]),
        ([LEFT, ALL], [0.8, 0.2999], [[1, 1, 0, 0], [1, 1, 0, 0]]),
        ([ALL], [0.3], np.ones((2, 4))),
        ([LEFT], [0.1], np.zeros((2, 4))),
        ([], [], np.zeros((2, 4))),
        ([~ALL], [0.9], np.zeros((2, 4))),
    ],
    ids=["two", "weighted by score", "below 0.3", "one, exactly 0.3", "none left", "none", "empty mask"],
)
def test_eq_5_by_hand(masks, scores, expected):
    objectness = combine_instances(masks, scores, (2, 4))
    np.testing.assert_allclose(objectness.grid.float().numpy(), expected, atol=1e-3)
    assert not objectness.is_logit
    assert objectness.extent_hw == (2, 4)


@pytest.mark.parametrize(
    ("masks", "scores"),
    [([LEFT], []), ([LEFT], [0.5, 0.5]), ([LEFT[:1]], [0.5])],
    ids=["fewer scores", "more scores", "size"],
)
def test_what_does_not_fit_is_refused(masks, scores):
    with pytest.raises(ShapeError):
        combine_instances(masks, scores, (2, 4))


def detector(masks, scores):
    def detect(images):
        assert images[0].dtype == torch.float32
        assert 0 <= images[0].min() <= images[0].max() <= 1
        return [{"masks": masks, "scores": scores, "boxes": torch.zeros(len(scores), 4)}]

    return detect


PHOTO = Photo.from_array(np.full((2, 4, 3), 200, np.uint8))


def test_a_detector_in_torchvisions_way():
    masks = torch.stack([torch.from_numpy(part).float() * 0.9 for part in (LEFT, TOP)])[:, None]
    found = detector_objectness(detector(masks, torch.tensor([0.6, 0.1])), PHOTO)
    np.testing.assert_array_equal(found.grid.numpy(), LEFT)
    # A pixel belongs to an instance from one half on.
    assert detector_objectness(detector(masks * 0.5, torch.tensor([0.6, 0.6])), PHOTO).grid.max() == 0


def test_a_detector_that_finds_nothing():
    found = detector_objectness(detector(torch.zeros(0, 1, 2, 4), torch.zeros(0)), PHOTO)
    np.testing.assert_array_equal(found.grid.numpy(), np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("masks", "scores"),
    [
        (torch.zeros(1, 2, 4), torch.zeros(1)),
        (torch.zeros(1, 1, 3, 4), torch.zeros(1)),
        (torch.zeros(2, 1, 2, 4), torch.zeros(1)),
        (torch.zeros(1, 1, 2, 4), torch.zeros(2)),
    ],
    ids=["no channel", "other size", "fewer scores", "more scores"],
)
def test_a_detector_with_another_output_is_refused(masks, scores):
    with pytest.raises(ShapeError, match="detector must return"):
        detector_objectness(detector(masks, scores), PHOTO)
    with pytest.raises(ShapeError, match="one dict per image"):
        detector_objectness(lambda images: [], PHOTO)


def write(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    return path


# LEFT is the first four pixels down the columns of 2 x 4; compressed counts are what COCO's own tools write.
FORMS = {
    "polygon": [[0, 0, 2, 0, 2, 2, 0, 2]],
    "two polygons": [[0, 0, 1, 0, 1, 2, 0, 2], [1, 0, 2, 0, 2, 2, 1, 2]],
    "uncompressed RLE": {"size": [2, 4], "counts": [0, 4, 4]},
    "compressed RLE": {"size": [2, 4], "counts": "044"},
}


@pytest.mark.parametrize("form", FORMS)
def test_results_in_every_form(tmp_path, form):
    results = [
        {"image_id": 12, "category_id": 1, "segmentation": FORMS[form], "score": 0.7},
        {"image_id": 12, "category_id": 1, "segmentation": {"size": [2, 4], "counts": [0, 8]}, "score": 0.29},
    ]
    file = open_instances(write(tmp_path, results))
    np.testing.assert_array_equal(file.objectness("12", (2, 4)).grid.numpy(), LEFT)
    # An image without instances has no object in it.
    np.testing.assert_array_equal(file.objectness("13", (3, 2)).grid.numpy(), np.zeros((3, 2)))


def test_a_score_of_exactly_the_threshold_counts(tmp_path):
    results = [{"image_id": 12, "segmentation": FORMS["polygon"], "score": 0.3}]
    np.testing.assert_array_equal(open_instances(write(tmp_path, results)).objectness("12", (2, 4)).grid.numpy(), LEFT)


def test_a_whole_coco_file_tells_sizes_and_names(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "val/2007_000033.jpg", "height": 2, "width": 4}],
        "annotations": [{"image_id": 1, "segmentation": FORMS["polygon"], "score": 0.7}],
    }
    file = open_instances(write(tmp_path, content))
    for name in ("1", "2007_000033"):
        np.testing.assert_array_equal(file.objectness(name, (2, 4)).grid.numpy(), LEFT)
        with pytest.raises(ObjectnessError, match=r"a picture of \(2, 4\), it is \(9, 9\)"):
            file.objectness(name, (9, 9))


@pytest.mark.parametrize(
    "content", [{}, {"annotations": [1]}, [{"image_id": 1, "score": 1}], [{"segmentation": [], "score": 1}], 3], ids=str
)
def test_another_file_is_refused(tmp_path, content):
    with pytest.raises(ObjectnessError, match="no file of COCO results"):
        open_instances(write(tmp_path, content))


def test_a_missing_file_and_a_damaged_mask_are_said(tmp_path):
    with pytest.raises(ObjectnessError, match="cannot read"):
        open_instances(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("[")
    with pytest.raises(ObjectnessError, match="no file of COCO results"):
        open_instances(tmp_path / "broken.json")
    file = open_instances(write(tmp_path, [{"image_id": 1, "segmentation": {"size": [2]}, "score": 1}]))
    with pytest.raises(ObjectnessError, match="image '1' cannot be used"):
        file.objectness("1", (2, 4))


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ({"size": [4, 8], "counts": [0, 32]}, r"RLE is of size \[4, 8\], the picture \[2, 4\]"),
        ([[1, 2, 3]], "3 or more points"),
    ],
    ids=["another size", "three numbers"],
)
def test_masks_that_do_not_fit_the_picture_are_refused(tmp_path, segmentation, said):
    file = open_instances(write(tmp_path, [{"image_id": 1, "segmentation": segmentation, "score": 1}]))
    with pytest.raises(ObjectnessError, match=f"image '1' cannot be used: .*{said}"):
        file.objectness("1", (2, 4))


def test_an_instance_without_pixels_is_nothing(tmp_path):
    file = open_instances(write(tmp_path, [{"image_id": 1, "segmentation": [], "score": 1}]))
    np.testing.assert_array_equal(file.objectness("1", (2, 4)).grid.numpy(), np.zeros((2, 4)))


def results_of(*image_ids):
    return [{"image_id": i, "segmentation": FORMS["polygon"], "score": 1} for i in image_ids]


def test_a_file_about_other_pictures_is_refused(tmp_path):
    file = open_instances(write(tmp_path, results_of(2007000033)))
    with pytest.raises(ObjectnessError, match=r"none of the 2 pictures \('2007_000033'.*image_ids are '2007000033'"):
        file.require_match(["2007_000033", "2007_000042"])
    with pytest.raises(ObjectnessError, match="knows none"):
        open_instances(write(tmp_path, [])).require_match(["a"])


def test_a_file_about_some_of_the_pictures_says_so(tmp_path):
    file = open_instances(write(tmp_path, results_of("a", "b")))
    assert file.require_match(["b", "a"]) == ()
    nothing, unknown = file.require_match(["a", "c", "d"])
    assert "nothing of 2 of 3 pictures ('c', ...)" in nothing
    assert "1 image_ids ('b', ...) name none" in unknown
    # Pictures that are listed have no instance on purpose; their id and their name are one thing.
    listed = {"images": [{"id": 1, "file_name": "a.jpg", "height": 2, "width": 4}], "annotations": []}
    assert open_instances(write(tmp_path, listed)).require_match(["a"]) == ()
