"""Where is a box? Label Studio's percent and degrees as pixels, also of turned boxes. Pure.

A box is turned clockwise around its top left corner, in pixels.
"""

import numpy as np
from numpy.typing import NDArray

from backend.outputs.polygons import fill

Points = NDArray[np.float64]
ROUNDING_PX = 0.01
"""Percent are written with four decimals: a side that lies on a border of pixels comes back this near to it."""


def box_corners(x: float, y: float, width: float, height: float, rotation: float, size_hw: tuple[int, int]) -> Points:
    """Return the four corners, (4, 2) float64, x and y in pixels.

    Args:
        x: Left, in percent of the picture's width.
        y: Top, in percent of its height.
        width: In percent of the picture's width.
        height: In percent of its height.
        rotation: Degrees, clockwise.
        size_hw: Of the picture.
    """
    tall, wide = size_hw
    left, top = x / 100 * wide, y / 100 * tall
    across, down = width / 100 * wide, height / 100 * tall
    return np.array([[0, 0], [across, 0], [across, down], [0, down]]) @ turn(rotation) + [left, top]


def turn(degrees: float) -> Points:
    """Return the matrix that turns rows of (x, y) clockwise, (2, 2) float64."""
    angle = np.deg2rad(degrees)
    matrix: Points = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return matrix


def window_of(corners: Points, size_hw: tuple[int, int]) -> tuple[slice, slice] | None:
    """Return rows and columns of the pixels that are touched, within the picture; `None` outside of it."""
    height, width = size_hw
    left, top = np.floor(corners.min(axis=0) + ROUNDING_PX).astype(int)
    right, bottom = np.ceil(corners.max(axis=0) - ROUNDING_PX).astype(int)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if right <= left or bottom <= top:
        return None
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def inside(corners: Points, rotation: float, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels inside a box, (H, W) bool; of one that is not turned, all that it touches."""
    if rotation:
        return fill(corners, size_hw)
    mask = np.zeros(size_hw, np.bool_)
    window = window_of(corners, size_hw)
    if window is not None:
        mask[window] = True
    return mask
