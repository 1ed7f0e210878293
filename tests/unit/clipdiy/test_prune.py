"""Classes that are taken for absent."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, VOCABULARY, photo

from clipdiy.build import build_segmenter
from clipdiy.prune import likely_classes


@pytest.fixture(scope="module")
def segmenter():
    return build_segmenter(TINY, warm_up=False)


@pytest.mark.parametrize(
    ("margin", "kept"), [(1.0, [0, 2]), (5.0, [0, 2, 3]), (50.0, [0, 1, 2, 3])], ids=["strict", "some", "lax"]
)
def test_classes_far_below_the_best_at_the_coarsest_scale_are_left_out(margin, kept):
    # Position 0 is the background and stays however unlikely; of several crops the best counts.
    coarsest = torch.tensor([[-0.5, -0.5], [0.0, -0.1], [0.1, 0.3], [0.27, 0.0]])[:, None]
    assert likely_classes(coarsest, 100.0, margin).tolist() == kept


def test_the_best_may_be_the_first_label():
    assert likely_classes(torch.tensor([-0.5, 0.3, 0.2, 0.1])[:, None, None], 100.0, 5.0).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("stuff", "kept"),
    [
        pytest.param((), [0, 2], id="no stuff"),
        pytest.param((2,), [0, 1, 2, 3], id="objects are held against objects"),
        pytest.param((1,), [0, 2], id="stuff is held against all"),
        pytest.param((1, 2, 3), [0, 2], id="nothing but stuff"),
        pytest.param((2, 3), [0, 1, 2], id="one object"),
    ],
)
def test_stuff_takes_no_object_away(stuff, kept):
    coarsest = torch.tensor([0.0, 0.1, 0.3, 0.12])[:, None, None]
    assert likely_classes(coarsest, 100.0, 5.0, stuff).tolist() == kept


def test_pruned_classes_win_no_pixel(segmenter):
    pruning = segmenter.with_config(replace(TINY, prune_logits=1e-6))
    features = pruning.encode([photo(1, 90, 70)])[0]
    only = pruning.segment(features, VOCABULARY)
    assert len(only.present) <= 1
    assert (only.score[only.area == 0] == 0).all()
    everything = segmenter.with_config(replace(TINY, prune_logits=1e6))
    plain = segmenter.segment(features, VOCABULARY)
    np.testing.assert_array_equal(everything.segment(features, VOCABULARY).label_map, plain.label_map)
    assert pruning.identity != segmenter.identity == segmenter.with_config(TINY).identity
