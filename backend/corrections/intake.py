"""Webhooks, and what the API tells, become rows of the store. The one place where corrections come in."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.annotations.reading import KeptRegion, KeptRegions, read_regions
from backend.corrections.change import Change
from backend.corrections.digest import digest_of
from backend.corrections.events import Event, ProjectFacts, SentAnnotation, read_event
from backend.corrections.evidence import ControlShares, control_shares
from backend.corrections.store import CorrectionStore
from backend.errors import AnnotationError, BackendError, LabelConfigError, TaskError
from backend.images.pages import pictures_of
from backend.labeling.controls import LabelConfig, MaskControl

logger = logging.getLogger(__name__)

ReadConfig = Callable[[str], LabelConfig]
PROBLEMS_KEPT = 5


@dataclass(frozen=True)
class Received:
    """A webhook that has been read.

    Attributes:
        projects: Keys of the projects that it changed.
    """

    projects: tuple[str, ...]


class Intake:
    """Reads what comes in, in one thread at a time."""

    def __init__(self, store: CorrectionStore, read_config: ReadConfig) -> None:
        """Take where it is kept.

        Args:
            store: The file.
            read_config: Reads a labeling config; raises `LabelConfigError`.
        """
        self._store = store
        self._read_config = read_config

    def read_first(self) -> Received | None:
        """Read the webhook that waits longest; `None` if none does.

        Reading it and taking it out of those that wait is one change, so that a process that dies in between reads it
        again, and nobody reads it twice.
        """
        first = self._store.first()
        if first is None:
            return None
        number, _, body = first
        event = None
        try:
            event = read_event(body) if isinstance(body, Mapping) else None
        except BackendError as err:
            logger.warning("a webhook is left out: %s", err)
        read: dict[int, _Read] = {}
        if event is not None and event.annotations:
            label_config = self._label_config(event.project)
            read = {one.number: self._read(one, label_config) for one in event.annotations}
        with self._store.change() as change:
            change.has_read(number)
            return Received(self._apply(change, event, read)) if event else Received(())

    def _apply(self, change: Change, event: Event, read: "Mapping[int, _Read]") -> tuple[str, ...]:
        if event.is_project_gone and not event.project.key:
            keys = change.keys_of(event.project.number)
            if len(keys) > 1:
                logger.warning(
                    "project %d was deleted in one of %d Label Studios: `clipdiy-ls sync` finds out in which",
                    *(event.project.number, len(keys)),
                )
                return ()
            for key in keys:
                change.project_gone(key)
            return tuple(keys)
        key = event.project.key
        if not key:
            logger.warning("a webhook of project %d does not say which project it is: left out", event.project.number)
            return ()
        if event.is_project_gone:
            change.project_gone(key)
            return (key,)
        change.see(event.project)
        if event.asks_to_learn:
            change.ask(key)
        for annotation in event.annotations:
            _keep(change, key, annotation, read[annotation.number])
        for number in event.annotations_gone:
            change.annotation_gone(key, number)
        for number in event.tasks_gone:
            change.task_gone(key, number)
        return (key,)

    def make_equal(
        self, project: ProjectFacts, annotations: Iterable[SentAnnotation], *, is_all: Callable[[], bool]
    ) -> tuple[int, int]:
        """Make what is stored of a project equal to what Label Studio has, annotation by annotation.

        What is known already, read by the same config, is left as it is, also what it was compared with.

        Args:
            project: As Label Studio describes it now.
            annotations: All that it has; read as they come.
            is_all: Asked at the end: whether they were really all, so that others may be forgotten.

        Returns:
            How many annotations it has, and how many were forgotten.
        """
        with self._store.change() as change:
            change.see(project)
        label_config, known = self._label_config(project), self._store.digests(project.key)
        there = set()
        for annotation in annotations:
            there.add(annotation.number)
            if known.get(annotation.number) == digest_of(annotation, label_config):
                continue
            read = self._read(annotation, label_config)
            with self._store.change() as change:
                _keep(change, project.key, annotation, read)
        gone: set[int] = set()
        if is_all():
            gone = {one.number for one in self._store.annotations(project.key)} - there
            with self._store.change() as change:
                for number in sorted(gone):
                    change.annotation_gone(project.key, number)
        return len(there), len(gone)

    def _label_config(self, project: ProjectFacts) -> str:
        """Return a project's config, where it was left out as it was heard last."""
        stored = None if project.label_config else self._store.project(project.key)
        return stored.facts.label_config if stored else project.label_config

    def _read(self, annotation: SentAnnotation, label_config: str) -> "_Read":
        """Read the masks of an annotation; before anything is locked, as it may take a while."""
        digest = digest_of(annotation, label_config)
        if annotation.is_cancelled:
            return _Read(digest)
        try:
            config = self._read_config(label_config)
        except LabelConfigError as err:
            return _Read(digest, problems=(f"the project's config cannot be read: {str(err).splitlines()[0]}",))
        kept = read_regions(annotation.result, config)
        waits: dict[str, Any] = {}
        if began_as_prediction(annotation, kept):
            sent = annotation.prediction or {}
            # What people see is stored with it: the regions, whole, as they are needed pixel by pixel.
            waits = {"result": annotation.result, "prediction": {k: sent.get(k) for k in ("result", "model_version")}}
        if kept.problems:
            return _Read(digest, problems=kept.problems[:PROBLEMS_KEPT], waits=waits)
        try:
            return _Read(digest, tuple(_shares_of(annotation, config, kept.regions)), waits=waits)
        except (AnnotationError, TaskError) as err:
            return _Read(digest, problems=(str(err),), waits=waits)


@dataclass(frozen=True)
class _Read:
    """What an annotation says, and a digest of what it was read from."""

    digest: bytes
    shares: tuple[tuple[str, ControlShares], ...] = ()
    problems: tuple[str, ...] = ()
    waits: Mapping[str, Any] = field(default_factory=dict)


def _keep(change: Change, key: str, annotation: SentAnnotation, read: _Read) -> None:
    if change.is_newer(key, annotation, read.digest):
        change.keep(key, annotation, read.shares, read.problems, read.waits, read.digest)


def began_as_prediction(annotation: SentAnnotation, kept: KeptRegions) -> bool:
    """Whether a person began with a prediction on the screen, so that what was kept of it says something."""
    return annotation.started_from is not None or any(region.origin.startswith("prediction") for region in kept.regions)


def mask_controls(config: LabelConfig) -> list[MaskControl]:
    """Return the controls whose masks are learned from: not choices, and not labels that stand in each task."""
    return [
        control
        for control in config.controls
        if control.kind != "choices" and control.learns and control.labels_key is None and control.drawn
    ]


def _shares_of(
    annotation: SentAnnotation, config: LabelConfig, regions: tuple[KeptRegion, ...]
) -> Iterable[tuple[str, ControlShares]]:
    """Yield the shares of every control on every picture of the task.

    Raises:
        AnnotationError: If a region cannot be read.
        TaskError: If the task's data have no pictures.
    """
    for control in mask_controls(config):
        own = [region for region in regions if region.control == control.from_name]
        pages = {region.page for region in own}
        if annotation.data is not None:
            pages = {page for _, page in pictures_of(annotation.data, [control])}
            if not pages >= {region.page for region in own}:
                raise AnnotationError(f"{control.from_name} has regions on pages that the task does not have")
        elif not pages:
            pages = {0 if control.is_list else None}
        for page in sorted(pages, key=lambda page: -1 if page is None else page):
            yield control.data_key, control_shares([region for region in own if region.page == page], control, page)
