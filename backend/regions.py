"""How a segmentation becomes what Label Studio stores: regions, and the prediction around them.

Pure. A region is one class of one control; its mask has the photo's full size, because the browser decodes it at the
image's natural size and looks at nothing else. Held by `tests/unit/backend/test_regions.py` with the SDK's validation.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

from backend.brush import encode_label_map
from backend.label_config import MaskControl
from clipdiy.errors import ShapeError
from clipdiy.segmentation import Segmentation

_SCORE_DIGITS = 4
_ID_CHARS = 10


def make_regions(
    segmentation: Segmentation, control: MaskControl, *, task_id: object, model_version: str
) -> list[dict[str, Any]]:
    """Turn every class that is in the picture into one region.

    The background (t0) is not drawn, also where the config has a label for it: it would cover most of most
    pictures, and what no mask covers is background already.

    Args:
        segmentation: Made with `control.vocabulary`.
        control: Gives the names; position p of the segmentation is `control.label_at(p)`.
        task_id: Goes into the regions' ids.
        model_version: Goes into the regions' ids, so that another version's regions are told apart.

    Returns:
        Results in Label Studio's form, in vocabulary order; empty if there is nothing but background.

    Raises:
        ShapeError: If the segmentation has another number of classes than the control's vocabulary.
    """
    classes = len(control.drawn) + 1
    if len(segmentation.area) != classes or len(segmentation.score) != classes:
        raise ShapeError(
            f"control {control.from_name!r} has {classes} classes with the background, the segmentation has "
            f"{len(segmentation.area)} areas and {len(segmentation.score)} scores"
        )
    height, width = segmentation.size_hw
    masks = encode_label_map(segmentation.label_map, segmentation.present)
    regions: list[dict[str, Any]] = []
    for position, rle in masks.items():
        label = control.drawn[position - 1]
        regions.append(
            {
                "id": _region_id(task_id, control.from_name, control.to_name, position, label.value, model_version),
                "from_name": control.from_name,
                "to_name": control.to_name,
                "type": control.kind,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": safe_score(segmentation.score[position]),
                "value": {"format": "rle", "rle": rle, control.kind: [label.value]},
            }
        )
    return regions


def make_prediction(
    regions_per_control: Iterable[list[dict[str, Any]]], *, score: float, model_version: str
) -> dict[str, Any]:
    """Put the regions of all controls into one prediction.

    Without any region it says "looked, found nothing", which Label Studio stores and does not ask again. A task that
    was not done gets no prediction at all.

    Args:
        regions_per_control: What `make_regions` gave, control by control.
        score: For the task, in [0, 1].
        model_version: Under which Label Studio stores it.
    """
    result = [region for regions in regions_per_control for region in regions]
    return {"result": result, "score": safe_score(score), "model_version": model_version}


def safe_score(score: float) -> float:
    """Round a score and force it into [0, 1]; NaN becomes 0, because one NaN costs Label Studio the whole batch."""
    value = float(score)
    return 0.0 if math.isnan(value) else round(min(max(value, 0.0), 1.0), _SCORE_DIGITS)


def _region_id(*parts: object) -> str:
    """Hash the parts to 10 URL-safe characters (60 bits): the same task, class and model give the same id."""
    text = json.dumps([part if isinstance(part, int) else str(part) for part in parts])
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest)[:_ID_CHARS].decode()
