"""Answers for embeddings that stand in the place of words: who competes, by hand."""

import numpy as np
import pytest
import torch

from benchmarks.stuff import by_texts
from clipdiy.config import OthersConfig
from clipdiy.features import ImageFeatures
from clipdiy.vocabulary import Label, make_vocabulary

SURE = OthersConfig(gate_logits=1.0, absent_quantile=None)
ALONE = make_vocabulary(["cat"])
BESIDE = ALONE.with_others([Label("cup", ("a photo of a cup",))])
# Nothing here looks like the background's word; the right crop is a cup, and a little like a cat.
TEXTS = torch.tensor([[0, 0, 1.0], [0.9, 0.4, 0], [0, 1.0, 0]])
FEATURES = ImageFeatures((torch.tensor([[[1.0, 0, 0], [0, 1.0, 0]]]).half(),), None, (2, 6), "core")


def test_what_an_other_wins_is_empty():
    alone = by_texts(TEXTS[:2], ALONE, 100.0, SURE)(FEATURES)
    assert (alone == 1).all()
    beside = by_texts(TEXTS, BESIDE, 100.0, SURE)(FEATURES)
    assert (beside[:, :2] == 1).all()
    assert (beside[:, -2:] == 0).all()
    out_of_the_way = OthersConfig(gate_logits=1000.0, absent_quantile=None)
    np.testing.assert_array_equal(by_texts(TEXTS, BESIDE, 100.0, out_of_the_way)(FEATURES), alone)


def test_others_cannot_be_left_out_by_mistake():
    with pytest.raises(ValueError, match="2 embeddings for 3 labels and others"):
        by_texts(TEXTS[:2], BESIDE, 100.0, SURE)
