"""What a segmented image looks like."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Segmentation:
    """The classes of one image, pixel by pixel.

    Attributes:
        label_map: (H, W) uint16 at the photo's own size; the value is the position in the vocabulary, 0 = background.
            Every pixel has exactly one class.
        area: (C,) float64, share of the picture that each class covers, in [0, 1]; sums to 1.
        score: (C,) float32, in [0, 1]: how good the class's mask may be expected to be, an estimate of its IoU that is
            not calibrated; 0 for a class that is not there. See `clipdiy.scores.class_scores`.
        image_score: In [0, 1], one number for the picture: the mean score of the classes that are there (of the
            background, if nothing else is). Low where a person should look first.
    """

    label_map: NDArray[np.uint16]
    area: NDArray[np.float64]
    score: NDArray[np.float32]
    image_score: float

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.label_map.shape
        return height, width

    @property
    def present(self) -> tuple[int, ...]:
        """Positions of the classes (background left out) that cover at least one pixel."""
        return tuple(int(c) for c in np.flatnonzero(self.area) if c != 0)
