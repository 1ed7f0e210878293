"""Make what is stored of a project equal to what Label Studio has: for webhooks that were lost, or never set up."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from backend.corrections.events import ProjectFacts, SentAnnotation, read_annotation, read_project
from backend.corrections.intake import Intake
from backend.errors import RequestError

logger = logging.getLogger(__name__)

PAGE = 100


class Api(Protocol):
    """What is used of `backend.label_studio_api.LabelStudioApi`."""

    def project(self, project_id: int) -> Mapping[str, Any]:
        """Return how Label Studio describes a project."""

    def task_pages(self, project_id: int, *, fields: str, page_size: int) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield all tasks of a project, page by page, with their annotations."""


@dataclass(frozen=True)
class Synced:
    """What `sync` found.

    Attributes:
        project: Which project.
        annotations: How many it has.
        forgotten: How many were stored that it no longer has.
    """

    project: ProjectFacts
    annotations: int
    forgotten: int


def sync(api: Api, intake: Intake, number: int, *, expected: str | None = None) -> Synced:
    """Read all annotations of a project, and forget those that are no more.

    Args:
        api: Its Label Studio.
        intake: Where they go.
        number: The project's id.
        expected: The project's key, if it is known: nothing is believed of another one.

    Raises:
        LabelStudioApiError: If Label Studio refuses, or cannot be reached. What was read stays; nothing is forgotten.
        RequestError: If it says not enough of the project, or means another one.
    """
    project = read_project(api.project(number))
    if not project.key:
        raise RequestError(f"Label Studio does not say when project {number} was made")
    if expected is not None and project.key != expected:
        raise RequestError(f"Label Studio's project {number} is not the one that was expected: {project.key}")
    is_all = False

    def annotations() -> Iterator[SentAnnotation]:
        nonlocal is_all
        for page in api.task_pages(number, fields="all", page_size=PAGE):
            for task in page:
                yield from _annotations_of(task)
        is_all = True

    there, gone = intake.make_equal(project, annotations(), is_all=lambda: is_all)
    return Synced(project, there, gone)


def _annotations_of(task: Mapping[str, Any]) -> Iterator[SentAnnotation]:
    for sent in task.get("annotations") or ():
        if isinstance(sent, Mapping):
            try:
                # In a task's list they do not say of which task they are.
                yield read_annotation({**sent, "task": task.get("id")}, task.get("data"))
            except RequestError as err:
                logger.warning("task %s: an annotation is left out: %s", task.get("id"), err)
