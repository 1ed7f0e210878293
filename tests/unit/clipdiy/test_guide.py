"""Eq. 3 by hand, and objectness read out at any size."""

import pytest
import torch
from tiny import random_grids

from clipdiy.aggregate import mean_similarity
from clipdiy.errors import ShapeError
from clipdiy.guide import NARROW_COLS, ObjectnessField, ground_first, guide, guided_square
from clipdiy.objectness.found import ObjectnessMap


def test_guide_by_hand():
    similarity = torch.tensor([0.2, 0.3, -0.1]).reshape(3, 1, 1)
    guided = guide(similarity, torch.tensor([[0.75]]))
    torch.testing.assert_close(guided.flatten(), torch.tensor([0.05, 0.225, -0.075]))


@pytest.mark.parametrize(
    ("similarity", "objectness"),
    [((2, 3, 3), (3, 4)), ((3, 3), (3,)), ((3, 3), (3, 3)), ((1, 2, 3, 3), (2, 3, 3))],
)
def test_guide_refuses_other_sizes(similarity, objectness):
    with pytest.raises(ShapeError):
        guide(torch.zeros(similarity), torch.zeros(objectness))


@pytest.mark.parametrize("width", [NARROW_COLS - 1, NARROW_COLS, NARROW_COLS + 1, 300])
def test_objectness_is_read_the_same_however_wide_it_is(width):
    """Both ways of reading columns, against torch's own bilinear interpolation."""
    grid = torch.randn(5, width, generator=torch.Generator().manual_seed(width))
    size_hw = (23, 2 * width + 3)
    field = ObjectnessField(ObjectnessMap(grid, True, (5.0, float(width))), size_hw)
    assert (field._col_matrix is not None) == (width <= NARROW_COLS)
    expected = torch.nn.functional.interpolate(grid[None, None], size_hw, mode="bilinear")[0, 0].sigmoid()
    torch.testing.assert_close(field.rows(0, 23), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(field.rows(7, 11), expected[7:11], atol=1e-4, rtol=1e-4)


def test_objectness_that_is_no_logit_is_a_chance():
    values = torch.tensor([[-0.5, 0.0, 0.25, 1.0, 1.5]])
    read = ObjectnessField(ObjectnessMap(values, False, (1.0, 5.0)), (1, 5)).rows(0, 1)
    torch.testing.assert_close(read, torch.tensor([[0.0, 0.0, 0.25, 1.0, 1.0]]))


def test_the_square_is_guided_row_by_row():
    grids = random_grids(5, 3)
    objectness = ObjectnessMap(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)), True, (4.0, 4.0))
    likely = torch.nn.functional.interpolate(objectness.grid[None, None], (16, 16), mode="bilinear")[0, 0].sigmoid()
    similarity = mean_similarity(grids, (16, 16))
    expected = similarity * torch.stack([1 - likely, likely, likely])
    torch.testing.assert_close(guided_square(grids, objectness, 16), expected)
    torch.testing.assert_close(guided_square(grids, None, 16), similarity)


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
