"""From class probabilities to the label map at the photo's own size."""

import torch
from torch import Tensor

from clipdiy.config import Pamr
from clipdiy.dinoiser.probabilities import ProbabilityField
from clipdiy.pamr import pamr
from clipdiy.scores import expected_iou
from clipdiy.upsample import name_largest, upsampled_argmax

STRIP_VALUES = 2_000_000  # probabilities held at once, 8 MB of float32
CUDA_STRIP_VALUES = 128_000_000


def strip_label_map(field: ProbabilityField, strip_values: int | None = None) -> Tensor:
    """Name the most probable class of every pixel, a strip of rows after the other.

    Memory does not grow with the number of classes times the size of the photo. Classes that win nowhere in a strip
    are not read there: as the probabilities of a pixel sum to at least 1, the largest of C is at least 1/C.

    Args:
        field: Made for the size that the map is to have.
        strip_values: How many probabilities are held at once; by default what suits the device.

    Returns:
        (H, W) int16 on the field's device: the position in the field. A tie goes to the earlier class.
    """
    height, width = field.size_hw
    if strip_values is None:
        strip_values = CUDA_STRIP_VALUES if field.device.type == "cuda" else STRIP_VALUES
    labels = torch.empty(field.size_hw, dtype=torch.int16, device=field.device)
    top = 0
    while top < height:
        # At least a row; the fewer classes can win from here on, the more rows.
        rows = max(1, strip_values // (len(field.winners(top, height)) * width))
        bottom = min(top + rows, height)
        classes = field.winners(top, bottom)
        maps = field.rows(top, bottom, classes)
        labels[top:bottom] = name_largest(maps, classes.tolist())[1]
        top = bottom
    return labels


def direct_label_map(probabilities: Tensor, extent_hw: tuple[float, float], size_hw: tuple[int, int]) -> Tensor:
    """Do the same for the map of one pass, of which only pixels between patches that disagree need be computed.

    Args:
        probabilities: (C, h, w) float32.
        extent_hw: How many rows and columns of the grid the photo covers.
        size_hw: Size of the photo.

    Returns:
        (H, W) int16, as `strip_label_map`.
    """
    names = torch.arange(len(probabilities), dtype=torch.int16, device=probabilities.device)
    return upsampled_argmax(probabilities, names, size_hw, extent_hw)


def refined_label_map(field: ProbabilityField, image: Tensor, size_hw: tuple[int, int], config: Pamr) -> Tensor:
    """Let the masks follow the colours of a reduced picture (PAMR), and bring the result to full size.

    CLIP-DINOiser itself refines nothing by colour. Only classes that win somewhere before the refinement take part.

    Args:
        field: Made for the size of the picture.
        image: The picture, (3, h, w) uint8.
        size_hw: Size of the photo.
        config: For `pamr`.

    Returns:
        (H, W) int16, the position in the field.
    """
    winners = torch.unique(strip_label_map(field)).long()
    if len(winners) == 1:
        return torch.full(size_hw, int(winners[0]), dtype=torch.int16, device=field.device)
    shares = field.rows(0, image.shape[1], winners)
    shares /= shares.sum(dim=0)
    # Refinement keeps sums: the first is what the others leave.
    drawn = pamr(shares[1:], image, config)
    refined = torch.cat([1 - drawn.sum(dim=0, keepdim=True), drawn])
    return upsampled_argmax(refined, winners.to(torch.int16), size_hw)


def class_scores(field: ProbabilityField, positions: Tensor, classes: int) -> Tensor:
    """Say how good each class's mask may be expected to be: an estimate of its IoU, not calibrated.

    As `clipdiy.scores.class_scores`, with the method's own probabilities. Where the background was refined, its
    certainty takes from the others.

    Args:
        field: Made for `SCORE_PX` pixels to a side: scores are sums, and need no more.
        positions: Position in the vocabulary that each class of the field is drawn as, int64.
        classes: How many positions there are, C.

    Returns:
        (C,) float32 in [0, 1]; 0 for a class that wins nothing at this resolution.
    """
    likely = field.rows(0, field.size_hw[0]).flatten(1)
    winner = positions[likely.argmax(dim=0)]
    drawn = torch.zeros(classes, likely.shape[1], device=likely.device).index_add_(0, positions, likely)
    return expected_iou(drawn / drawn.sum(dim=0), winner)
