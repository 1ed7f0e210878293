"""The pooled confusion matrix, and what is read off it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipdiy.errors import ShapeError
from clipdiy.evaluate.datasets.sample import IGNORE

Counts = NDArray[np.int64]


def confusion_matrix(truth: NDArray[np.uint8], prediction: NDArray[np.integer], classes: int) -> Counts:
    """Count pixels by true and predicted class, those of truth `IGNORE` left out.

    Args:
        truth: (H, W) uint8, positions or `IGNORE`.
        prediction: (H, W) integers, positions.
        classes: Number of classes C with the background.

    Returns:
        (C, C) int64, truth in rows, prediction in columns.

    Raises:
        ShapeError: If the shapes differ or a value is no position.
    """
    if truth.shape != prediction.shape:
        raise ShapeError(f"truth and prediction differ in shape: {truth.shape} and {prediction.shape}")
    known = truth != IGNORE
    true, predicted = truth[known].astype(np.int64), prediction[known].astype(np.int64)
    for name, values in (("truth", true), ("prediction", predicted)):
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise ShapeError(f"{name} must hold positions 0..{classes - 1}, got {values.min()}..{values.max()}")
    counts = np.bincount(true * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64, copy=False)


@dataclass(frozen=True)
class Quality:
    """What a confusion matrix says.

    Attributes:
        iou: (C,) float64 in [0, 1]; NaN for a class that is in neither truth nor prediction.
        miou: Mean IoU over the classes that are there, background included; NaN if there is none. Or over all
            classes, those that are not there as 0, if that was asked for.
        accuracy: Share of the pixels that got their class; NaN without pixels.
    """

    iou: NDArray[np.float64]
    miou: float
    accuracy: float


def quality(counts: Counts, *, absent_counts: bool = False) -> Quality:
    """Read IoU and accuracy off a confusion matrix.

    Args:
        counts: (C, C) int64, truth in rows.
        absent_counts: Whether a class that is in neither truth nor prediction counts as 0 in the mean.
    """
    hits = np.diag(counts)
    iou = divide(hits, counts.sum(axis=0) + counts.sum(axis=1) - hits)
    total = counts.sum()
    return Quality(
        iou, mean_over_classes(iou, absent_counts=absent_counts), float(hits.sum() / total) if total else float("nan")
    )


def divide(part: NDArray[np.integer], whole: NDArray[np.integer]) -> NDArray[np.float64]:
    """Divide element by element; NaN where the divisor is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def mean_over_classes(values: NDArray[np.float64], *, absent_counts: bool = False) -> float:
    """Return the mean over the classes that are there; NaN if none is.

    Args:
        values: (C,) float64, NaN for a class that is not there.
        absent_counts: Whether such a class counts as 0 instead.
    """
    present = values[~np.isnan(values)]
    if not len(present):
        return float("nan")
    return float(present.sum() / (len(values) if absent_counts else len(present)))
