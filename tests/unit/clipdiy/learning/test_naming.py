"""Naming: the minimum of what it says it minimises, words where there is nothing else, newcomers not drowned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from clipdiy.learning import naming
from clipdiy.learning.evidence import CELLS, CellEmbeddings, ClassShares, shares_of_masks
from clipdiy.learning.naming import (
    EMPTY,
    NamingRows,
    NamingWeights,
    fit_naming,
    is_right,
    log_loss,
    naming_rows,
    newcomer_bias,
)

TAU = 20.0
INF = float("inf")


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def world(regions=40, classes=5, dim=12, seed=0, drawn=None, words_off=0.8, spread=0.5):
    """Rows around centres that the texts only half point at, three to a region."""
    rng = np.random.default_rng(seed)
    centers = unit(rng.standard_normal((classes + 1, dim)))
    texts = unit(centers + words_off * unit(rng.standard_normal((classes + 1, dim))))
    drawn = np.arange(1, classes + 1) if drawn is None else np.array(drawn)
    position = np.repeat(drawn[np.arange(regions) % len(drawn)], 3)
    x = unit(centers[position] + spread * unit(rng.standard_normal((len(position), dim))))
    region = np.repeat(np.arange(regions), 3)
    return NamingRows(x, position, region, region // 2), texts


def objective(rows, texts, weights, rho):
    """Return the page's sum in float64, by torch, and its minimum, by L-BFGS from there."""
    v = torch.tensor(weights.residual, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(weights.bias, dtype=torch.float64, requires_grad=True)
    x, t = torch.tensor(rows.x).double(), torch.tensor(texts).double()

    def total():
        added = TAU * (x - torch.tensor(weights.center).double()) @ v.T + b
        logits = (TAU * x @ t.T).index_add(1, torch.tensor(weights.positions), added)
        position = torch.tensor(rows.position)
        wanted = logits.gather(1, position.clamp(min=0)[:, None])[:, 0]
        fixed = [c for c in range(1, len(texts)) if c not in weights.positions]
        if fixed:
            wanted = torch.where(position == EMPTY, logits[:, fixed].logsumexp(dim=1), wanted)
        loss = logits[:, 1:].logsumexp(dim=1) - wanted
        return (loss * torch.tensor(rows.weight)).sum() + rho / 2 * (v**2).sum() + 0.5 * (b**2).sum()

    at = float(total().detach())
    solver = torch.optim.LBFGS([v, b], max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        value = total()
        value.backward()
        return value

    solver.step(closure)
    return at, float(total().detach())


@pytest.mark.parametrize("rho", [300.0, 10.0, 1.0])
@pytest.mark.parametrize("left_empty", [False, True], ids=["", "some left empty"])
@pytest.mark.parametrize("drawn", [None, (1, 3)], ids=["all classes", "two of five"])
def test_the_fit_is_the_minimum(rho, drawn, left_empty):
    rows, texts = world(drawn=drawn, words_off=2.0, spread=0.7)
    if left_empty:
        # As if nobody had wanted the class drawn last.
        rows = replace(rows, position=np.where(rows.position == rows.position.max(), EMPTY, rows.position))
    words, fit = fit_naming(rows, texts, TAU, [INF, rho])
    start, least = objective(rows, texts, words, rho)
    end, _ = objective(rows, texts, fit, rho)
    assert least < start - 1, "or there is nothing to fit"
    assert end - least < 0.01 * (start - least)


def test_of_many_that_compete_each_counts():
    """A hundred words that come near a class are a stronger wrong answer than one."""
    rows, texts = world(drawn=(1, 3), words_off=2.0, spread=0.7)
    crowd = np.concatenate(
        [texts, unit(np.repeat(rows.x[rows.position == 1].mean(axis=0, keepdims=True), 100, axis=0))]
    )
    start, least = objective(rows, crowd, fit_naming(rows, crowd, TAU, [INF])[0], 3.0)
    end, _ = objective(rows, crowd, fit_naming(rows, crowd, TAU, [3.0])[0], 3.0)
    assert end - least < 0.01 * (start - least)


def test_regions_count_once_however_many_rows_they_have():
    rows, texts = world(regions=6)
    # Every region twice as many rows: the same centre, and then the same fit.
    doubled = np.repeat(np.arange(18), 2)
    again = NamingRows(rows.x[doubled], rows.position[doubled], rows.region[doubled], rows.picture[doubled])
    one, other = (fit_naming(r, texts, TAU, [3.0])[0] for r in (rows, again))
    assert_allclose(one.logits(rows.x, texts, TAU), other.logits(rows.x, texts, TAU), atol=1e-2)
    uneven = np.repeat(np.arange(18), np.where(rows.region == 0, 5, 1))
    third = NamingRows(rows.x[uneven], rows.position[uneven], rows.region[uneven], rows.picture[uneven])
    assert_allclose(np.bincount(third.region, third.weight), np.ones(6), rtol=1e-6)


def test_infinite_trust_is_the_words():
    rows, texts = world()
    fit = fit_naming(rows, texts, TAU, [INF])[0]
    assert not fit.residual.any()
    assert_allclose(fit.logits(rows.x, texts, TAU), TAU * rows.x @ texts.T, atol=1e-5)


def test_weaker_trust_fits_better_and_moves_further():
    rows, texts = world()
    fits = fit_naming(rows, texts, TAU, [INF, 100.0, 10.0, 1.0])
    losses = [log_loss(fit.logits(rows.x, texts, TAU), rows.position, len(texts) - 1).mean() for fit in fits]
    lengths = [np.linalg.norm(fit.residual) for fit in fits]
    assert losses == sorted(losses, reverse=True)
    assert lengths == sorted(lengths)


def test_classes_without_regions_keep_their_words():
    rows, texts = world(drawn=(1, 3))
    fit = fit_naming(rows, texts, TAU, [1.0])[0]
    assert_array_equal(fit.positions, [1, 3])
    logits = fit.logits(rows.x, texts, TAU)
    assert_allclose(logits[:, [0, 2, 4, 5]], TAU * rows.x @ texts[[0, 2, 4, 5]].T, atol=1e-5)
    lifted = NamingWeights(fit.positions, fit.residual, fit.bias, fit.center, newcomer=2.0)
    assert_allclose(lifted.logits(rows.x, texts, TAU) - logits, [[0, 0, 2, 0, 2, 2]] * len(rows.x), atol=1e-5)


def test_a_newcomer_is_not_drowned():
    """Each class in turn is the newcomer: how many of its rows get its name?"""
    rows, texts = world(regions=150, classes=10, words_off=1.2, spread=0.7)
    found = []
    for newcomer in range(1, 11):
        of_newcomer = rows.position == newcomer
        known, x = rows.where(~of_newcomer), rows.x[of_newcomer]
        fit = fit_naming(known, texts, TAU, [0.3])[0]
        bias = newcomer_bias(known, texts, TAU, 0.3, len(texts) - 1)
        drowned, lifted = (
            NamingWeights(fit.positions, fit.residual, fit.bias, fit.center, b).logits(x, texts, TAU)[:, 1:]
            for b in (0.0, bias)
        )
        words = (x @ texts.T)[:, 1:]
        found.append([(logits.argmax(axis=1) + 1 == newcomer).mean() for logits in (words, drowned, lifted)])
        # Nor does it drown the others.
        weights = NamingWeights(fit.positions, fit.residual, fit.bias, fit.center, bias)
        named = weights.logits(known.x, texts, TAU)[:, 1:].argmax(axis=1) + 1
        assert (named == known.position).mean() > 0.95
    by_words, drowned, lifted = np.mean(found, axis=0)
    assert drowned < by_words - 0.2, "without the bias it is drowned, or this test shows nothing"
    assert lifted >= by_words - 0.1


def test_the_more_classes_are_without_regions_the_less_each_is_lifted():
    rows, texts = world(regions=60, classes=6, words_off=1.2, spread=0.7)
    # The same regions; four more classes that nothing here looks like.
    away = np.repeat(-rows.x.mean(axis=0, keepdims=True), 4, axis=0)
    wider = np.concatenate([texts, unit(away)])
    assert newcomer_bias(rows, wider, TAU, 1.0, len(wider) - 1) == pytest.approx(
        newcomer_bias(rows, texts, TAU, 1.0, len(texts) - 1) * 6 / 10, rel=0.02
    )


def test_what_competes_is_no_label_that_could_be_a_newcomer(monkeypatch):
    rows, texts = world(regions=60, classes=6, words_off=1.2, spread=0.7)
    away = np.repeat(-rows.x.mean(axis=0, keepdims=True), 4, axis=0)
    competed = np.concatenate([texts, unit(away)])
    alone = newcomer_bias(rows, texts, TAU, 1.0, len(texts) - 1)
    assert newcomer_bias(rows, competed, TAU, 1.0, len(texts) - 1) == pytest.approx(alone, rel=0.02)
    # Nor is what was left empty a class that has regions, or one of those left out.
    nothing = NamingRows(-rows.x[:3], np.full(3, EMPTY), np.zeros(3, np.int64), np.zeros(3, np.int64))
    with_empty = NamingRows(
        np.concatenate([rows.x, nothing.x]),
        np.concatenate([rows.position, nothing.position]),
        np.concatenate([rows.region, nothing.region + 60]),
        np.concatenate([rows.picture, nothing.picture]),
    )
    seen = []
    monkeypatch.setattr(
        naming, "fit_naming", lambda rows, *rest: seen.append((rows.position == EMPTY).sum()) or fit_naming(rows, *rest)
    )
    assert newcomer_bias(with_empty, competed, TAU, 1.0, len(texts) - 1) == pytest.approx(alone, rel=0.1)
    assert seen == [3] * 4, "it is there whichever labels are left out"


@pytest.mark.parametrize(
    ("drawn", "rho"),
    [pytest.param((1, 2, 3), INF, id="words"), pytest.param((2,), 1.0, id="one class: no other to leave out")],
)
def test_no_bias_where_nothing_can_drown(drawn, rho):
    rows, texts = world(drawn=drawn)
    assert newcomer_bias(rows, texts, TAU, rho, len(texts) - 1) == 0


def test_log_loss_leaves_the_background_out():
    logits = np.array([[9.0, 1.0, 0.0], [9.0, 0.0, 0.0]], np.float32)
    assert_allclose(log_loss(logits, np.array([1, 2]), logits.shape[1] - 1), [np.log(1 + np.exp(-1)), np.log(2)])


def test_what_was_left_empty_is_right_as_any_of_what_competes():
    # Background, two labels, two others; left empty and named an other, named a label, and drawn.
    logits = np.log(np.array([[9, 1, 2, 3, 2], [9, 1, 4, 2, 1], [9, 1, 4, 2, 1]], np.float32))
    position = np.array([EMPTY, EMPTY, 2])
    assert_allclose(log_loss(logits, position, 2), -np.log([5 / 8, 3 / 8, 4 / 8]), rtol=1e-6)
    assert_array_equal(is_right(logits, position, 2), [True, False, True])
    assert_array_equal(is_right(logits, np.array([1, 2, 3]), 2), [False, True, False])


def test_where_all_was_left_empty_words_stay():
    rows, texts = world(drawn=(2,))
    fit = fit_naming(replace(rows, position=np.full(len(rows.position), EMPTY)), texts, TAU, [INF, 1.0])[1]
    assert_allclose(fit.logits(rows.x, texts, TAU), TAU * rows.x @ texts.T, atol=1e-5)


def embeddings(seed=0, crops=4, dim=8):
    rng = np.random.default_rng(seed)
    pooling = rng.uniform(0, 1, (CELLS * CELLS, crops)).astype(np.float32)
    return CellEmbeddings(pooling, unit(rng.standard_normal((crops, dim))).astype(np.float16))


def test_rows_are_drawn_from_every_region_and_not_from_the_background():
    half, speck = np.zeros((32, 32), bool), np.zeros((32, 32), bool)
    half[:, :16], speck[0, 20:22] = True, True
    shares = shares_of_masks({0: ~half & ~speck, 2: half, 5: speck})
    rows = naming_rows([("a", embeddings(0), shares), ("b", embeddings(1), shares)])
    assert_array_equal(rows.position, [2] * 6 + [5] * 2 + [2] * 6 + [5] * 2)
    assert_array_equal(rows.region, [0] * 6 + [1] * 2 + [2] * 6 + [3] * 2)
    assert_array_equal(rows.picture, [0] * 8 + [1] * 8)
    assert_allclose(rows.weight, [1 / 6] * 6 + [1 / 2] * 2 + [1 / 6] * 6 + [1 / 2] * 2)
    assert_allclose(rows.x[6:8], embeddings(0).at(np.array([20, 21])))
    inside = embeddings(0).at(np.flatnonzero(half))
    assert all((np.abs(inside - row).max(axis=1) < 1e-6).any() for row in rows.x[:6])


def test_what_was_left_empty_in_a_picture_is_one_region():
    half, corner, nothing = (np.zeros((32, 32), bool) for _ in range(3))
    half[:, :16], corner[0, 20:22] = True, True
    shares = shares_of_masks({0: ~half, 2: half})
    rows = naming_rows([("a", embeddings(0), shares), ("b", embeddings(1), shares)], [corner.ravel(), nothing.ravel()])
    assert_array_equal(rows.position, [2] * 6 + [EMPTY] * 2 + [2] * 6)
    assert_array_equal(rows.region, [0] * 6 + [1] * 2 + [2] * 6)
    assert_array_equal(rows.picture, [0] * 8 + [1] * 6)
    assert_allclose(rows.x[6:8], embeddings(0).at(np.array([20, 21])))


def test_what_was_left_empty_counts_among_many_regions(monkeypatch):
    monkeypatch.setattr("clipdiy.learning.naming.MOST_ROWS", 20)
    shares = shares_of_masks({1: np.ones((32, 32), bool)})
    pictures = [(str(i), embeddings(i), shares) for i in range(5)]
    rows = naming_rows(pictures, [np.ones(CELLS * CELLS, bool)] * 5)
    assert_array_equal(np.bincount(rows.region), [2] * 10)


def test_what_is_drawn_of_a_class_does_not_depend_on_the_others():
    half = np.zeros((32, 32), bool)
    half[:, :16] = True
    alone, beside = shares_of_masks({2: half}), shares_of_masks({1: ~half, 2: half})
    first, second = (naming_rows([("a", embeddings(), shares)]) for shares in (alone, beside))
    assert_array_equal(first.x, second.x[second.position == 2])


def test_many_regions_give_fewer_rows_each(monkeypatch):
    monkeypatch.setattr("clipdiy.learning.naming.MOST_ROWS", 10)
    half = np.zeros((32, 32), bool)
    half[:, :16] = True
    # The background is no region: it takes nothing from the others.
    for shares in (shares_of_masks({1: np.ones((32, 32), bool)}), shares_of_masks({0: ~half, 1: half})):
        rows = naming_rows([(str(i), embeddings(i), shares) for i in range(5)])
        assert_array_equal(np.bincount(rows.region), [2] * 5)


def test_no_rows_of_no_pictures():
    assert len(naming_rows([]).position) == 0
    empty = ClassShares((), np.zeros((0, 32, 32), np.uint8))
    assert naming_rows([("a", embeddings(), empty)]).x.shape == (0, 8)
