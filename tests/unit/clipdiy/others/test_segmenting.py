"""Others in a segmentation: they take what is theirs, and nothing comes out for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, VOCABULARY, photo, random_grids

from clipdiy.build import build_segmenter
from clipdiy.config import OthersConfig
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.scores import class_scores
from clipdiy.vocabulary import Label, make_vocabulary

LABELS = make_vocabulary(["cat", "dog"])
OTHERS = VOCABULARY.labels[3:] + tuple(Label(name, (f"a photo of a {name}",)) for name in ("tree", "cup"))


@pytest.fixture(scope="module")
def segmenter():
    config = replace(TINY, others=OthersConfig(gate_logits=-1000, absent_quantile=None))
    return build_segmenter(config, warm_up=False)


@pytest.fixture(scope="module")
def features(segmenter):
    return segmenter.encode([photo(5, 60, 80)])[0]


def test_a_vocabulary_has_the_positions_of_its_labels_alone():
    beside = LABELS.with_others(OTHERS)
    assert len(beside) == len(LABELS)
    assert beside.names == LABELS.names
    assert beside.prompts == (*LABELS.prompts, *(other.prompts for other in OTHERS))
    assert beside.with_others(()) == LABELS


def test_others_take_pixels_and_nothing_is_drawn_there(segmenter, features):
    as_labels = make_vocabulary([*LABELS.names[1:], *(other.name for other in OTHERS)])
    everything = segmenter.segment(features, as_labels)
    beside = segmenter.segment(features, LABELS.with_others(OTHERS))
    expected = np.where(everything.label_map < len(LABELS), everything.label_map, 0)
    assert (everything.label_map != expected).any(), "an other has to win somewhere, or this says nothing"
    np.testing.assert_array_equal(beside.label_map, expected)
    assert beside.area.shape == beside.score.shape == (len(LABELS),)
    assert beside.area.sum() == pytest.approx(1)


def test_labels_that_are_taken_for_absent_keep_their_position(segmenter, features):
    others = tuple(Label(str(i), (f"a photo of a number {i}",)) for i in range(40))
    strict = segmenter.with_config(replace(TINY, others=OthersConfig(absent_quantile=0.5)))
    result = strict.segment(features, LABELS.with_others(others))
    assert result.score.shape == (len(LABELS),)
    assert set(np.unique(result.label_map)) <= set(range(len(LABELS)))


def test_without_others_nothing_changes(segmenter, features):
    plain = build_segmenter(TINY, warm_up=False)
    again = plain.encode([photo(5, 60, 80)])[0]
    np.testing.assert_array_equal(segmenter.segment(features, LABELS).label_map, plain.segment(again, LABELS).label_map)


def test_pruning_is_of_what_takes_part(segmenter, features):
    pruned = segmenter.with_config(replace(TINY, prune_logits=1e-6))
    result = pruned.segment(features, LABELS.with_others(OTHERS))
    assert len(result.present) <= 1


def test_the_explanation_names_who_won_where(segmenter, features):
    beside = segmenter.square_maps(features, LABELS.with_others(OTHERS))
    alone = segmenter.square_maps(features, LABELS)
    assert beside.similarity.shape[0] == len(LABELS)
    torch.testing.assert_close(beside.guided, alone.guided)
    assert alone.other.any() == torch.tensor(False)
    drawn = segmenter.segment(features, LABELS.with_others(OTHERS)).label_map
    assert beside.other.max() <= len(OTHERS)
    assert beside.other.any()
    taken = (beside.other > 0).float()
    small = torch.from_numpy((drawn > 0).astype(np.float32))[None, None]
    on_square = torch.nn.functional.interpolate(small, taken.shape, mode="nearest")[0, 0]
    assert float((on_square * taken).mean()) < 0.02, "a label is drawn where an other won"


def test_the_identity_changes_with_how_others_compete(segmenter):
    assert segmenter.identity != build_segmenter(TINY, warm_up=False).identity


@pytest.mark.parametrize("guided", [True, False])
def test_others_are_background_in_the_scores(guided):
    grids = random_grids(3, 6)
    objectness = ObjectnessMap(torch.rand(5, 4), False, (5.0, 4.0)) if guided else None
    every, some = class_scores(grids, objectness, 20.0), class_scores(grids, objectness, 20.0, 3)
    assert some.shape == (3,)
    torch.testing.assert_close(some[1:], every[1:3])
    assert some[0] >= every[0]
    torch.testing.assert_close(class_scores(grids, objectness, 20.0, 6), every)


def test_a_picture_of_nothing_but_others_is_surely_empty():
    """One other in the whole picture, certain of it: the background's mask is as good as certain."""
    grids = (torch.tensor([0.0, 0.0, 1.0]).reshape(3, 1, 1),)
    likely = ObjectnessMap(torch.full((1, 1), 0.9), False, (1.0, 1.0))
    torch.testing.assert_close(class_scores(grids, likely, 20.0, 2), torch.tensor([1.0, 0.0]), atol=1e-3, rtol=0)
