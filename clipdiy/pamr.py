"""PAMR: masks that follow the edges of the picture (Araslanov & Roth, CVPR 2020, "pixel-adaptive mask refinement").

Each pixel takes, again and again, the weighted mean of its neighbours' class probabilities; neighbours of like colour
weigh more. `pamr` is the paper's part; `refined_label_map` is its place in CLIP-DIY, after Eq. 4.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipdiy.aggregate import similarity_field
from clipdiy.config import Pamr
from clipdiy.errors import ShapeError
from clipdiy.guide import ObjectnessField, full_label_map, guide
from clipdiy.objectness.found import ObjectnessMap

CHUNK_VALUES = 4_000_000  # mask values refined at once, 16 MB of float32


def pamr(masks: Tensor, image: Tensor, config: Pamr) -> Tensor:
    """Refine masks by the local affinities of an image.

    The affinity of pixel i to its neighbour j is a softmax, over all neighbours at all dilations, of

        k(i, j) = - mean over channels of |x_i - x_j| / (temperature * sigma_i)

    with sigma_i the standard deviation of the neighbours' intensities. Masks become m_i <- sum_j affinity(i, j) m_j.
    Beyond the border the outermost pixels are repeated.

    Where we leave the paper: the temperature is a number of the configuration. Memory is 8 float32 per dilation and
    pixel for the affinities, and a bounded number of mask values at once; no neighbourhood is ever unfolded.

    Args:
        masks: Class probabilities, (C, H, W) float32.
        image: (3, H, W) float32 in [0, 1] or uint8.
        config: Dilations, number of iterations, temperature.

    Returns:
        (C, H, W) float32, within the range of the masks; sums over C are kept.

    Raises:
        ShapeError: If the sizes differ.
    """
    if masks.ndim != 3 or image.ndim != 3 or masks.shape[1:] != image.shape[1:]:
        raise ShapeError(f"masks (C, H, W) need an image (3, H, W), got {tuple(masks.shape)} and {tuple(image.shape)}")
    values = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    affinity = local_affinity(values, config)
    chunk = max(1, CHUNK_VALUES // masks[0].numel())
    return torch.cat([_iterate(part, affinity, config) for part in masks.float().split(chunk)])


def local_affinity(image: Tensor, config: Pamr) -> Tensor:
    """Return the weight of each neighbour, (8 * dilations, H, W) float32, summing to 1 at each pixel.

    Args:
        image: (channels, H, W) float32.
        config: Dilations and temperature.
    """
    count = 8 * len(config.dilations)
    total, square = torch.zeros_like(image), torch.zeros_like(image)
    for neighbour in _neighbours(image, config.dilations):
        difference = neighbour - image  # its spread is that of the neighbours, without cancelling large numbers
        total += difference
        square += difference * difference
    variance = (square - total * total / count).clamp_(min=0) / count
    scale = 1 / (config.temperature * variance.sqrt() + 1e-6)
    logits = torch.empty(count, *image.shape[1:], device=image.device)
    for i, neighbour in enumerate(_neighbours(image, config.dilations)):
        torch.mean((neighbour - image).abs_().mul_(scale), dim=0, out=logits[i])
    return logits.neg_().softmax(dim=0)


def _iterate(masks: Tensor, affinity: Tensor, config: Pamr) -> Tensor:
    for _ in range(config.iterations):
        refined = torch.zeros_like(masks)
        for weight, neighbour in zip(affinity, _neighbours(masks, config.dilations), strict=True):
            refined.addcmul_(neighbour, weight)
        masks = refined
    return masks


def _neighbours(values: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Yield (channels, H, W) views: the neighbour of every pixel in each of 8 directions, at each dilation."""
    reach = max(dilations)
    padded = F.pad(values.unsqueeze(0), (reach,) * 4, mode="replicate").squeeze(0)
    height, width = values.shape[1:]
    for dilation in dilations:
        for down in (-dilation, 0, dilation):
            for right in (-dilation, 0, dilation):
                if down or right:
                    top, left = reach + down, reach + right
                    yield padded[:, top : top + height, left : left + width]


def refined_label_map(
    grids: tuple[Tensor, ...],
    objectness: ObjectnessMap | None,
    image: Tensor,
    size_hw: tuple[int, int],
    logit_scale: float,
    config: Pamr,
) -> Tensor:
    """Take Eq. 1 to 4 at the size of a reduced picture, refine there, and bring the result to full size.

    Only classes that win somewhere before the refinement take part. Probabilities are the softmax under CLIP's logit
    scale (that of Eq. 4 is nearly flat); they are upsampled bilinearly before the argmax.

    Args:
        grids: Per scale (C, h, w) float32 cosines, background first.
        objectness: As for `full_label_map`.
        image: The picture, (3, H', W') uint8.
        size_hw: Size of the photo.
        logit_scale: CLIP's inverse temperature.
        config: For `pamr`.

    Returns:
        (H, W) int16, position in the vocabulary.
    """
    height, width = image.shape[1:]
    labels = full_label_map(grids, objectness, (height, width))
    winners = torch.unique(torch.cat([labels.new_zeros(1), labels.flatten()])).long()
    guided = similarity_field(grids, (height, width)).rows(0, height, winners)
    if objectness is not None:
        guided = guide(guided, ObjectnessField(objectness, (height, width)).rows(0, height))
    refined = pamr((guided * logit_scale).softmax(dim=0), image, config)
    best = torch.full(size_hw, -1.0, device=refined.device)
    named = torch.zeros(size_hw, dtype=torch.int16, device=refined.device)
    for position, mask in zip(winners.tolist(), refined, strict=True):
        full = F.interpolate(mask[None, None], size_hw, mode="bilinear", align_corners=False)[0, 0]
        named.masked_fill_(full > best, position)
        best = torch.maximum(best, full)
    return named
