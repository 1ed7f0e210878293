"""A mask as the picture in an address that `BitmaskLabels` takes: an RGBA PNG on a transparent background."""

import base64
import io
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.labeling.controls import MaskControl
from backend.outputs.parts import largest_parts
from backend.outputs.shape import Shape

_PREFIX = "data:image/png;base64,"
_QUICK = 1  # of zlib's levels; a mask is nearly all runs


def to_data_url(mask: NDArray[np.bool_]) -> str:
    """Encode a mask, (H, W) bool, as `data:image/png;base64,...`: opaque black where it is painted."""
    rgba = np.zeros((*mask.shape, 4), np.uint8)
    rgba[..., 3] = mask * np.uint8(255)
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "PNG", compress_level=_QUICK)
    return _PREFIX + base64.b64encode(buffer.getvalue()).decode()


def write_bitmasks(label_map: NDArray[np.uint16], positions: Sequence[int], control: MaskControl) -> Iterator[Shape]:
    """Write one picture a class, or one for each of its largest parts; see `backend.outputs.shape.Writer`."""
    for position in positions:
        mask = label_map == position
        if control.max_parts is None:
            yield Shape(position, {"imageDataURL": to_data_url(mask)})
            continue
        parts, left_out = largest_parts(mask, control.max_parts)
        for number, part in enumerate(parts):
            alone = np.zeros_like(mask)
            alone[part.window] = part.mask
            yield Shape(position, {"imageDataURL": to_data_url(alone)}, number, 0 if number else left_out)
