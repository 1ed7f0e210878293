"""How well do the edges lie? Boundary IoU, after Cheng et al., CVPR 2021."""

import cv2
import numpy as np
from numpy.typing import NDArray

from clipdiy.errors import ShapeError
from clipdiy.evaluate.datasets.sample import IGNORE

BOUNDARY_SHARE = 0.02  # of the diagonal, the paper's choice


def boundary_px(size_hw: tuple[int, int], share: float = BOUNDARY_SHARE) -> int:
    """Return the distance d for a picture: a share of its diagonal, rounded to whole pixels, at least one."""
    return max(1, round(share * float(np.hypot(*size_hw))))


def boundary_region(mask: NDArray[np.bool_], distance_px: int) -> NDArray[np.bool_]:
    """Return the part of a mask that lies within a distance of its contour (G_d and G of the paper's definition).

    As in the authors' boundary_iou_api: the mask less what is left of it when it is eroded d times with a square of
    3x3, so that distances are counted along the longer axis and a diagonal step is as long as a straight one. What lies
    beyond the picture's border counts as outside: the border is contour. 1 keeps the outermost pixels.

    Args:
        mask: (H, W) bool.
        distance_px: d, at least 1.
    """
    region = np.zeros(mask.shape, bool)
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return region
    cols = np.flatnonzero(mask.any(axis=0))
    # Only the mask's own box: most objects are small, and what is outside of it lies one pixel away.
    window = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    padded = np.pad(mask[window], 1).view(np.uint8)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance_px)[1:-1, 1:-1]
    region[window] = mask[window] & (eroded == 0)
    return region


def boundary_overlap(truth: NDArray[np.uint8], prediction: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count, class by class, the pixels in which the boundary regions of truth and prediction meet, and all of them.

    Pooled over a set like the confusion matrix: boundary IoU of a class is the sum of the first over the sum of the
    second. Pixels of truth `IGNORE` are left out; where an edge is ignored on purpose, as in PASCAL VOC, little of a
    boundary is left to judge.

    Args:
        truth: (H, W) uint8, positions or `IGNORE`.
        prediction: (H, W) integers, positions.
        classes: Number of classes C with the background.

    Returns:
        (C, 2) int64: pixels in both regions, pixels in any.

    Raises:
        ShapeError: If the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ShapeError(f"truth and prediction differ in shape: {truth.shape} and {prediction.shape}")
    distance = boundary_px((truth.shape[0], truth.shape[1]))
    known = truth != IGNORE
    counts = np.zeros((classes, 2), np.int64)
    for position in np.union1d(truth[known], prediction[known]).tolist():
        regions = [boundary_region(labels == position, distance) & known for labels in (truth, prediction)]
        counts[position] = (regions[0] & regions[1]).sum(), (regions[0] | regions[1]).sum()
    return counts
