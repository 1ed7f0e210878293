"""What is counted while pictures go by."""

from collections.abc import Sequence

import numpy as np
import pytest

from clipdiy.evaluate.bootstrap import Bootstrap, interval_around
from clipdiy.evaluate.record import Outcome
from clipdiy.evaluate.tally import Tally, Worst


def outcome(rows: Sequence[Sequence[int]], boundary: Sequence[Sequence[int]] | None = None, ms: float = 0) -> Outcome:
    return Outcome(np.array(rows), None if boundary is None else np.array(boundary), ms)


def tally(*outcomes: Outcome, absent_counts: bool = False) -> Tally:
    made = Tally(len(outcomes[0].confusion), len(outcomes), absent_counts=absent_counts)
    for one in outcomes:
        made.add(one)
    return made


# Of three classes the last is in neither truth nor prediction.
FIRST = outcome([[6, 2, 0], [0, 2, 0], [0, 0, 0]], [[1, 2], [1, 4], [0, 0]], 4)
SECOND = outcome([[3, 1, 0], [1, 5, 0], [0, 0, 0]], [[2, 2], [2, 2], [0, 0]], 7)


def test_counts_of_all_pictures_are_pooled() -> None:
    both = tally(FIRST, SECOND)
    assert both.confusion.tolist() == [[9, 3, 0], [1, 7, 0], [0, 0, 0]]
    assert both.quality.miou == pytest.approx((9 / 13 + 7 / 11) / 2)
    assert both.boundary_miou == pytest.approx((3 / 4 + 3 / 6) / 2)
    assert both.segment_ms == 5.5


def test_a_class_that_is_not_there_counts_where_it_is_said_to() -> None:
    both = tally(FIRST, SECOND, absent_counts=True)
    assert both.quality.miou == pytest.approx((9 / 13 + 7 / 11) / 3)
    assert both.boundary_miou == pytest.approx((3 / 4 + 3 / 6) / 3)
    low, high = both.interval
    assert low <= both.quality.miou <= high <= 2 / 3


@pytest.mark.parametrize("place", [0, 1])
def test_boundaries_that_one_picture_lacks_are_not_told(place: int) -> None:
    outcomes = [FIRST, SECOND]
    outcomes[place] = outcome([[1, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert tally(*outcomes).boundary_miou is None


def test_nothing_was_timed_before_the_first_picture() -> None:
    assert Tally(2, 5).segment_ms == 0


def replicates(*outcomes: Outcome) -> np.ndarray:
    drawn = Bootstrap(len(outcomes), len(outcomes[0].confusion))
    for one in outcomes:
        drawn.add(one.confusion)
    return drawn.mean_ious()


# Sets so small and uneven that most replicates lie on one side of the figure.
UNEVEN = {
    "too low": (
        [[2, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[2, 1, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [1, 0, 0]],
    ),
    "too high": ([[0, 0], [0, 9]], [[5, 0], [0, 1]], [[0, 5], [0, 0]]),
}


@pytest.mark.parametrize("counts", UNEVEN.values(), ids=UNEVEN)
def test_an_interval_is_the_bootstraps_as_far_as_shares_go(counts: Sequence[Sequence[Sequence[int]]]) -> None:
    outcomes = [outcome(rows) for rows in counts]
    made = tally(*outcomes)
    low, high = interval_around(made.quality.miou, replicates(*outcomes))
    assert low < 0 or high > 1, "or nothing would be cut"
    assert made.interval == (max(low, 0), min(high, 1))


def test_a_difference_is_paired() -> None:
    one, other = (FIRST, SECOND, FIRST), (SECOND, SECOND, FIRST)
    better, worse = sorted((tally(*one), tally(*other)), key=lambda made: -made.quality.miou)
    gap, low, high = better.difference_to(worse)
    assert gap == better.quality.miou - worse.quality.miou > 0
    assert (low, high) == interval_around(gap, replicates(*other) - replicates(*one))
    assert better.difference_to(tally(*other)) == (0, 0, 0), "the same pictures were drawn for both"


def test_the_worst_pictures_come_lowest_first():
    worst = Worst(2)
    for name, hits in (("good", 9), ("bad", 1), ("fair", 5), ("worse", 1)):
        worst.add(name, np.array([[hits, 10 - hits], [0, 0]]))
    worst.add("empty", np.zeros((2, 2), np.int64))
    assert worst.image_ids == ("bad", "worse")
    assert Worst(0).image_ids == ()
