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
        unions = counts.sum(axis=0) + counts.sum(axis=1) - hits
        times = self._rng.binomial(self._left, 1 / self._images)
        self._images -= 1
        self._left -= times
        present = np.flatnonzero(unions)  # an image shows few of the classes
        self._hits[:, present] += times[:, None] * hits[present]
        self._unions[:, present] += times[:, None] * unions[present]

    def mean_ious(self) -> NDArray[np.float64]:
        """Return each replicate's mean IoU, (replicates,) float64, NaN for one that drew nothing but empty images."""
        seen = self._unions > 0
        iou = self._hits / np.where(seen, self._unions, 1)
        count = seen.sum(axis=1)
        return np.where(count > 0, iou.sum(axis=1) / np.maximum(count, 1), np.nan)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the percentile interval of the mean IoU; NaN twice if there was nothing to draw from."""
        values = self.mean_ious()
        values = values[~np.isnan(values)]
        if not len(values):
            return float("nan"), float("nan")
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)
