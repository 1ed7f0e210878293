"""Calibration: isotonic as scipy has it, order kept, used only where it helps on what was left out."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipdiy.errors import ShapeError
from clipdiy.learning.calibration import (
    Calibration,
    calibrate,
    calibration_error,
    cross_validated,
    fit_curve,
    isotonic,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], [], id="empty"),
        pytest.param([3.0], [3.0], id="one"),
        pytest.param([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], id="rising"),
        pytest.param([3.0, 2.0, 1.0], [2.0, 2.0, 2.0], id="falling"),
        pytest.param([1.0, 3.0, 2.0, 4.0], [1.0, 2.5, 2.5, 4.0], id="one violator"),
        pytest.param([4.0, 5.0, 0.0, 6.0], [3.0, 3.0, 3.0, 6.0], id="pools backwards"),
    ],
)
def test_isotonic_by_hand(values, expected):
    assert_allclose(isotonic(np.array(values), np.ones(len(values))), expected)


def test_isotonic_counts_weights():
    assert_allclose(isotonic(np.array([3.0, 1.0]), np.array([3.0, 1.0])), [2.5, 2.5])


def test_isotonic_is_what_scipy_has():
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(0)
    for n in (2, 7, 100):
        values, weights = rng.normal(np.linspace(0, 2, n), 1), rng.uniform(0.1, 3, n)
        assert_allclose(isotonic(values, weights), optimize.isotonic_regression(values, weights=weights).x, atol=1e-12)


def test_equal_scores_have_one_value():
    curve = fit_curve(np.array([0.5, 0.5, 0.9]), np.array([0.0, 1.0, 0.8]))
    assert curve.knots == ((0.5, 0.5), (0.9, 0.8))


def test_order_is_kept_and_the_range_too():
    curve = fit_curve(np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.5, 0.3, 0.9, 0.7]))
    scores = np.linspace(0, 1, 200)
    expected = curve.expected_iou(scores)
    assert (np.diff(expected) > 0).all()
    assert expected.min() >= 0
    assert expected.max() <= 1
    assert curve.expected_iou(np.array([0.3])) == pytest.approx(0.99 * 0.4 + 0.01 * 0.3)
    assert Calibration(((0.5, 0.7),)).expected_iou(np.array(0.1)) == pytest.approx(0.99 * 0.7 + 0.001)


def regions(count, worth, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 1, count)
    return scores, np.clip(worth(scores) + rng.normal(0, 0.1, count), 0, 1), np.arange(count) // 3


def test_scores_that_promise_too_much_are_mended_on_regions_left_out():
    scores, ious, pictures = regions(300, lambda s: 0.2 + 0.5 * s**2)
    curve = calibrate(scores, ious, pictures)
    new_scores, new_ious, _ = regions(400, lambda s: 0.2 + 0.5 * s**2, seed=1)
    assert calibration_error(new_scores, new_ious) > 0.12
    assert calibration_error(curve.expected_iou(new_scores), new_ious) < 0.03


@pytest.mark.parametrize(
    ("count", "pictures_of", "expected"),
    [
        pytest.param(29, lambda n: np.arange(n), False, id="one region too few"),
        pytest.param(30, lambda n: np.arange(n), True, id="enough"),
        pytest.param(60, lambda n: np.zeros(n, np.int64), False, id="all of one picture"),
        pytest.param(0, lambda n: np.arange(n), False, id="none"),
    ],
)
def test_when_there_is_enough(count, pictures_of, expected):
    scores, ious, _ = regions(count, lambda s: 0.3 * s)
    assert (calibrate(scores, ious, pictures_of(count)) is not None) == expected


def test_scores_that_are_right_already_stay():
    scores, _, pictures = regions(60, lambda s: s)
    assert calibrate(scores, scores, pictures) is None


def test_a_region_is_not_judged_by_its_own_picture():
    scores, ious, pictures = np.array([0.1, 0.2, 0.3]), np.array([0.0, 1.0, 1.0]), np.array([0, 1, 1])
    held_out = cross_validated(scores, ious, pictures)
    assert_allclose(held_out, [0.99 + 0.001, 0.002, 0.003], atol=1e-9)


@pytest.mark.parametrize(
    ("scores", "ious"),
    [
        pytest.param([0.5, 1.5], [0.5, 0.5], id="score above 1"),
        pytest.param([0.5, 0.5], [0.5, float("nan")], id="no number"),
        pytest.param([0.5, 0.5], [-0.1, 0.5], id="IoU below 0"),
        pytest.param([0.5], [0.5, 0.5], id="lengths differ"),
    ],
)
def test_values_are_checked(scores, ious):
    with pytest.raises(ShapeError):
        calibrate(np.array(scores), np.array(ious), np.arange(len(scores)))


def test_calibration_error_by_hand():
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0)))
    assert calibration_error(np.array([0.2, 0.9]), np.array([0.5, 0.8])) == pytest.approx(0.2)
    many = np.repeat([0.1, 0.9], 10)
    assert calibration_error(many, np.tile([0.0, 0.2], 10)) == pytest.approx((0.0 + 0.8) / 2)
