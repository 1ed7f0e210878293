"""Guided segmentation: Eq. 3 and Eq. 4, and the label map at the photo's own size."""

import torch
from torch import Tensor

from clipdiy.aggregate import SimilarityField, bilinear_samples, mean_similarity, similarity_field
from clipdiy.errors import ShapeError
from clipdiy.objectness.found import ObjectnessMap

STRIP_VALUES = 2_000_000  # class-pixels held at once (8 MB of float32), whatever the size of the photo
CANDIDATE_PX = 128  # class maps are smooth: the finest grid of the paper has 7 cells to a side
CANDIDATE_MARGIN = 0.002  # cosine


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
        self._rows, self._cols = (
            tuple(part.to(device) for part in bilinear_samples(size_out, size_in, extent))
            for size_out, size_in, extent in zip(size_hw, self._grid.shape, objectness.extent_hw, strict=True)
        )

    def rows(self, start: int, stop: int) -> Tensor:
        """Return (stop - start, W) float32 in [0, 1]."""
        lower, upper, share = (part[start:stop] for part in self._rows)
        values = torch.lerp(self._grid[lower], self._grid[upper], share[:, None])
        lower, upper, share = self._cols
        values = torch.lerp(values[:, lower], values[:, upper], share)
        return values.sigmoid() if self._is_logit else values.clamp(0, 1)


def candidate_classes(grids: tuple[Tensor, ...], margin: float = CANDIDATE_MARGIN) -> Tensor:
    """Find the foreground classes that may be the best one somewhere.

    Objectness is one positive factor for all of them, so it does not change which is best. A class is kept if on a
    coarse reading of the maps it comes within `margin` of the best one anywhere; between two readings a bilinear map
    moves by less than that.

    Args:
        grids: Per scale (C, h, w) float32 cosines, background first.
        margin: Cosine by which a class may fall short.

    Returns:
        (K,) int64, ascending positions, K >= 1, never 0.
    """
    side = min(CANDIDATE_PX, 16 * max(grid.shape[1] for grid in grids))
    field = similarity_field(grids, (side, side))
    classes = field.left.shape[0]
    chunk = max(1, STRIP_VALUES // (side * side))
    best = torch.full((side, side), -torch.inf, device=field.left.device)
    for start in range(1, classes, chunk):
        best = torch.maximum(best, field.rows(0, side, slice(start, start + chunk)).amax(dim=0))
    close = [
        (field.rows(0, side, slice(start, start + chunk)) >= best - margin).flatten(1).any(dim=1)
        for start in range(1, classes, chunk)
    ]
    return torch.cat(close).nonzero().squeeze(1) + 1


def full_label_map(grids: tuple[Tensor, ...], objectness: ObjectnessMap | None, size_hw: tuple[int, int]) -> Tensor:
    """Take Eq. 1 to 4 at the photo's own size: the best class of every pixel.

    Class maps and objectness are brought to full size before the argmax, so edges are smooth. The softmax of Eq. 4 has
    no temperature and does not change which class is largest, so it is not computed. Worked in strips of rows, over the
    classes that may win somewhere: memory does not grow with the number of classes times the size of the photo.

    Args:
        grids: Per scale (C, h, w) float32 cosines, background first, C >= 2.
        objectness: How likely each pixel lies on an object; `None` leaves Eq. 3 out (plain argmax of Eq. 2).
        size_hw: Size of the photo.

    Returns:
        (H, W) int16 on the grids' device: the position in the vocabulary. A tie goes to the background, then to the
        earlier class.
    """
    height, width = size_hw
    field = similarity_field(grids, size_hw)
    candidates = candidate_classes(grids)
    foreground = SimilarityField(field.left[candidates], field.right)
    background = SimilarityField(field.left[:1], field.right)
    guidance = None if objectness is None else ObjectnessField(objectness, size_hw)
    labels = torch.empty(size_hw, dtype=torch.int16, device=field.left.device)
    # int16 holds 32,767 classes; Segmentation widens to uint16 without a copy.
    names = candidates.to(torch.int16)
    strip = max(1, STRIP_VALUES // (len(candidates) * width))
    for start in range(0, height, strip):
        stop = min(start + strip, height)
        best, which = foreground.rows(start, stop).max(dim=0)
        ground = background.rows(start, stop)[0]
        if guidance is not None:
            likely = guidance.rows(start, stop)
            best = best * likely
            ground = ground * (1 - likely)
        labels[start:stop] = torch.where(best > ground, names[which], 0)
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


def class_scores(guided: Tensor, logit_scale: float) -> tuple[Tensor, float]:
    """Say how sure the model is of each class where it put it, and of the picture.

    Eq. 4 has no temperature: over cosines that differ by hundredths its softmax is nearly flat and says nothing. A
    person is shown the softmax under CLIP's own logit scale instead, averaged over the pixels the class won.

    Args:
        guided: Guided similarities, (C, S, S) float32.
        logit_scale: CLIP's inverse temperature.

    Returns:
        (C,) float32 in [0, 1]: for a class that won no pixel here its largest probability (it may still win some at
        full size); and the picture's score in [0, 1]: the mean over all pixels that are not sure background, low
        where classes compete.
    """
    probability = (guided * logit_scale).softmax(dim=0)
    best, winner = probability.max(dim=0)
    classes = guided.shape[0]
    count = torch.bincount(winner.flatten(), minlength=classes)
    total = torch.zeros(classes, device=guided.device).index_add_(0, winner.flatten(), best.flatten())
    score = torch.where(count > 0, total / count.clamp(min=1), probability.flatten(1).amax(dim=1))
    # Weigh a pixel by how little it is background, so a large empty background does not drown a doubtful object.
    weight = 1 - probability[0] + 1e-3
    image_score = float((best * weight).sum() / weight.sum())
    return score.clamp(0, 1), min(max(image_score, 0.0), 1.0)
