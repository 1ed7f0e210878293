"""A photo as the core takes it: its pixels, and the size it really has."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipdiy.errors import ShapeError


@dataclass(frozen=True)
class Photo:
    """One picture, turned upright.

    Attributes:
        pixels: (h, w, 3) uint8, RGB. May be smaller than the original: nothing in the core looks at more than
            `CoreConfig.keep_px` pixels of its longer side.
        size_hw: Height and width of the original in pixels, after its EXIF orientation. The label map has this size.
    """

    pixels: NDArray[np.uint8]
    size_hw: tuple[int, int]

    @classmethod
    def from_array(cls, pixels: NDArray[np.uint8]) -> "Photo":
        """Take an array at its own size.

        Args:
            pixels: (H, W, 3) uint8, RGB.

        Raises:
            ShapeError: If the shape or dtype is another one, or a side is 0.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise ShapeError(
                f"a photo is (H, W, 3) uint8 with H, W >= 1, got shape {pixels.shape} and dtype {pixels.dtype}"
            )
        height, width, _ = pixels.shape
        return cls(pixels, (height, width))
