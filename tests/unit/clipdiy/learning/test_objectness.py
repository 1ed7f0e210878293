"""Objectness: the paper's rule where nothing is learned, the minimum where something is."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from clipdiy.learning import objectness
from clipdiy.learning.evidence import CELLS, WHOLE, CellEmbeddings, ClassShares, shares_of_masks
from clipdiy.learning.objectness import (
    ObjectnessWeights,
    fit_objectness,
    foreground_iou,
    logit,
    objectness_evidence,
)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def picture(name="a", seed=0, mask=None, chance=None, unknown=False):
    rng = np.random.default_rng(seed)
    pooling = rng.dirichlet(np.ones(6), CELLS * CELLS).astype(np.float32)
    crops = unit(np.abs(rng.standard_normal((6, 8)))).astype(np.float16)
    texts = unit(np.abs(rng.standard_normal((4, 8))))
    if mask is None:
        mask = np.zeros((32, 32), bool)
        mask[8:24, 8:24] = True
    masks = {1: mask} if unknown else {0: ~mask, 1: mask}
    evidence = objectness_evidence(name, CellEmbeddings(pooling, crops), chance, shares_of_masks(masks), texts)
    return evidence, CellEmbeddings(pooling, crops), texts


def test_the_rule_is_the_papers():
    chance = np.random.default_rng(5).uniform(0.01, 0.99, CELLS * CELLS).astype(np.float32)
    evidence, embeddings, texts = picture(chance=chance)
    cosines = embeddings.dot(texts.T.copy())
    assert cosines.min() > objectness.LEAST_COSINE
    paper = cosines[:, 1:].max(axis=1) * chance > cosines[:, 0] * (1 - chance)
    assert 0 < paper.sum() < CELLS * CELLS
    assert_array_equal(evidence.rule.sum(axis=1) > 0, paper)
    assert_array_equal(evidence.named, cosines[:, 1:].argmax(axis=1) + 1)


@pytest.mark.parametrize("competing", [1, 2, 3])
def test_what_competes_is_an_object_of_one_name(competing):
    chance = np.random.default_rng(5).uniform(0.01, 0.99, CELLS * CELLS).astype(np.float32)
    alone, embeddings, texts = picture(chance=chance)
    shares = ClassShares((0,), np.full((1, CELLS, CELLS), WHOLE, np.uint8))
    beside = objectness_evidence("a", embeddings, chance, shares, texts, competing=competing)
    cosines = embeddings.dot(texts.T)
    first = len(texts) - competing
    assert_array_equal(beside.rule, alone.rule)
    assert_array_equal(beside.rival, cosines[:, first:].max(axis=1))
    best = cosines[:, 1:].argmax(axis=1) + 1
    assert first == 1 or 0 < (best >= first).sum() < CELLS * CELLS
    assert_array_equal(beside.named, np.minimum(best, first))
    assert alone.rival is None


def test_stuff_is_on_the_backgrounds_side():
    chance = np.random.default_rng(5).uniform(0.01, 0.99, CELLS * CELLS).astype(np.float32)
    _, embeddings, texts = picture(chance=chance)
    halves = np.zeros((2, 32, 32), np.uint8)
    halves[0, :, :16], halves[1, :, 16:] = WHOLE, WHOLE
    shares = ClassShares((1, 2), halves)
    evidence = objectness_evidence("a", embeddings, chance, shares, texts, stuff=(1,))
    cosines = embeddings.dot(texts.T.copy())
    best, ground = cosines[:, 2:].max(axis=1), cosines[:, :2].max(axis=1)
    assert_array_equal(evidence.rule.sum(axis=1) > 0, best * chance > ground * (1 - chance))
    assert_array_equal(evidence.named, cosines[:, 2:].argmax(axis=1) + 2)
    assert_array_equal(evidence.target.reshape(32, 32)[0], [0] * 16 + [1] * 16)
    assert (evidence.known == 1).all()


def test_without_objectness_the_margin_alone_decides():
    evidence, _, _ = picture()
    assert_allclose(evidence.rule[:, 0], 0, atol=1e-12)


def test_left_empty_is_an_object_by_the_rule_that_nobody_drew():
    chance = np.full((32, 32), 0.001, np.float32)
    chance[4:20, 4:20] = 0.999
    texts = picture()[2]
    embeddings = picture()[1]
    shares = np.zeros((2, 32, 32), np.uint8)
    shares[1, :, :10] = WHOLE  # drawn
    shares[0, :, 10:16] = WHOLE  # left to the background
    shares[0, :, 10], shares[1, :, 10] = WHOLE - 1, 1  # nearly so
    # All further right is unknown.
    evidence = objectness_evidence("a", embeddings, chance.ravel(), ClassShares((0, 1), shares), texts)
    expected = np.zeros((32, 32), bool)
    expected[4:20, 11:16] = True
    assert_array_equal(evidence.left_empty.reshape(32, 32), expected)


def test_logit_stays_finite():
    assert_allclose(logit(np.array([0.0, 0.5, 1.0])), [-9.21024, 0, 9.21024], atol=1e-4)


def test_what_is_unknown_is_not_counted():
    evidence, _, _ = picture(unknown=True)
    assert evidence.known.sum() == 16 * 16
    scores = np.ones(CELLS * CELLS)
    assert foreground_iou(scores, evidence) == (256, 256)
    assert foreground_iou(-scores, evidence) == (0, 256)


def test_the_target_is_a_share_of_what_is_known():
    _, embeddings, texts = picture()
    shares = np.zeros((2, 32, 32), np.uint8)
    shares[0, 0, :2], shares[1, 0, :2] = [51, 0], [51, 102]  # the rest of these cells is unknown, as are all others
    evidence = objectness_evidence("a", embeddings, None, ClassShares((0, 2), shares), texts)
    assert_allclose(evidence.target[:3], [0.5, 1, 0])
    assert_allclose(evidence.known[:3], [0.4, 0.4, 0])


@pytest.mark.parametrize("with_embedding", [False, True])
def test_the_fit_is_the_minimum(with_embedding, monkeypatch):
    monkeypatch.setattr(objectness, "CELLS_PER_PICTURE", CELLS * CELLS)
    chance = np.random.default_rng(5).uniform(0.01, 0.99, CELLS * CELLS).astype(np.float32)
    evidence, embeddings, _ = picture(chance=chance)
    theta = torch.tensor(fit_objectness([evidence], with_embedding=with_embedding), requires_grad=True)
    assert len(theta) == (11 if with_embedding else 3)
    rows = [torch.tensor(evidence.rule), torch.ones(CELLS * CELLS, 1)]
    if with_embedding:
        rows.append(3 * torch.tensor(embeddings.at(np.arange(CELLS * CELLS))))
    scores = torch.tensor(evidence.rule).sum(dim=1) + torch.cat(rows, dim=1).double() @ theta
    loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, torch.tensor(evidence.target))
    (50 * loss + 0.5 * (theta**2).sum()).backward()
    assert float(theta.grad.norm()) < 0.02
    assert float(theta.detach().norm()) > 0.1


def test_newton_does_not_diverge_from_a_rule_that_is_far_off():
    inverted = np.full((32, 32), 0.999, np.float32)
    inverted[8:24, 8:24] = 0.001
    evidence, _, _ = picture(chance=inverted.ravel())
    theta = fit_objectness([evidence], with_embedding=False)
    assert np.isfinite(theta).all()
    before, after = (foreground_iou(ObjectnessWeights(t, 0.0).scores(evidence), evidence) for t in (np.zeros(3), theta))
    assert before[0] / before[1] < 0.1
    assert after[0] / after[1] > 0.9


def test_scores():
    evidence, embeddings, _ = picture()
    assert_allclose(ObjectnessWeights(np.zeros(3), 0.0).scores(evidence), evidence.rule.sum(axis=1))
    theta = np.array([0.5, -0.25, 1.0, *np.linspace(-1, 1, 8)])
    expected = evidence.rule @ [1.5, 0.75] + 1 - 0.25 + 3 * embeddings.at(np.arange(1024)) @ theta[3:]
    assert_allclose(ObjectnessWeights(theta, 0.25).scores(evidence), expected, atol=1e-5)


def test_only_what_is_known_is_drawn(monkeypatch):
    evidence, _, _ = picture(unknown=True)
    seen = []
    draw = objectness.draw_cells
    monkeypatch.setattr(objectness, "draw_cells", lambda *args: seen.append(args[1]) or draw(*args))
    fit_objectness([evidence], with_embedding=False)
    [weights] = seen
    expected = np.zeros((32, 32), np.int64)
    expected[8:24, 8:24] = WHOLE
    assert_array_equal(weights.reshape(32, 32), expected)


def test_many_pictures_give_fewer_cells_each(monkeypatch):
    evidence, _, _ = picture()
    seen = []
    draw = objectness.draw_cells
    monkeypatch.setattr(objectness, "draw_cells", lambda *args: seen.append(args[2]) or draw(*args))
    fit_objectness([evidence] * 2, with_embedding=False)
    monkeypatch.setattr(objectness, "MOST_ROWS", 100)
    fit_objectness([evidence] * 2, with_embedding=False)
    assert seen == [256, 256, 50, 50]
    assert WHOLE == 255
