"""Which of a few maps is the largest at each pixel, once they are brought to the photo's size?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from clipdiy.aggregate import bilinear_samples

WHOLE_PX = 1_000_000  # smaller photos, and those on a GPU, are upsampled whole: simpler, and no slower


def upsampled_argmax(maps: Tensor, names: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Upsample maps bilinearly (align_corners=False) and name the largest at every pixel; a tie goes to the first.

    Between four neighbouring samples where the same map is the largest, it is the largest everywhere. Only pixels
    between samples that disagree are computed, which on a photo are a few in a hundred.

    Args:
        maps: (K, h, w) float32, K >= 1.
        names: (K,) int16, all different: what stands for each map.
        size_hw: Size of the photo.

    Returns:
        (H, W) int16, on the maps' device.
    """
    if maps.device.type != "cpu" or size_hw[0] * size_hw[1] <= WHOLE_PX:
        return _of_whole_maps(maps, names, size_hw)
    return _between_samples(maps, names, size_hw)


def _of_whole_maps(maps: Tensor, names: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Hold one map of full size at a time."""
    best: Tensor | None = None
    named = torch.full(size_hw, int(names[0]), dtype=torch.int16, device=maps.device)
    for name, one in zip(names.tolist(), maps, strict=True):
        full = F.interpolate(one[None, None], size_hw, mode="bilinear", align_corners=False)[0, 0]
        if best is None:
            best = full
        else:
            named.masked_fill_(full > best, name)
            best = torch.maximum(best, full)
    return named


def _between_samples(maps: Tensor, names: Tensor, size_hw: tuple[int, int]) -> Tensor:
    (height, width), (rows, cols) = maps.shape[1:], size_hw
    upper, lower, down = bilinear_samples(rows, height)
    left, right, across = bilinear_samples(cols, width)
    # Cell (i, j) lies between the samples (i, j), (i, j + 1), (i + 1, j) and (i + 1, j + 1).
    winner = names[maps.argmax(dim=0)]
    below = torch.cat([winner[1:], winner[-1:]])
    beside, across_both = (torch.cat([part[:, 1:], part[:, -1:]], dim=1) for part in (winner, below))
    mixed = (winner != below) | (winner != beside) | (winner != across_both)
    labels = winner[:, left][upper]
    at = mixed[:, left][upper].flatten().nonzero().squeeze(1)
    row = torch.div(at, cols, rounding_mode="floor")
    col = at - row * cols
    y, x = down[row], across[col]
    above, under = upper[row] * width, lower[row] * width
    at_left, at_right = left[col], right[col]
    corners = above + at_left, above + at_right, under + at_left, under + at_right
    best: Tensor | None = None
    named = torch.full((len(at),), int(names[0]), dtype=torch.int16)
    for name, values in zip(names.tolist(), maps.flatten(1), strict=True):
        top_left, top_right, bottom_left, bottom_right = (values[corner] for corner in corners)
        value = torch.lerp(torch.lerp(top_left, top_right, x), torch.lerp(bottom_left, bottom_right, x), y)
        if best is None:
            best = value
        else:
            named.masked_fill_(value > best, name)
            best = torch.maximum(best, value)
    labels.view(-1)[at] = named
    return labels
