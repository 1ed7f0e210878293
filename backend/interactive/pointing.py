"""Which pixels does a gesture mean? Masks from a segmentation and a few clicks, boxes from percent to pixels.

Pure.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.interactive.gesture import Box, Point
from backend.outputs.box_geometry import box_corners, inside, window_of

NEAR = 0.02
"""A click beside an object still means it, within this share of the picture's longer side."""


def pointed_at(label_map: NDArray[np.uint16], points: Sequence[Point]) -> NDArray[np.bool_]:
    """Combine clicks on a segmentation, in the order they were made.

    A positive point adds the connected part that it lies in or next to, a negative point takes its part away.

    Args:
        label_map: (H, W) uint16, 0 = background.
        points: Any number.

    Returns:
        (H, W) bool.
    """
    chosen = np.zeros(label_map.shape, np.bool_)
    for point in points:
        at = nearest_object(label_map, pixel(point, chosen.shape))
        if at is None or chosen[at] == point.is_positive:
            continue
        part = part_at(label_map, at)
        chosen = chosen | part if point.is_positive else chosen & ~part
    return chosen


def pixel(point: Point, size_hw: tuple[int, ...]) -> tuple[int, int]:
    """Return row and column under a point, within the picture."""
    height, width = size_hw
    row, col = int(point.y / 100 * height), int(point.x / 100 * width)
    return min(max(row, 0), height - 1), min(max(col, 0), width - 1)


def nearest_object(label_map: NDArray[np.uint16], at: tuple[int, int]) -> tuple[int, int] | None:
    """Return the pixel itself if it is no background, else the nearest one that is, `None` if none is near."""
    row, col = at
    if label_map[row, col]:
        return at
    reach = max(1, round(NEAR * max(label_map.shape)))
    top, left = max(0, row - reach), max(0, col - reach)
    rows, cols = np.nonzero(label_map[top : row + reach + 1, left : col + reach + 1])
    if not len(rows):
        return None
    distance = (rows + top - row) ** 2 + (cols + left - col) ** 2
    best = int(distance.argmin())
    if distance[best] > reach**2:
        return None
    return int(rows[best]) + top, int(cols[best]) + left


def part_at(label_map: NDArray[np.uint16], at: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the connected part of one class that a pixel belongs to, (H, W) bool, 8-connected."""
    same = (label_map == label_map[at]).view(np.uint8)
    _, numbers = cv2.connectedComponents(same, connectivity=8)
    part: NDArray[np.bool_] = numbers == numbers[at]
    return part


def box_window(box: Box, size_hw: tuple[int, int]) -> tuple[slice, slice] | None:
    """Return rows and columns of the pixels a box touches, all of its corners if it is turned; `None` outside."""
    if not box.width or not box.height:
        return None
    return window_of(_corners(box, size_hw), size_hw)


def inside_box(box: Box, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels of the whole picture that lie inside a box, also a turned one, (H, W) bool."""
    if not box.width or not box.height:
        return np.zeros(size_hw, np.bool_)
    return inside(_corners(box, size_hw), box.rotation, size_hw)


def _corners(box: Box, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Return the four corners as x and y in pixels."""
    return box_corners(box.x, box.y, box.width, box.height, box.rotation, size_hw)
