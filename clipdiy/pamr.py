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
from clipdiy.guide import ObjectnessField, guide
from clipdiy.label_maps import full_label_map
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.upsample import upsampled_argmax

CHUNK_VALUES = 4_000_000  # mask values refined at once, 16 MB of float32
LEAST_SCALE = 1e-8  # added to temperature * sigma, against dividing by 0


def pamr(masks: Tensor, image: Tensor, config: Pamr) -> Tensor:
    """Refine masks by the local affinities of an image.

    The affinity of pixel i to its neighbour j is a softmax, over all neighbours at all dilations, of

        k(i, j) = - mean over channels of |x_i - x_j| / (temperature * sigma_i + 1e-8)

    with sigma_i the standard deviation of the intensities around i. Masks become m_i <- sum_j affinity(i, j) m_j.
    Beyond the border the outermost pixels are repeated.

    As in the authors' program (temperature 0.1, dilations 1, 2, 4, 8, 12, 24, ten iterations), sigma_i is unbiased and
    taken over squares of 3x3, so that pixel i itself counts once for each dilation.
    Where we leave the program: masks are not resized here, and memory is 8 float32 per dilation and pixel for the
    affinities, and a bounded number of mask values at once; no neighbourhood is ever unfolded.

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
    chunk = max(1, CHUNK_VALUES // masks[0].numel())
    if values.device.type == "cuda":
        around = affinity_around(values, config)
        return torch.cat([_iterate_around(part, around, config) for part in masks.float().split(chunk)])
    affinity, total = local_affinity(values, config)
    share = total.reciprocal_()
    return torch.cat([_iterate(part, affinity, share, config) for part in masks.float().split(chunk)])


def local_affinity(image: Tensor, config: Pamr) -> tuple[Tensor, Tensor]:
    """Return how much each neighbour weighs, and the sum of a pixel's weights, by which they are to be divided.

    Args:
        image: (channels, H, W) float32.
        config: Dilations and temperature.

    Returns:
        (8 * dilations, H, W) float32 in [0, 1], the largest of each pixel 1, and (H, W) float32, at least 1.
    """
    count = 8 * len(config.dilations)
    size_hw = image.shape[1:]
    neighbours = list(_neighbours(_padded(image, config), size_hw, config.dilations))
    # Everything is written into the same few places: fresh memory costs more here than the arithmetic.
    difference, square = torch.empty_like(image), torch.empty_like(image)
    total, squares = torch.zeros_like(image), torch.zeros_like(image)
    for neighbour in neighbours:
        torch.sub(neighbour, image, out=difference)  # its spread is that of the neighbours, without large numbers
        total += difference
        squares += torch.mul(difference, difference, out=square)
    # The pixel itself differs from itself by 0: it adds to the number alone.
    members = 9 * len(config.dilations)
    variance = squares.sub_(total.square_().div_(members)).clamp_(min=0).div_(members - 1)
    # The mean over the channels as a sum of shares.
    scale = variance.sqrt_().mul_(config.temperature).add_(LEAST_SCALE).mul_(len(image)).reciprocal_()
    weights = torch.empty(count, *size_hw, device=image.device)
    for neighbour, weight in zip(neighbours, weights, strict=True):
        torch.sub(neighbour, image, out=difference)
        torch.sum(difference.abs_().mul_(scale), dim=0, out=weight)
    nearest = weights.amin(dim=0)
    sums = torch.zeros(size_hw, device=image.device)
    for weight in weights:
        sums += torch.sub(nearest, weight, out=weight).exp_()
    return weights, sums


def _iterate(masks: Tensor, affinity: Tensor, share: Tensor, config: Pamr) -> Tensor:
    size_hw = masks.shape[1:]
    padded = _padded(masks, config)
    refined = torch.empty_like(masks)
    for iteration in range(config.iterations):
        if iteration:
            _pad_with(padded, refined, config)
        refined.zero_()
        for weight, neighbour in zip(affinity, _neighbours(padded, size_hw, config.dilations), strict=True):
            refined.addcmul_(neighbour, weight)
        refined *= share
    return refined


def affinity_around(image: Tensor, config: Pamr) -> Tensor:
    """Return how much each neighbour weighs, all neighbours of one distance at once.

    For a GPU, which needs longer to be told of each of the neighbours than to go through them: the same numbers as
    `local_affinity`'s, divided by their sum.

    Args:
        image: (channels, H, W) float32.
        config: Dilations and temperature.

    Returns:
        (dilations, 3, 3, H, W) float32; 0 for the pixel itself, and 1 in all.
    """
    padded, here = _padded(image, config), image[:, None, None]
    size_hw = image.shape[1:]
    differences = torch.stack([_around(padded, size_hw, dilation) - here for dilation in config.dilations], dim=1)
    # The pixel itself is in each square of 3x3, and differs from itself by 0.
    members = 9 * len(config.dilations)
    sums, squares = differences.sum(dim=(1, 2, 3)), differences.square().sum(dim=(1, 2, 3))
    variance = (squares - sums.square() / members).clamp_(min=0) / (members - 1)
    scale = (variance.sqrt() * config.temperature + LEAST_SCALE) * len(image)
    distances = (differences.abs_() / scale[:, None, None, None]).sum(dim=0)
    distances[:, 1, 1] = torch.inf  # no neighbour
    weights = (distances.amin(dim=(0, 1, 2)) - distances).exp_()
    return weights.div_(weights.sum(dim=(0, 1, 2)))


def _iterate_around(masks: Tensor, affinity: Tensor, config: Pamr) -> Tensor:
    size_hw = masks.shape[1:]
    for _ in range(config.iterations):
        padded, refined = _padded(masks, config), torch.zeros_like(masks)
        for dilation, weights in zip(config.dilations, affinity, strict=True):
            refined += (_around(padded, size_hw, dilation) * weights).sum(dim=(1, 2))
        masks = refined
    return masks


def _around(padded: Tensor, size_hw: Sequence[int], dilation: int) -> Tensor:
    """Return a (channels, 3, 3, H, W) view: what is above, here and below, each of it left, here and right."""
    height, width = size_hw
    first = (padded.shape[1] - height) // 2 - dilation
    by_channel, by_row, by_col = padded.stride()
    return padded.as_strided(
        (len(padded), 3, 3, height, width),
        (by_channel, dilation * by_row, dilation * by_col, by_row, by_col),
        padded.storage_offset() + first * (by_row + by_col),
    )


def _padded(values: Tensor, config: Pamr) -> Tensor:
    """Return (channels, H + 2 reach, W + 2 reach): the outermost pixels repeated as far as any neighbour is away."""
    reach = max(config.dilations)
    return F.pad(values.unsqueeze(0), (reach,) * 4, mode="replicate").squeeze(0)


def _pad_with(padded: Tensor, values: Tensor, config: Pamr) -> None:
    """Do what `_padded` does into memory that is there already."""
    reach = max(config.dilations)
    padded[:, reach:-reach, reach:-reach] = values
    padded[:, reach:-reach, :reach] = values[:, :, :1]
    padded[:, reach:-reach, -reach:] = values[:, :, -1:]
    padded[:, :reach] = padded[:, reach : reach + 1]
    padded[:, -reach:] = padded[:, -reach - 1 : -reach]


def _neighbours(padded: Tensor, size_hw: Sequence[int], dilations: Sequence[int]) -> Iterator[Tensor]:
    """Yield (channels, H, W) views: the neighbour of every pixel in each of 8 directions, at each dilation."""
    reach = max(dilations)
    height, width = size_hw
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
    ground: int = 1,
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
        ground: How many of the first classes are on the background's side; see `guide`.

    Returns:
        (H, W) int16, position in the grids.
    """
    height, width = image.shape[1:]
    labels = full_label_map(grids, objectness, (height, width), ground)
    winners = torch.unique(torch.cat([labels.new_zeros(1), labels.flatten()])).long()
    if len(winners) == 1:
        return torch.zeros(size_hw, dtype=torch.int16, device=labels.device)
    guided = similarity_field(grids, (height, width)).rows(0, height, winners)
    if objectness is not None:
        lying = int((winners < ground).sum())
        guided = guide(guided, ObjectnessField(objectness, (height, width)).rows(0, height), lying)
    # Refinement keeps sums: the background is what the others leave.
    drawn = pamr((guided * logit_scale).softmax(dim=0)[1:], image, config)
    refined = torch.cat([1 - drawn.sum(dim=0, keepdim=True), drawn])
    return upsampled_argmax(refined, winners.to(torch.int16), size_hw)
