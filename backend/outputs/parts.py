"""The connected parts of a mask. They are 8-connected: what touches at a corner belongs together."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Part:
    """One connected part of a mask.

    Attributes:
        box_xyxy: Left, top, right, bottom in pixels, right and bottom exclusive.
        mask: (bottom - top, right - left) bool.
        area_px: How many pixels it has.
    """

    box_xyxy: tuple[int, int, int, int]
    mask: NDArray[np.bool_]
    area_px: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Where it lies in the whole mask, for indexing."""
        left, top, right, bottom = self.box_xyxy
        return slice(top, bottom), slice(left, right)


def parts_of(mask: NDArray[np.bool_]) -> Iterator[Part]:
    """Yield the parts of a mask, (H, W) bool, from top to bottom."""
    box = bounding_box(mask)
    if box is None:
        return
    left, top, right, bottom = box
    inside = np.ascontiguousarray(mask[top:bottom, left:right]).view(np.uint8)
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    for number in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[number])
        part = numbers[y : y + height, x : x + width] == number
        yield Part((left + x, top + y, left + x + width, top + y + height), part, area)


def largest_parts(mask: NDArray[np.bool_], most: int) -> tuple[list[Part], int]:
    """Return at most so many parts of a mask, (H, W) bool, the largest first, and how many are left out.

    Of parts with as many pixels the upper one comes first.
    """
    parts = sorted(parts_of(mask), key=lambda part: -part.area_px)
    return parts[:most], max(0, len(parts) - most)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Return left, top, right, bottom (exclusive) of what is painted, `None` if nothing is."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    cols = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


def without_small_parts(mask: NDArray[np.bool_], least_px: float) -> NDArray[np.bool_]:
    """Drop parts with fewer pixels than `least_px`; the same array if there are none."""
    if least_px <= 1:
        return mask
    small = [part for part in parts_of(mask) if part.area_px < least_px]
    if not small:
        return mask
    kept = mask.copy()
    for part in small:
        kept[part.window] &= ~part.mask
    return kept
