"""Eq. 3 by hand, and objectness read out at any size."""

import pytest
import torch

from clipdiy.errors import ShapeError
from clipdiy.guide import guide


def test_guide_by_hand():
    similarity = torch.tensor([0.2, 0.3, -0.1]).reshape(3, 1, 1)
    guided = guide(similarity, torch.tensor([[0.75]]))
    torch.testing.assert_close(guided.flatten(), torch.tensor([0.05, 0.225, -0.075]))


def test_guide_refuses_other_sizes():
    with pytest.raises(ShapeError):
        guide(torch.zeros(2, 3, 3), torch.zeros(3, 4))
