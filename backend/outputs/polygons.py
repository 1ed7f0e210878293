"""A mask as polygons: one for each connected part, simplified, and still covering the same pixels.

Label Studio's polygon is one closed line of points; it knows no holes. A hole is therefore cut in from the outside: the
line goes along a seam to the hole, around it the other way, and back along the same seam. The seam has no width, so
the hole is empty on the screen, in an export that fills polygons, and in an area computed from the points.

The line follows the edges of pixels, not their centres. Through the centres it would be half a pixel too small all
around, which for a part of 10 x 10 pixels is a fifth of it.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.labeling.controls import MaskControl
from backend.outputs.fields import percent
from backend.outputs.parts import Part, parts_of
from backend.outputs.shape import Shape

TOLERANCE_PX = 1.5
"""How far the simplified line may lie from the exact one. Less than 1.25 keeps every step of a slanting edge."""
LEAST_IOU = 0.98
"""A simplified part covers the same pixels by at least this much; the tolerance is halved until it does."""
FINEST_PX = 0.2
SEAM_CANDIDATES = 64
_AT_ONCE = 1 << 18
"""Pixels, and rows that edges cross, that are painted at once."""

Points = NDArray[np.float64]


def write_polygons(label_map: NDArray[np.uint16], positions: Sequence[int], control: MaskControl) -> Iterator[Shape]:
    """Write one closed line for each connected part; see `backend.outputs.shape.Writer`."""
    tolerance = TOLERANCE_PX if control.tolerance_px is None else control.tolerance_px
    for position in positions:
        for number, points in enumerate(polygons_of(label_map == position, tolerance)):
            yield Shape(position, {"points": percent(points, label_map.shape), "closed": True}, number)


def polygons_of(
    mask: NDArray[np.bool_], tolerance_px: float = TOLERANCE_PX, least_iou: float = LEAST_IOU
) -> Iterator[Points]:
    """Yield one polygon for each connected part.

    Args:
        mask: (H, W) bool.
        tolerance_px: Where to begin simplifying. 0 keeps every corner.
        least_iou: The polygon, filled, and its part have at least this IoU; measured.

    Yields:
        (N, 2) float64, N >= 3, x and y in pixels from the corner of the picture: a mask of one pixel is the square from
        (0, 0) to (1, 1). Closed: the last point is joined to the first.
    """
    for part in parts_of(mask):
        left, top, _, _ = part.box_xyxy
        yield simplified(part, tolerance_px, least_iou) + np.array([left, top], np.float64)


def simplified(part: Part, tolerance_px: float, least_iou: float) -> Points:
    """Return one part's polygon, relative to its box, with as few points as the IoU allows."""
    outer, holes = outlines(part.mask)
    tolerance = tolerance_px
    while tolerance >= FINEST_PX:
        rings = [ring for ring in (_simplify(ring, tolerance) for ring in holes) if len(ring) >= 3]
        around = _simplify(outer, tolerance)
        if len(around) >= 3:
            polygon = _cut_holes(around, rings)
            filled = fill(polygon, (part.mask.shape[0], part.mask.shape[1]))
            if (filled & part.mask).sum() >= least_iou * (filled | part.mask).sum():
                return polygon
        tolerance /= 2
    return _cut_holes(outer, holes)


def outlines(mask: NDArray[np.bool_]) -> tuple[Points, list[Points]]:
    """Follow the edges of a mask of one part exactly.

    OpenCV's contour goes through the centres of border pixels. In the mask at twice its size each pixel is a block of
    2 x 2, and which half of its block a point lies in says on which edge of the pixel it is.

    Args:
        mask: (h, w) bool, one 8-connected part.

    Returns:
        The outer line and those around holes, (N, 2) float64 each, at corners only, x and y in pixels.
    """
    doubled = np.repeat(np.repeat(mask, 2, axis=0), 2, axis=1).view(np.uint8)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_corners((contour[:, 0].astype(np.int64) + 1) // 2) for contour in contours]
    is_hole = hierarchy[0, :, 3] >= 0
    (outer,) = (ring for ring, inner in zip(rings, is_hole, strict=True) if not inner)
    return outer, [ring for ring, inner in zip(rings, is_hole, strict=True) if inner]


def fill(polygon: Points, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Paint every pixel whose centre lies inside a polygon (even-odd).

    Beyond the mask it takes no more memory than for `_AT_ONCE` pixels, however large the mask and however often the
    polygon goes to and fro.

    Args:
        polygon: (N, 2) float64, x and y in pixels.
        size_hw: Size of the mask.

    Returns:
        (H, W) bool.
    """
    height, width = size_hw
    begins, ends = polygon, np.roll(polygon, -1, axis=0)
    # Row r is crossed by an edge that has its centre r + 0.5 between its ends.
    first = np.clip(np.ceil(np.minimum(begins[:, 1], ends[:, 1]) - 0.5), 0, height).astype(np.int64)
    after = np.clip(np.ceil(np.maximum(begins[:, 1], ends[:, 1]) - 0.5), 0, height).astype(np.int64)
    inside = np.empty(size_hw, np.bool_)
    rows = max(1, _AT_ONCE // (width + 1))
    for top in range(0, height, rows):
        band = inside[top : top + rows]
        counts = np.maximum(np.minimum(after, top + rows) - np.maximum(first, top), 0)
        toggles = np.zeros((len(band), width + 1), np.uint8)
        for edges in _in_portions(counts):
            edge = np.repeat(edges, counts[edges])
            row = np.arange(len(edge)) - np.repeat(np.cumsum(counts[edges]) - counts[edges], counts[edges])
            row += np.maximum(first[edge], top)
            (x0, y0), (x1, y1) = begins[edge].T, ends[edge].T
            column = np.clip(np.ceil(x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0) - 0.5), 0, width).astype(np.int64)
            times = np.bincount((row - top) * (width + 1) + column, minlength=toggles.size)
            toggles ^= (times & 1).astype(np.uint8).reshape(toggles.shape)
        np.bitwise_xor.accumulate(toggles, axis=1, out=toggles)
        band[:] = toggles[:, :width]
    return inside


def _in_portions(counts: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of what has a count, in portions that together have few more than `_AT_ONCE`."""
    there = np.flatnonzero(counts)
    portion = np.cumsum(counts[there]) // _AT_ONCE
    yield from np.split(there, np.flatnonzero(np.diff(portion)) + 1)


def _simplify(ring: Points, tolerance: float) -> Points:
    line = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, closed=True)
    points: Points = line[:, 0].astype(np.float64)
    return points


def _corners(ring: NDArray[np.int64]) -> Points:
    """Leave out points that are there twice, and those on a straight line between their neighbours."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    before, behind = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * behind[:, 1] != before[:, 1] * behind[:, 0]
    back = (before * behind).sum(axis=1) < 0
    corners: Points = ring[turns | back].astype(np.float64)
    return corners


def _cut_holes(outer: Points, holes: list[Points]) -> Points:
    """Join holes to the outer line by seams, each at the place where it is nearest to what there is already."""
    line = outer
    clockwise = _signed_area(outer) > 0
    for hole in sorted(holes, key=len, reverse=True):
        ring = hole[::-1] if (_signed_area(hole) > 0) == clockwise else hole
        near, at = _nearest(line, ring)
        around = np.roll(ring, -at, axis=0)
        line = np.concatenate([line[: near + 1], around, around[:1], line[near:]])
    return line


def _nearest(line: Points, ring: Points) -> tuple[int, int]:
    """Return the places of two points that are close to each other; of a long ring not every point is tried."""
    some = ring[:: -(-len(ring) // SEAM_CANDIDATES)]
    distance = ((line[:, None] - some[None]) ** 2).sum(axis=2)
    near, at = np.unravel_index(int(distance.argmin()), distance.shape)
    return int(near), int(at) * -(-len(ring) // SEAM_CANDIDATES)


def _signed_area(ring: Points) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
