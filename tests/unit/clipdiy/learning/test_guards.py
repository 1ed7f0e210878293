"""Guards: what passes, what does not, and by how much."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipdiy.learning.guards import (
    choose_prior,
    deal_folds,
    iou,
    means_by,
    objectness_is_better,
    standard_error,
    t975,
    weakest_prior,
)


@pytest.mark.parametrize(
    ("count", "folds"),
    [
        pytest.param(0, [], id="none"),
        pytest.param(1, [0], id="one"),
        pytest.param(3, [0, 1, 2], id="each its own"),
        pytest.param(11, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0], id="five folds"),
    ],
)
def test_folds(count, folds):
    assert_array_equal(deal_folds(count), folds)


def test_ten_are_left_out_one_by_one():
    assert len(set(deal_folds(10).tolist())) == 10


def test_means_by():
    assert_allclose(means_by(np.array([[1.0, 3.0, 5.0]]), np.array([7, 7, 9])), [[2, 5]])


def test_standard_error():
    assert standard_error(np.array([1.0, 3.0])) == pytest.approx(1.0)
    assert standard_error(np.array([1.0])) == float("inf")


@pytest.mark.parametrize(
    ("count", "rho"), [(0, float("inf")), (1, float("inf")), (2, 100), (3, 30), (5, 10), (10, 3), (25, 0.3), (999, 0.3)]
)
def test_few_pictures_have_to_trust_the_words(count, rho):
    assert weakest_prior(count) == rho


def held_out(gains, right, pictures, words=1.0):
    """Losses, less by each prior's gain per picture, in turns; two rows of one region a picture; shares named right."""
    gains = np.array([np.resize(gain, pictures) for gain in gains], float)
    region = np.repeat(np.arange(pictures), 2)
    return (
        words - np.repeat(gains, 2, axis=1),
        np.repeat(np.array(right, float)[:, None], 2 * pictures, 1),
        region,
        region,
    )


@pytest.mark.parametrize("pictures", [4, 24, 26], ids=["few", "still few", "many"])
@pytest.mark.parametrize(
    ("gains", "right", "chosen"),
    [
        pytest.param([[0], [0.3, 0.2], [0.5, 0.4]], [0.5, 0.6, 0.6], 2, id="the best"),
        pytest.param([[0], [0.3, 0.2], [0.25]], [0.5, 0.6, 0.6], 1, id="the strongest of equals"),
        pytest.param([[0], [0.3, 0.2], [0.5, 0.4]], [0.5, 0.6, 0.4], 0, id="the best names fewer"),
        pytest.param([[0], [-0.3, -0.2]], [0.5, 0.6], 0, id="worse"),
        pytest.param([[0], [0.3, 0.2]], [0.5, 0.49], 0, id="names fewer"),
    ],
)
def test_choose_prior(gains, right, chosen, pictures):
    assert choose_prior(*held_out(gains, right, pictures)) == chosen


@pytest.mark.parametrize(
    ("pictures", "uses"),
    [
        pytest.param(1, False, id="one"),
        pytest.param(2, False, id="two"),
        pytest.param(3, True, id="few"),
        pytest.param(24, True, id="still few"),
        pytest.param(25, False, id="many"),
    ],
)
@pytest.mark.parametrize(
    ("gains", "right"),
    [
        pytest.param([[0], [0.3, 0.2]], [0.5, 0.515], id="hardly more names"),
        pytest.param([[0], [4.0, -3.4, -0.2]], [0.5, 0.6], id="a gain that is not sure"),
    ],
)
def test_few_pictures_need_less(pictures, uses, gains, right):
    assert (choose_prior(*held_out(gains, right, pictures)) == 1) == uses


@pytest.mark.parametrize(("words", "uses"), [(0.59, False), (0.61, True)])
@pytest.mark.parametrize("pictures", [3, 24])
def test_few_pictures_need_more_where_the_words_are_good(pictures, words, uses):
    assert (choose_prior(*held_out([[0], [0.3, 0.2]], [0.9, 0.915], pictures, words)) == 1) == uses
    assert choose_prior(*held_out([[0], [0.3, 0.2]], [0.9, 0.925], pictures, words)) == 1


@pytest.mark.parametrize("words", [0.5, 1.5], ids=["good words", "bad words"])
@pytest.mark.parametrize(
    ("pictures", "gain", "uses"), [(3, 0.09, False), (24, 0.09, False), (24, 0.11, True), (25, 0.01, True)]
)
def test_few_pictures_have_to_gain_a_share_of_what_the_words_lose(words, pictures, gain, uses):
    assert (choose_prior(*held_out([[0], [gain * words]], [0.5, 0.6], pictures, words)) == 1) == uses


def test_pictures_not_cells_are_counted():
    # One picture with many regions speaks for the fit, three against it.
    loss = np.array([[1.0] * 12, [0.0] * 9 + [1.4, 1.5, 1.6]])
    right = np.array([[0.0] * 12, [1.0] * 12])
    assert choose_prior(loss, right, np.arange(12), np.array([0] * 9 + [1, 2, 3])) == 0


def counts(ious, union=100.0):
    return np.stack([np.array(ious) * union, np.full(len(ious), union)], axis=1)


@pytest.mark.parametrize(
    ("before", "after", "passes"),
    [
        pytest.param([], [], False, id="none"),
        pytest.param([0.5], [0.61], True, id="one, enough"),
        pytest.param([0.5], [0.59], False, id="one, too little"),
        pytest.param([0.5, 0.5], [0.56, 0.65], True, id="two, enough"),
        pytest.param([0.5, 0.5], [0.54, 0.8], False, id="two, one of them too little"),
        pytest.param([0.5, 0.5], [0.56, 0.57], False, id="two, too little in the mean"),
        pytest.param([0.5] * 4, [0.60, 0.62, 0.61, 0.63], True, id="four, sure"),
        pytest.param([0.5] * 4, [0.54, 0.545, 0.54, 0.545], False, id="four, sure but small"),
        pytest.param([0.5] * 24, [0.59, 0.60] * 12, False, id="few, sure but small"),
        pytest.param([0.5] * 25, [0.55, 0.56] * 12 + [0.55], True, id="many, sure"),
        pytest.param([0.5] * 25, [0.54, 0.55] * 12 + [0.54], False, id="many, sure but small"),
        pytest.param([0.5] * 4, [0.9, 0.5, 0.5, 0.5], False, id="four, one alone"),
        pytest.param([0.5] * 4, [0.4, 0.41, 0.4, 0.41], False, id="worse"),
        pytest.param([0.5] * 4, [0.002] * 4, False, id="the case that the test is for"),
    ],
)
def test_objectness_is_better(before, after, passes):
    assert objectness_is_better(counts(before).reshape(-1, 2), counts(after).reshape(-1, 2)) == passes


def test_a_gain_in_small_pictures_alone_does_not_pass():
    union = np.array([[10.0]] * 5 + [[1000.0]])
    before, after = np.array([[0.5]] * 6), np.array([[0.9]] * 5 + [[0.45]])
    before, after = (np.concatenate([share * union, union], axis=1) for share in (before, after))
    assert iou(after).mean() - iou(before).mean() > 0.3
    assert not objectness_is_better(before, after)


def test_iou_of_nothing_in_nothing():
    assert_allclose(iou(np.array([[0.0, 0.0], [1.0, 4.0]])), [1, 0.25])


def test_quantiles_are_students():
    stats = pytest.importorskip("scipy.stats")
    for freedom in (*range(2, 40), 99, 999):
        assert t975(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-3)


def test_how_sure_goes_by_how_many_pictures_there_are():
    """Three gains whose mean is three standard errors: too few pictures for that, with two degrees of freedom."""
    gains = np.array([0.1, 0.2, 0.3])
    gains = 0.2 + (gains - 0.2) * (0.2 / 3) / (gains.std(ddof=1) / np.sqrt(3))
    before = np.array([[300.0, 1000.0]] * 3)
    after = np.stack([300 + 1000 * gains, np.full(3, 1000.0)], axis=1)
    assert gains.mean() / (gains.std(ddof=1) / np.sqrt(3)) == pytest.approx(3)
    assert not objectness_is_better(before, after)
    assert objectness_is_better(np.repeat(before, 3, axis=0), np.repeat(after, 3, axis=0))
