"""Eq. 1 and 2 against the plain reading: upsample every map to full size, average."""

import pytest
import torch
import torch.nn.functional as F
from tiny import random_grids

from clipdiy.aggregate import bilinear_matrix, bilinear_samples, grid_similarity, mean_similarity, similarity_field
from clipdiy.errors import ShapeError


@pytest.mark.parametrize(
    ("size_out", "size_in"),
    [(256, 7), (256, 32), (1, 1), (5, 1), (333, 3), (3, 7), (3, 2)],
    ids=lambda value: str(value),
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


def whole_mean(grids, size_hw):
    return torch.stack(
        [F.interpolate(grid[None], size_hw, mode="bilinear", align_corners=False)[0] for grid in grids]
    ).mean(dim=0)


@pytest.mark.parametrize("size_hw", [(256, 256), (1, 1), (37, 91), (300, 4)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_mean_similarity(size_hw):
    grids = random_grids(0, 4)
    torch.testing.assert_close(mean_similarity(grids, size_hw), whole_mean(grids, size_hw), atol=1e-6, rtol=0)


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
