"""A mask as the picture in an address that `BitmaskLabels` takes: an RGBA PNG on a transparent background."""

import base64
import io
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.labeling.controls import MaskControl
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


def write_bitmasks(label_map: NDArray[np.uint16], positions: Sequence[int], _control: MaskControl) -> Iterator[Shape]:
    """Write one picture a class; see `backend.outputs.shape.Writer`."""
    for position in positions:
        yield Shape(position, {"imageDataURL": to_data_url(label_map == position)})
