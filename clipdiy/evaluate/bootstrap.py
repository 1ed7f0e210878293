"""How far could the figure be off, had other images of the same kind been drawn? 95 % intervals by bootstrap."""

import numpy as np
from numpy.typing import NDArray

from clipdiy.evaluate.confusion import Counts

REPLICATES = 1000
SEED = 0
LEVEL = 0.95


class Bootstrap:
    """Weighs images at random, while they stream past: the Bayesian bootstrap (Rubin, 1981).

    Where the plain bootstrap draws each image a whole number of times, a replicate here gives it a weight drawn from
    the exponential distribution: mean and variance are the same, but no weight is 0. So every class of the set is in
    every replicate, and the mean is always taken over the same classes, those of the whole set. With plain drawing a
    class that few images show comes and goes with them, and a figure could lie outside of its own interval.

    A class that a single image shows does not vary: intervals say nothing about classes that the set hardly has.
    No image is kept, and memory is (replicates x C), whatever the number of images.
    """

    def __init__(self, classes: int, *, replicates: int = REPLICATES, seed: int = SEED) -> None:
        """Start.

        Args:
            classes: Number of classes C with the background.
            replicates: How many sets of weights.
            seed: The same seed and images, in the same order, give the same interval.
        """
        self._rng = np.random.default_rng(seed)
        self._hits = np.zeros((replicates, classes))
        self._unions = np.zeros((replicates, classes))

    def add(self, counts: Counts) -> None:
        """Take the next image's confusion matrix, (C, C) int64."""
        hits = np.diag(counts)
        unions = counts.sum(axis=0) + counts.sum(axis=1) - hits
        weights = self._rng.standard_exponential((len(self._hits), 1))
        present = np.flatnonzero(unions)  # an image shows few of the classes
        self._hits[:, present] += weights * hits[present]
        self._unions[:, present] += weights * unions[present]

    def mean_ious(self, *, absent_counts: bool = False) -> NDArray[np.float64]:
        """Return each replicate's mean IoU, (replicates,) float64, NaN if no image had a pixel.

        Args:
            absent_counts: Whether a class that no image had counts as 0.
        """
        seen = self._unions > 0
        iou = self._hits / np.where(seen, self._unions, 1)
        count = seen.sum(axis=1)
        divisor = np.full_like(count, iou.shape[1]) if absent_counts else np.maximum(count, 1)
        return np.where(count > 0, iou.sum(axis=1) / divisor, np.nan)


def interval_around(figure: float, replicates: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of a figure, from the percentiles of its replicates.

    Replicates need not lie evenly around the figure, since the mean of ratios is not the ratio of means. They are moved
    until their median lies on it: the interval keeps its width and its slant, and always holds the figure.

    Args:
        figure: What the whole set came to.
        replicates: (replicates,) float64, as of `Bootstrap.mean_ious`, or differences of two of them that weighed the
            same images alike.
        level: Share of the replicates that the interval holds.

    Returns:
        Its ends, NaN twice if there was nothing to weigh.
    """
    if not len(replicates) or np.isnan(figure) or np.isnan(replicates).any():
        return float("nan"), float("nan")
    low, middle, high = np.quantile(replicates, [(1 - level) / 2, 0.5, (1 + level) / 2])
    return figure + float(low - middle), figure + float(high - middle)
