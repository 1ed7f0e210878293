"""Removal of specks and holes from a finished label map, and how many pixels each class has."""

import cv2
import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = np.ones((3, 3), np.uint8)
HISTOGRAM_PX = 1 << 24  # OpenCV counts in float32: up to here every number is exact


def count_pixels(label_map: NDArray[np.uint16], classes: int) -> NDArray[np.int64]:
    """Count the pixels of every class, without making 8 bytes of each pixel first as `numpy.bincount` does.

    Args:
        label_map: (H, W) uint16, all below `classes`.
        classes: How many there are, with the background.

    Returns:
        (classes,) int64.
    """
    counts = np.zeros(classes, np.int64)
    rows = max(1, HISTOGRAM_PX // label_map.shape[1])
    for top in range(0, label_map.shape[0], rows):
        strip = np.ascontiguousarray(label_map[top : top + rows])
        counts += cv2.calcHist([strip], [0], None, [classes], [0, classes]).ravel().astype(np.int64)
    return counts


def clean_up(label_map: NDArray[np.uint16], min_area_px: float) -> NDArray[np.uint16]:
    """Drop connected parts and close holes that are smaller than an area.

    A small part of a class takes the class that encloses it, if a single one does; otherwise it becomes background. A
    small part of the background takes the class that encloses it; where several classes meet it stays. Parts are
    8-connected, as the brush draws them. Classes first, then the background, so that a dropped speck can still be part
    of a hole.

    Args:
        label_map: (H, W) uint16, 0 = background. Not changed.
        min_area_px: Area in pixels; what is strictly smaller goes. 1 or less changes nothing.

    Returns:
        (H, W) uint16; the same array if nothing was to be done.
    """
    if min_area_px <= 1:
        return label_map
    present = np.flatnonzero(count_pixels(label_map, int(label_map.max()) + 1))
    cleaned = label_map.copy()
    for value in [*(int(v) for v in present if v != 0), 0]:
        # Classes are judged on the map as it came, so that their order does not matter; the background on what is left.
        source = cleaned if value == 0 else label_map
        for window, part in _small_parts(source == value, min_area_px):
            inside = part.view(bool)
            around = source[window][cv2.dilate(part, NEIGHBOURS).view(bool) & ~inside]
            if len(around) and around.min() == around.max():
                cleaned[window][inside] = around[0]
            elif value != 0:
                cleaned[window][inside] = 0
    return cleaned


def _small_parts(mask: NDArray[np.bool_], min_area_px: float) -> list[tuple[tuple[slice, slice], NDArray[np.uint8]]]:
    """Return the window (one pixel wider than the part, where there is room) and the mask of every small part."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return []
    cols = np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(cols[0])
    box = np.ascontiguousarray(mask[top : rows[-1] + 1, left : cols[-1] + 1]).view(np.uint8)
    if cv2.countNonZero(box) >= min_area_px and cv2.connectedComponents(box, connectivity=8)[0] == 2:
        return []  # one part, and large, as most masks are: its measures, which take longer, are not needed
    count, parts, stats, _ = cv2.connectedComponentsWithStats(box, connectivity=8)
    height, width = mask.shape
    small: list[tuple[tuple[slice, slice], NDArray[np.uint8]]] = []
    for part in range(1, count):
        x, y, part_w, part_h, area = (int(number) for number in stats[part])
        if area >= min_area_px:
            continue
        y0, x0, y1, x1 = y + top, x + left, y + top + part_h, x + left + part_w
        pad_top, pad_left = min(1, y0), min(1, x0)
        pad_bottom, pad_right = min(1, height - y1), min(1, width - x1)
        window = slice(y0 - pad_top, y1 + pad_bottom), slice(x0 - pad_left, x1 + pad_right)
        inside = np.zeros((pad_top + part_h + pad_bottom, pad_left + part_w + pad_right), np.uint8)
        inside[pad_top : pad_top + part_h, pad_left : pad_left + part_w] = parts[y : y + part_h, x : x + part_w] == part
        small.append((window, inside))
    return small
