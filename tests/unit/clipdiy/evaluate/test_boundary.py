"""Boundary IoU: the published one, exactly."""

import numpy as np
import pytest

from clipdiy.errors import ShapeError
from clipdiy.evaluate.boundary import boundary_overlap, boundary_px, boundary_region


@pytest.mark.parametrize(
    ("distance", "rows"),
    [
        (1, ["#####", "#...#", "#...#", "#...#", "#####"]),
        (2, ["#####", "#####", "##.##", "#####", "#####"]),
        (3, ["#####"] * 5),
    ],
    ids=["outermost pixels", "two deep", "all"],
)
def test_boundary_region_of_a_square(distance, rows):
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    expected = np.zeros((9, 9), bool)
    expected[2:7, 2:7] = [[letter == "#" for letter in row] for row in rows]
    np.testing.assert_array_equal(boundary_region(mask, distance), expected)
    # The border of the picture is contour, too.
    np.testing.assert_array_equal(boundary_region(mask[2:7, 2:7], distance), expected[2:7, 2:7])


def test_empty_mask_has_no_boundary():
    assert not boundary_region(np.zeros((3, 4), bool), 2).any()


@pytest.mark.parametrize(
    ("size_hw", "pixels"),
    [((300, 400), 10), ((3, 4), 1), ((448, 597), 15), ((314, 400), 10), ((323, 414), 11)],
    ids=["exact", "at least one", "14.93", "10.17", "10.50"],
)
def test_the_distance_is_two_per_cent_of_the_diagonal_rounded(size_hw, pixels):
    assert boundary_px(size_hw) == pixels


def published_boundary(mask):
    """Read the published definition to the letter, pixel by pixel, sharing nothing with the code that is tested."""
    height, width = mask.shape
    d = max(1, round(0.02 * (height**2 + width**2) ** 0.5))
    inside = [[False] * (width + 2) for _ in range(height + 2)]
    for y in range(height):
        for x in range(width):
            inside[y + 1][x + 1] = bool(mask[y, x])
    for _ in range(d):
        inside = [
            [
                all(
                    inside[v][u]
                    for v in range(max(0, y - 1), min(height + 2, y + 2))
                    for u in range(max(0, x - 1), min(width + 2, x + 2))
                )
                for x in range(width + 2)
            ]
            for y in range(height + 2)
        ]
    return {(y, x) for y in range(height) for x in range(width) if mask[y, x] and not inside[y + 1][x + 1]}


def random_mask(rng, size_hw):
    """Return a few rectangles, some over the border, with holes and single pixels."""
    height, width = size_hw
    mask = np.zeros(size_hw, bool)
    for sign in (True, True, False):
        top, left = rng.integers(-10, height - 5), rng.integers(-10, width - 5)
        below, right = top + rng.integers(3, height), left + rng.integers(3, width)
        mask[max(0, top) : max(0, below), max(0, left) : max(0, right)] = sign
    return mask ^ (rng.random(size_hw) < 0.002)


def test_boundary_iou_is_the_published_one_on_60_random_pairs():
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(60):
        size_hw = (int(rng.integers(12, 40)), int(rng.integers(20, 220)))  # d from 1 to 4
        truth, prediction = random_mask(rng, size_hw), random_mask(rng, size_hw)
        ours = boundary_overlap(truth.astype(np.uint8), prediction.astype(np.uint8), 2)[1]
        theirs = published_boundary(truth), published_boundary(prediction)
        differences += [ours[0] - len(theirs[0] & theirs[1]), ours[1] - len(theirs[0] | theirs[1])]
    assert differences == [0] * 120


def test_boundary_iou_by_hand():
    truth = np.zeros((20, 20), np.uint8)
    truth[5:15, 5:15] = 1
    assert boundary_px((20, 20)) == 1
    shifted = np.roll(truth, 1, axis=1)
    counts = boundary_overlap(truth, shifted, 3)
    # Rings of 36 pixels, one column apart: 9 pixels of the upper and 9 of the lower side meet.
    np.testing.assert_array_equal(counts[1], [18, 54])
    np.testing.assert_array_equal(counts[2], [0, 0])
    np.testing.assert_array_equal(boundary_overlap(truth, truth, 2)[1], [36, 36])
    ignored = truth.copy()
    ignored[:, :10] = 255
    # The ignored half cuts the truth at column 10, which is then a side of its own.
    assert boundary_overlap(ignored, truth, 2)[1, 1] == 26
    with pytest.raises(ShapeError):
        boundary_overlap(truth, truth[1:], 2)
