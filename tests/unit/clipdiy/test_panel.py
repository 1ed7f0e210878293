"""The picture of every step: what it shows, in which order, in which colours."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clipdiy.draw import palette
from clipdiy.explanation import ExplainedPicture, ExplainedRegions, ExplainedStep, Explanation
from clipdiy.panel import MAX_CLASSES, explain_panel, row_name, shown_classes
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import make_vocabulary


def explained(classes, pictures=(), size_hw=(30, 40)):
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.normal(size=(classes, 64, 64)).astype(np.float32))
    steps = (
        ExplainedStep("large", "1 x 1", maps, "similarity"),
        ExplainedStep("small", "7 x 7", maps / 2, "similarity"),
        ExplainedStep("guided", "Eq. 3", maps / 9, "guided"),
    )
    explanation = Explanation(pictures, steps, maps.flatten(1).amax(dim=1))
    label_map = np.zeros(size_hw, np.uint16)
    label_map[:5] = 2
    area = np.bincount(label_map.ravel(), minlength=classes) / label_map.size
    segmentation = Segmentation(label_map, area, np.full(classes, 0.5, np.float32), 0.5)
    vocabulary = make_vocabulary([f"label {i}" for i in range(1, classes)])
    return np.zeros((*size_hw, 3), np.uint8), explanation, segmentation, vocabulary, palette(classes)


@pytest.mark.parametrize("pictures", [0, 1, 4])
@pytest.mark.parametrize("size_hw", [(30, 40), (40, 30), (10, 400)])
def test_panel(pictures, size_hw):
    seen = (ExplainedPicture("objectness", torch.zeros(64, 64)),) * pictures
    panel = np.asarray(explain_panel(*explained(4, seen, size_hw)))
    assert (panel[[0, -1]] == 255).all()
    assert (panel[:, [0, -1]] == 255).all(), "something is cut off at the side"
    for colour in palette(4)[1:]:
        assert (panel == colour).all(axis=2).any(), "a class has no row"


def regions(number, name):
    values = torch.zeros(64, 64, dtype=torch.int16)
    values[20:60, 20:60] = number
    return ExplainedRegions("taken by others", values, ("cup", name, "never there"))


@pytest.mark.parametrize("size_hw", [(30, 40), (40, 30), (10, 400), (1, 1)])
def test_regions_are_drawn_with_their_names(size_hw):
    one, other, named, longer = (
        np.asarray(explain_panel(*explained(4, (seen,), size_hw)))
        for seen in (
            ExplainedPicture("taken by others", torch.zeros(64, 64, 3)),
            regions(1, "tree"),
            regions(2, "tree"),
            regions(2, "a name that is longer than any picture of a panel is wide"),
        )
    )
    assert one.shape == other.shape == named.shape == longer.shape
    assert (other != one).any()
    assert (other != named).any()
    assert (named != longer).any()


def test_a_picture_is_heat_or_colours():
    cold_hot = torch.tensor([[0.0, 4.0]]).repeat(2, 1)
    colours = torch.zeros(2, 2, 3)
    colours[..., 2] = 1
    seen = ExplainedPicture("heat", cold_hot, (0.0, 4.0)), ExplainedPicture("colours", colours)
    panel = np.asarray(explain_panel(*explained(3, seen)))
    for colour in ((68, 1, 84), (253, 231, 37), (0, 0, 255)):  # viridis from end to end, and what was given
        assert (np.abs(panel.astype(int) - colour) <= 3).all(axis=2).any()


def test_steps_of_one_scale_share_their_colours():
    photo, explanation, segmentation, vocabulary, colours = explained(3)
    maps = torch.zeros(3, 8, 8)
    maps[:, 0, 0] = 1.0
    apart = [ExplainedStep("a", "", maps, "one"), ExplainedStep("b", "", maps / 2, "two")]
    shared = [ExplainedStep("a", "", maps, "one"), ExplainedStep("b", "", maps / 2, "one")]
    apart, shared = (
        np.asarray(explain_panel(photo, replace(explanation, steps=tuple(s)), segmentation, vocabulary, colours))
        for s in (apart, shared)
    )
    hottest = np.array((253, 231, 37))
    assert (apart == hottest).all(axis=2).sum() > (shared == hottest).all(axis=2).sum() > 0


def test_panel_shows_what_was_found_first_and_the_background_last():
    _, explanation, segmentation, _, _ = explained(30)
    shown = shown_classes(explanation.closeness, segmentation)
    assert len(shown) == len(set(shown)) == MAX_CLASSES
    assert shown[0] == 2
    assert shown[-1] == 0
    closeness = explanation.closeness[shown[1:-1]].tolist()
    assert closeness == sorted(closeness, reverse=True)


def test_panel_of_maps_without_contrast():
    photo, _, segmentation, vocabulary, colours = explained(3)
    flat = Explanation((), (ExplainedStep("flat", "", torch.zeros(3, 64, 64), "x"),), torch.zeros(3))
    assert explain_panel(photo, flat, segmentation, vocabulary, colours).width > 100


def test_stuff_says_so_in_its_row():
    assert [row_name(label) for label in make_vocabulary(["cat", "sky"], stuff=["sky"]).labels] == [
        *("background", "cat", "sky (stuff)")
    ]
