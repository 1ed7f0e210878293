"""Sizes at which truth and prediction meet."""

import numpy as np
import pytest

from clipdiy.evaluate.resizing import resize_nearest, short_side_size


def array(values):
    return np.array(values, np.uint8)


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [((375, 500), (448, 597)), ((500, 333), (673, 448)), ((448, 448), (448, 448)), ((1, 1), (448, 448))],
    ids=str,
)
def test_the_shorter_side_becomes_448(size_hw, expected):
    assert short_side_size(size_hw, 448) == expected


def test_nearest_keeps_values():
    labels = array([[0, 255], [7, 1]])
    np.testing.assert_array_equal(resize_nearest(labels, (4, 3)), [[0, 0, 255], [0, 0, 255], [7, 7, 1], [7, 7, 1]])
    np.testing.assert_array_equal(resize_nearest(resize_nearest(labels, (8, 6)), (2, 2)), labels)
