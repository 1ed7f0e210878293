"""Which of a few maps is the largest at each pixel, once they are brought to the photo's size?"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipdiy.aggregate import as_matrix, bilinear_samples

WHOLE_PX = 1_000_000  # smaller photos, and those on a GPU, are upsampled whole: simpler, and no slower


def upsampled_argmax(
    maps: Tensor, names: Tensor, size_hw: tuple[int, int], extent_hw: tuple[float, float] | None = None
) -> Tensor:
    """Upsample maps bilinearly (align_corners=False) and name the largest at every pixel; a tie goes to the first.

    Between four neighbouring samples where the same map is the largest, it is the largest everywhere. Only pixels
    between samples that disagree are computed, which on a photo are a few in a hundred. Maps that can be the largest
    nowhere are not upsampled at all.

    Args:
        maps: (K, h, w) float32, K >= 1.
        names: (K,) int16, all different: what stands for each map.
        size_hw: Size of the photo.
        extent_hw: How many rows and columns of samples the photo covers, from the top left; all by default.

    Returns:
        (H, W) int16, on the maps' device.
    """
    kept = can_be_largest(maps)
    maps, names = maps[kept], names[kept]
    extent_hw = extent_hw or (maps.shape[1], maps.shape[2])
    if maps.device.type != "cpu" or size_hw[0] * size_hw[1] <= WHOLE_PX:
        return _of_whole_maps(maps, names, size_hw, extent_hw)
    return _between_samples(maps, names, size_hw, extent_hw)


def can_be_largest(maps: Tensor) -> Tensor:
    """Return which maps can be the largest somewhere once they are upsampled bilinearly.

    Between four samples a map is nowhere above the largest of its own. The largest map is nowhere below the smallest
    sample of any, nor, counted from the least of all values, below a quarter of what is the largest map at a corner:
    one of the corners weighs that much.

    Args:
        maps: (K, h, w) float32, K >= 1.

    Returns:
        Ascending positions, int64, at least one.
    """
    window = min(2, maps.shape[1]), min(2, maps.shape[2])
    highest, lowest = F.max_pool2d(maps[None], window, 1)[0], -F.max_pool2d(-maps[None], window, 1)[0]
    floor = maps.min()
    corner = -F.max_pool2d(-maps.amax(dim=0)[None], window, 1)[0]
    least = torch.maximum(lowest.amax(dim=0), floor + (corner - floor) / 4)
    least = least - 1e-6 * least.abs().clamp(min=1)  # for the rounding of float32
    return torch.nonzero((highest >= least).flatten(1).any(dim=1)).squeeze(1)


def name_largest(values: Iterable[Tensor], names: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Go through maps one by one and keep the largest; a tie goes to the first.

    Args:
        values: At least one, all of one shape, float32. Only two are held at a time.
        names: What stands for each, within int16.

    Returns:
        The largest values, and int16 of their names.
    """
    best: Tensor | None = None
    for name, value in zip(names, values, strict=True):
        if best is None:
            best, named = value, torch.full(value.shape, name, dtype=torch.int16, device=value.device)
        else:
            named.masked_fill_(value > best, name)
            best = torch.maximum(best, value)
    assert best is not None, "at least one"
    return best, named


def _of_whole_maps(maps: Tensor, names: Tensor, size_hw: tuple[int, int], extent_hw: tuple[float, float]) -> Tensor:
    if extent_hw == tuple(maps.shape[1:]):
        full = (F.interpolate(one[None, None], size_hw, mode="bilinear", align_corners=False)[0, 0] for one in maps)
        return name_largest(full, names.tolist())[1]
    down, across = (
        as_matrix(bilinear_samples(size_out, size_in, extent), size_in).to(maps.device)
        for size_out, size_in, extent in zip(size_hw, maps.shape[1:], extent_hw, strict=True)
    )
    return name_largest((down @ one @ across.T for one in maps), names.tolist())[1]


def _between_samples(maps: Tensor, names: Tensor, size_hw: tuple[int, int], extent_hw: tuple[float, float]) -> Tensor:
    (height, width), (rows, cols) = maps.shape[1:], size_hw
    upper, lower, down = bilinear_samples(rows, height, extent_hw[0])
    left, right, across = bilinear_samples(cols, width, extent_hw[1])
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

    def value(one: Tensor) -> Tensor:
        top_left, top_right, bottom_left, bottom_right = (one[corner] for corner in corners)
        return torch.lerp(torch.lerp(top_left, top_right, x), torch.lerp(bottom_left, bottom_right, x), y)

    labels.view(-1)[at] = name_largest((value(one) for one in maps.flatten(1)), names.tolist())[1]
    return labels
