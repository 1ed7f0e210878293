"""The pooled confusion matrix, and what is read off it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipdiy.errors import ShapeError
from clipdiy.evaluate.datasets.sample import IGNORE

Counts = NDArray[np.int64]


def short_side_size(size_hw: tuple[int, int], short_px: int) -> tuple[int, int]:
    """Return the size, in pixels, that a picture has when its shorter side is brought to `short_px`."""
    scale = short_px / min(size_hw)
    height, width = (max(1, round(side * scale)) for side in size_hw)
    return height, width


def resize_nearest(labels: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a label map to the nearest pixel: output pixel i reads input pixel floor(i * size_in / size_out).

    Args:
        labels: (H, W) uint8.
        size_hw: New height and width.

    Returns:
        (h, w) uint8, holding no value that was not there before.
    """
    rows, cols = (np.arange(out) * into // out for out, into in zip(size_hw, labels.shape, strict=True))
    resized: NDArray[np.uint8] = labels[rows[:, None], cols[None, :]]
    return resized


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
        miou: Mean IoU over the classes that are there, background included; NaN if there is none.
        accuracy: Share of the pixels that got their class; NaN without pixels.
    """

    iou: NDArray[np.float64]
    miou: float
    accuracy: float


def quality(counts: Counts) -> Quality:
    """Read IoU and accuracy off a confusion matrix.

    Args:
        counts: (C, C) int64, truth in rows.
    """
    hits = np.diag(counts)
    iou = divide(hits, counts.sum(axis=0) + counts.sum(axis=1) - hits)
    total = counts.sum()
    return Quality(iou, mean_of_present(iou), float(hits.sum() / total) if total else float("nan"))


def divide(part: NDArray[np.integer], whole: NDArray[np.integer]) -> NDArray[np.float64]:
    """Divide element by element; NaN where the divisor is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def mean_of_present(values: NDArray[np.float64]) -> float:
    """Return the mean of what is not NaN; NaN if that is nothing."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")
