"""Guided segmentation: Eq. 3 and Eq. 4, and the label map at the photo's own size."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from clipdiy.aggregate import as_matrix, bilinear_samples, mean_similarity, similarity_field
from clipdiy.errors import ShapeError
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.upsample import name_largest

STRIP_VALUES = 2_000_000  # class-samples read coarsely at once (8 MB of float32)
CUDA_STRIP_VALUES = 128_000_000  # class-samples held at once on a GPU (512 MB of float32)
COARSE_PX = 64  # class maps are smooth: the finest grid of the paper has 7 cells to a side
BLOCKS = 16  # to a side of the picture
LEAST_BLOCK_PX = 48
NARROW_COLS = 128
SCORE_PX = 64  # scores are sums: they need no more of the maps, and cost a quarter of what 128 would
SCORE_SHARPNESS = 2.0


def guide(similarity: Tensor, objectness: Tensor) -> Tensor:
    """Weight class similarities by how likely each pixel lies on an object.

    CLIP-DIY Eq. 3 and the product inside Eq. 4: channel 0 (background) is multiplied by 1 - objectness, every other
    channel by objectness. A cosine can be negative; multiplying it by a small objectness then *raises* it towards 0.
    The paper does the same. With CLIP's real weights cosines of prompts and photos are positive in practice.

    Args:
        similarity: Mean cosine over the scales (Eq. 2), (C, H, W) float32, in [-1, 1].
        objectness: Foreground probability (not a logit), (H, W) float32, in [0, 1].

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
    return torch.cat([similarity[:1] * (1 - objectness), similarity[1:] * objectness])


class ObjectnessField:
    """An objectness map, ready to be read out at one size, a strip of rows at a time."""

    def __init__(self, objectness: ObjectnessMap, size_hw: tuple[int, int]) -> None:
        """Prepare reading `objectness` at `size_hw`."""
        self._grid = objectness.grid.float()
        self._is_logit = objectness.is_logit
        device = self._grid.device
        rows, cols = (
            tuple(part.to(device) for part in bilinear_samples(size_out, size_in, extent))
            for size_out, size_in, extent in zip(size_hw, self._grid.shape, objectness.extent_hw, strict=True)
        )
        self._rows, self._cols = rows, cols
        # A product with a narrow matrix is faster than reading two columns per pixel; with a wide one it is not.
        narrow = self._grid.shape[1] <= NARROW_COLS
        self._col_matrix = as_matrix(cols, self._grid.shape[1]).T if narrow else None

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


class Candidates:
    """Which foreground classes can be the best one in which part of the picture.

    Objectness is one positive factor for all foreground classes, so it does not change which of them is best, and they
    can be sorted out before it comes in. Class maps are smooth: read at COARSE_PX samples to a side, the map of class c
    and the upper envelope of all maps change from a sample to the points nearest to it by half the largest step between
    neighbouring samples, along each axis. A class that can win at a point therefore comes within

        margin = largest step along the rows + largest step along the columns

    of the best one at the nearest sample. Nothing that can win is left out.
    """

    def __init__(self, grids: tuple[Tensor, ...]) -> None:
        """Read the maps coarsely.

        Args:
            grids: Per scale (C, h, w) float32 cosines, background first.
        """
        field = similarity_field(grids, (COARSE_PX, COARSE_PX))
        classes = field.left.shape[0]
        chunk = max(1, STRIP_VALUES // COARSE_PX**2)
        chunks = [slice(start, min(start + chunk, classes)) for start in range(1, classes, chunk)]
        best = torch.full((COARSE_PX, COARSE_PX), -torch.inf, device=field.left.device)
        for part in chunks:
            best = torch.maximum(best, field.rows(0, COARSE_PX, part).amax(dim=0))
        least = best - _largest_steps(grids) - 1e-6  # for the rounding of float32
        # (C - 1, COARSE_PX, COARSE_PX) bool: 16 kB a class.
        self._close = torch.cat([field.rows(0, COARSE_PX, part) >= least for part in chunks])

    def by_block(self, row_ends: list[int], col_ends: list[int], size_hw: tuple[int, int]) -> list[list[list[int]]]:
        """Return the classes that can win in each block of pixels.

        Args:
            row_ends: Where one row of blocks ends and the next begins, with 0 and the height.
            col_ends: The same for columns.
            size_hw: Size of the picture in pixels.

        Returns:
            Per row of blocks, per block: ascending positions in the vocabulary, at least one, never 0.
        """
        rows = [_samples(a, b, size_hw[0]) for a, b in pairwise(row_ends)]
        cols = [_samples(a, b, size_hw[1]) for a, b in pairwise(col_ends)]
        per_row = torch.stack([self._close[:, a:b].any(dim=1) for a, b in rows])  # (rows, C - 1, COARSE_PX)
        per_block = torch.stack([per_row[:, :, a:b].any(dim=2) for a, b in cols], dim=1).cpu()  # (rows, cols, C - 1)
        return [[(block.nonzero().squeeze(1) + 1).tolist() for block in row] for row in per_block]


def _largest_steps(grids: tuple[Tensor, ...]) -> float:
    """Bound how much a class map changes from one coarse sample to the next, along both axes together.

    A bilinear map is steepest between two neighbouring crops of its grid; the mean over the scales is no steeper than
    the mean of their steepest places.
    """
    total = 0.0
    for grid in grids:
        for axis in (1, 2):
            if grid.shape[axis] > 1:
                total += float(grid[1:].diff(dim=axis).abs().amax()) * grid.shape[axis] / COARSE_PX
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


def full_label_map(grids: tuple[Tensor, ...], objectness: ObjectnessMap | None, size_hw: tuple[int, int]) -> Tensor:
    """Take Eq. 1 to 4 at the photo's own size: the best class of every pixel.

    Class maps and objectness are brought to full size before the argmax, so edges are smooth. The softmax of Eq. 4 has
    no temperature and does not change which class is largest, so it is not computed. Worked block by block, over the
    classes that can win there: neither time nor memory grows with the number of classes times the size of the photo.

    Args:
        grids: Per scale (C, h, w) float32 cosines, background first, C >= 2.
        objectness: How likely each pixel lies on an object; `None` leaves Eq. 3 out (plain argmax of Eq. 2).
        size_hw: Size of the photo.

    Returns:
        (H, W) int16 on the grids' device: the position in the vocabulary. A tie goes to the background, then to the
        earlier class.
    """
    if grids[0].device.type == "cuda":
        return strip_label_map(grids, objectness, size_hw, CUDA_STRIP_VALUES)
    guidance = None if objectness is None else ObjectnessField(objectness, size_hw)
    row_ends, col_ends = _block_ends(size_hw[0]), _block_ends(size_hw[1])
    winners = Candidates(grids).by_block(row_ends, col_ends, size_hw)
    # int16 holds 32,767 classes; Segmentation reads it as uint16 without a copy.
    labels = torch.empty(size_hw, dtype=torch.int16, device=grids[0].device)
    for (top, bottom), row in zip(pairwise(row_ends), winners, strict=True):
        likely = None if guidance is None else guidance.rows(top, bottom)
        field = similarity_field(grids, size_hw, slice(top, bottom))
        for (left, right), classes in zip(pairwise(col_ends), row, strict=True):
            # The rows' part is there already; the columns' part is a product with 11 columns.
            maps = field.left[[0, *classes]] @ field.right[:, left:right]
            ground = maps[0]
            best, named = name_largest(maps[1:], classes)
            if likely is not None:
                here = likely[:, left:right]
                best = best * here
                ground = ground * (1 - here)
            labels[top:bottom, left:right] = named.masked_fill_(best <= ground, 0)
    return labels


def strip_label_map(
    grids: tuple[Tensor, ...], objectness: ObjectnessMap | None, size_hw: tuple[int, int], strip_values: int
) -> Tensor:
    """Do what `full_label_map` does for all classes at once, a strip of rows after the other.

    For a GPU: it reads and writes every class map faster than it could be told which classes to leave out where.

    Args:
        grids: As for `full_label_map`.
        objectness: As for `full_label_map`.
        size_hw: Size of the photo.
        strip_values: How many values of class maps are held at once.

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
        ground, (best, named) = maps[0], maps[1:].max(dim=0)
        if guidance is not None:
            likely = guidance.rows(top, bottom)
            best = best * likely
            ground = ground * (1 - likely)
        labels[top:bottom] = (named + 1).masked_fill_(best <= ground, 0).to(torch.int16)
    return labels


def square_label_map(
    grids: tuple[Tensor, ...], objectness: ObjectnessMap | None, size_hw: tuple[int, int], square_px: int
) -> Tensor:
    """Do it the published way: argmax on the square, then nearest neighbour to the photo's size.

    Args:
        grids: Per scale (C, h, w) float32 cosines, background first.
        objectness: As for `full_label_map`.
        size_hw: Size of the photo.
        square_px: Side of the square.

    Returns:
        (H, W) int16.
    """
    guided = guided_square(grids, objectness, square_px)
    labels = guided.argmax(dim=0).to(torch.int16)
    height, width = size_hw
    rows = torch.div(torch.arange(height) * square_px, height, rounding_mode="floor").to(labels.device)
    cols = torch.div(torch.arange(width) * square_px, width, rounding_mode="floor").to(labels.device)
    return labels[rows[:, None], cols[None, :]]


def guided_square(grids: tuple[Tensor, ...], objectness: ObjectnessMap | None, square_px: int) -> Tensor:
    """Return Eq. 2 and 3 on a square: (C, S, S) float32. Without objectness, Eq. 2 alone."""
    similarity = mean_similarity(grids, (square_px, square_px))
    if objectness is None:
        return similarity
    return guide(similarity, ObjectnessField(objectness, (square_px, square_px)).rows(0, square_px))


def class_scores(grids: tuple[Tensor, ...], objectness: ObjectnessMap | None, logit_scale: float) -> Tensor:
    """Say how good each class's mask may be expected to be.

    Eq. 4 has no temperature: over cosines that differ by hundredths its softmax is nearly flat and says nothing. Here a
    pixel is taken for background with probability 1 - objectness, and else for one of the classes by a softmax of
    their cosines (Eq. 2). With these probabilities p, the score of the class that won the pixels M is

        sum of p inside M / (number of pixels in M + sum of p outside M)

    which estimates the mask's IoU: it rises with every pixel inside that gets surer, and falls with every pixel
    outside that may have been missed. The softmax has twice CLIP's own logit scale, as the mean over crops of
    which most see little of the object pulls the cosines together; twice ranked masks and pictures better than once or
    four times (see benchmarks/scores.py). Not calibrated.

    Args:
        grids: Per scale (C, h, w) float32 cosines, background first, C >= 2.
        objectness: As for `full_label_map`; without it the background is one of the classes of the softmax.
        logit_scale: CLIP's inverse temperature.

    Returns:
        (C,) float32 in [0, 1]; 0 for a class that wins nothing at this resolution.
    """
    side_hw = (SCORE_PX, SCORE_PX)
    similarity = mean_similarity(grids, side_hw)
    sharpened = similarity * (logit_scale * SCORE_SHARPNESS)
    if objectness is None:
        winner = similarity.argmax(dim=0).flatten()
        likely = sharpened.softmax(dim=0).flatten(1)
    else:
        foreground = ObjectnessField(objectness, side_hw).rows(0, SCORE_PX)
        winner = guide(similarity, foreground).argmax(dim=0).flatten()
        likely = torch.cat([(1 - foreground)[None], sharpened[1:].softmax(dim=0) * foreground]).flatten(1)
    classes = likely.shape[0]
    pixels = torch.bincount(winner, minlength=classes)
    inside = torch.zeros(classes, device=likely.device).index_add_(0, winner, likely.gather(0, winner[None])[0])
    outside = (likely.sum(dim=1) - inside).clamp(min=0)  # for the rounding of float32
    return (inside / (pixels + outside).clamp(min=1e-6)).clamp(0, 1)


def picture_score(scores: Tensor, present: Tensor) -> float:
    """Say how good the masks of a picture may be expected to be, in [0, 1]: the mean over the classes that are there.

    Args:
        scores: (C,) float32 in [0, 1], background first.
        present: (C,) bool, which classes have a mask. Where only the background has, its own score counts.
    """
    drawn = scores[1:][present[1:]]
    return float(drawn.mean() if len(drawn) else scores[0])
