"""What is counted beside `paper-fast`: sizes in whole patches, figures with paired intervals."""

import numpy as np
import pytest

from benchmarks.fast import CLASSES, Pooled, cells_of, starter_objectness


@pytest.mark.parametrize(("long_px", "square_px"), [(640, 256), (448, 176), (384, 152)])
def test_the_starter_sees_the_same_share(long_px, square_px):
    assert starter_objectness(long_px).square_px == square_px


def pooled(*hits):
    """Return pictures of two classes of 100 pixels each, with so many of the second one's rightly found."""
    overlaps = np.zeros((len(hits), CLASSES, 2), np.int64)
    overlaps[:, :2, 1] = 100
    overlaps[:, 0, 0] = 100
    overlaps[:, 1, 0] = hits
    return Pooled(list(overlaps))


def test_figures_are_pooled_and_differences_paired():
    first, worse = pooled(80, 60, 40), pooled(70, 50, 30)
    assert first.mean() == pytest.approx((1 + 180 / 300) / 2)
    figure, nothing = cells_of(first, first)
    assert figure.startswith("80.0 (7")
    assert nothing == ""
    # Every picture lost the same, so which are drawn makes no difference.
    assert cells_of(worse, first)[1] == "-5.0 (-5.0 to -5.0)"
