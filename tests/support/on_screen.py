"""Do the pixels on the screen lie where a stored region says?"""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.demo.browser import PaintedRegion
from backend.outputs.brush import decode_mask
from backend.outputs.polygons import fill

IOU_WANTED = 0.95


def stored_mask(region: dict[str, Any]) -> NDArray[np.bool_]:
    """Paint what was stored, at the picture's own size."""
    size_hw = height, width = region["original_height"], region["original_width"]
    value = region["value"]
    if "rle" in value:
        return decode_mask(value["rle"], size_hw) > 0
    if "imageDataURL" in value:
        content = base64.b64decode(value["imageDataURL"].partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(content)))[..., 3] > 0
    if "points" in value:
        return fill(np.array(value["points"]) * (width / 100, height / 100), size_hw)
    left, top = value["x"], value["y"]
    right, bottom = left + value["width"], top + value["height"]
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return fill(corners * (width / 100, height / 100), size_hw)


def iou(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    return float((left & right).sum() / (left | right).sum())


def assert_painted(stored: dict[str, Any], shown: PaintedRegion) -> None:
    """Compare a region as Label Studio has stored it with what the browser shows of it."""
    height, width = shown.mask.shape
    full = Image.fromarray(stored_mask(stored)).convert("L").resize((width, height), Image.Resampling.BILINEAR)
    sent = (np.asarray(full) > 127) & shown.measurable
    # Two pixels of line belong to a shape on the screen, whatever its size.
    wanted = IOU_WANTED if "rle" in stored["value"] or "imageDataURL" in stored["value"] else 0.9
    assert iou(sent, shown.mask) >= wanted, f"{stored['from_name']} {shown.label}"
