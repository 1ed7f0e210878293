"""Overlaps, instances, sizes, majorities."""

import numpy as np
import pytest
from data_sets import SIZE_HW, blob, box, region

from backend.annotations.reading import read_regions
from backend.errors import AnnotationError
from backend.export.classes import IGNORED, Classes
from backend.export.painting import majority, paint

CLASSES = Classes(("Cat", "Dog"), frozenset({"Nothing"}), frozenset({"Unsure"}))


def painted(*regions, size_hw=SIZE_HW):
    return paint(read_regions(list(regions)).regions, size_hw, CLASSES)


def whole(instance, size_hw=SIZE_HW):
    mask = np.zeros(size_hw, bool)
    mask[instance.part.window] = instance.part.mask
    return mask


SMALL, LARGE = box(10, 10, 16, 16), box(4, 4, 30, 30)


@pytest.mark.parametrize("turned", [False, True], ids=["small last", "small first"])
@pytest.mark.parametrize(("small", "large"), [("Cat", "Dog"), ("Dog", "Cat")])
def test_the_smaller_region_lies_on_top_whatever_was_drawn_first(small, large, turned):
    regions = [region(LARGE, large), region(SMALL, small, 1)]
    made = painted(*regions[::-1] if turned else regions)
    assert (made.label_map[SMALL] == CLASSES.number_of([small])).all()
    assert (made.label_map[LARGE & ~SMALL] == CLASSES.number_of([large])).all()
    assert (made.label_map[~LARGE] == 0).all()


def test_of_two_as_large_the_label_that_is_first_in_the_config_lies_on_top():
    left, right = box(4, 4, 20, 20), box(4, 10, 20, 26)
    for regions in ([region(left, "Dog"), region(right, "Cat", 1)], [region(right, "Cat", 1), region(left, "Dog")]):
        assert (painted(*regions).label_map[left & right] == 1).all()


def test_of_two_alike_the_later_one_is_seen():
    made = painted(region(SMALL, score=0.2), region(SMALL, number=1, score=0.4))
    assert [one.score for one in made.instances] == [0.4]


@pytest.mark.parametrize(("label", "number"), [("Nothing", 0), ("Unsure", IGNORED), ("gone", IGNORED), ((), IGNORED)])
def test_background_and_what_is_ignored_take_part(label, number):
    made = painted(region(LARGE, "Cat"), region(SMALL, label, 1))
    assert (made.label_map[SMALL] == number).all()
    [instance] = made.instances
    assert (whole(instance) == (LARGE & ~SMALL)).all()


def test_instances_are_the_connected_parts_of_each_region():
    two = box(0, 0, 5, 5) | box(20, 20, 30, 30)
    touching = box(0, 5, 5, 9)
    made = painted(region(two, "Cat", score=0.7), region(touching, "Cat", 1), region(blob(6, 30, 20, 48), "Dog", 2))
    expected = [(1, box(0, 0, 5, 5)), (1, box(20, 20, 30, 30)), (1, touching), (2, blob(6, 30, 20, 48))]
    assert len(made.instances) == len(expected)
    for instance, (number, mask) in zip(made.instances, expected, strict=True):
        assert instance.number == number
        assert (whole(instance) == mask).all()
        assert instance.part.area_px == mask.sum()
    assert [instance.score for instance in made.instances] == [0.7, 0.7, None, None]


def test_what_lies_behind_is_cut():
    bar = box(10, 0, 14, 50)
    made = painted(region(bar, "Cat"), region(box(8, 20, 16, 24), "Dog", 1))
    assert sorted(one.part.box_xyxy for one in made.instances if one.number == 1) == [(0, 10, 20, 14), (24, 10, 50, 14)]
    assert not np.logical_and.reduce([whole(one) for one in made.instances]).any()


def test_one_region_with_two_labels_is_what_is_first_in_the_config():
    assert (painted(region(SMALL, ("Dog", "Cat"))).label_map[SMALL] == 1).all()


def test_nothing_and_an_empty_region():
    made = painted(region(np.zeros(SIZE_HW, bool)))
    assert made.instances == ()
    assert made.label_map.shape == SIZE_HW
    assert made.label_map.dtype == np.uint16
    assert not made.label_map.any()


def test_pixels_of_a_picture_of_another_size_are_refused():
    with pytest.raises(AnnotationError, match=r"'r0' was drawn on a picture of 50 x 36 .* has 100 x 72"):
        painted(region(SMALL), size_hw=(72, 100))


def test_shapes_in_percent_fit_any_size():
    square = {"points": [[20, 25], [60, 25], [60, 75], [20, 75]], "polygonlabels": ["Cat"]}
    made = painted(region(SMALL, type="polygonlabels", value=square), size_hw=(72, 100))
    assert (made.label_map == box(18, 20, 54, 60, (72, 100))).all()


def test_a_damaged_region():
    with pytest.raises(AnnotationError, match="'r0'"):
        painted(region(SMALL, value={"rle": [1, 2, 3], "brushlabels": ["Cat"]}))


def test_a_majority_is_more_than_half():
    a = np.array([[1, 1, 1, 0]], np.uint16)
    b = np.array([[1, 2, 2, 0]], np.uint16)
    c = np.array([[1, 2, 0, 3]], np.uint16)
    made = majority([a, b, c])
    assert made.label_map.tolist() == [[1, 2, IGNORED, 0]]
    assert [(one.number, one.part.box_xyxy) for one in made.instances] == [(1, (0, 0, 1, 1)), (2, (1, 0, 2, 1))]
    assert majority([a, b]).label_map.tolist() == [[1, IGNORED, IGNORED, 0]]
