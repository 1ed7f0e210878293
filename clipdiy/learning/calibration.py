"""What is a score worth? From corrected regions on, the score shown is the IoU to be expected."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipdiy.errors import ShapeError
from clipdiy.learning.guards import FOLDS

LEAST_REGIONS = 30
LEAST_ISOTONIC_REGIONS = 100  # fewer regions make blocks that are a handful each, and their means chance
SHRINKAGE = 1.0  # of the smooth curve towards the raw score; 0.3 to 3 hardly differ
SMOOTH_KNOTS = 65
KEPT_OF_SCORE = 0.01  # of the raw score, so that no two different scores become one
ECE_BINS = 10

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A rising curve from score to expected IoU: of three numbers, or through the blocks of an isotonic regression.

    Attributes:
        knots: (score, IoU) pairs, scores ascending, IoU too; at least one.
    """

    knots: tuple[tuple[float, float], ...]

    def expected_iou(self, scores: NDArray[np.floating]) -> Doubles:
        """Return what IoU to expect, in [0, 1], of scores in [0, 1], any shape.

        Linear between the knots, constant beyond them, plus a hundredth of the score: a higher score never gets less,
        and different scores stay different, so that sorting finds what it found before.
        """
        at, value = np.array(self.knots, np.float64).T
        curve = np.interp(scores, at, value)
        expected: Doubles = (1 - KEPT_OF_SCORE) * curve + KEPT_OF_SCORE * np.asarray(scores, np.float64)
        return expected


Fit = Callable[[Doubles, Doubles], Calibration]


def isotonic(values: Doubles, weights: Doubles) -> Doubles:
    """Fit the non-decreasing sequence nearest to values in weighted least squares, by pooling adjacent violators.

    Ayer et al., 1955. Equal to `scipy.optimize.isotonic_regression`, which the tests compare it with; scipy is not part
    of what the product installs.

    Args:
        values: (n,) float64.
        weights: (n,) float64, above 0.

    Returns:
        (n,) float64.
    """
    means: list[float] = []
    masses: list[float] = []
    sizes: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        masses.append(weight)
        sizes.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            mean, mass, size = means.pop(), masses.pop(), sizes.pop()
            means[-1] = (means[-1] * masses[-1] + mean * mass) / (masses[-1] + mass)
            masses[-1] += mass
            sizes[-1] += size
    return np.repeat(np.array(means, np.float64), sizes)


def fit_smooth(scores: Doubles, ious: Doubles) -> Calibration:
    """Fit IoU as a smooth rising function of the score, close to the score itself where little is known.

    Beta calibration (Kull et al., 2017): logit(IoU) = a log(s) - b log(1 - s) + c with a, b >= 0, by cross-entropy with
    the IoU as a soft target, and SHRINKAGE / 2 times the squared distance of (a, b, c) from (1, 1, 0), where the curve
    is the score. Newton's method with halved steps.

    Args:
        scores: (n,) float64 in [0, 1].
        ious: (n,) float64 in [0, 1].
    """
    raw = np.array([1.0, 1.0, 0.0])
    free = np.array([True, True, True])
    known = _odds(scores)
    while True:
        found = raw * free
        for _ in range(50):
            promised = _sigmoid(known @ found)
            slope = known.T @ (promised - ious) + SHRINKAGE * (found - raw)
            curvature = (known * (promised * (1 - promised))[:, None]).T @ known + SHRINKAGE * np.eye(3)
            step = np.zeros(3)
            step[free] = np.linalg.solve(curvature[np.ix_(free, free)], slope[free])
            before = _loss(found, known, ious, raw)
            while np.abs(step).max() > 1e-9 and _loss(found - step, known, ious, raw) > before:
                step /= 2
            found = found - step
            if np.abs(step).max() <= 1e-9:
                break
        falling = free & (found < 0) & np.array([True, True, False])
        if not falling.any():
            break
        free &= ~falling  # at 0 instead, and the others anew
    at: Doubles = np.linspace(0, 1, SMOOTH_KNOTS, dtype=np.float64)
    return Calibration(tuple(zip(at.tolist(), _sigmoid(_odds(at) @ found).tolist(), strict=True)))


def _odds(scores: Doubles) -> Doubles:
    """Return log(s), -log(1 - s) and 1 of each score, (n, 3); scores beyond 0.01 and 0.99 count as these."""
    inside = np.clip(scores, 0.01, 0.99)
    return np.stack([np.log(inside), -np.log(1 - inside), np.ones_like(inside)], axis=1)


def _sigmoid(logits: Doubles) -> Doubles:
    result: Doubles = 1 / (1 + np.exp(-logits))
    return result


def _loss(found: Doubles, known: Doubles, ious: Doubles, raw: Doubles) -> float:
    logits = known @ found
    return float((np.logaddexp(0, logits) - ious * logits).sum() + SHRINKAGE / 2 * ((found - raw) ** 2).sum())


def fit_isotonic(scores: Doubles, ious: Doubles) -> Calibration:
    """Fit IoU as a non-decreasing function of the score, of any shape.

    Args:
        scores: (n,) float64 in [0, 1], n >= 1.
        ious: (n,) float64 in [0, 1]: what became of the regions that had them.
    """
    at, number, count = np.unique(scores, return_inverse=True, return_counts=True)
    mean = np.bincount(number, ious) / count
    fitted = isotonic(mean, count.astype(np.float64))
    _, block = np.unique(fitted, return_inverse=True)
    centers = np.bincount(block, at * count) / np.bincount(block, count)
    return Calibration(tuple(zip(centers.tolist(), np.unique(fitted).tolist(), strict=True)))


def calibrate(scores: Doubles, ious: Doubles, pictures: NDArray[np.int64]) -> Calibration | None:
    """Learn what scores are worth, if there is enough to learn from and it holds on pictures left out.

    Args:
        scores: (n,) float64 in [0, 1], raw scores of predicted regions, by the method in use now.
        ious: (n,) float64 in [0, 1], IoU of each with what the person kept; 0 for a region that was deleted.
        pictures: (n,) int64, which picture each region is of, numbered in an order that does not depend on when they
            came (that of `clipdiy.learning.evidence.in_order`): pictures are dealt to folds by it.

    Returns:
        The curve; `None`, for the raw score, with fewer than LEAST_REGIONS regions or two pictures, or if curves fitted
        on four fifths of the pictures were further from the IoU of the others than the raw score is, by more than a
        standard error: a smooth curve is near the raw score where little is known, and that is most of its guard. From
        LEAST_ISOTONIC_REGIONS regions on an isotonic one if that is nearer than both.

    Raises:
        ShapeError: If the lengths differ, or a value is outside [0, 1].
    """
    if not scores.shape == ious.shape == pictures.shape or scores.ndim != 1:
        raise ShapeError(f"one score, IoU and picture per region, got {scores.shape}, {ious.shape}, {pictures.shape}")
    for name, values in (("scores", scores), ("IoU", ious)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ShapeError(f"{name} lie in [0, 1]")
    _, number = np.unique(pictures, return_inverse=True)
    if len(scores) < LEAST_REGIONS or number.max() < 1:
        return None

    def held_out(fit: Fit) -> Doubles:
        errors: Doubles = (cross_validated(scores, ious, number.astype(np.int64), fit) - ious) ** 2
        return errors

    raw, smooth = (scores - ious) ** 2, held_out(fit_smooth)
    if len(scores) >= LEAST_ISOTONIC_REGIONS and held_out(fit_isotonic).mean() < min(smooth.mean(), raw.mean()):
        return fit_isotonic(scores, ious)
    worse = smooth - raw
    if worse.mean() > worse.std(ddof=1) / len(worse) ** 0.5:
        return None
    return fit_smooth(scores, ious)


def cross_validated(scores: Doubles, ious: Doubles, pictures: NDArray[np.int64], fit: Fit) -> Doubles:
    """Return the IoU to be expected of each region, by a curve fitted without its picture's fold, (n,) float64.

    Args:
        scores: As for `calibrate`.
        ious: As for `calibrate`.
        pictures: (n,) int64, from 0, at least two different ones.
        fit: Makes a curve of scores and IoUs.
    """
    fold = pictures % min(FOLDS, int(pictures.max()) + 1)
    expected = np.empty(len(scores))
    for held_out in (fold == f for f in np.unique(fold)):
        expected[held_out] = fit(scores[~held_out], ious[~held_out]).expected_iou(scores[held_out])
    return expected


def calibration_error(expected: Doubles, actual: Doubles) -> float:
    """Return the expected calibration error: how far promise and truth are apart, on average, in ECE_BINS equal bins.

    Args:
        expected: (n,) float64 in [0, 1]; bins hold equally many regions, from the lowest to the highest.
        actual: (n,) float64 in [0, 1].

    Returns:
        In [0, 1]; NaN without regions.
    """
    if not len(expected):
        return float("nan")
    order = np.argsort(expected, kind="stable")
    bins = np.array_split(order, min(ECE_BINS, len(order)))
    apart = [abs(float(expected[b].mean() - actual[b].mean())) * len(b) for b in bins]
    return sum(apart) / len(order)
