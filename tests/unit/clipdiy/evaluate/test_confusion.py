"""Confusion matrices and what is read off them, against figures worked out by hand."""

import numpy as np
import pytest

from clipdiy.errors import ShapeError
from clipdiy.evaluate.confusion import confusion_matrix, quality
from clipdiy.evaluate.record import Outcome
from clipdiy.evaluate.tally import Tally


def array(values):
    return np.array(values, np.uint8)


def test_miou_by_hand():
    truth = array([[0, 0, 1, 1], [0, 2, 2, 255]])
    prediction = array([[0, 1, 1, 1], [0, 2, 1, 0]])
    counts = confusion_matrix(truth, prediction, 4)
    np.testing.assert_array_equal(counts, [[2, 1, 0, 0], [0, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    found = quality(counts)
    # Background 2 of 3, class 1: 2 of 4, class 2: 1 of 2; class 3 is nowhere and does not count.
    np.testing.assert_allclose(found.iou, [2 / 3, 2 / 4, 1 / 2, np.nan])
    assert found.miou == pytest.approx((2 / 3 + 1 / 2 + 1 / 2) / 3)
    assert found.accuracy == pytest.approx(5 / 7)


def test_a_class_that_is_named_but_nowhere_counts_as_zero():
    found = quality(confusion_matrix(array([[0, 0]]), array([[0, 1]]), 2))
    np.testing.assert_allclose(found.iou, [0.5, 0.0])


def test_an_absent_class_counts_as_zero_if_asked_for():
    counts = confusion_matrix(array([[0, 1, 1, 255]]), array([[0, 1, 0, 0]]), 4)
    assert quality(counts).miou == pytest.approx((1 / 2 + 1 / 2) / 2)
    found = quality(counts, absent_counts=True)
    assert found.miou == pytest.approx((1 / 2 + 1 / 2) / 4)
    np.testing.assert_allclose(found.iou, [1 / 2, 1 / 2, np.nan, np.nan])
    assert np.isnan(quality(np.zeros((2, 2), np.int64), absent_counts=True).miou)
    tally = Tally(4, 1, absent_counts=True)
    tally.add(Outcome(counts, np.array([[1, 2], [1, 1], [0, 0], [0, 0]]), 0.0))
    assert tally.quality.miou == found.miou
    assert tally.boundary_miou == pytest.approx((1 / 2 + 1) / 4)
    assert tally.interval[0] <= found.miou <= tally.interval[1] < 1 / 2


def test_nothing_to_compare_is_nan_not_an_error():
    found = quality(confusion_matrix(array([[255]]), array([[0]]), 2))
    assert np.isnan([found.miou, found.accuracy]).all()


def test_pixels_are_pooled_not_averaged_over_pictures():
    tally = Tally(2, 2)
    for truth, prediction in (([[1] * 9 + [0]], [[1] * 9 + [0]]), ([[1, 0]], [[0, 0]])):
        tally.add(Outcome(confusion_matrix(array(truth), array(prediction), 2), None, 1.0))
    # Class 1: 9 of 10 pixels, background: 2 of 3.
    assert tally.quality.miou == pytest.approx((9 / 10 + 2 / 3) / 2)
    assert tally.boundary_miou is None


@pytest.mark.parametrize(
    ("truth", "prediction"),
    [([[0]], [[0, 0]]), ([[3]], [[0]]), ([[0]], [[3]])],
    ids=["shape", "truth out of range", "prediction out of range"],
)
def test_what_does_not_fit_is_refused(truth, prediction):
    with pytest.raises(ShapeError):
        confusion_matrix(array(truth), array(prediction), 3)


def test_positions_that_there_may_be_are_said():
    with pytest.raises(ShapeError, match=r"must hold positions 0\.\.2, got 0\.\.7"):
        confusion_matrix(array([[0, 1]]), array([[0, 7]]), 3)
