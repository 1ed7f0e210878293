"""Is a fit better than the words on pictures that it did not see? Else it is not used.

The guards see figures of held-out pictures only, and bound what was held out: not a future that looks different.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEAVE_ONE_OUT_UP_TO = 10  # pictures; above, FOLDS
FOLDS = 5
FEW_PICTURES = range(3, 25)
SURENESS = 0.5  # standard errors
LEAST_NAMED_BETTER = 0.02  # share of held-out cells
GOOD_WORDS = 0.6  # log loss of the words: the right label has a probability of 0.55 in the geometric mean
LEAST_OF_LOSS = 0.1  # share of the words' log loss
LEAST_MEAN_GAIN = 0.05  # IoU
LEAST_GAIN_OF_FEW = 0.10
LEAST_POOLED_GAIN = 0.01
LEAST_EACH_OF_TWO = 0.05
LEAST_OF_ONE_OR_TWO = 0.10

Doubles = NDArray[np.float64]

# From so many pictures on, rho may be as small as this.
_WEAKEST = ((25, 0.3), (10, 3.0), (5, 10.0), (3, 30.0), (2, 100.0))
# One-sided 97.5 % quantiles of Student's t with 2, 3, ... degrees of freedom.
_T975 = (4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


def deal_folds(count: int) -> NDArray[np.int64]:
    """Deal pictures, in the order of the hash of their identities, to folds.

    Every picture has a fold of its own as long as that is affordable: with few pictures a fifth of them is too much to
    do without, and what is left out then says little about what would be learned from all.

    Returns:
        (count,) int64, fold of each picture.
    """
    folds = count if count <= LEAVE_ONE_OUT_UP_TO else FOLDS
    return np.arange(count, dtype=np.int64) % max(1, folds)


def means_by(values: Doubles, group: NDArray[np.int64]) -> Doubles:
    """Average the last axis over groups: (..., n) and (n,) to (..., groups), groups ascending."""
    _, number, sizes = np.unique(group, return_inverse=True, return_counts=True)
    onto = np.zeros((len(group), len(sizes)))
    onto[np.arange(len(group)), number] = 1
    means: Doubles = values @ onto / sizes
    return means


def standard_error(values: Doubles) -> float:
    """Return the standard error of a mean; inf for fewer than two values."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf")


def weakest_prior(count: int) -> float:
    """Return how small rho may be with `count` corrected pictures.

    Few held-out pictures cannot tell a fit that is right from one that is right on them: what was gained by a weak
    prior on five pictures was paid back on others, and a strong one gains nearly as much.
    """
    return next((rho for pictures, rho in _WEAKEST if count >= pictures), float("inf"))


def choose_prior(loss: Doubles, right: Doubles, region: NDArray[np.int64], picture: NDArray[np.int64]) -> int:
    """Choose how strongly the words are trusted, by what was held out.

    The strongest prior whose log loss is within SURENESS standard errors of the best one's (of the paired difference),
    among those that name enough of the cells right; and only if it gains enough over the words. Standard errors count
    pictures, not cells. Enough is:

    - names: LEAST_NAMED_BETTER more of the cells right than the words; gain: more than SURENESS standard errors;
    - with FEW_PICTURES besides: a gain of more than LEAST_OF_LOSS of what the words lose, as less cannot be told from
      chance there;
    - with FEW_PICTURES where the words are not good (a log loss of GOOD_WORDS or more), only that, and no fewer names.
      `weakest_prior` keeps every fit so near to the words that it can do little harm beside what is to be gained: this
      gives early gains.

    Args:
        loss: (priors, n) float64, log loss of held-out rows. The first prior is the words alone, then from strong to
            weak.
        right: (priors, n) float64, 1 where the row's class was named.
        region: (n,) int64, region of each row; regions count alike, as in the fit.
        picture: (n,) int64, picture of each row.

    Returns:
        Which prior; 0 keeps the words.
    """
    first = np.unique(region, return_index=True)[1]
    loss, right = means_by(loss, region), means_by(right, region)
    by_picture = means_by(loss, picture[first])
    if by_picture.shape[1] < 2:
        return 0
    words_loss = float(by_picture[0].mean())
    few = by_picture.shape[1] in FEW_PICTURES
    is_early = few and words_loss >= GOOD_WORDS
    named_better = right.mean(axis=1) - right[0].mean() >= (0 if is_early else LEAST_NAMED_BETTER)
    best = int(by_picture.mean(axis=1).argmin())
    for prior in range(1, len(loss)):
        behind = by_picture[prior] - by_picture[best]
        if named_better[prior] and behind.mean() <= SURENESS * standard_error(behind) + 1e-12:
            gain = by_picture[0] - by_picture[prior]
            sure = 0.0 if is_early else SURENESS * standard_error(gain)
            return prior if gain.mean() > max(sure, LEAST_OF_LOSS * words_loss if few else 0.0) else 0
    return 0


def objectness_is_better(before: Doubles, after: Doubles) -> bool:
    """Say whether a corrected rule finds foreground better than the paper's.

    From three pictures on: a one-sided paired t-test at 97.5 % on the pictures' IoU, a mean gain of LEAST_MEAN_GAIN (of
    FEW_PICTURES: LEAST_GAIN_OF_FEW, as what looks sure there may be chance, and what helps gains more) and more than
    LEAST_POOLED_GAIN of all cells pooled. Two pictures: LEAST_EACH_OF_TWO each and LEAST_OF_ONE_OR_TWO in the
    mean. One picture, where there is nothing to hold out: LEAST_OF_ONE_OR_TWO in sample. Without the test, one set of
    pictures went from an IoU of 46 to 0.2.

    Args:
        before: (N, 2) float64, intersection and union of each picture by the paper's rule.
        after: (N, 2) float64, the same by the corrected rule.
    """
    gain = iou(after) - iou(before)
    if len(gain) == 0:
        return False
    if len(gain) < 3:
        enough_each = len(gain) == 1 or float(gain.min()) >= LEAST_EACH_OF_TWO
        return enough_each and float(gain.mean()) >= LEAST_OF_ONE_OR_TWO
    pooled = float((iou(after.sum(axis=0, keepdims=True)) - iou(before.sum(axis=0, keepdims=True)))[0])
    sure = float(gain.mean()) > t975(len(gain) - 1) * standard_error(gain)
    least = LEAST_GAIN_OF_FEW if len(gain) in FEW_PICTURES else LEAST_MEAN_GAIN
    return sure and float(gain.mean()) >= least and pooled > LEAST_POOLED_GAIN


def iou(counts: Doubles) -> Doubles:
    """Divide (N, 2) intersections and unions; 1 where there is neither truth nor answer."""
    inside, union = counts[:, 0], counts[:, 1]
    return np.where(union > 0, inside / np.maximum(union, 1e-12), 1.0)


def t975(freedom: int) -> float:
    """Return the one-sided 97.5 % quantile of Student's t, for at least 2 degrees of freedom; to 0.001.

    Above the table by its expansion around the normal quantile (Abramowitz and Stegun, 26.7.5).
    """
    if freedom - 2 < len(_T975):
        return _T975[freedom - 2]
    z = 1.959964
    terms: Sequence[float] = (
        z,
        (z**3 + z) / 4 / freedom,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96 / freedom**2,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 / freedom**3,
    )
    return sum(terms)
