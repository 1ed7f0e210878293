"""Plain values as Label Studio keeps them: scores, ids, positions. Pure."""

import base64
import hashlib
import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SCORE_DIGITS = 4
_PERCENT_DIGITS = 4
_ID_CHARS = 10


def safe_score(score: float) -> float:
    """Round a score and force it into [0, 1]; NaN becomes 0, because one NaN costs Label Studio the whole batch."""
    value = float(score)
    return 0.0 if math.isnan(value) else round(min(max(value, 0.0), 1.0), _SCORE_DIGITS)


def region_id(*parts: object) -> str:
    """Hash the parts to 10 URL-safe characters (60 bits): the same task, class and model give the same id."""
    text = json.dumps([part if isinstance(part, int) else str(part) for part in parts])
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest)[:_ID_CHARS].decode()


def percent(points: NDArray[np.float64], size_hw: tuple[int, ...]) -> list[list[float]]:
    """Turn x and y in pixels into percent of width and height.

    Args:
        points: (N, 2) float64, x and y in pixels.
        size_hw: Height and width of the picture.
    """
    height, width = size_hw
    shares: list[list[float]] = (points * (100 / width, 100 / height)).round(_PERCENT_DIGITS).tolist()
    return shares


def page_field(item_index: int | None) -> dict[str, Any]:
    """Return the field that says which page of several a result is about; nothing, if there is one picture."""
    return {} if item_index is None else {"item_index": item_index}
