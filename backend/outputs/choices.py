"""The labels that are in a picture, or in all pages of a task, as the answer to `Choices`. Pure."""

from collections.abc import Sequence
from typing import Any

from backend.labeling.controls import MaskControl
from backend.outputs.fields import page_field, region_id, safe_score
from backend.outputs.selection import Selection


def make_choices(
    selections: Sequence[Selection],
    control: MaskControl,
    *,
    task_id: object,
    model_version: str,
    item_index: int | None = None,
) -> list[dict[str, Any]]:
    """Answer a `Choices` control with the labels that are there: all of them, or where one may be chosen the best.

    The best is the one with the largest product of score and area.

    Args:
        selections: Of one picture, or of every page where the choices hold for all of them.
        control: Gives the names.
        task_id: Goes into the id.
        model_version: Goes into the id.
        item_index: Which page the choices are given for, if they are given for each.

    Returns:
        One result, or none where no label was found: that is for a person to say.
    """
    scores: dict[str, float] = {}
    weights: dict[str, float] = {}
    for page in selections:
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
            **page_field(item_index),
            "score": safe_score(max(scores[value] for value in chosen)),
            "value": {"choices": chosen},
        }
    ]
