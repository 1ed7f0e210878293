"""A mask as boxes, the form of `RectangleLabels`: one around each connected part. Pure."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from backend.labeling.controls import MaskControl
from backend.outputs.fields import percent
from backend.outputs.parts import parts_of
from backend.outputs.shape import Shape


def write_boxes(label_map: NDArray[np.uint16], positions: Sequence[int], _control: MaskControl) -> Iterator[Shape]:
    """Write one upright rectangle for each connected part; see `backend.outputs.shape.Writer`."""
    for position in positions:
        for number, part in enumerate(parts_of(label_map == position)):
            left, top, right, bottom = part.box_xyxy
            corners = np.array([(left, top), (right - left, bottom - top)], np.float64)
            (x, y), (width, height) = percent(corners, label_map.shape)
            yield Shape(position, {"x": x, "y": y, "width": width, "height": height, "rotation": 0}, number)
