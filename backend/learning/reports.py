"""What is known of projects, read from the store: for the page and for the command line, also without a service."""

from collections.abc import Callable, Mapping, Sequence

from backend.corrections.store import CorrectionStore, StoredFit, StoredProject
from backend.labeling.controls import Counting, LearnWhen
from backend.learning import quality
from backend.learning.fits import Fit
from backend.learning.lessons import counted
from backend.learning.report import Gain, MeanIou, ProjectReport, VersionReport
from clipdiy.learning.errors import LearningError


class StoredReports:
    """Reads and chooses; learns nothing."""

    def __init__(
        self,
        store: CorrectionStore,
        *,
        when: LearnWhen,
        several: Counting,
        host_of: Callable[[str], str] = lambda _key: "",
    ) -> None:
        """Take where it is kept.

        Args:
            store: The file.
            when: When projects learn, for the report.
            several: Which of several annotations of a task count.
            host_of: Address of a project's Label Studio, empty if unknown.
        """
        self._store = store
        self._when = when
        self._several = several
        self._host_of = host_of

    def projects(self) -> Sequence[str]:
        """Return the keys of all projects, those that were corrected last first."""
        return [project.facts.key for project in self._store.projects()]

    def report(self, key: str) -> ProjectReport | None:
        """Return everything that is known of a project's corrections, `None` if there is no such project."""
        project = self._store.project(key)
        if project is None:
            return None
        annotations = self._store.annotations(key)
        counting = counted(annotations, self._several)
        every = quality.judged(counting.by_task, self._store.agreements(key))
        fits = self._store.fits(key)
        return ProjectReport(
            key,
            project.facts.number,
            project.facts.title,
            self._host_of(key),
            len(counting.by_task),
            len(annotations),
            dict(counting.unused),
            quality.median_lead_time_s(one for several in counting.by_task.values() for one in several),
            self._when,
            project.state,
            quality.classes(every),
            quality.curve(every),
            _versions(
                project,
                fits,
                quality.by_version(every),
                quality.gains(counting.by_task, self._store.beside_words(key)),
            ),
            any(fit.number == project.used and _is_calibrated(fit) for fit in fits),
        )

    def pin(self, key: str, number: int | None) -> None:
        """Choose the version that a project uses: 0 for the labels' own words, `None` for the newest that helps.

        Raises:
            LookupError: If there is no such project, or version.
        """
        with self._store.change() as change:
            change.pin(key, number)


def _is_calibrated(fit: StoredFit) -> bool:
    try:
        return Fit.from_bytes(fit.data).calibration is not None
    except LearningError:
        return False


def _versions(
    project: StoredProject, fits: Sequence[StoredFit], ious: Mapping[int, MeanIou], gains: Mapping[int, Gain]
) -> tuple[VersionReport, ...]:
    """List the fits that are kept, the newest first, and the words."""

    def one(number: int, at: float, pictures: int, note: str) -> VersionReport:
        is_pinned = project.pinned == number
        is_in_use = number == project.used
        return VersionReport(number, at, pictures, is_in_use, is_pinned, ious.get(number), note, gains.get(number))

    every = [one(fit.number, fit.at, fit.pictures, fit.note) for fit in fits]
    return (*every, one(0, 0.0, 0, "the labels' own words"))
