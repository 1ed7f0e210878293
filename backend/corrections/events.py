"""What does a webhook say? Label Studio's words become changes of the store. Pure.

Webhooks may come twice, late, out of order, or never, so a change says what is so, not what to do next: an annotation
as it is now, ids that are gone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backend.errors import RequestError

REMEMBERED_TITLE = 200
TRAIN = "START_TRAINING"


@dataclass(frozen=True)
class ProjectFacts:
    """A project, as Label Studio describes it.

    Attributes:
        key: As Label Studio names it to a backend: its id, a dot, and the Unix second it was made in, so that projects
            of two Label Studios hardly ever share one. Empty if Label Studio did not say enough.
        number: Its id.
        title: Its title, cut.
        label_config: Its labeling config; empty if unknown.
    """

    key: str
    number: int
    title: str = ""
    label_config: str = ""


@dataclass(frozen=True)
class SentAnnotation:
    """An annotation as it is now.

    Attributes:
        number: Its id.
        task: Id of its task.
        data: The task's data; `None` if they were not sent with it.
        result: What a person left, in Label Studio's form.
        created: Unix seconds.
        updated: Unix seconds.
        who: Id of the person, `None` if unknown.
        lead_time_s: How long the person took.
        is_cancelled: It was skipped.
        is_ground_truth: Marked as such.
        started_from: Id of the prediction that it began as.
        prediction: That prediction, or the one that was shown, as far as Label Studio sent it along.
    """

    number: int
    task: int
    data: Mapping[str, Any] | None
    result: Any
    created: float
    updated: float
    who: int | None = None
    lead_time_s: float | None = None
    is_cancelled: bool = False
    is_ground_truth: bool = False
    started_from: int | None = None
    prediction: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Event:
    """What one webhook says.

    Attributes:
        project: Of which project; with an empty key where Label Studio gives only its id.
        annotations: That are now so.
        annotations_gone: Ids of deleted ones.
        tasks_gone: Ids of deleted tasks.
        is_project_gone: The project has been deleted.
        asks_to_learn: Somebody pressed the button.
    """

    project: ProjectFacts
    annotations: tuple[SentAnnotation, ...] = ()
    annotations_gone: tuple[int, ...] = ()
    tasks_gone: tuple[int, ...] = ()
    is_project_gone: bool = False
    asks_to_learn: bool = False


def read_event(body: Mapping[str, Any]) -> Event | None:
    """Read a webhook.

    Args:
        body: As Label Studio sent it.

    Returns:
        What it says; `None` where it says nothing about corrections.

    Raises:
        RequestError: If it says something about corrections, but not what Label Studio would.
    """
    action = str(body.get("action"))
    described = body.get("project")
    if action == "PROJECT_DELETED":
        return Event(read_project(described), is_project_gone=True)
    if action in (TRAIN, "PROJECT_UPDATED"):
        return Event(read_project(described), asks_to_learn=action == TRAIN)
    if action == "ANNOTATIONS_DELETED":
        return Event(read_project(described), annotations_gone=_ids(body, "annotations"))
    if action == "TASKS_DELETED":
        return Event(read_project(described), tasks_gone=_ids(body, "tasks"))
    if action in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED"):
        if body.get("annotation") is None:
            raise RequestError("annotation: got nothing; webhooks are to be sent with their payload")
        tasks = {_whole(task.get("id")): task.get("data") for task in _objects(body, "task")}
        annotations = tuple(
            read_annotation(sent, tasks.get(_whole(sent.get("task")))) for sent in _objects(body, "annotation")
        )
        return Event(read_project(described), annotations=annotations)
    return None


def read_project(described: object) -> ProjectFacts:
    """Read how Label Studio describes a project.

    Raises:
        RequestError: If there is no id.
    """
    if not isinstance(described, Mapping):
        raise RequestError(f"project: expected an object with an id, got {type(described).__name__}")
    number = _whole(described.get("id"))
    if number is None:
        raise RequestError("project: expected an object with an id")
    made = _seconds(described.get("created_at"))
    title, label_config = described.get("title"), described.get("label_config")
    return ProjectFacts(
        "" if made is None else f"{number}.{int(made)}",
        number,
        title[:REMEMBERED_TITLE] if isinstance(title, str) else "",
        label_config if isinstance(label_config, str) else "",
    )


def read_annotation(sent: Mapping[str, Any], data: object = None) -> SentAnnotation:
    """Read an annotation, as webhooks and the API have it.

    Args:
        sent: The annotation.
        data: Its task's data, if known.

    Raises:
        RequestError: If it has no id, or no task.
    """
    number, task = _whole(sent.get("id")), _whole(sent.get("task"))
    if number is None or task is None:
        raise RequestError("annotation: expected an object with an id and a task")
    created = _seconds(sent.get("created_at")) or 0.0
    prediction = sent.get("prediction")
    lead_time = sent.get("lead_time")
    is_time = isinstance(lead_time, int | float) and math.isfinite(lead_time) and lead_time >= 0
    return SentAnnotation(
        number,
        task,
        data if isinstance(data, Mapping) else None,
        sent.get("result"),
        created,
        _seconds(sent.get("updated_at")) or created,
        _whole(_id_of(sent.get("completed_by"))),
        float(lead_time) if is_time and lead_time is not None else None,
        sent.get("was_cancelled") is True,
        sent.get("ground_truth") is True,
        _whole(_id_of(sent.get("parent_prediction"))),
        prediction if isinstance(prediction, Mapping) and prediction.get("result") is not None else None,
    )


def _objects(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return one object, or a list of them, as a list."""
    found = body.get(name)
    every: Sequence[Any] = found if isinstance(found, list) else [found]
    if not all(isinstance(one, Mapping) for one in every):
        raise RequestError(f"{name}: expected an object, or a list of them")
    return list(every)


def _ids(body: Mapping[str, Any], name: str) -> tuple[int, ...]:
    numbers = [_whole(one.get("id")) for one in _objects(body, name)]
    if None in numbers:
        raise RequestError(f"{name}: expected objects with an id each")
    return tuple(number for number in numbers if number is not None)


def _id_of(value: object) -> object:
    """Return an id that stands there, or in an object that stands there."""
    return value.get("id") if isinstance(value, Mapping) else value


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62 else None


def _seconds(value: object) -> float | None:
    """Return the Unix seconds of a time as Django writes it."""
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
