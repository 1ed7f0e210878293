"""How masks become what Label Studio stores: regions, and the prediction around them.

Pure, but for a word in the log. In which form, the control says (`backend.outputs.forms`): one region a class, or one
for each connected part.
"""

import logging
import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.labeling.controls import MaskControl, MaskLabel
from backend.outputs.choices import make_choices
from backend.outputs.fields import page_field, region_id, safe_score
from backend.outputs.forms import writer_of
from backend.outputs.selection import select
from backend.outputs.shape import Shape
from clipdiy.segmentation import Segmentation

logger = logging.getLogger(__name__)


def make_regions(
    segmentation: Segmentation,
    control: MaskControl,
    *,
    task_id: object,
    model_version: str,
    item_index: int | None = None,
) -> list[dict[str, Any]]:
    """Turn every class that is in the picture into regions of the control's kind.

    The background (t0) is not drawn, also where the config has a label for it: it would cover most of most
    pictures, and what no mask covers is background already.

    Args:
        segmentation: Made with `control.vocabulary`.
        control: Gives the names; position p of the segmentation is `control.drawn[p - 1]`.
        task_id: Goes into the regions' ids.
        model_version: Goes into the regions' ids, so that another version's regions are told apart.
        item_index: Which page of several the segmentation is of.

    Returns:
        Results in Label Studio's form, in vocabulary order; empty if there is nothing but background.

    Raises:
        ShapeError: If the segmentation has another number of classes than the control's vocabulary.
    """
    selection = select(segmentation, control)
    if control.kind == "choices":
        return make_choices([selection], control, task_id=task_id, model_version=model_version, item_index=item_index)
    regions: list[dict[str, Any]] = []
    for shape in writer_of(control.kind)(selection.label_map, selection.positions, control):
        label = control.drawn[shape.position - 1]
        names = (task_id, control.from_name, control.to_name, shape.position, label.value, model_version)
        # A brush's only or largest region has the plain names; parts and pages are told apart by more of them.
        further = ([shape.number] if shape.number else []) + ([] if item_index is None else ["page", item_index])
        score = float(selection.score[shape.position])
        if shape.left_out:
            logger.info(
                "task %s: %d of the parts of %r (control %r) are left out, the smallest: more than max_parts=%s",
                *(task_id, shape.left_out, label.value, control.from_name, control.max_parts),
            )
        identity = region_id(*names, *further)
        regions += _as_results(shape, control, label, score, segmentation.size_hw, item_index, identity)
    return regions


def make_suggestion(
    mask: NDArray[np.bool_],
    control: MaskControl,
    label: MaskLabel | None,
    score: float,
    *,
    item_index: int | None = None,
) -> list[dict[str, Any]]:
    """Turn one mask that a person asked for into regions of the control's kind.

    It was asked for, so it is answered however small or unsure it is. Its ids are new each time: a suggestion must
    never be taken for a region that is there already.

    Args:
        mask: (H, W) bool, of the whole picture.
        control: Where it goes, and in which form. Not `choices`.
        label: What it is. If `None`, that is left out, and Label Studio, when the suggestion is accepted, gives it the
            label that is chosen on the screen.
        score: In [0, 1].
        item_index: Which page of several it is on.

    Returns:
        Results in Label Studio's form; empty if the mask is.
    """
    if not mask.any():
        return []
    height, width = mask.shape
    shapes = writer_of(control.kind)(mask.astype(np.uint16), (1,), control)
    return [
        result
        for shape in shapes
        for result in _as_results(
            shape, control, label, score, (height, width), item_index, region_id(uuid.uuid4().hex)
        )
    ]


def _as_results(
    shape: Shape,
    control: MaskControl,
    label: MaskLabel | None,
    score: float,
    size_hw: tuple[int, int],
    item_index: int | None,
    identity: str,
) -> list[dict[str, Any]]:
    """Write one shape: one result, or two of one id where another control has the labels."""
    height, width = size_hw
    shared: dict[str, Any] = {
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        **page_field(item_index),
        "score": safe_score(score),
    }
    common = {"id": identity, "to_name": control.to_name}
    drawn = {**common, "from_name": control.from_name, "type": control.kind, **shared}
    if label is None:
        return [{**drawn, "value": shape.value}]
    if control.labels_name is None:
        return [{**drawn, "value": {**shape.value, control.kind: [label.value]}}]
    # Both carry the shape, as in what Label Studio itself stores, and as its validation wants it.
    named = {**common, "from_name": control.labels_name, "type": "labels", **shared}
    return [{**drawn, "value": shape.value}, {**named, "value": {**shape.value, "labels": [label.value]}}]


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
