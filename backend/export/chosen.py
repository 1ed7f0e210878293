"""What of a task goes into a data set: its annotations, else a prediction that is sure enough. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from backend.annotations.which import AnnotationFacts, counting
from backend.labeling.controls import Counting

Source = Literal["annotations", "predictions", "both"]
Origin = Literal["annotation", "prediction"]
LEAST_SCORE = 0.5


@dataclass(frozen=True)
class Rules:
    """What goes into a data set.

    Attributes:
        source: Annotations, predictions, or annotations first and predictions where there are none.
        min_score: A prediction with a lower score, or without one, is not used. 0 takes all.
        several: Which of several annotations of a task count.
        model_version: Predictions of this version only.
    """

    source: Source = "both"
    min_score: float = LEAST_SCORE
    several: Counting = "latest"
    model_version: str | None = None


@dataclass(frozen=True)
class Chosen:
    """What is said of a task.

    Attributes:
        origin: Who says it.
        sent: As Label Studio has it: several annotations where a majority counts, else one.
        score: Of a prediction.
    """

    origin: Origin
    sent: tuple[Mapping[str, Any], ...]
    score: float | None = None


def choose(task: Mapping[str, Any], rules: Rules) -> Chosen | None:
    """Return what counts of a task; `None` if nobody has said anything yet, which is not to say "nothing is there".

    Args:
        task: As the API lists it, with annotations and predictions.
        rules: What counts.
    """
    if rules.source != "predictions":
        known = {one.id: (one, sent) for sent in _objects(task, "annotations") if (one := _facts(sent)) is not None}
        if counted := counting([one for one, _ in known.values()], rules.several):
            return Chosen("annotation", tuple(known[one.id][1] for one in counted))
        if known:
            # Whoever skipped it has looked, and would not say what is there.
            return None
    if rules.source == "annotations":
        return None
    predictions = [
        sent
        for sent in _objects(task, "predictions")
        if isinstance(sent.get("id"), int)
        and rules.model_version in (None, sent.get("model_version"))
        and (_score(sent) or 0.0) >= rules.min_score
    ]
    newest = max(predictions, key=lambda sent: int(sent["id"]), default=None)
    return None if newest is None else Chosen("prediction", (newest,), _score(newest))


def _objects(task: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = task.get(name)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _facts(sent: Mapping[str, Any]) -> AnnotationFacts | None:
    number, who = sent.get("id"), sent.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("id")
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    return AnnotationFacts(
        number,
        _seconds(sent.get("updated_at") or sent.get("created_at")),
        sent.get("was_cancelled") is True,
        sent.get("ground_truth") is True,
        who if isinstance(who, int) else None,
    )


def _seconds(value: object) -> float:
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else 0.0
    except (ValueError, OverflowError, OSError):
        return 0.0


def _score(sent: Mapping[str, Any]) -> float | None:
    score = sent.get("score")
    is_number = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)
    return float(score) if is_number and score is not None else None
