"""Scores by hand. On real pictures they are held by tests/unit/benchmarks/test_scores.py."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_grids

from clipdiy.aggregate import mean_similarity
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.scores import class_scores, picture_score


class TestScores:
    """Held on real pictures by tests/unit/benchmarks/test_scores.py."""

    def scores(self, cosines, likely=(0.9, 0.1), logit_scale=20.0):
        """Score two halves: the left is an object with probability `likely[0]`, the right with `likely[1]`."""
        grid = torch.tensor(cosines).reshape(-1, 1, 1)
        half = torch.tensor([likely[0], likely[0], likely[1], likely[1]]).expand(4, 4)
        return class_scores((grid,), ObjectnessMap(half, False, (4.0, 4.0)), logit_scale)

    def test_by_hand(self):
        # One class and nothing beside it: its probability is objectness, or a softmax of two.
        grids = (torch.tensor([0.2, 0.2]).reshape(2, 1, 1),)
        left = class_scores(grids, ObjectnessMap(torch.full((1, 1), 0.9), False, (1.0, 1.0)), 20.0)
        torch.testing.assert_close(left, torch.tensor([0.0, 0.9]), atol=1e-3, rtol=0)
        without = class_scores((torch.tensor([0.1, 0.2]).reshape(2, 1, 1),), None, 20.0)
        sigmoid = 1 / (1 + math.exp(-0.1 * 20 * 2))
        torch.testing.assert_close(without, torch.tensor([0.0, sigmoid]), atol=1e-3, rtol=0)

    def test_stuff_shares_the_backgrounds_part(self):
        grids = (torch.tensor([0.2, 0.25, 0.2]).reshape(3, 1, 1),)
        there = ObjectnessMap(torch.full((1, 1), 0.1), False, (1.0, 1.0))
        share = 1 / (1 + math.exp(-0.05 * 20 * 2))  # of the two on that side
        scores = class_scores(grids, there, 20.0, ground=2)
        torch.testing.assert_close(scores, torch.tensor([0.0, 0.9 * share, 0.0]), atol=1e-3, rtol=0)

    def test_others_are_part_of_the_background(self):
        # Left of the middle the label is the best, right of it what competes with it: there nothing is drawn.
        grid = torch.tensor([[[0.0, 0.0]], [[0.3, 0.1]], [[0.1, 0.3]], [[0.05, 0.2]]])
        there = ObjectnessMap(torch.full((1, 1), 0.9), False, (1.0, 1.0))
        scores = class_scores((grid,), there, 20.0, drawn=2)
        similarity = mean_similarity((grid,), (64, 64))
        likely = 0.9 * (similarity[1:] * 40).softmax(dim=0)
        label, other = likely[0].flatten(), 0.1 + likely[1:].sum(dim=0).flatten()
        wins = (similarity[1:].argmax(dim=0) == 0).flatten()
        assert 0 < wins.sum() < 64 * 64
        expected = [other[~wins].sum() / ((~wins).sum() + other[wins].sum())]
        expected += [label[wins].sum() / (wins.sum() + label[~wins].sum())]
        torch.testing.assert_close(scores, torch.stack(expected), atol=1e-4, rtol=0)

    def test_without_others_nothing_is_merged(self):
        grids = random_grids(3, 4)
        torch.testing.assert_close(class_scores(grids, None, 20.0, drawn=4), class_scores(grids, None, 20.0))

    def test_rises_with_the_lead_over_the_next_class(self):
        scores = [float(self.scores([0.2, 0.3, rival])[1]) for rival in (0.29, 0.25, 0.2, 0.1)]
        assert scores == sorted(scores)
        assert scores[0] < scores[-1] - 0.2

    def test_rises_with_objectness_inside_and_falls_with_it_outside(self):
        inside = [float(self.scores([0.2, 0.3, 0.1], (likely, 0.1))[1]) for likely in (0.6, 0.7, 0.8, 0.99)]
        outside = [float(self.scores([0.2, 0.3, 0.1], (0.9, likely))[1]) for likely in (0.01, 0.1, 0.2, 0.3)]
        assert inside == sorted(inside)
        assert outside == sorted(outside, reverse=True)

    @given(
        seed=st.integers(0, 1000),
        classes=st.integers(2, 6),
        guided=st.booleans(),
        exponent=st.integers(0, 8),
        all_stuff=st.booleans(),
    )
    @settings(max_examples=40)
    def test_range(self, seed, classes, guided, exponent, all_stuff):
        grids = random_grids(seed, classes)
        objectness = ObjectnessMap(torch.randn(5, 4) * 10, True, (5.0, 4.0)) if guided else None
        score = class_scores(grids, objectness, 10.0**exponent, ground=classes if all_stuff else 1)
        assert score.shape == (classes,)
        assert score.isfinite().all()
        assert (score >= 0).all()
        assert (score <= 1).all()

    def test_a_picture_is_the_mean_of_its_masks(self):
        scores = torch.tensor([0.9, 0.2, 0.4, 0.0])
        assert picture_score(scores, torch.tensor([True, True, True, False])) == pytest.approx(0.3)
        assert picture_score(scores, torch.tensor([True, False, False, False])) == pytest.approx(0.9)
