"""Guidance by objectness, Eq. 3: how likely is each pixel to lie on an object, and what does that do to the classes?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from clipdiy.aggregate import as_matrix, mean_similarity, samples_on
from clipdiy.errors import ShapeError
from clipdiy.objectness.found import ObjectnessMap

NARROW_COLS = 128


def guide(similarity: Tensor, objectness: Tensor, ground: int = 1) -> Tensor:
    """Weight class similarities by how likely each pixel lies on an object.

    CLIP-DIY Eq. 3 and the product inside Eq. 4: channel 0 (background) is multiplied by 1 - objectness, every other
    channel by objectness. A cosine can be negative; multiplying it by a small objectness then *raises* it towards 0.
    The paper does the same. With CLIP's real weights cosines of prompts and photos are positive in practice.

    Where we go beyond the paper: labels for stuff (sky, road, grass) are no objects, so that objectness is low where
    they are and they could hardly win. They join the background, whose term becomes one of a set.

    Args:
        similarity: Mean cosine over the scales (Eq. 2), (C, H, W) float32, in [-1, 1].
        objectness: Foreground probability (not a logit), (H, W) float32, in [0, 1].
        ground: How many of the first channels are on the background's side: 1 is the paper.

    Returns:
        Guided similarities, (C, H, W) float32. Not a distribution over C.

    Raises:
        ShapeError: If H or W differ.
    """
    if similarity.ndim != 3 or objectness.shape != similarity.shape[1:]:
        raise ShapeError(
            f"objectness must be (H, W) of the similarity (C, H, W), got {tuple(objectness.shape)} "
            f"and {tuple(similarity.shape)}"
        )
    return torch.cat([similarity[:ground] * (1 - objectness), similarity[ground:] * objectness])


def ground_first(classes: Tensor, stuff: Sequence[int]) -> tuple[Tensor, int]:
    """Order classes as `guide` takes them: the background and stuff, then objects; else the order is kept.

    Args:
        classes: Positions in the vocabulary, ascending int64, the background's 0 among them.
        stuff: Which positions are stuff; those that are not in `classes` change nothing.

    Returns:
        The same positions in that order, and how many are on the background's side.
    """
    positions = classes.tolist()
    ground = [position for position in positions if position == 0 or position in stuff]
    objects = [position for position in positions if position != 0 and position not in stuff]
    return torch.tensor([*ground, *objects], device=classes.device), len(ground)


class ObjectnessField:
    """An objectness map, ready to be read out at one size, a strip of rows at a time."""

    def __init__(self, objectness: ObjectnessMap, size_hw: tuple[int, int]) -> None:
        """Prepare reading `objectness` at `size_hw`."""
        self._grid = objectness.grid.float()
        self._is_logit = objectness.is_logit
        device = self._grid.device
        (height, width), (grid_rows, grid_cols) = size_hw, self._grid.shape
        covered_rows, covered_cols = objectness.extent_hw
        self._rows = samples_on(height, grid_rows, covered_rows, device)
        self._cols = samples_on(width, grid_cols, covered_cols, device)
        # A product with a narrow matrix is faster than reading two columns per pixel; with a wide one it is not.
        narrow = grid_cols <= NARROW_COLS
        self._col_matrix = as_matrix(self._cols, grid_cols).T if narrow else None

    def rows(self, start: int, stop: int) -> Tensor:
        """Return (stop - start, W) float32 in [0, 1]."""
        lower, upper, share = (part[start:stop] for part in self._rows)
        values = torch.lerp(self._grid[lower], self._grid[upper], share[:, None])
        if self._col_matrix is not None:
            values = values @ self._col_matrix
        else:
            lower, upper, share = self._cols
            values = torch.lerp(values[:, lower], values[:, upper], share)
        return values.sigmoid() if self._is_logit else values.clamp(0, 1)


def guided_square(
    grids: tuple[Tensor, ...], objectness: ObjectnessMap | None, square_px: int, ground: int = 1
) -> Tensor:
    """Return Eq. 2 and 3 on a square: (C, S, S) float32. Without objectness, Eq. 2 alone."""
    similarity = mean_similarity(grids, (square_px, square_px))
    if objectness is None:
        return similarity
    return guide(similarity, ObjectnessField(objectness, (square_px, square_px)).rows(0, square_px), ground)
