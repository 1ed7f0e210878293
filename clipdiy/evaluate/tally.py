"""Records in, figures out, whatever their number: sums, bootstrap, and the few worst pictures."""

import heapq

import numpy as np
from numpy.typing import NDArray

from clipdiy.evaluate.bootstrap import Bootstrap, interval_around
from clipdiy.evaluate.confusion import Counts, Quality, divide, mean_over_classes, quality
from clipdiy.evaluate.record import Outcome


class Tally:
    """The pooled counts of one variant."""

    def __init__(self, classes: int, images: int, *, absent_counts: bool = False) -> None:
        """Start.

        Args:
            classes: Number of classes C with the background.
            images: How many pictures there will be.
            absent_counts: Whether a class that is in neither truth nor prediction counts as 0 in the means.
        """
        self.confusion = np.zeros((classes, classes), np.int64)
        self._bootstrap = Bootstrap(images, classes)
        self._absent_counts = absent_counts
        self._boundary = np.zeros((classes, 2), np.int64)
        self._has_boundary = True
        self._images = 0
        self._total_ms = 0.0

    def add(self, outcome: Outcome) -> None:
        """Take the next picture."""
        self.confusion += outcome.confusion
        self._bootstrap.add(outcome.confusion)
        if outcome.boundary is None:
            self._has_boundary = False
        else:
            self._boundary += outcome.boundary
        self._images += 1
        self._total_ms += outcome.segment_ms

    @property
    def quality(self) -> Quality:
        """IoU and accuracy of what came so far."""
        return quality(self.confusion, absent_counts=self._absent_counts)

    @property
    def boundary_miou(self) -> float | None:
        """Mean boundary IoU over the classes that are there, in [0, 1]; `None` if it was not counted."""
        if not self._has_boundary:
            return None
        return mean_over_classes(divide(self._boundary[:, 0], self._boundary[:, 1]), absent_counts=self._absent_counts)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean IoU, in [0, 1]."""
        low, high = interval_around(self.quality.miou, self._mean_ious)
        return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))

    def difference_to(self, other: "Tally") -> tuple[float, float, float]:
        """Return by how much the mean IoU is above another variant's, and the 95 % interval of that.

        Both tallies must have seen the same pictures in the same order: then their replicates drew the same, and the
        difference is paired.
        """
        gap = self.quality.miou - other.quality.miou
        return gap, *interval_around(gap, self._mean_ious - other._mean_ious)

    @property
    def _mean_ious(self) -> NDArray[np.float64]:
        return self._bootstrap.mean_ious(absent_counts=self._absent_counts)

    @property
    def segment_ms(self) -> float:
        """Mean time of segmenting one encoded picture."""
        return self._total_ms / max(1, self._images)


class Worst:
    """Remembers the pictures with the lowest mean IoU over the classes in their truth or prediction."""

    def __init__(self, count: int) -> None:
        """Start, to remember `count` of them."""
        self._count = count
        self._heap: list[tuple[float, int, str]] = []  # the best of the worst on top
        self._seen = 0

    def add(self, image_id: str, counts: Counts) -> None:
        """Take the next picture's confusion matrix."""
        miou = quality(counts).miou
        self._seen += 1
        if np.isnan(miou) or not self._count:
            return
        heapq.heappush(self._heap, (-miou, -self._seen, image_id))
        if len(self._heap) > self._count:
            heapq.heappop(self._heap)

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Their names, lowest first."""
        return tuple(image_id for _, _, image_id in sorted(self._heap, reverse=True))
