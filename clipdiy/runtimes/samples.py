"""Pictures to calibrate and to check a runtime with: the starter's drawn scenes, the same on every machine.

They are drawings and not photos, but they have objects, edges and backgrounds in all colours, which noise has not: it
is these that a tower's activations depend on.
"""

from functools import cache

import torch
from torch import Tensor

from clipdiy.config import CropGrid
from clipdiy.crops import cut_crops, scale_boxes, squares_of
from clipdiy.objectness.found import prepare

SIZES_HW = ((320, 480), (480, 320), (256, 256))
CROPS_PER_SCENE = 12


def sample_crops(scene: int, input_px: int) -> Tensor:
    """Return crops of all scales of one scene, (CROPS_PER_SCENE, 3, input_px, input_px) uint8."""
    grid = CropGrid()
    square = squares_of([sample_picture(scene)], grid.square_px)
    crops = torch.cat([cut_crops(square, boxes, input_px)[0] for boxes in scale_boxes(grid)])
    return crops[torch.linspace(0, len(crops) - 1, CROPS_PER_SCENE).round().long()]


def sample_images(scene: int, side_px: int, patch_px: int) -> Tensor:
    """Return one scene as FOUND sees it, (1, 3, side_px, side_px) float32."""
    return prepare(sample_picture(scene), (side_px, side_px), patch_px)[None]


@cache
def sample_picture(scene: int) -> Tensor:
    """Return one scene, (3, H, W) uint8."""
    from clipdiy.starter.scenes import compose_scene

    pixels = compose_scene(scene, size_hw=SIZES_HW[scene % len(SIZES_HW)]).image
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
