"""Label propagation, part by part: by hand, and against the whole matrix written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.lposs import (
    ColourGraph,
    Patches,
    Pixels,
    Seen,
    by_lposs,
    by_pamr,
    key_cosines,
    normalised,
    over_patches,
    over_pixels,
    patch_affinity,
    propagate,
    scaled_lab,
    scenes,
)
from clipdiy.config import Pamr
from clipdiy.objectness.found import ObjectnessMap

# Three nodes in a row, both edges of weight 1.
CHAIN = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])


def random_keys(seed=0, size_hw=(4, 5)):
    return torch.randn(6, *size_hw, generator=torch.Generator().manual_seed(seed))


def test_edges_are_divided_by_the_root_of_both_ends_sums():
    half = 0.5**0.5
    torch.testing.assert_close(normalised(CHAIN), torch.tensor([[0, half, 0], [half, 0, half], [0, half, 0]]))
    torch.testing.assert_close(normalised(3 * CHAIN), normalised(CHAIN))


def test_a_node_without_edges_keeps_what_it_has():
    alone = torch.zeros(2, 2)
    assert not normalised(alone).any()
    given = torch.tensor([[1.0, 0.25]])
    torch.testing.assert_close(propagate(lambda y: y @ normalised(alone), given, 0.9), 0.1 * given)


def test_three_nodes_by_hand():
    # y1 = 1/2 + c y2, y2 = c (y1 + y3), y3 = c y2 with c = 1/2 sqrt(1/2): y2 = 1 / (3 sqrt(2)).
    expected = torch.tensor([[7 / 12, 1 / (3 * 2**0.5), 1 / 12]])
    matrix = normalised(CHAIN)
    torch.testing.assert_close(propagate(lambda y: y @ matrix, torch.tensor([[1.0, 0, 0]]), 0.5), expected)


def test_each_class_is_solved_by_itself_and_one_that_is_nowhere_stays_nowhere():
    matrix = normalised(patch_affinity(random_keys(), 8, Patches(neighbours=3)))
    given = torch.rand(3, 20, generator=torch.Generator().manual_seed(1))
    given[1] = 0
    solved = propagate(lambda y: y @ matrix, given, 0.8, steps=40)
    whole = 0.2 * torch.linalg.solve(torch.eye(20) - 0.8 * matrix, given.T).T
    torch.testing.assert_close(solved, whole, rtol=1e-4, atol=1e-6)
    assert not solved[1].any()


def test_each_step_but_the_first_goes_one_edge_further():
    matrix = normalised(CHAIN)
    given = torch.tensor([[1.0, 0, 0]])
    reached = [(propagate(lambda y: y @ matrix, given, 0.9, steps) > 0).tolist() for steps in (1, 2, 3)]
    assert reached == [[[True, False, False]], [[True, True, False]], [[True, True, True]]]


def test_patches_are_tied_both_ways_and_not_to_themselves():
    affinity = patch_affinity(random_keys(), 8, Patches(neighbours=3))
    torch.testing.assert_close(affinity, affinity.T)
    assert not affinity.diagonal().any()
    assert (affinity >= 0).all()
    matrix = normalised(affinity)
    torch.testing.assert_close(matrix, matrix.T)


def test_an_edge_weighs_by_cosine_and_distance_and_counts_from_each_end_that_found_it():
    # A row of three patches: the first two are alike, the third is at 60 degrees to both.
    keys = torch.tensor([[1.0, 1.0, 0.5], [0.0, 0.0, 0.75**0.5]])[:, None]
    affinity = patch_affinity(keys, 8, Patches(neighbours=1, power=3, decay=0.01))
    near, far = float(np.exp(-0.08)), float(np.exp(-0.16))
    assert affinity[0, 1] == pytest.approx(2 * near)
    # The third finds one of its two, and neither finds it.
    assert sorted(affinity[2].tolist()) == pytest.approx([0, 0, 0.125 * (near if affinity[2, 1] else far)])
    every = patch_affinity(keys, 8, Patches(neighbours=9))
    torch.testing.assert_close(every[2], torch.tensor([2 * 0.125 * far, 2 * 0.125 * near, 0]))


def test_what_looks_opposite_is_not_tied():
    assert not patch_affinity(torch.tensor([[[1.0, -1.0]]]), 8, Patches()).any()


def test_distance_is_counted_down_and_across():
    affinity = patch_affinity(torch.ones(1, 4, 5), 10, Patches(decay=0.01))
    assert affinity[0, -1] == pytest.approx(2 * np.exp(-0.01 * 10 * 5))  # 3 down, 4 across


def test_a_label_spreads_along_strong_edges():
    """One corner of the left half is named; the rest of it follows, the right half does not."""
    keys = torch.zeros(2, 4, 6)
    keys[0, :, :3] = 1
    keys[1, :, 3:] = 1
    keys[1, :, :3] = 0.1
    given = torch.full((2, 4, 6), 0.5)
    given[:, 0, 0] = torch.tensor([1.0, 0.0])
    given[:, 3, 5] = torch.tensor([0.0, 1.0])
    spread = over_patches(given, keys, 8, Patches())
    assert (spread[0, :, :3] > 0.5).all()
    assert (spread[1, :, 3:] > 0.5).all()
    torch.testing.assert_close(spread.sum(dim=0), torch.ones(4, 6))


def test_pixels_are_tied_as_in_the_matrix_written_out():
    image = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    settings = Pixels(reach=2, tau=0.5)
    lab = scaled_lab(image)
    affinity = torch.zeros(20, 20)
    for one in range(20):
        for other in range(20):
            (y, x), (v, u) = divmod(one, 5), divmod(other, 5)
            if one != other and abs(y - v) <= 2 and abs(x - u) <= 2:
                affinity[one, other] = torch.exp(-(lab[:, y, x] - lab[:, v, u]).norm() / 0.5)
    values = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(1))
    expected = (values.flatten(1) @ normalised(affinity)).reshape(2, 4, 5)
    torch.testing.assert_close(ColourGraph(image, settings).spread(values), expected)


def test_a_square_that_is_larger_than_the_picture():
    image = torch.zeros(3, 2, 3, dtype=torch.uint8)
    values = torch.rand(1, 2, 3)
    every, wider = (ColourGraph(image, Pixels(reach=reach)).spread(values) for reach in (2, 6))
    torch.testing.assert_close(wider, every)


def test_lab_of_white_black_and_red():
    image = torch.tensor([[255, 0, 255], [255, 0, 0], [255, 0, 0]], dtype=torch.uint8)[:, None]
    expected = torch.tensor([[1, 0, 0.5324], [0, 0, 80.09 / 256], [0, 0, 67.20 / 256]])
    torch.testing.assert_close(scaled_lab(image)[:, 0], expected, rtol=0, atol=1e-3)


def test_a_speck_takes_the_label_of_its_colour_and_an_edge_stays():
    image = torch.zeros(3, 8, 12, dtype=torch.uint8)
    image[:, :, 6:] = 255
    given = torch.zeros(2, 8, 12)
    given[0, :, :6] = 1
    given[1, :, 6:] = 1
    wrong = given.clone()
    wrong[:, 3, 3] = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(over_pixels(wrong, image, Pixels()).argmax(dim=0), given.argmax(dim=0))


def seen_by_hand():
    """Objectness a patch off to the right of a white square on black; one label beside the background."""
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[:, 8:24, 8:24] = 255
    truth = torch.zeros(2, 8, 8)
    truth[1, 2:6, 2:6] = 1
    truth[0] = 1 - truth[1]
    objectness = torch.full((8, 8), -6.0)
    objectness[2:6, 3:7] = 6
    grids = (torch.tensor([0.25, 0.3])[:, None, None],)
    return Seen(grids, ObjectnessMap(objectness, True, (8.0, 8.0)), image, truth, truth, 4, (64, 64), 100.0)


def wrong_pixels(labels):
    truth = torch.zeros(64, 64, dtype=torch.int16)
    truth[16:48, 16:48] = 1
    return int((labels != truth).sum())


@pytest.mark.parametrize(
    "way",
    [
        by_pamr,
        by_lposs(Patches(neighbours=15)),
        by_lposs(None, Pixels()),
        by_lposs(Patches(neighbours=15), Pixels()),
        by_lposs(Patches(neighbours=15), Pamr()),
        by_lposs(Patches(neighbours=15, truth=True)),
    ],
    ids=["PAMR", "patches", "pixels", "patches and pixels", "patches and PAMR", "truth"],
)
def test_every_way_moves_a_shifted_mask_towards_its_edges(way):
    seen = seen_by_hand()
    labels = way(seen)
    assert labels.shape == (64, 64)
    assert wrong_pixels(labels) < 0.75 * wrong_pixels(by_lposs(None)(seen))


def test_pixels_and_pamr_go_on_from_the_patches():
    seen = seen_by_hand()
    first, pixels, by_colour = (
        wrong_pixels(by_lposs(Patches(neighbours=15), then)(seen)) for then in (None, Pixels(), Pamr(iterations=1))
    )
    assert pixels < by_colour < 0.5 * first


def test_what_is_spread_are_guided_cosines_under_the_logit_scale():
    seen = seen_by_hand()
    objectness = 1 / (1 + np.exp(-6))
    guided = 100 * np.array([0.25 * (1 - objectness), 0.3 * objectness])
    background = 1 / (1 + np.exp(guided[1] - guided[0]))
    at_the_middle = seen.probabilities(seen.winners(), (8, 8))[:, 3, 4]
    assert at_the_middle.tolist() == pytest.approx([background, 1 - background], rel=1e-4)


def test_likeness_by_truth_does_not_look_at_the_keys():
    seen = seen_by_hand()
    blind = replace(seen, keys=torch.ones_like(seen.keys))
    way = by_lposs(Patches(neighbours=15, truth=True))
    assert torch.equal(way(blind), way(seen))
    other = by_lposs(Patches(neighbours=15))
    assert not torch.equal(other(blind), other(seen))


def test_what_keys_tell_apart_by_hand():
    """Five patches: background, two of one object, one of another, and one that shows two things."""
    keys = torch.tensor([[1.0, 0, 0.6, 0.6, 1], [0, 1, 0.8, 0.8, 0]])[:, None]
    truth = torch.tensor([[1.0, 0, 0, 0, 0.5], [0, 1, 1, 0, 0.5], [0, 0, 0, 1, 0]])[:, None]
    found = key_cosines(replace(seen_by_hand(), keys=keys, truth=truth))
    assert np.isnan(found.pop("background")), "there is no second patch of it"
    assert found == pytest.approx(
        {"one object": 0.8, "two objects": (0.8 + 1) / 2, "object and background": (0 + 0.6 + 0.6) / 3}
    )


def test_scenes_are_those_of_the_evaluation():
    assert list(scenes([2], 4)) == [
        (2_000_000, (256, 256)),
        (2_000_001, (375, 500)),
        (2_000_002, (500, 375)),
        (2_000_003, (256, 256)),
    ]
