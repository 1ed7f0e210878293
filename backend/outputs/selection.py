"""What of a segmentation is answered: classes that are there, surely enough, in parts that are large enough. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.labeling.controls import MaskControl
from backend.outputs.fields import safe_score
from backend.outputs.parts import without_small_parts
from clipdiy.errors import ShapeError
from clipdiy.segmentation import Segmentation

_NO_AREA = 1.0


@dataclass(frozen=True)
class Selection:
    """What of a segmentation is answered.

    Attributes:
        label_map: (H, W) uint16. Holds other positions too; those in `positions` without the parts that are too small.
        positions: In the vocabulary, ascending.
        score: (C,) float32, by position.
        area: (C,) float64, share of the picture by position, before small parts were dropped.
    """

    label_map: NDArray[np.uint16]
    positions: tuple[int, ...]
    score: NDArray[np.float32]
    area: NDArray[np.float64]


def select(segmentation: Segmentation, control: MaskControl) -> Selection:
    """Decide which classes are answered: those that are there, surely enough, in parts that are large enough.

    Raises:
        ShapeError: If the segmentation has another number of classes than the control's vocabulary.
    """
    classes = len(control.drawn) + 1
    if len(segmentation.area) != classes or len(segmentation.score) != classes:
        raise ShapeError(
            f"control {control.from_name!r} has {classes} classes with the background, the segmentation has "
            f"{len(segmentation.area)} areas and {len(segmentation.score)} scores"
        )
    label_map = segmentation.label_map
    positions = []
    for position in segmentation.present:
        label = control.drawn[position - 1]
        if label.is_rival or safe_score(segmentation.score[position]) < label.threshold:
            continue
        least_px = label.min_area.pixels(segmentation.size_hw)
        if least_px > _NO_AREA:
            mask = label_map == position
            kept = without_small_parts(mask, least_px)
            if kept is not mask:
                label_map = np.where(mask & ~kept, np.uint16(0), label_map)
            if not kept.any():
                continue
        positions.append(position)
    return Selection(label_map, tuple(positions), segmentation.score, segmentation.area)
