"""Which crops of the square image CLIP sees, and how they become its input.

`crop_boxes` is pure geometry: sizes in, boxes out. `cut_crops` touches pixels.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from clipdiy.config import CropGrid
from clipdiy.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class CropBoxes:
    """The crops of one scale.

    Attributes:
        patch_px: Side of every crop, in pixels of the square.
        stride_px: Distance between neighbouring crops.
        grid_hw: Rows and columns of crops.
        boxes_xyxy: (N, 4) int64, left, top, right, bottom with right and bottom exclusive; row by row.
    """

    patch_px: int
    stride_px: int
    grid_hw: tuple[int, int]
    boxes_xyxy: Tensor


def crop_boxes(square_px: int, patch_px: int, stride_px: int) -> CropBoxes:
    """Lay a grid of crops over a square image (CLIP-DIY section 3.1, "multi-scale image partitioning").

    With stride equal to the patch size this is the paper's partition; with half of it, neighbouring crops overlap by
    half, which is what the published numbers were made with. Only whole crops are made; sizes with which they would
    leave a strip at the right and bottom uncovered are an error.

    Args:
        square_px: Side of the image in pixels.
        patch_px: Side of the crops in pixels, at most `square_px`.
        stride_px: Step between crops in pixels, at least 1.

    Raises:
        ConfigError: If the crops do not cover the square to its last pixel.
    """
    if not 1 <= stride_px <= patch_px <= square_px:
        raise ConfigError(
            f"crops need 1 <= stride <= patch <= square, got stride {stride_px}, patch {patch_px}, square {square_px}"
        )
    steps, rest = divmod(square_px - patch_px, stride_px)
    if rest:
        raise ConfigError(
            f"crops of {patch_px} px with stride {stride_px} leave {rest} px of a {square_px} px square uncovered; "
            f"choose sizes where (square - patch) is a multiple of the stride"
        )
    starts = torch.arange(steps + 1) * stride_px
    top, left = torch.meshgrid(starts, starts, indexing="ij")
    corners = torch.stack([left.flatten(), top.flatten()], dim=1)
    return CropBoxes(patch_px, stride_px, (steps + 1, steps + 1), torch.cat([corners, corners + patch_px], dim=1))


def scale_boxes(grid: CropGrid) -> tuple[CropBoxes, ...]:
    """Return the crops of every scale of a grid, in the order of `grid.patch_px`.

    Raises:
        ConfigError: If the crops of a scale do not cover the square.
    """
    return tuple(
        crop_boxes(grid.square_px, patch_px, max(1, round(patch_px * grid.stride_ratio))) for patch_px in grid.patch_px
    )


def resize_uint8(images: Tensor, size_hw: tuple[int, int], mode: str) -> Tensor:
    """Resize as Pillow does: with antialiasing, to whole intensities.

    On the CPU torch resizes uint8 tensors with Pillow's own fixed-point arithmetic. CUDA has no uint8 kernel: see
    `resize_in_float`.

    Args:
        images: (B, 3, H, W) uint8.
        size_hw: New height and width in pixels.
        mode: `bilinear` or `bicubic`.

    Returns:
        (B, 3, h, w) uint8.
    """
    if images.shape[-2:] == size_hw:
        return images
    if images.device.type == "cpu":
        return F.interpolate(images, size_hw, mode=mode, align_corners=False, antialias=True)
    return resize_in_float(images, size_hw, mode)


def resize_in_float(images: Tensor, size_hw: tuple[int, int], mode: str) -> Tensor:
    """Do what `resize_uint8` does where torch has no uint8 kernel: along the rows first, then along the columns.

    Each pass is a product with a matrix of torch's own weights: on a GPU faster than torch's kernel for float32.
    Values are rounded and clipped between the two passes, as Pillow does it. Without that the
    overshoot of one bicubic pass would enter the other, and for noise the result would differ from Pillow's by more
    than 10 of 255. With it the two differ by 1, at single pixels by 2, as Pillow's weights are fixed-point numbers.

    Args:
        images: (B, 3, H, W) uint8.
        size_hw: New height and width in pixels.
        mode: `bilinear` or `bicubic`.

    Returns:
        (B, 3, h, w) uint8.
    """
    height, width = size_hw
    values = images.float().flatten(0, 1)
    if values.shape[2] != width:
        weights = resizing_weights(values.shape[2], width, mode, images.device)
        values = (values @ weights.T).round_().clamp_(0, 255)
    if values.shape[1] != height:
        weights = resizing_weights(values.shape[1], height, mode, images.device)
        values = torch.bmm(weights.expand(len(values), -1, -1), values).round_().clamp_(0, 255)
    return values.to(torch.uint8).reshape(*images.shape[:2], height, width)


@lru_cache(maxsize=32)
def resizing_weights(size_in: int, size_out: int, mode: str, device: torch.device) -> Tensor:
    """Return how much of each sample every new one takes, (size_out, size_in) float32 on a device: rows that sum to 1.

    Args:
        size_in: Number of samples.
        size_out: Number of new ones.
        mode: `bilinear` or `bicubic`, with antialiasing.
        device: Where the product is to be taken.
    """
    with torch.inference_mode(False):  # kept for whoever asks next
        alone = torch.eye(size_in)[None, :, None]  # each sample is an image of one row that holds nothing else
        weights = F.interpolate(alone, (1, size_out), mode=mode, align_corners=False, antialias=True)
        return weights[0, :, 0].T.contiguous().to(device)


def squares_of(images: Sequence[Tensor], square_px: int) -> Tensor:
    """Squash images to the square that is cut into crops, those of one size together; the aspect ratio is not kept.

    Bilinear with antialiasing: without it a large photo would alias. The published numbers come from images of 500 px,
    for which the two hardly differ.

    Args:
        images: (3, H, W) uint8 each, of any sizes, at least one.
        square_px: Side of the square.

    Returns:
        (len(images), 3, square_px, square_px) uint8.
    """
    by_size: defaultdict[torch.Size, list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        by_size[image.shape].append(i)
    squares = torch.empty(len(images), 3, square_px, square_px, dtype=torch.uint8, device=images[0].device)
    for members in by_size.values():
        same = torch.stack([images[i] for i in members])
        resized = resize_uint8(same, (square_px, square_px), "bilinear")
        if len(members) == len(images):
            return resized
        squares[members] = resized
    return squares


def cut_crops(squares: Tensor, boxes: CropBoxes, input_px: int) -> Tensor:
    """Cut one scale's crops out of square images and resize each to the size CLIP takes.

    Crops are resized as whole images of their own (no pixel from outside a crop enters it): antialiased bicubic on
    uint8, as CLIP's own Pillow preprocessing does.

    Args:
        squares: (B, 3, S, S) uint8.
        boxes: Crops of one scale, made for the same S.
        input_px: Side of CLIP's input in pixels.

    Returns:
        (B, N, 3, input_px, input_px) uint8; N in the order of `boxes.boxes_xyxy`.

    Raises:
        ShapeError: If `squares` is not a batch of uint8 squares that the boxes fit.
    """
    side = int(boxes.boxes_xyxy[-1, 2])
    if squares.ndim != 4 or squares.dtype != torch.uint8 or squares.shape[1:] != (3, side, side):
        raise ShapeError(f"crops are cut from (B, 3, {side}, {side}) uint8, got {tuple(squares.shape)} {squares.dtype}")
    patch, stride = boxes.patch_px, boxes.stride_px
    windows = squares.unfold(2, patch, stride).unfold(3, patch, stride)  # (B, 3, rows, cols, P, P), a view
    crops = windows.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)  # (B, N, 3, P, P)
    resized = resize_uint8(crops.flatten(0, 1), (input_px, input_px), "bicubic")
    return resized.reshape(*crops.shape[:3], input_px, input_px)
