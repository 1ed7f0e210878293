"""Masks as COCO writes them: the limits of what is taken for one."""

import pytest

from clipdiy.evaluate.coco_masks import check_mask, count_union

FAR = 999_999.5


@pytest.mark.parametrize("point", [(FAR, 0), (0, -FAR)])
def test_points_may_lie_far_outside(point):
    check_mask([[0, 0, 3, 2, *point]], (4, 6))


@pytest.mark.parametrize("number", [1e6, -1e6, float("inf"), float("nan")])
def test_beyond_a_million_is_no_pixel(number):
    with pytest.raises(ValueError, match="3 or more points"):
        check_mask([[0, 0, 3, 2, number, 1]], (4, 6))


def test_as_many_runs_as_it_takes():
    check_mask({"size": [40, 60], "counts": [1200, 1200]}, (40, 60))
    check_mask({"size": [40, 60], "counts": [2400], "more": 1}, (40, 60))
    for counts in ([1200, 1199], [1200, 1201]):
        with pytest.raises(ValueError, match="must add up to the picture's 40 x 60"):
            check_mask({"size": [40, 60], "counts": counts}, (40, 60))


@pytest.mark.parametrize(("length", "shown"), [(58, "x" * 58 + "'"), (59, "x" * 56 + "...")])
def test_what_is_shown_of_it_is_short(length, shown):
    with pytest.raises(ValueError, match=f"got '{shown}$"):
        check_mask("x" * length, (4, 6))


def test_pixels_of_all_masks_are_counted_once():
    left, top = {"size": [2, 4], "counts": [0, 4, 4]}, [[0, 0, 4, 0, 4, 1, 0, 1]]
    assert count_union([], (2, 4)) == 0
    assert count_union([left], (2, 4)) == 4
    assert count_union([left, top], (2, 4)) == 6
