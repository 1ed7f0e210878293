"""What stands on the page, gathered from everywhere: what runs, is it well, what was done, how good projects are."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from backend.doctor import Finding, data_folder
from backend.errors import LabelConfigError, RequestError
from backend.images.addresses import origin_of
from backend.images.host import LabelStudioHost
from backend.images.introductions import Introduced
from backend.labeling.controls import LabelConfig
from backend.learning.report import ClassQuality, Comparison, ProjectReport, Reports
from backend.predicting.failures import Failure
from backend.predicting.predictor import Running
from backend.service import Service
from backend.web.openapi import product_version
from backend.web.page.curve import Curve, draw_curve
from backend.web.page.figures import Figures, read_figures

logger = logging.getLogger(__name__)

PROJECTS_LISTED = 100
PROJECTS_SHOWN = 5
"""With tables and curves; the others are a click away."""
FAILURES_SHOWN = 50
WORST_CLASSES = 3
COMPARISONS = 3
SEVERAL_FAILED = 10

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Now:
    """What changes from second to second.

    Attributes:
        findings: What was looked at.
        figures: What was counted.
        running: What computes.
        version: Of the product.
        ends_at: When what is waiting will be done, Unix seconds; `None` if that cannot be said.
    """

    findings: tuple[Finding, ...]
    figures: Figures
    running: Running
    version: str
    ends_at: float | None

    @property
    def is_well(self) -> bool:
        """Nothing is wrong."""
        return all(finding.verdict != "bad" for finding in self.findings)

    @property
    def remarks(self) -> tuple[Finding, ...]:
        """What a person should know."""
        return tuple(finding for finding in self.findings if finding.verdict != "ok")


@dataclass(frozen=True)
class ProjectLine:
    """A project in the list.

    Attributes:
        key: As Label Studio names it to a backend.
        number: Its id there, as it was written.
        title: Its title, empty if unknown.
        link: Where a person opens it, empty if unknown.
        at: When Label Studio spoke of it last, Unix seconds; 0 if unknown.
        report: What is known of its corrections, if anything.
    """

    key: str
    number: str
    title: str
    link: str
    at: float
    report: ProjectReport | None

    @property
    def version(self) -> int:
        """Of what it has learned, as far as that is in use; 0 for the words alone."""
        return next((one.number for one in self.report.versions if one.is_in_use), 0) if self.report else 0

    def task_link(self, task: object) -> str:
        """Return where a person opens one of its tasks; empty if unknown."""
        return f"{self.link}?task={task}" if self.link and str(task).isdigit() else ""


@dataclass(frozen=True)
class ProjectView:
    """A project that people correct, as it is shown.

    Attributes:
        line: What the list says of it.
        report: What is known of it.
        curve: Its quality over corrections.
        worst: Classes whose pictures are shown.
    """

    line: ProjectLine
    report: ProjectReport
    curve: Curve | None
    worst: tuple[ClassQuality, ...]


@dataclass(frozen=True)
class Projects:
    """All projects.

    Attributes:
        lines: The list.
        views: Those that are shown with everything.
        is_broken: Not all reports could be had.
    """

    lines: tuple[ProjectLine, ...]
    views: tuple[ProjectView, ...]
    is_broken: bool

    @property
    def taught(self) -> tuple[ProjectLine, ...]:
        """Those in which something that was learned is in use."""
        return tuple(line for line in self.lines if line.version)


@dataclass(frozen=True)
class FailedTask:
    """A failure, and where its task can be opened; empty if unknown."""

    failure: Failure
    link: str


@dataclass(frozen=True)
class Told(Generic[Answer]):
    """An answer of the room of learning, or that there was none, which must not cost the rest of the page."""

    answer: Answer
    is_broken: bool = False


class Overviews:
    """Gathers. Safe from any thread."""

    def __init__(self, service: Service, reports: Reports, *, clock: Callable[[], float] = time.time) -> None:
        """Take what knows."""
        self._service = service
        self._introductions = service.introductions
        self._reports = reports
        self._clock = clock

    @property
    def pictures_are_shown(self) -> bool:
        """Whether pictures of tasks may be shown to whoever opens the page."""
        settings = self._service.settings
        return settings.basic_auth_user is not None or settings.show_pictures

    def now(self) -> Now:
        """Look at what runs."""
        several = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        figures = read_figures(self._service.metrics.collect(several_processes=several))
        remaining_s = figures.remaining_s
        return Now(
            findings=tuple(self._findings(figures)),
            figures=figures,
            running=self._service.predictor.runs,
            version=product_version(),
            ends_at=None if remaining_s is None else self._clock() + remaining_s,
        )

    def _findings(self, figures: Figures) -> list[Finding]:
        settings = self._service.settings
        found = [data_folder(settings.data_dir)]
        most = settings.max_requests * max(1, len(figures.processes))
        if figures.requests >= most:
            found.append(
                Finding("note", "requests", f"{figures.requests} are worked on, and no more are taken", "wait a little")
            )
        if figures.failed_in_all >= SEVERAL_FAILED and figures.failed_in_all > figures.predicted:
            found.append(Finding("bad", "tasks", "more failed than got a prediction", "the failed tasks below say why"))
        if settings.preset == "starter" and not settings.clip:
            found.append(
                Finding(
                    "note",
                    "weights",
                    "the starter knows 48 drawn nouns, and nothing about photos",
                    "set CLIPDIY_PRESET=paper for photos",
                )
            )
        return found

    def projects(self, first: str | None = None) -> Projects:
        """Look at all projects that are known: those with corrections first, then the others, the last seen first.

        Args:
            first: Of those that are shown.
        """
        keys: Told[Sequence[str]] = self._ask(self._reports.projects, ())
        introduced = {one.project: one for one in self._introductions.introduced(PROJECTS_LISTED)}
        every = [*dict.fromkeys((*keys.answer, *introduced))]
        shown = sorted(keys.answer, key=lambda key: key != first)
        told = {key: self._ask(lambda key=key: self._reports.report(key), None) for key in shown[:PROJECTS_SHOWN]}  # type: ignore[misc]
        reports = {key: one.answer for key, one in told.items()}
        return Projects(
            lines=tuple(_line(key, introduced.get(key), reports.get(key)) for key in every[:PROJECTS_LISTED]),
            views=tuple(
                view_of(_line(key, introduced.get(key), report), report)
                for key, report in reports.items()
                if report is not None and report.annotations
            ),
            is_broken=keys.is_broken or any(one.is_broken for one in told.values()),
        )

    def line(self, key: str) -> ProjectLine:
        """Return what the list says of one project, without its report, which takes longer."""
        introduced = {one.project: one for one in self._introductions.introduced(PROJECTS_LISTED)}
        return _line(key, introduced.get(key), None)

    def failed(self, lines: Sequence[ProjectLine]) -> list[FailedTask]:
        """List the tasks that failed last and have no prediction since."""
        by_number: dict[str, list[ProjectLine]] = {}
        for line in lines:
            by_number.setdefault(line.number, []).append(line)

        def link(failure: Failure) -> str:
            # Projects of two Label Studios may have one number.
            meant = by_number.get(failure.project, [])
            return meant[0].task_link(failure.task) if len(meant) == 1 else ""

        return [FailedTask(one, link(one)) for one in self._service.predictor.failures.recent(FAILURES_SHOWN)]

    def comparisons(self, key: str, control: str, label: str) -> Told[list[Comparison]]:
        """Return pictures of a class; none where they may not be shown."""
        if not self.pictures_are_shown:
            return Told([])
        return self._ask(lambda: [*self._reports.thumbnails(key, control, label, COMPARISONS)], [])

    def config(self, key: str) -> LabelConfig | None:
        """Return a project's config with what it has learned.

        Raises:
            RequestError: If it cannot be had now.
        """

        def look() -> LabelConfig | LabelConfigError | None:
            try:
                return self._reports.config(key)
            except LabelConfigError as err:
                return err  # its words are for a person; those of other errors are for the log

        found = self._ask(look, None)
        if isinstance(found.answer, LabelConfigError):
            raise RequestError(f"the project's config cannot be read: {found.answer}")
        if found.is_broken:
            raise RequestError("what the project has learned cannot be read now; the service's log says why")
        return found.answer

    def pin(self, key: str, number: int | None) -> None:
        """Use a version from now on.

        Raises:
            LookupError: If there is none.
        """
        self._reports.pin(key, number)

    def _ask(self, question: Callable[[], Answer], otherwise: Answer) -> Told[Answer]:
        try:
            return Told(question())
        except Exception as err:
            logger.error("the page: reports cannot be had: unexpected %s", type(err).__name__)
            logger.debug("the page: reports cannot be had", exc_info=err)
            return Told(otherwise, is_broken=True)


def view_of(line: ProjectLine, report: ProjectReport) -> ProjectView:
    """Lay out what is shown of a project."""
    ranked = sorted(report.classes, key=lambda quality: (_kept_share(quality), -quality.pictures))
    worst = [quality for quality in ranked if _kept_share(quality) < 1]
    return ProjectView(line, report, draw_curve(report.curve), tuple(worst[:WORST_CLASSES]))


def _kept_share(quality: ClassQuality) -> float:
    """Return the mean IoU over the pictures of a class, those in which it was added by hand counting 0."""
    predicted = quality.pictures - quality.added
    return 0.0 if quality.iou is None else quality.iou.mean * predicted / max(1, quality.pictures)


def _line(key: str, introduced: Introduced | None, report: ProjectReport | None) -> ProjectLine:
    number = key.partition(".")[0]
    said = introduced.url if introduced else ""
    url = said or (report.host if report else "")
    # What a Label Studio says of itself may be anything, and must not become a link that runs a script.
    is_address = origin_of(url) is not None and number.isascii() and number.isdigit()
    link = LabelStudioHost(url).address_of(f"/projects/{number}/data") if is_address else ""
    return ProjectLine(key, number, report.title if report else "", link, introduced.at if introduced else 0.0, report)
