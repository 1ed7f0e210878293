"""Eq. 3 by hand, and objectness read out at any size."""

import pytest
import torch

from clipdiy.errors import ShapeError
from clipdiy.guide import ground_first, guide


def test_guide_by_hand():
    similarity = torch.tensor([0.2, 0.3, -0.1]).reshape(3, 1, 1)
    guided = guide(similarity, torch.tensor([[0.75]]))
    torch.testing.assert_close(guided.flatten(), torch.tensor([0.05, 0.225, -0.075]))


def test_guide_refuses_other_sizes():
    with pytest.raises(ShapeError):
        guide(torch.zeros(2, 3, 3), torch.zeros(3, 4))


def test_stuff_is_on_the_backgrounds_side():
    similarity = torch.tensor([0.2, 0.4, 0.3, -0.1]).reshape(4, 1, 1)
    guided = guide(similarity, torch.tensor([[0.75]]), ground=2)
    torch.testing.assert_close(guided.flatten(), torch.tensor([0.05, 0.1, 0.225, -0.075]))


ORDERS = {
    "no stuff": ([0, 1, 2], (), [0, 1, 2], 1),
    "one of three": ([0, 1, 2, 3], (2,), [0, 2, 1, 3], 2),
    "all": ([0, 1, 2], (1, 2), [0, 1, 2], 3),
    "some were left out before": ([0, 2, 5, 7], (1, 5), [0, 5, 2, 7], 2),
    "only the background is left": ([0], (1,), [0], 1),
}


@pytest.mark.parametrize(("classes", "stuff", "expected", "ground"), ORDERS.values(), ids=ORDERS)
def test_ground_first(classes, stuff, expected, ground):
    order, count = ground_first(torch.tensor(classes), stuff)
    assert (order.tolist(), count) == (expected, ground)
    assert order.dtype == torch.int64
