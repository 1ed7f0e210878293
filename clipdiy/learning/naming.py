"""Which foreground class is it? The text weights, moved as far as corrected regions bear it out.

With t_c the text embedding of class c, tau CLIP's logit scale and x0 the mean of the rows, a cell's logits are

    l_c(x) = tau t_c.x + tau v_c.(x - x0) + b_c

and (V, b) minimise

    sum over corrected regions of the mean cross-entropy of their rows + rho/2 |V|^2 + 1/2 |b|^2.

Convex, so that there is one answer. rho says how far the words are trusted: inf leaves them as they are.

A class without a corrected region keeps its words: v = 0, and for b what `newcomer_bias` says. So do words that compete
with the labels and are no labels themselves: the labels learn to beat them where people drew. The background is none of
the classes: foreground against background is the business of `clipdiy.learning.objectness`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipdiy.learning.evidence import CELLS, CellEmbeddings, ClassShares, draw_cells, drawing_order

ROWS_PER_REGION = 6
MOST_ROWS = 6_000  # of all regions together: with more regions, fewer cells of each
MOST_STEPS = 60
LEFT_OUT_GROUPS = 4
EMPTY = -1
LEAST_CHANCE = 1e-30
TOLERANCE = 1e-6  # nats per region, of what a step gains

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class NamingRows:
    """What the regions of some pictures say about naming.

    Attributes:
        x: (n, D) float32, embeddings of cells.
        position: (n,) int64, the class of each row, by position in the vocabulary; never 0; EMPTY for an object that
            people left to the background, so that it is one of what competes with the labels, whichever.
        region: (n,) int64, ascending from 0: which region a row was drawn from.
        picture: (n,) int64, which picture, as numbered by the caller.
    """

    x: Floats
    position: NDArray[np.int64]
    region: NDArray[np.int64]
    picture: NDArray[np.int64]

    @property
    def weight(self) -> Floats:
        """(n,) float32: each region counts once, however many cells it has."""
        sizes = np.bincount(self.region) if len(self.region) else np.zeros(0, np.int64)
        return (1 / sizes[self.region]).astype(np.float32)

    def where(self, rows: NDArray[np.bool_]) -> "NamingRows":
        """Return the chosen rows, (n,) bool; those of a region together or not at all."""
        _, region = np.unique(self.region[rows], return_inverse=True)
        return NamingRows(self.x[rows], self.position[rows], region.astype(np.int64), self.picture[rows])


@dataclass(frozen=True)
class NamingWeights:
    """What is added to the words.

    Attributes:
        positions: (K,) int64, ascending: which classes were fitted.
        residual: V, (K, D) float32, in units of text embeddings.
        bias: b, (K,) float32, in logits.
        center: x0, (D,) float32.
        newcomer: b of every other class but the background, in logits, at least 0.
    """

    positions: NDArray[np.int64]
    residual: Floats
    bias: Floats
    center: Floats
    newcomer: float = 0.0

    def logits(self, x: Floats, texts: Floats, tau: float) -> Floats:
        """Return l_c(x) of every class.

        Args:
            x: (n, D) float32.
            texts: (C, D) float32, background first.
            tau: CLIP's logit scale.

        Returns:
            (n, C) float32; the background's are the words' own.
        """
        logits = (x @ texts.T) * np.float32(tau)
        others = np.ones(len(texts), bool)
        others[self.positions] = others[0] = False
        logits[:, others] += np.float32(self.newcomer)
        logits[:, self.positions] += np.float32(tau) * ((x - self.center) @ self.residual.T) + self.bias
        return logits


def naming_rows(
    pictures: Sequence[tuple[str, CellEmbeddings, ClassShares]], empty: Sequence[NDArray[np.bool_]] | None = None
) -> NamingRows:
    """Draw cells of every corrected region, and of the objects that were left to the background.

    A region is all that a class covers in a picture. Its cells are drawn in proportion to the class's share of them.
    What was left empty in a picture is one region too.

    Args:
        pictures: Identity, embeddings and shares of each, in order.
        empty: For each picture (CELLS * CELLS,) bool: where there is an object that nobody drew; `None` where nothing
            competes with the labels that it could be.
    """
    regions = sum(position != 0 for _, _, shares in pictures for position in shares.positions)
    regions += 0 if empty is None else sum(bool(cells.any()) for cells in empty)
    count = min(ROWS_PER_REGION, max(1, MOST_ROWS // max(1, regions)))
    x: list[Floats] = []
    positions: list[int] = []
    numbers: list[int] = []
    for number, (identity, embeddings, shares) in enumerate(pictures):
        times = drawing_order(identity)
        for position, share in zip(shares.positions, shares.shares, strict=True):
            if position != 0:
                x.append(embeddings.at(draw_cells(times, share.reshape(CELLS * CELLS), count)))
                positions.append(position)
                numbers.append(number)
        if empty is not None and empty[number].any():
            x.append(embeddings.at(draw_cells(times, empty[number].astype(np.int64), count)))
            positions.append(EMPTY)
            numbers.append(number)
    sizes = [len(rows) for rows in x]
    width = pictures[0][1].crops.shape[1] if pictures else 0
    return NamingRows(
        np.concatenate(x) if x else np.zeros((0, width), np.float32),
        np.repeat(np.array(positions, np.int64), sizes),
        np.repeat(np.arange(len(sizes)), sizes),
        np.repeat(np.array(numbers, np.int64), sizes),
    )


def fit_naming(rows: NamingRows, texts: Floats, tau: float, priors: Sequence[float]) -> list[NamingWeights]:
    """Fit (V, b) for each rho.

    Newton's Hessian of the softmax is bounded by 1/2 Z'Z for every class (Böhning, 1992), with Z the rows and a 1. So
    one inverse, M = (1/2 Z' diag(w) Z + diag(rho, ..., rho, 1))^-1, serves all steps and classes, and every step goes
    down; momentum (Nesterov), dropped whenever it points uphill (O'Donoghue and Candès, 2015), makes few steps enough.

    Classes without a region are in the softmax with their words, fixed: the others learn to beat them where they are
    themselves. Free, they would only ever be the wrong answer, and every region would push them down.

    Args:
        rows: At least one row.
        texts: (C, D) float32, text embeddings by position, background first.
        tau: CLIP's logit scale.
        priors: rho of each fit, from strong to weak: each starts where the one before ended.

    Returns:
        Weights, one for each prior, without a bias for newcomers.
    """
    positions = np.unique(rows.position[rows.position != EMPTY])
    center = rows.x.mean(axis=0)
    weight = rows.weight[:, None]
    others = np.setdiff1d(np.arange(1, len(texts)), positions)
    words = np.float32(tau) * (rows.x @ texts[np.concatenate([positions, others])].T)
    if len(others):
        # Fixed, they only ever count together: in one column, which is as many as they are.
        together = log_sum(words[:, len(positions) :])
        words = np.concatenate([words[:, : len(positions)], together[:, None]], axis=1)
    z = np.concatenate([np.float32(tau) * (rows.x - center), np.ones((len(rows.x), 1), np.float32)], axis=1)
    bound = 0.5 * (z.T @ (z * weight)).astype(np.float64)
    wanted = (rows.position[:, None] == positions).astype(np.float32)
    w = np.zeros((z.shape[1], len(positions)), np.float32)
    fits = []
    for rho in priors:
        if np.isfinite(rho):
            penalty = np.append(np.full(z.shape[1] - 1, rho), 1.0)
            inverse = np.linalg.inv(bound + np.diag(penalty)).astype(np.float32)
            w = _descend(w, z, words, wanted, weight, penalty[:, None].astype(np.float32), inverse)
        fits.append(NamingWeights(positions, w[:-1].T.copy(), w[-1].copy(), center))
    return fits


def newcomer_bias(rows: NamingRows, texts: Floats, tau: float, rho: float, labels: int) -> float:
    """Say how much a class without regions has to be lifted, so that those with regions do not drown it.

    Away from the rows it was fitted to, the best of many residuals is positive by chance, and in the place of a class
    that has none nothing speaks against it. Measured by leaving classes out, a quarter at a time: on their rows, by how
    much does the best logit of the other fitted classes exceed what it was with their words? The mean over the classes,
    times the share of the vocabulary that has regions: the fewer have, the more are lifted, and the more likely is one
    of them above the right one by chance.

    Args:
        rows: At least one row.
        texts: (C, D) float32: of the labels, background first, and of what competes with them.
        tau: CLIP's logit scale.
        rho: Of the fit.
        labels: How many of the texts are labels, the background not counted.

    Returns:
        Logits, at least 0.
    """
    fitted = np.unique(rows.position[rows.position != EMPTY])
    if len(fitted) < 2 or not np.isfinite(rho):
        return 0.0
    groups = np.arange(len(fitted)) % min(LEFT_OUT_GROUPS, len(fitted))
    excess: list[float] = []
    for group in range(int(groups.max()) + 1):
        kept = fitted[groups != group]
        left = ~np.isin(rows.position, [*kept, EMPTY])
        fit = fit_naming(rows.where(~left), texts, tau, [rho])[0]
        x, position = rows.x[left], rows.position[left]
        gained = fit.logits(x, texts, tau)[:, kept].max(axis=1) - tau * (x @ texts[kept].T).max(axis=1)
        excess += [float(gained[position == c].mean()) for c in fitted[groups == group]]
    return max(0.0, float(np.mean(excess))) * len(fitted) / labels


def _descend(
    w: Floats, z: Floats, words: Floats, wanted: Floats, weight: Floats, penalty: Floats, inverse: Floats
) -> Floats:
    """Minimise from `w`, (D + 1, K); accelerated, with restarts."""
    count = w.shape[1]
    ahead, momentum = w, 1.0
    for _ in range(MOST_STEPS):
        logits = words.copy()
        logits[:, :count] += z @ ahead
        off = (softmax(logits)[:, :count] - wanted) * weight
        gradient = z.T @ off + penalty * ahead
        step = inverse @ gradient
        new = ahead - step
        moved = new - w
        if float(np.vdot(gradient, moved)) > 0:
            momentum, ahead = 1.0, new
        else:
            grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = new + np.float32((momentum - 1) / grown) * moved
            momentum = grown
        w = new
        # Half of this is what the step was sure to gain.
        if float(np.vdot(gradient, step)) <= TOLERANCE * float(weight.sum()):
            break
    return w


def log_sum(logits: Floats) -> Floats:
    """Logarithm of the sum of exponentials along the last axis, (n,) float32."""
    most = logits.max(axis=-1)
    summed: Floats = most + np.log(np.exp(logits - most[:, None]).sum(axis=-1))
    return summed


def softmax(logits: Floats) -> Floats:
    """Softmax along the last axis."""
    likely = np.exp(logits - logits.max(axis=-1, keepdims=True))
    normal: Floats = likely / likely.sum(axis=-1, keepdims=True)
    return normal


def log_loss(logits: Floats, position: NDArray[np.int64], labels: int) -> NDArray[np.float64]:
    """Return each row's negative log probability of its class, (n,) float64, the background left out.

    Args:
        logits: (n, C) float32.
        position: (n,) int64, never 0; EMPTY for any of the classes behind the labels.
        labels: How many classes are labels, the background not counted.
    """
    likely = logits[:, 1:].astype(np.float64)
    likely -= likely.max(axis=1, keepdims=True)
    likely = np.exp(likely)
    chosen = likely[np.arange(len(position)), np.maximum(position, 1) - 1]
    chosen = np.where(position == EMPTY, likely[:, labels:].sum(axis=1), chosen)
    loss: NDArray[np.float64] = np.log(likely.sum(axis=1)) - np.log(np.maximum(chosen, LEAST_CHANCE))
    return loss


def is_right(logits: Floats, position: NDArray[np.int64], labels: int) -> NDArray[np.bool_]:
    """Return where the class that is named is the right one, (n,) bool; the arguments are those of `log_loss`."""
    named = logits[:, 1:].argmax(axis=1) + 1
    right: NDArray[np.bool_] = np.where(position == EMPTY, named > labels, named == position)
    return right
