"""How far could the figure be off, had other images of the same kind been drawn? 95 % intervals by bootstrap."""

import numpy as np
from numpy.typing import NDArray

from clipdiy.evaluate.confusion import Counts

REPLICATES = 1000
SEED = 0
LEVEL = 0.95


class Bootstrap:
    """Resamples images with replacement, while they stream past.

    A replicate over n images draws each image a number of times, together multinomial with n draws. Drawn one image
    after the other: of the k draws that are left for the last m images, the next one gets Binomial(k, 1 / m). So no
    image is kept, and memory is (replicates x C), whatever n.

    The mean of a replicate is taken over the classes that its images have. Which classes a set has is part of its
    chance; held fixed, they give intervals that are far too narrow for small sets (`benchmarks/intervals.py`).
    """

    def __init__(self, images: int, classes: int, *, replicates: int = REPLICATES, seed: int = SEED) -> None:
        """Start.

        Args:
            images: How many images there will be.
            classes: Number of classes C with the background.
            replicates: How many resampled sets.
            seed: The same seed and images, in the same order, give the same interval.
        """
        self._rng = np.random.default_rng(seed)
        self._left = np.full(replicates, images)
        self._images = images
        self._hits = np.zeros((replicates, classes))
        self._unions = np.zeros((replicates, classes))

    def add(self, counts: Counts) -> None:
        """Take the next image's confusion matrix, (C, C) int64."""
        hits = np.diag(counts)
        self.add_overlaps(np.stack([hits, counts.sum(axis=0) + counts.sum(axis=1) - hits], axis=1))

    def add_overlaps(self, overlaps: NDArray[np.int64]) -> None:
        """Take the next image as what an IoU is made of, (C, 2) int64: pixels in both, pixels in any.

        For IoUs of anything but whole masks, as `clipdiy.evaluate.boundary.boundary_overlap` counts.
        """
        hits, unions = overlaps.T
        times = self._rng.binomial(self._left, 1 / self._images)
        self._images -= 1
        self._left -= times
        present = np.flatnonzero(unions)  # an image shows few of the classes
        self._hits[:, present] += times[:, None] * hits[present]
        self._unions[:, present] += times[:, None] * unions[present]

    def mean_ious(self, *, absent_counts: bool = False) -> NDArray[np.float64]:
        """Return each replicate's mean IoU, (replicates,) float64, NaN for one that drew nothing but empty images.

        Args:
            absent_counts: Whether a class that no drawn image had counts as 0.
        """
        seen = self._unions > 0
        iou = self._hits / np.where(seen, self._unions, 1)
        count = seen.sum(axis=1)
        divisor = np.full_like(count, iou.shape[1]) if absent_counts else np.maximum(count, 1)
        return np.where(count > 0, iou.sum(axis=1) / divisor, np.nan)


def interval_around(figure: float, replicates: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of a figure, from the percentiles of its replicates.

    A replicate repeats some images and misses others, and with them whole classes, so that most can lie on one side of
    the figure, and the figure outside of their percentiles. They are moved until their median lies on it: the interval
    keeps its width and its slant, and always holds the figure.

    Args:
        figure: What the whole set came to.
        replicates: (replicates,) float64, as of `Bootstrap.mean_ious`, or differences of two of them that drew the
            same images.
        level: Share of the replicates that the interval holds.

    Returns:
        Its ends, NaN twice if there was nothing to draw from.
    """
    replicates = replicates[~np.isnan(replicates)]
    if not len(replicates) or np.isnan(figure):
        return float("nan"), float("nan")
    low, middle, high = np.quantile(replicates, [(1 - level) / 2, 0.5, (1 + level) / 2])
    return figure + float(low - middle), figure + float(high - middle)
