"""Scores are for sorting: what is scored low is worse, on scenes with the starter weights."""

import numpy as np
import pytest

from benchmarks.scores import ious, measure, spearman
from clipdiy.build import build_segmenter
from clipdiy.weights import STARTER_DIR


def test_ious():
    truth, answer = np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 3]])
    np.testing.assert_allclose(ious(truth, answer, 5), [1 / 2, 1 / 3, np.nan, 0, np.nan])


def test_spearman():
    assert spearman([1, 2, 3], [10, 20, 400]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 2, 3], [1, 1, 5, 5]) == pytest.approx(4 / 18**0.5)  # ranks 1.5 1.5 3 4 and 1.5 1.5 3.5 3.5


@pytest.mark.skipif(not (STARTER_DIR / "clip").is_dir(), reason="needs the starter weights, and this checkout has none")
def test_scores_rank_pictures_and_masks_by_how_good_they_are():
    measured = measure(build_segmenter("starter"), range(50_000, 50_040))
    assert spearman((one.score for one in measured), (one.miou for one in measured)) >= 0.4
    scores, truths = zip(*(region for one in measured for region in one.regions), strict=True)
    assert spearman(scores, truths) >= 0.4
