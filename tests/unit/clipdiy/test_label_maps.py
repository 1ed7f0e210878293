"""Eq. 1 to 4 block by block against the plain reading: upsample every map to full size, average, guide, argmax."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_grids
from torch_memory import peak_bytes

from clipdiy import label_maps
from clipdiy.guide import guide
from clipdiy.label_maps import (
    Candidates,
    full_label_map,
    square_label_map,
    strip_label_map,
)
from clipdiy.objectness.found import ObjectnessMap


def naive(grids, objectness, size_hw, ground=1):
    maps = torch.stack(
        [F.interpolate(grid[None], size_hw, mode="bilinear", align_corners=False)[0] for grid in grids]
    ).mean(dim=0)
    if objectness is not None:
        logits = F.interpolate(objectness.grid[None, None], size_hw, mode="bilinear", align_corners=False)[0, 0]
        maps = guide(maps, logits.sigmoid(), ground)
    return maps


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 40),
    size_hw=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    with_objectness=st.booleans(),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_label_map_in_strips_is_the_plain_reading(seed, classes, size_hw, with_objectness, share):
    ground = 1 + round((classes - 1) * share)  # how much of it is stuff: nothing, some, everything
    grids = random_grids(seed, classes)
    grid = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed)) * 2
    objectness = ObjectnessMap(grid, True, (5.0, 6.0)) if with_objectness else None
    expected = naive(grids, objectness, size_hw, ground)
    labels = full_label_map(grids, objectness, size_hw, ground).long()
    # Where two classes are equal to the last bit either may be named.
    best = expected.max(dim=0).values
    named = expected.gather(0, labels[None])[0]
    assert (best - named).max() <= 1e-5
    assert (labels == expected.argmax(dim=0)).float().mean() >= 0.99


@pytest.mark.parametrize(("blocks", "least"), [(1, 1), (3, 1), (16, 1), (1000, 1)], ids=str)
def test_blocks_of_any_size_give_the_same(monkeypatch, blocks, least):
    grids, objectness = random_grids(3, 9), ObjectnessMap(torch.randn(4, 4), True, (4.0, 4.0))
    whole = full_label_map(grids, objectness, (50, 61))
    monkeypatch.setattr(label_maps, "BLOCKS", blocks)
    monkeypatch.setattr(label_maps, "LEAST_BLOCK_PX", least)
    assert torch.equal(full_label_map(grids, objectness, (50, 61)), whole)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), classes=st.integers(3, 60), sides=st.sampled_from([(1, 3, 7), (7,), (3, 15), (1,)]))
def test_candidates_hold_every_winner(seed, classes, sides):
    grids = random_grids(seed, classes, sides)
    size_hw = (331, 217)
    ends = [0, 100, 110, 331], [0, 1, 90, 217]
    blocks = Candidates(grids, slice(1, len(grids[0]))).by_block(*ends, size_hw)
    winners = naive(grids, None, size_hw)[1:].argmax(dim=0) + 1
    for i, row in enumerate(blocks):
        for j, kept in enumerate(row):
            block = winners[ends[0][i] : ends[0][i + 1], ends[1][j] : ends[1][j + 1]]
            assert set(block.unique().tolist()) <= set(kept)


def test_hopeless_classes_are_no_candidates():
    grids = random_grids(5, 30)
    hopeless = tuple(torch.cat([grid, torch.full((100, *grid.shape[1:]), -0.5)]) for grid in grids)
    [[kept]] = Candidates(hopeless, slice(1, len(hopeless[0]))).by_block([0, 300], [0, 300], (300, 300))
    assert max(kept) < 30


def test_a_class_that_wins_only_between_two_others_is_found():
    # A best at the left, B at the right, C nowhere on the nodes but in the middle.
    grids = (torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.8, 0.8]]).reshape(4, 1, 2),)
    assert set(full_label_map(grids, None, (1, 200)).unique().tolist()) == {1, 2, 3}


@pytest.mark.parametrize("strip_values", [1, 4000, 1_000_000])
@pytest.mark.parametrize("with_objectness", [True, False])
@pytest.mark.parametrize("ground", [1, 4, 9], ids=["no stuff", "some stuff", "all stuff"])
def test_the_way_of_a_gpu_gives_the_same(strip_values, with_objectness, ground):
    grids = random_grids(4, 9)
    objectness = ObjectnessMap(torch.randn(4, 4), True, (4.0, 4.0)) if with_objectness else None
    blocks = full_label_map(grids, objectness, (50, 61), ground)
    strips = strip_label_map(grids, objectness, (50, 61), strip_values, ground)
    assert strips.dtype == blocks.dtype
    # The two add up in another order.
    assert (strips == blocks).float().mean() > 0.999


def test_a_tie_goes_to_the_background():
    grids = (torch.full((3, 1, 1), 0.2),)
    assert full_label_map(grids, None, (2, 2)).tolist() == [[0, 0], [0, 0]]
    assert square_label_map(grids, None, (2, 2), 4).tolist() == [[0, 0], [0, 0]]


def test_a_tie_goes_to_the_backgrounds_side():
    grids = (torch.full((4, 1, 1), 0.2),)
    half = ObjectnessMap(torch.full((1, 1), 0.5), False, (1.0, 1.0))
    lower = (torch.tensor([0.1, 0.2, 0.2, 0.2]).reshape(4, 1, 1),)
    for made, expected in ((grids, 0), (lower, 1)):
        assert full_label_map(made, half, (1, 1), ground=2).tolist() == [[expected]]
        assert strip_label_map(made, half, (1, 1), 9, ground=2).tolist() == [[expected]]
        assert square_label_map(made, half, (1, 1), 4, ground=2).tolist() == [[expected]]


@pytest.mark.parametrize(("objectness", "expected"), [(0.2, 1), (0.8, 2)], ids=["no object there", "an object"])
def test_stuff_wins_where_no_object_is(objectness, expected):
    # Both resemble the picture more than the background does, the stuff a little less than the object.
    grids = (torch.tensor([0.1, 0.28, 0.3]).reshape(3, 1, 1),)
    there = ObjectnessMap(torch.full((1, 1), objectness), False, (1.0, 1.0))
    for labels in (full_label_map(grids, there, (1, 1), 2), square_label_map(grids, there, (1, 1), 4, 2)):
        assert labels.tolist() == [[expected]]


def test_published_way_takes_the_nearest_pixel():
    # Left half class 1, right half class 2, on a 4 px square, brought to 8 x 2.
    grids = (torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).reshape(3, 1, 2).expand(3, 2, 2).contiguous(),)
    assert square_label_map(grids, None, (2, 8), 4).tolist() == [[1, 1, 1, 1, 2, 2, 2, 2]] * 2


@pytest.mark.parametrize("way", ["blocks", "strips"])
def test_memory_does_not_grow_with_classes_times_pixels(way):
    """Whatever torch holds at any time: every class map at full size would be 9 and 346 MB."""
    size_hw, objectness = (900, 1200), ObjectnessMap(torch.randn(80, 60), True, (80.0, 60.0))

    def peak(classes):
        grids = random_grids(0, classes)
        if way == "blocks":
            return peak_bytes(lambda: full_label_map(grids, objectness, size_hw))
        return peak_bytes(lambda: strip_label_map(grids, objectness, size_hw, 500_000))

    few, many = peak(2), peak(80)
    assert many < 15e6
    assert many - few < 5e6
