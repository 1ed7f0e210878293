"""Calibration: isotonic as scipy has it, order kept, used only where it helps on what was left out."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipdiy.errors import ShapeError
from clipdiy.learning.calibration import (
    LEAST_ISOTONIC_REGIONS,
    SMOOTH_KNOTS,
    Calibration,
    calibrate,
    calibration_error,
    cross_validated,
    fit_isotonic,
    fit_smooth,
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
    curve = fit_isotonic(np.array([0.5, 0.5, 0.9]), np.array([0.0, 1.0, 0.8]))
    assert curve.knots == ((0.5, 0.5), (0.9, 0.8))


def test_order_is_kept_and_the_range_too():
    curve = fit_isotonic(np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.5, 0.3, 0.9, 0.7]))
    scores = np.linspace(0, 1, 200)
    expected = curve.expected_iou(scores)
    assert (np.diff(expected) > 0).all()
    assert expected.min() >= 0
    assert expected.max() <= 1
    assert curve.expected_iou(np.array([0.3])) == pytest.approx(0.99 * 0.4 + 0.01 * 0.3)
    assert Calibration(((0.5, 0.7),)).expected_iou(np.array(0.1)) == pytest.approx(0.99 * 0.7 + 0.001)


def test_knowing_nothing_is_the_score_itself():
    knots = np.array(fit_smooth(np.zeros(0), np.zeros(0)).knots)
    assert len(knots) == SMOOTH_KNOTS
    assert_allclose(knots[1:-1, 0], knots[1:-1, 1], atol=1e-9)


def test_the_smooth_curve_is_where_its_slope_is_nothing():
    optimize = pytest.importorskip("scipy.optimize")
    scores, ious, _ = regions(40, lambda s: 0.2 + 0.5 * s**2)

    def loss(found):
        a, b, c = found
        logits = a * np.log(scores.clip(0.01, 0.99)) - b * np.log(1 - scores.clip(0.01, 0.99)) + c
        entropy = np.logaddexp(0, logits) - ious * logits
        return entropy.sum() + 0.5 * ((a - 1) ** 2 + (b - 1) ** 2 + c**2)

    a, b, c = optimize.minimize(loss, [1, 1, 0], bounds=[(0, None), (0, None), (None, None)], tol=1e-12).x
    at = np.linspace(0.1, 0.9, 9)
    expected = 0.99 / (1 + np.exp(-(a * np.log(at) - b * np.log(1 - at) + c))) + 0.01 * at
    assert_allclose(fit_smooth(scores, ious).expected_iou(at), expected, atol=2e-3)  # linear between its knots


def test_the_smooth_curve_never_falls():
    scores = np.linspace(0, 1, 50)
    knots = np.array(fit_smooth(scores, 1 - scores).knots)
    assert (np.diff(knots[:, 1]) >= 0).all()
    assert_allclose(knots[[0, -1], 1], 0.5, atol=0.05)


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


def test_few_regions_have_a_smooth_curve_and_many_what_fits():
    def steps(s):
        return np.where(s < 0.5, 0.1, 0.9)

    few, many = (calibrate(*regions(n, steps)) for n in (LEAST_ISOTONIC_REGIONS - 1, LEAST_ISOTONIC_REGIONS))
    assert len(few.knots) == SMOOTH_KNOTS
    assert many == fit_isotonic(*regions(LEAST_ISOTONIC_REGIONS, steps)[:2])
    calm = calibrate(*regions(120, lambda s: 0.2 + 0.4 * s))
    assert len(calm.knots) == SMOOTH_KNOTS, "nothing is gained by blocks"


def test_scores_that_are_right_already_stay():
    scores, _, pictures = regions(60, lambda s: s)
    assert calibrate(scores, scores, pictures) is None


def test_a_curve_that_is_not_surely_worse_is_taken():
    scores, ious, pictures = regions(60, lambda s: s, seed=5)
    worse = (cross_validated(scores, ious, pictures, fit_smooth) - ious) ** 2 - (scores - ious) ** 2
    assert 0 < worse.mean() < worse.std(ddof=1) / 60**0.5, "or there is nothing to tell"
    assert calibrate(scores, ious, pictures) is not None
    assert calibrate(*regions(60, lambda s: s, seed=1)) is None


def test_a_region_is_not_judged_by_its_own_picture():
    scores, ious, pictures = np.array([0.1, 0.2, 0.3]), np.array([0.0, 1.0, 1.0]), np.array([0, 1, 1])
    held_out = cross_validated(scores, ious, pictures, fit_isotonic)
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
