"""At what size are truth and prediction compared, and how does a truth get there?"""

import numpy as np
from numpy.typing import NDArray


def short_side_size(size_hw: tuple[int, int], short_px: int) -> tuple[int, int]:
    """Return the size, in pixels, that a picture has when its shorter side is brought to `short_px`."""
    scale = short_px / min(size_hw)
    height, width = (max(1, round(side * scale)) for side in size_hw)
    return height, width


def resize_nearest(labels: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a label map to the nearest pixel: output pixel i reads input pixel floor(i * size_in / size_out).

    Args:
        labels: (H, W) uint8.
        size_hw: New height and width.

    Returns:
        (h, w) uint8, holding no value that was not there before.
    """
    rows, cols = (np.arange(out) * into // out for out, into in zip(size_hw, labels.shape, strict=True))
    resized: NDArray[np.uint8] = labels[rows[:, None], cols[None, :]]
    return resized
