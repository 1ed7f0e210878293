"""Label maps, the argmax of Eq. 4: which class has each pixel of the photo?

Two ways: `full_label_map` at the photo's own size, and `square_label_map` as published.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from clipdiy.aggregate import similarity_field
from clipdiy.guide import ObjectnessField, guided_square
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.upsample import name_largest

STRIP_VALUES = 2_000_000  # class-samples read coarsely at once (8 MB of float32)
CUDA_STRIP_VALUES = 128_000_000  # class-samples held at once on a GPU (512 MB of float32)
COARSE_PX = 64  # class maps are smooth: the finest grid of the paper has 7 cells to a side
BLOCKS = 16  # to a side of the picture
LEAST_BLOCK_PX = 48


def full_label_map(
    grids: tuple[Tensor, ...], objectness: ObjectnessMap | None, size_hw: tuple[int, int], ground: int = 1
) -> Tensor:
    """Take Eq. 1 to 4 at the photo's own size: the best class of every pixel.

    Class maps and objectness are brought to full size before the argmax, so edges are smooth. The softmax of Eq. 4 has
    no temperature and does not change which class is largest, so it is not computed. Worked block by block, over the
    classes that can win there: neither time nor memory grows with the number of classes times the size of the photo.

    Args:
        grids: Per scale (C, h, w) float32 cosines, background first, C >= 2.
        objectness: How likely each pixel lies on an object; `None` leaves Eq. 3 out (plain argmax of Eq. 2).
        size_hw: Size of the photo.
        ground: How many of the first classes are on the background's side; see `guide`.

    Returns:
        (H, W) int16 on the grids' device: the position in the grids. A tie goes to the background's side, then to the
        earlier class.
    """
    if grids[0].device.type == "cuda":
        return strip_label_map(grids, objectness, size_hw, CUDA_STRIP_VALUES, ground)
    guidance = None if objectness is None else ObjectnessField(objectness, size_hw)
    row_ends, col_ends = _block_ends(size_hw[0]), _block_ends(size_hw[1])
    # One side has one factor, so which class is its best does not depend on objectness.
    sides = [
        Candidates(grids, side).by_block(row_ends, col_ends, size_hw)
        for side in (slice(0, ground), slice(ground, len(grids[0])))
    ]
    # int16 holds 32,767 classes; Segmentation reads it as uint16 without a copy.
    labels = torch.empty(size_hw, dtype=torch.int16, device=grids[0].device)
    for (top, bottom), *rows in zip(pairwise(row_ends), *sides, strict=True):
        likely = None if guidance is None else guidance.rows(top, bottom)
        field = similarity_field(grids, size_hw, slice(top, bottom))
        for (left, right), lying, standing in zip(pairwise(col_ends), *rows, strict=True):
            # The rows' part is there already; the columns' part is a product with 11 columns.
            maps = field.left[[*lying, *standing]] @ field.right[:, left:right]
            here = None if likely is None else likely[:, left:right]
            labels[top:bottom, left:right] = _larger_side(maps, lying, standing, here)
    return labels


def _larger_side(maps: Tensor, ground: list[int], objects: list[int], likely: Tensor | None) -> Tensor:
    """Name the best class of every pixel out of both sides; a tie goes to the background's.

    Args:
        maps: (len(ground) + len(objects), h, w) float32 mean cosines.
        ground: What stands for each of the first, at least one.
        objects: What stands for each of the others, none if there is no object among the classes.
        likely: (h, w) float32 objectness, or `None`.
    """
    lowest, lying = name_largest(maps[: len(ground)], ground)
    if not objects:
        return lying
    best, standing = name_largest(maps[len(ground) :], objects)
    if likely is not None:
        best = best * likely
        lowest = lowest * (1 - likely)
    return torch.where(best <= lowest, lying, standing)


def strip_label_map(
    grids: tuple[Tensor, ...],
    objectness: ObjectnessMap | None,
    size_hw: tuple[int, int],
    strip_values: int,
    ground: int = 1,
) -> Tensor:
    """Do what `full_label_map` does for all classes at once, a strip of rows after the other.

    For a GPU: it reads and writes every class map faster than it could be told which classes to leave out where.

    Args:
        grids: As for `full_label_map`.
        objectness: As for `full_label_map`.
        size_hw: Size of the photo.
        strip_values: How many values of class maps are held at once.
        ground: As for `full_label_map`.

    Returns:
        (H, W) int16 on the grids' device.
    """
    height, width = size_hw
    field = similarity_field(grids, size_hw)
    guidance = None if objectness is None else ObjectnessField(objectness, size_hw)
    step = max(1, strip_values // (field.left.shape[0] * width))
    labels = torch.empty(size_hw, dtype=torch.int16, device=field.left.device)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        maps = field.rows(top, bottom)
        lowest, lying = maps[:ground].max(dim=0)
        if ground < len(maps):
            best, standing = maps[ground:].max(dim=0)
            if guidance is not None:
                likely = guidance.rows(top, bottom)
                best = best * likely
                lowest = lowest * (1 - likely)
            lying = torch.where(best <= lowest, lying, standing + ground)
        labels[top:bottom] = lying.to(torch.int16)
    return labels


def square_label_map(
    grids: tuple[Tensor, ...],
    objectness: ObjectnessMap | None,
    size_hw: tuple[int, int],
    square_px: int,
    ground: int = 1,
) -> Tensor:
    """Do it the published way: argmax on the square, then nearest neighbour to the photo's size.

    Args:
        grids: Per scale (C, h, w) float32 cosines, background first.
        objectness: As for `full_label_map`.
        size_hw: Size of the photo.
        square_px: Side of the square.
        ground: As for `full_label_map`.

    Returns:
        (H, W) int16.
    """
    guided = guided_square(grids, objectness, square_px, ground)
    labels = guided.argmax(dim=0).to(torch.int16)
    height, width = size_hw
    rows = torch.div(torch.arange(height) * square_px, height, rounding_mode="floor").to(labels.device)
    cols = torch.div(torch.arange(width) * square_px, width, rounding_mode="floor").to(labels.device)
    return labels[rows[:, None], cols[None, :]]


class Candidates:
    """Which classes of one side can be the best of it in which part of the picture.

    Objectness is one positive factor for all objects, and its complement one for all on the background's side, so they
    do not change which class is the best of its side, and classes can be sorted out before they come in. Class maps are
    smooth: read at COARSE_PX samples to a side, the map of class c and the upper envelope of all maps change from a
    sample to the points nearest to it by half the largest step between neighbouring samples, along each axis. A class
    that can win at a point therefore comes within

        margin = largest step along the rows + largest step along the columns

    of the best one at the nearest sample. Nothing that can win is left out.
    """

    def __init__(self, grids: tuple[Tensor, ...], side: slice) -> None:
        """Read the maps coarsely.

        Args:
            grids: Per scale (C, h, w) float32 cosines.
            side: Which classes, with a start and a stop; one alone wins everywhere, and needs no reading.
        """
        self._first, self._count = side.start, side.stop - side.start
        if self._count < 2:
            return
        grids = tuple(grid[side] for grid in grids)
        field = similarity_field(grids, (COARSE_PX, COARSE_PX))
        chunk = max(1, STRIP_VALUES // COARSE_PX**2)
        chunks = [slice(start, min(start + chunk, self._count)) for start in range(0, self._count, chunk)]
        best = torch.full((COARSE_PX, COARSE_PX), -torch.inf, device=field.left.device)
        for part in chunks:
            best = torch.maximum(best, field.rows(0, COARSE_PX, part).amax(dim=0))
        least = best - _largest_steps(grids) - 1e-6  # for the rounding of float32
        # (classes, COARSE_PX, COARSE_PX) bool: 4 kB a class.
        self._close = torch.cat([field.rows(0, COARSE_PX, part) >= least for part in chunks])

    def by_block(self, row_ends: list[int], col_ends: list[int], size_hw: tuple[int, int]) -> list[list[list[int]]]:
        """Return the classes that can win in each block of pixels.

        Args:
            row_ends: Where one row of blocks ends and the next begins, with 0 and the height.
            col_ends: The same for columns.
            size_hw: Size of the picture in pixels.

        Returns:
            Per row of blocks, per block: ascending positions in the grids, at least one unless the side has none.
        """
        if self._count < 2:
            return [[list(range(self._first, self._first + self._count))] * (len(col_ends) - 1)] * (len(row_ends) - 1)
        rows = [_samples(a, b, size_hw[0]) for a, b in pairwise(row_ends)]
        cols = [_samples(a, b, size_hw[1]) for a, b in pairwise(col_ends)]
        per_row = torch.stack([self._close[:, a:b].any(dim=1) for a, b in rows])  # (rows, classes, COARSE_PX)
        per_block = torch.stack([per_row[:, :, a:b].any(dim=2) for a, b in cols], dim=1).cpu()  # (rows, cols, classes)
        return [[(block.nonzero().squeeze(1) + self._first).tolist() for block in row] for row in per_block]


def _largest_steps(grids: tuple[Tensor, ...]) -> float:
    """Bound how much a class map changes from one coarse sample to the next, along both axes together.

    A bilinear map is steepest between two neighbouring crops of its grid; the mean over the scales is no steeper than
    the mean of their steepest places.
    """
    total = 0.0
    for grid in grids:
        for axis in (1, 2):
            if grid.shape[axis] > 1:
                total += float(grid.diff(dim=axis).abs().amax()) * grid.shape[axis] / COARSE_PX
    return total / len(grids)


def _samples(start: int, stop: int, size: int) -> tuple[int, int]:
    """Return which coarse samples are nearest to some pixel of start..stop, as a half-open range."""
    lower = math.floor((start + 0.5) / size * COARSE_PX - 0.5)
    upper = math.ceil((stop - 0.5) / size * COARSE_PX - 0.5)
    return max(0, lower), min(COARSE_PX, upper + 1)


def _block_ends(size: int) -> list[int]:
    """Cut a side into blocks: not so small that calls cost more than pixels, not so large that many classes meet."""
    count = max(1, min(BLOCKS, size // LEAST_BLOCK_PX))
    return [size * i // count for i in range(count + 1)]
