"""Is it foreground at all? The paper's rule, corrected where people drew and where they did not.

The paper compares max_c s_c o with s_0 (1 - o). For positive cosines (here floored at LEAST_COSINE) that is exactly

    z = logit(o) + log(max_c s_c / s_0) > 0.

Adapted: z + F.theta - shift > 0, with F = [logit(o), log(max_c s_c / s_0), 1], or these and 3 x(p). theta minimises the
cross-entropy of sigmoid(z + F.theta) against the true share of foreground in each cell, plus 1/2 |theta|^2: logistic
regression with the paper's rule as its offset. The cosines s are those of the words, whatever naming has learned.

Labels that are stuff are on the background's side: s_0 is the best cosine of it and of them (see `clipdiy.guide`).

Another method has another rule of its own; it is handed in (`ForegroundRule`), and corrected in the same way.

Where a class without examples is named, the paper's rule stays: in a project whose people left some objects to the
background, the fit learns that these are none, and a label that is added for them later must not be drowned by that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clipdiy.learning.evidence import (
    CELLS,
    WHOLE,
    CellEmbeddings,
    ClassShares,
    draw_cells,
    drawing_order,
)

LEAST_COSINE = 0.02
LEAST_CHANCE = 1e-4  # objectness is kept this far from 0 and 1 before its logit is taken
EMBEDDING_SCALE = 3.0
RULE_TERMS = 3
CELLS_PER_PICTURE = 256
MOST_ROWS = 20_000  # of all pictures together: with more pictures, fewer cells of each
PICTURE_WEIGHT = 50.0
NEWTON_STEPS = 30
DECREMENT = 1e-6

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class ForegroundRule(Protocol):
    """By which a method tells objects, as the sum of two terms that a fit can weigh."""

    def __call__(self, cosines: Floats, objects: Floats, ground: Floats, objectness: Doubles) -> Doubles:
        """Return (n, 2) float64; an object is told where their sum is above 0.

        Args:
            cosines: (n, C) float32, with the words of every class.
            objects: (n,) float32, the best of them that is an object.
            ground: (n,) float32, the best of them on the background's side.
            objectness: (n,) float64 logits, at most `logit(1 - LEAST_CHANCE)` from 0.
        """


@dataclass(frozen=True)
class ObjectnessEvidence:
    """What one picture says about foreground, cell by cell.

    Attributes:
        identity: Names the picture.
        rule: (CELLS * CELLS, 2) float64: logit(o) and the log-margin of the words, or what another method's rule gives;
            z is their sum.
        named: (CELLS * CELLS,) int64: the best object by the words, never 0 or stuff; the first of what competes with
            the labels stands for all of that.
        embeddings: x(p).
        target: (CELLS * CELLS,) float64 in [0, 1]: share of foreground in what is known of a cell.
        known: (CELLS * CELLS,) float64 in [0, 1]: how much of a cell is known.
        rival: (CELLS * CELLS,) float32: cosine with the best of what competes with the labels; `None` if nothing does.
    """

    identity: str
    rule: Doubles
    named: NDArray[np.int64]
    embeddings: CellEmbeddings
    target: Doubles
    known: Doubles
    rival: Floats | None = None

    @property
    def left_empty(self) -> NDArray[np.bool_]:
        """(CELLS * CELLS,) bool: where the paper's rule sees an object, and the person left the whole cell without."""
        empty: NDArray[np.bool_] = (self.rule.sum(axis=1) > 0) & (self.target == 0) & (self.known > 0)
        return empty


@dataclass(frozen=True)
class ObjectnessWeights:
    """How the rule is corrected.

    Attributes:
        theta: (3,) or (3 + D,) float64: for logit(o), the log-margin, 1 and 3 x(p).
        shift: What z + F.theta has to exceed.
    """

    theta: Doubles
    shift: float

    def scores(self, evidence: ObjectnessEvidence) -> Doubles:
        """Return z + F.theta - shift of every cell, (CELLS * CELLS,) float64; foreground where it is above 0.

        Of every cell alike: it is for the caller to keep the paper's rule where a class without examples is named.
        """
        scores: Doubles = evidence.rule @ (1 + self.theta[:2]) + self.theta[2] - self.shift
        if len(self.theta) > RULE_TERMS:
            weights = (EMBEDDING_SCALE * self.theta[RULE_TERMS:, None]).astype(np.float32)
            scores = scores + evidence.embeddings.dot(weights)[:, 0]
        return scores


def objectness_evidence(
    identity: str,
    embeddings: CellEmbeddings,
    objectness: NDArray[np.float32] | None,
    shares: ClassShares,
    texts: NDArray[np.float32],
    stuff: Sequence[int] = (),
    *,
    competing: int = 0,
    told_by: ForegroundRule | None = None,
) -> ObjectnessEvidence:
    """Lay the method's rule and the truth beside each other.

    Args:
        identity: Names the picture.
        embeddings: Of its cells.
        objectness: (CELLS * CELLS,) float32 in [0, 1]; `None` counts as 1/2 everywhere, which leaves Eq. 3 out.
        shares: What the person left.
        texts: (C, D) float32, background first, what competes with the labels last.
        stuff: Positions of labels that are stuff: they are not foreground, and s_0 is the best of the background's
            side. Something else has to be left.
        competing: How many of the texts, the last ones, are what competes with the labels.
        told_by: The rule; the paper's if left out.
    """
    count = len(texts) - competing
    ground = np.array([0, *stuff])
    objects = np.setdiff1d(np.arange(count), ground)
    # The words are laid out as they are: a thousand of them turned, or chosen by position, cost more than the product.
    cosines = embeddings.dot(texts.T)
    best: Floats = np.full(CELLS * CELLS, -np.inf, np.float32)
    named: NDArray[np.int64] = np.full(CELLS * CELLS, count)
    rival: Floats | None = None
    if len(objects):
        labels = cosines[:, objects]
        best, named = labels.max(axis=1), objects[labels.argmax(axis=1)]
    if competing:
        rival = cosines[:, count:].max(axis=1)
        best, named = np.maximum(best, rival), np.where(rival > best, count, named)
    lowest = cosines[:, ground].max(axis=1)
    chance = np.full(CELLS * CELLS, 0.5) if objectness is None else objectness.astype(np.float64)
    rule = (told_by or published_rule)(cosines, best, lowest, logit(chance))
    covered = shares.shares.reshape(-1, CELLS * CELLS).astype(np.float64) / WHOLE
    is_drawn = ~np.isin(np.array(shares.positions, np.int64), ground)
    known = covered.sum(axis=0)
    target = covered[is_drawn].sum(axis=0) / np.maximum(known, 1e-9)
    return ObjectnessEvidence(identity, rule, named, embeddings, target.clip(0, 1), known.clip(0, 1), rival)


def published_rule(_cosines: Floats, objects: Floats, ground: Floats, objectness: Doubles) -> Doubles:
    """Return logit(o) and the log-margin of the words: the paper's `ForegroundRule`."""
    best, lowest = (np.maximum(side.astype(np.float64), LEAST_COSINE) for side in (objects, ground))
    return np.stack([objectness, np.log(best / lowest)], axis=1)


def logit(chance: Doubles) -> Doubles:
    """Return log(p / (1 - p)), p kept `LEAST_CHANCE` away from 0 and 1."""
    inside = chance.clip(LEAST_CHANCE, 1 - LEAST_CHANCE)
    odds: Doubles = np.log(inside / (1 - inside))
    return odds


def fit_objectness(pictures: Sequence[ObjectnessEvidence], *, with_embedding: bool) -> Doubles:
    """Fit theta: soft cross-entropy with the paper's z as offset, by Newton's method with step halving.

    Plain Newton diverges from an offset that is far off; a step that does not lower the loss is halved until it does.

    Args:
        pictures: At least one.
        with_embedding: Whether 3 x(p) takes part.

    Returns:
        (3,) or (3 + D,) float64.
    """
    rows, offset, target, weight = _rows(pictures, with_embedding=with_embedding)
    theta: Doubles = np.zeros(rows.shape[1])
    score, loss = offset, _loss(offset, target, weight)
    for _ in range(NEWTON_STEPS):
        likely = 1 / (1 + np.exp(-score.clip(-60, 60)))
        gradient = (rows.T @ (weight * (likely - target)).astype(np.float32)).astype(np.float64) + theta
        # A matrix with its own transpose: half of the work, and in float32 an eighth.
        curved = rows * np.sqrt(weight * likely * (1 - likely)).astype(np.float32)[:, None]
        hessian = (curved.T @ curved).astype(np.float64) + np.eye(len(theta))
        step: Doubles = np.linalg.solve(hessian, gradient)
        if gradient @ step < DECREMENT * max(1.0, loss):
            break
        size = 1.0
        along = (rows @ step.astype(np.float32)).astype(np.float64)
        while size > 1e-6:
            new = theta - size * step
            new_loss = _loss(score - size * along, target, weight) + 0.5 * float(new @ new)
            if new_loss < loss:
                break
            size /= 2
        else:
            break
        theta, score, loss = new, score - size * along, new_loss
    return theta


def foreground_iou(scores: Doubles, evidence: ObjectnessEvidence) -> tuple[float, float]:
    """Count cells in which foreground is told and true.

    Args:
        scores: (CELLS * CELLS,) float64, foreground where above 0.
        evidence: The picture's truth; a cell is foreground where most of what is known of it is.

    Returns:
        Intersection and union, in cells, each weighted by how much of it is known.
    """
    told, true = scores > 0, evidence.target > 0.5
    return float(evidence.known[told & true].sum()), float(evidence.known[told | true].sum())


def _rows(pictures: Sequence[ObjectnessEvidence], *, with_embedding: bool) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Draw the cells that the fit sees: features, offset, target, weight."""
    count = min(CELLS_PER_PICTURE, max(1, MOST_ROWS // len(pictures)))
    rows, offsets, targets, weights = [], [], [], []
    for picture in pictures:
        cells = draw_cells(drawing_order(picture.identity), np.ceil(picture.known * WHOLE).astype(np.int64), count)
        rule = picture.rule[cells]
        parts = [rule.astype(np.float32), np.ones((len(cells), 1), np.float32)]
        if with_embedding:
            parts.append(np.float32(EMBEDDING_SCALE) * picture.embeddings.at(cells))
        rows.append(np.concatenate(parts, axis=1))
        offsets.append(rule.sum(axis=1))
        targets.append(picture.target[cells])
        weights.append(np.full(len(cells), PICTURE_WEIGHT / max(1, len(cells))))
    return np.concatenate(rows), np.concatenate(offsets), np.concatenate(targets), np.concatenate(weights)


def _loss(score: Doubles, target: Doubles, weight: Doubles) -> float:
    """Return the weighted cross-entropy of sigmoid(score) against a share."""
    return float(weight @ (np.logaddexp(0, score) - target * score))
