"""What a form of mask writes: the shapes that a label map has in it. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.labeling.controls import MaskControl


@dataclass(frozen=True)
class Shape:
    """One shape in Label Studio's form.

    Attributes:
        position: Which class of the label map it is of.
        value: The fields of a result's `value`, without its label.
        number: Which part of that class it is, where each has a shape of its own; 0 for the first.
        left_out: With the first part: how many parts of the class have no shape, because they are too many.
    """

    position: int
    value: dict[str, Any]
    number: int = 0
    left_out: int = 0


Writer = Callable[[NDArray[np.uint16], Sequence[int], MaskControl], Iterator[Shape]]
"""Writes the classes at some positions of a label map, (H, W) uint16, which are all in it, as a control wants them."""
