"""From crop similarities to class maps: Eq. 1 and Eq. 2, at any size, a strip of rows at a time.

Bilinear upsampling of a grid is a product with one small matrix per axis. All scales are upsampled and averaged by a
single product: with g_s the grid of scale s and Y_s, X_s its matrices,

    mean_s Y_s g_s X_s^T  =  [Y_1 g_1 | Y_2 g_2 | ...] / S  @  [X_1 | X_2 | ...]^T

so a class map of 12 million pixels costs 11 multiplications a pixel (1 + 3 + 7 grid columns), and any strip of its
rows can be had without the others. Nothing of full size is ever held for more than a strip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from clipdiy.errors import ShapeError

CPU = torch.device("cpu")


def bilinear_samples(size_out: int, size_in: int, extent: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Say where each output pixel of a bilinear upsampling reads along one axis (align_corners=False).

    Beyond the outermost sample centres the border value is repeated, as `torch.nn.functional.interpolate` does.

    Args:
        size_out: Number of output pixels.
        size_in: Number of samples.
        extent: How much of the input axis the output covers, from its start, in samples; all of it by default. FOUND's
            grid reaches beyond a photo whose size is no multiple of 8.

    Returns:
        (size_out,) each: int64 lower and upper sample, float32 share of the upper one in [0, 1].
    """
    step = (size_in if extent is None else extent) / size_out
    position = ((torch.arange(size_out, dtype=torch.float64) + 0.5) * step - 0.5).clamp(0, size_in - 1)
    lower = position.floor().long()
    return lower, (lower + 1).clamp(max=size_in - 1), (position - lower).float()


def as_matrix(samples: tuple[Tensor, ...], size_in: int) -> Tensor:
    """Write `bilinear_samples` as a matrix, (size_out, size_in) float32; each row sums to 1. For small grids only."""
    lower, upper, share = samples
    matrix = torch.zeros(len(lower), size_in, device=share.device)
    rows = torch.arange(len(lower), device=share.device)
    matrix[rows, lower] += 1 - share
    matrix[rows, upper] += share
    return matrix


@lru_cache(maxsize=64)
def samples_on(
    size_out: int, size_in: int, extent: float | None, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `bilinear_samples` on a device: made once, as a GPU that is given numbers first does all it was asked."""
    with torch.inference_mode(False):  # kept for whoever asks next
        lower, upper, share = (part.to(device) for part in bilinear_samples(size_out, size_in, extent))
        return lower, upper, share


@lru_cache(maxsize=64)
def bilinear_matrix(size_out: int, size_in: int, device: torch.device = CPU) -> Tensor:
    """Return the matrix that upsamples `size_in` samples to `size_out`, (size_out, size_in) float32; made once."""
    with torch.inference_mode(False):
        return as_matrix(samples_on(size_out, size_in, None, device), size_in)


def grid_similarity(crop_embeddings: Sequence[Tensor], text_embeddings: Tensor) -> tuple[Tensor, ...]:
    """Take the cosine of every crop with every class (the inner product inside Eq. 1).

    Args:
        crop_embeddings: Per scale (h, w, D) float32 unit vectors.
        text_embeddings: (C, D) float32 unit vectors.

    Returns:
        Per scale (C, h, w) float32, cosines in [-1, 1].

    Raises:
        ShapeError: If the embeddings differ in their length D.
    """
    for embeddings in crop_embeddings:
        if embeddings.shape[-1] != text_embeddings.shape[-1]:
            raise ShapeError(
                f"crops are embedded in {embeddings.shape[-1]} numbers and texts in {text_embeddings.shape[-1]}: "
                "they come from different CLIP models"
            )
    return tuple((embeddings @ text_embeddings.T).permute(2, 0, 1).contiguous() for embeddings in crop_embeddings)


@dataclass(frozen=True)
class SimilarityField:
    """Mean similarity over the scales (Eq. 2) of every class, ready to be read out at one size.

    Attributes:
        left: (C, H, K) float32: the grids of all scales, upsampled along the rows only, divided by the number of
            scales; K is the sum of the scales' grid columns.
        right: (K, W) float32: bilinear weights along the columns.
    """

    left: Tensor
    right: Tensor

    def rows(self, start: int, stop: int, classes: Tensor | slice = slice(None)) -> Tensor:
        """Return (C, stop - start, W) float32: rows start..stop of the chosen classes' maps."""
        return self.left[classes, start:stop] @ self.right


def similarity_field(grids: Sequence[Tensor], size_hw: tuple[int, int], rows: slice = slice(None)) -> SimilarityField:
    """Prepare Eq. 1 and Eq. 2 at a size.

    Args:
        grids: Per scale (C, h, w) float32 cosines.
        size_hw: Size that the class maps are to have.
        rows: Which rows of them are wanted; the field then has these alone.

    Raises:
        ShapeError: If there is no scale.
    """
    if not grids:
        raise ShapeError("no scale to aggregate")
    height, width = size_hw
    device = grids[0].device
    left = [bilinear_matrix(height, grid.shape[1], device)[rows] @ grid for grid in grids]
    right = [bilinear_matrix(width, grid.shape[2], device).T for grid in grids]
    return SimilarityField(torch.cat(left, dim=2) / len(grids), torch.cat(right))


def mean_similarity(grids: Sequence[Tensor], size_hw: tuple[int, int]) -> Tensor:
    """Return Eq. 2 whole: (C, H, W) float32, mean cosine over the scales, in [-1, 1]."""
    return similarity_field(grids, size_hw).rows(0, size_hw[0])
