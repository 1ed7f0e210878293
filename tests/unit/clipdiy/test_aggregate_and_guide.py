"""Eq. 1 to 4 in strips against the plain reading: upsample every map to full size, average, guide, argmax."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from clipdiy import guide as guide_room
from clipdiy.aggregate import bilinear_matrix, bilinear_samples, grid_similarity, mean_similarity, similarity_field
from clipdiy.errors import ShapeError
from clipdiy.guide import (
    Candidates,
    class_scores,
    full_label_map,
    guide,
    picture_score,
    square_label_map,
    strip_label_map,
)
from clipdiy.objectness.found import ObjectnessMap


def random_grids(seed, classes, sides=(1, 3, 7)):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(classes, side, side, generator=generator) * 0.4 for side in sides)


def naive(grids, objectness, size_hw):
    maps = torch.stack(
        [F.interpolate(grid[None], size_hw, mode="bilinear", align_corners=False)[0] for grid in grids]
    ).mean(dim=0)
    if objectness is not None:
        logits = F.interpolate(objectness.grid[None, None], size_hw, mode="bilinear", align_corners=False)[0, 0]
        maps = guide(maps, logits.sigmoid())
    return maps


@pytest.mark.parametrize(
    ("size_out", "size_in"), [(256, 7), (1, 1), (5, 1), (333, 3), (3, 7)], ids=lambda value: str(value)
)
def test_bilinear_matrix_is_interpolate(size_out, size_in):
    samples = torch.rand(1, 1, size_in)
    expected = F.interpolate(samples, size_out, mode="linear", align_corners=False)[0, 0]
    torch.testing.assert_close(bilinear_matrix(size_out, size_in) @ samples[0, 0], expected, atol=1e-6, rtol=0)


def test_extent_reads_only_the_part_that_lies_in_the_photo():
    # 20 px of image on a grid of 3 cells of 8 px: upsample by 8 and cut off the last 4 px.
    samples = torch.tensor([1.0, 2.0, 4.0])
    expected = F.interpolate(samples[None, None], scale_factor=8, mode="linear", align_corners=False)[0, 0, :20]
    lower, upper, share = bilinear_samples(20, 3, 20 / 8)
    torch.testing.assert_close(torch.lerp(samples[lower], samples[upper], share), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size_hw", [(256, 256), (1, 1), (37, 91), (300, 4)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_mean_similarity(size_hw):
    grids = random_grids(0, 4)
    torch.testing.assert_close(mean_similarity(grids, size_hw), naive(grids, None, size_hw), atol=1e-6, rtol=0)


def test_rows_are_rows_of_the_whole():
    grids = random_grids(1, 3)
    field = similarity_field(grids, (40, 30))
    torch.testing.assert_close(field.rows(7, 19), mean_similarity(grids, (40, 30))[:, 7:19])


def test_no_scale():
    with pytest.raises(ShapeError):
        similarity_field([], (4, 4))


def test_embeddings_of_two_models():
    with pytest.raises(ShapeError, match="different CLIP models"):
        grid_similarity([torch.ones(1, 1, 8)], torch.ones(2, 9))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 40),
    size_hw=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    with_objectness=st.booleans(),
)
def test_label_map_in_strips_is_the_plain_reading(seed, classes, size_hw, with_objectness):
    grids = random_grids(seed, classes)
    grid = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed)) * 2
    objectness = ObjectnessMap(grid, True, (5.0, 6.0)) if with_objectness else None
    expected = naive(grids, objectness, size_hw)
    labels = full_label_map(grids, objectness, size_hw).long()
    # Where two classes are equal to the last bit either may be named.
    best = expected.max(dim=0).values
    named = expected.gather(0, labels[None])[0]
    assert (best - named).max() <= 1e-5
    assert (labels == expected.argmax(dim=0)).float().mean() >= 0.99


@pytest.mark.parametrize(("blocks", "least"), [(1, 1), (3, 1), (16, 1), (1000, 1)], ids=str)
def test_blocks_of_any_size_give_the_same(monkeypatch, blocks, least):
    grids, objectness = random_grids(3, 9), ObjectnessMap(torch.randn(4, 4), True, (4.0, 4.0))
    whole = full_label_map(grids, objectness, (50, 61))
    monkeypatch.setattr(guide_room, "BLOCKS", blocks)
    monkeypatch.setattr(guide_room, "LEAST_BLOCK_PX", least)
    assert torch.equal(full_label_map(grids, objectness, (50, 61)), whole)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(3, 60), sides=st.sampled_from([(1, 3, 7), (7,), (3, 15), (1,)]))
def test_candidates_hold_every_winner(seed, classes, sides):
    grids = random_grids(seed, classes, sides)
    size_hw = (331, 217)
    ends = [0, 100, 110, 331], [0, 1, 90, 217]
    blocks = Candidates(grids).by_block(*ends, size_hw)
    winners = naive(grids, None, size_hw)[1:].argmax(dim=0) + 1
    for i, row in enumerate(blocks):
        for j, kept in enumerate(row):
            block = winners[ends[0][i] : ends[0][i + 1], ends[1][j] : ends[1][j + 1]]
            assert set(block.unique().tolist()) <= set(kept)


def test_hopeless_classes_are_no_candidates():
    grids = random_grids(5, 30)
    hopeless = tuple(torch.cat([grid, torch.full((100, *grid.shape[1:]), -0.5)]) for grid in grids)
    [[kept]] = Candidates(hopeless).by_block([0, 300], [0, 300], (300, 300))
    assert max(kept) < 30


def test_a_class_that_wins_only_between_two_others_is_found():
    # A best at the left, B at the right, C nowhere on the nodes but in the middle.
    grids = (torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.8, 0.8]]).reshape(4, 1, 2),)
    assert set(full_label_map(grids, None, (1, 200)).unique().tolist()) == {1, 2, 3}


@pytest.mark.parametrize("strip_values", [1, 4000, 1_000_000])
@pytest.mark.parametrize("with_objectness", [True, False])
def test_the_way_of_a_gpu_gives_the_same(strip_values, with_objectness):
    grids = random_grids(4, 9)
    objectness = ObjectnessMap(torch.randn(4, 4), True, (4.0, 4.0)) if with_objectness else None
    blocks = full_label_map(grids, objectness, (50, 61))
    strips = strip_label_map(grids, objectness, (50, 61), strip_values)
    assert strips.dtype == blocks.dtype
    # The two add up in another order.
    assert (strips == blocks).float().mean() > 0.999


def test_a_tie_goes_to_the_background():
    grids = (torch.full((3, 1, 1), 0.2),)
    assert full_label_map(grids, None, (2, 2)).tolist() == [[0, 0], [0, 0]]
    assert square_label_map(grids, None, (2, 2), 4).tolist() == [[0, 0], [0, 0]]


def test_guide_by_hand():
    similarity = torch.tensor([0.2, 0.3, -0.1]).reshape(3, 1, 1)
    guided = guide(similarity, torch.tensor([[0.75]]))
    torch.testing.assert_close(guided.flatten(), torch.tensor([0.05, 0.225, -0.075]))


def test_guide_refuses_other_sizes():
    with pytest.raises(ShapeError):
        guide(torch.zeros(2, 3, 3), torch.zeros(3, 4))


def test_published_way_takes_the_nearest_pixel():
    # Left half class 1, right half class 2, on a 4 px square, brought to 8 x 2.
    grids = (torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).reshape(3, 1, 2).expand(3, 2, 2).contiguous(),)
    assert square_label_map(grids, None, (2, 8), 4).tolist() == [[1, 1, 1, 1, 2, 2, 2, 2]] * 2


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

    def test_rises_with_the_lead_over_the_next_class(self):
        scores = [float(self.scores([0.2, 0.3, rival])[1]) for rival in (0.29, 0.25, 0.2, 0.1)]
        assert scores == sorted(scores)
        assert scores[0] < scores[-1] - 0.2

    def test_rises_with_objectness_inside_and_falls_with_it_outside(self):
        inside = [float(self.scores([0.2, 0.3, 0.1], (likely, 0.1))[1]) for likely in (0.6, 0.7, 0.8, 0.99)]
        outside = [float(self.scores([0.2, 0.3, 0.1], (0.9, likely))[1]) for likely in (0.01, 0.1, 0.2, 0.3)]
        assert inside == sorted(inside)
        assert outside == sorted(outside, reverse=True)

    @given(seed=st.integers(0, 1000), classes=st.integers(2, 6), guided=st.booleans(), exponent=st.integers(0, 8))
    @settings(max_examples=40, deadline=None)
    def test_range(self, seed, classes, guided, exponent):
        grids = random_grids(seed, classes)
        objectness = ObjectnessMap(torch.randn(5, 4) * 10, True, (5.0, 4.0)) if guided else None
        score = class_scores(grids, objectness, 10.0**exponent)
        assert score.shape == (classes,)
        assert score.isfinite().all()
        assert (score >= 0).all()
        assert (score <= 1).all()

    def test_a_picture_is_the_mean_of_its_masks(self):
        scores = torch.tensor([0.9, 0.2, 0.4, 0.0])
        assert picture_score(scores, torch.tensor([True, True, True, False])) == pytest.approx(0.3)
        assert picture_score(scores, torch.tensor([True, False, False, False])) == pytest.approx(0.9)
