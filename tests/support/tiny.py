"""Networks small enough for unit tests: those that the golden files were made with, and a configuration around them."""

from pathlib import Path

import numpy as np
import torch

from clipdiy.config import CleanUp, CoreConfig, CropGrid, ObjectnessConfig
from clipdiy.photo import Photo
from clipdiy.vocabulary import make_vocabulary

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden"
TINY = CoreConfig(
    clip=f"local-dir:{GOLDEN / 'tiny_clip'}",
    found=f"local-dir:{GOLDEN / 'tiny_found'}",
    grid=CropGrid(patch_px=(256, 128)),
    objectness=ObjectnessConfig(square_px=64),
    clean_up=CleanUp(0),
    device="cpu",
)
VOCABULARY = make_vocabulary(["cat", "dog", "sofa"])


def photo(seed: int, height: int, width: int) -> Photo:
    """Return coarse noise, so that crops differ."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    rows, cols = np.arange(height) * 6 // height, np.arange(width) * 6 // width
    return Photo.from_array(np.ascontiguousarray(small[rows][:, cols]))


def random_grids(seed: int, classes: int, sides: tuple[int, ...] = (1, 3, 7)) -> tuple[torch.Tensor, ...]:
    """Return cosines of crops with classes, per scale (classes, side, side), in [0, 0.4)."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(classes, side, side, generator=generator) * 0.4 for side in sides)
