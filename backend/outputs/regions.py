"""How a segmentation becomes what Label Studio stores: regions, and the prediction around them.

Pure. What a control is decides the form: `brush` one region a class, its mask at the photo's full size because the
browser decodes it at the image's natural size and looks at nothing else; `bitmask` the same as a PNG; `polygon` and
`rectangle` one region for each connected part; `choices` one answer with the labels that are there. The forms
themselves are in files of their own.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.labeling.controls import ControlKind, MaskControl, MaskLabel
from backend.outputs.bitmask import to_data_url
from backend.outputs.brush import encode_label_map
from backend.outputs.parts import parts_of, without_small_parts
from backend.outputs.polygons import TOLERANCE_PX, polygons_of
from clipdiy.errors import ShapeError
from clipdiy.segmentation import Segmentation

_SCORE_DIGITS = 4
_PERCENT_DIGITS = 4
_ID_CHARS = 10
_NO_AREA = 1.0

Value = dict[str, Any]


@dataclass(frozen=True)
class Found:
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
        control: Gives the names; position p of the segmentation is `control.label_at(p)`.
        task_id: Goes into the regions' ids.
        model_version: Goes into the regions' ids, so that another version's regions are told apart.
        item_index: Which page of several the segmentation is of.

    Returns:
        Results in Label Studio's form, in vocabulary order; empty if there is nothing but background.

    Raises:
        ShapeError: If the segmentation has another number of classes than the control's vocabulary.
    """
    found = select(segmentation, control)
    if control.kind == "choices":
        return make_choices([found], control, task_id=task_id, model_version=model_version, item_index=item_index)
    height, width = segmentation.size_hw
    regions: list[dict[str, Any]] = []
    for position, number, value in _values(found, control):
        label = control.drawn[position - 1]
        names = (task_id, control.from_name, control.to_name, position, label.value, model_version)
        # A brush's only region has the plain names; parts and pages are told apart by more of them.
        further = ([number] if number else []) + ([] if item_index is None else ["page", item_index])
        common: dict[str, Any] = {"id": region_id(*names, *further), "to_name": control.to_name}
        shared: dict[str, Any] = {
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            **({} if item_index is None else {"item_index": item_index}),
            "score": safe_score(segmentation.score[position]),
        }
        regions += _as_results(common, shared, value, label, control)
    return regions


def select(segmentation: Segmentation, control: MaskControl) -> Found:
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
    return Found(label_map, tuple(positions), segmentation.score, segmentation.area)


def make_choices(
    found: Sequence[Found],
    control: MaskControl,
    *,
    task_id: object,
    model_version: str,
    item_index: int | None = None,
) -> list[dict[str, Any]]:
    """Answer a `Choices` control with the labels that are there: all of them, or where one may be chosen the best.

    The best is the one with the largest product of score and area.

    Args:
        found: Of one picture, or of every page where the choices hold for all of them.
        control: Gives the names.
        task_id: Goes into the id.
        model_version: Goes into the id.
        item_index: Which page the choices are given for, if they are given for each.

    Returns:
        One result, or none where no label was found: that is for a person to say.
    """
    scores: dict[str, float] = {}
    weights: dict[str, float] = {}
    for page in found:
        for position in page.positions:
            value = control.drawn[position - 1].value
            scores[value] = max(scores.get(value, 0.0), float(page.score[position]))
            weights[value] = weights.get(value, 0.0) + float(page.score[position] * page.area[position])
    if not scores:
        return []
    chosen = [max(weights, key=weights.__getitem__)] if control.is_single else list(scores)
    page_part = [] if item_index is None else ["page", item_index]
    return [
        {
            "id": region_id(task_id, control.from_name, control.to_name, model_version, *page_part),
            "from_name": control.from_name,
            "to_name": control.to_name,
            "type": "choices",
            **({} if item_index is None else {"item_index": item_index}),
            "score": safe_score(max(scores[value] for value in chosen)),
            "value": {"choices": chosen},
        }
    ]


def _values(found: Found, control: MaskControl) -> Iterator[tuple[int, int, Value]]:
    """Yield position, number of the part, and the value of each region, without its label."""
    kind = _form(control.kind)
    if kind == "brush":
        for position, rle in encode_label_map(found.label_map, found.positions).items():
            yield position, 0, {"format": "rle", "rle": rle}
        return
    for position in found.positions:
        mask = found.label_map == position
        if kind == "bitmask":
            yield position, 0, {"imageDataURL": to_data_url(mask)}
        elif kind == "polygon":
            tolerance = TOLERANCE_PX if control.tolerance_px is None else control.tolerance_px
            for number, points in enumerate(polygons_of(mask, tolerance)):
                yield position, number, {"points": _percent(points, mask.shape), "closed": True}
        else:
            for number, part in enumerate(parts_of(mask)):
                left, top, right, bottom = part.box_xyxy
                corners = np.array([(left, top), (right - left, bottom - top)], np.float64)
                (x, y), (width, height) = _percent(corners, mask.shape)
                yield position, number, {"x": x, "y": y, "width": width, "height": height, "rotation": 0}


def _form(kind: ControlKind) -> str:
    return kind.removesuffix("labels")


def _as_results(
    common: dict[str, Any], shared: dict[str, Any], value: Value, label: MaskLabel, control: MaskControl
) -> list[dict[str, Any]]:
    """Write one region: one result, or two of one id where another control has the labels."""
    of_control = {**common, "from_name": control.from_name, "type": control.kind}
    if control.labels_name is None:
        return [{**of_control, **shared, "value": {**value, control.kind: [label.value]}}]
    # Both carry the shape, as in what Label Studio itself stores, and as its validation wants it.
    labelled = {**value, "labels": [label.value]}
    of_labels = {**common, "from_name": control.labels_name, "type": "labels"}
    return [
        {**of_control, **shared, "value": value},
        {**of_labels, **shared, "value": labelled},
    ]


def _percent(points: NDArray[np.float64], size_hw: tuple[int, ...]) -> list[list[float]]:
    """Turn x and y in pixels into percent of width and height, as Label Studio keeps them."""
    height, width = size_hw
    shares: list[list[float]] = (points * (100 / width, 100 / height)).round(_PERCENT_DIGITS).tolist()
    return shares


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


def region_id(*parts: object) -> str:
    """Hash the parts to 10 URL-safe characters (60 bits): the same task, class and model give the same id."""
    text = json.dumps([part if isinstance(part, int) else str(part) for part in parts])
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest)[:_ID_CHARS].decode()
