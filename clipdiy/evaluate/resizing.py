"""At what size are truth and prediction compared, and how does a label map get there?"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Label = TypeVar("Label", np.uint8, np.uint16)


def short_side_size(size_hw: tuple[int, int], short_px: int) -> tuple[int, int]:
    """Return the size, in pixels, that a picture has when its shorter side is brought to `short_px`."""
    scale = short_px / min(size_hw)
    height, width = (max(1, round(side * scale)) for side in size_hw)
    return height, width


def resize_nearest(labels: NDArray[Label], size_hw: tuple[int, int]) -> NDArray[Label]:
    """Resize a label map to the nearest pixel: output pixel i reads input pixel floor(i * size_in / size_out).

    Args:
        labels: (H, W) uint8 or uint16.
        size_hw: New height and width.

    Returns:
        (h, w) of the same dtype, holding no value that was not there before.
    """
    rows, cols = (np.arange(out) * into // out for out, into in zip(size_hw, labels.shape, strict=True))
    resized: NDArray[Label] = labels[rows[:, None], cols[None, :]]
    return resized
