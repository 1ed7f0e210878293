"""A whole project's predictions, written into Label Studio without anybody pressing a button.

    tasks without a prediction of this version, page by page -> predicted -> written in bulk, beside the next page

What is done stands in Label Studio and nowhere else, so whatever ends a run (Ctrl-C, kill -9, a power cut) the next one
goes on where it was: it asks for the tasks that lack a prediction of this version. At the end, what is left of our own
earlier versions is removed from tasks that nobody has annotated or skipped, and so is a second prediction of this
version, should there be one (somebody opened a task in the same moment). Annotations are never touched, and predictions
that another model made neither.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from backend.bulk.until import until_stopped
from backend.bulk.writing import LOOKED_UP, Encoded, PredictionsApi, Writer
from backend.deadline import Deadline
from backend.images.host import LabelStudioHost
from backend.label_studio_api import LabelStudioApiError, TaskFilter

if TYPE_CHECKING:
    from backend.labeling.controls import LabelConfig

logger = logging.getLogger(__name__)

BATCHES = (200, 1000)
"""Fewest and most tasks in a page, and predictions in a request; the fewest are measured in benchmarks/push.py."""
_REQUESTS = 50
OURS = "clip-diy-"
"""How the names of all our versions begin."""
SWEPT = 20
"""Tasks that are looked at together when earlier predictions are removed: they come with all their masks."""
LISTED_FAILURES = 10_000
PASSING = ("download", "timeout")
"""Why pictures fail while Label Studio is restarted, which gives them away: they are tried once more at the end."""

Kept = tuple[float, bytes]
"""What is kept of a prediction until it is written: its score, and its regions as JSON."""


class ProjectApi(PredictionsApi, Protocol):
    """What is used of `backend.label_studio_api.LabelStudioApi`."""

    def count_tasks(self, project_id: int, filters: Sequence[TaskFilter] = ...) -> int:
        """Return how many tasks there are."""

    def project(self, project_id: int) -> Mapping[str, Any]:
        """Return a project."""

    def backends(self, project_id: int) -> Sequence[Mapping[str, Any]]:
        """Return the backends that are connected to a project."""

    def update_project(self, project_id: int, **changes: Any) -> None:
        """Change settings of a project."""

    def delete_prediction(self, prediction_id: int) -> None:
        """Remove a prediction."""


class Predicts(Protocol):
    """What is used of `backend.predicting.predictor.Predictor`."""

    def model_version(self, config: "LabelConfig") -> str:
        """Name what decides a prediction."""

    def predict_behind(
        self,
        tasks: Sequence[Mapping[str, Any]],
        config: "LabelConfig",
        *,
        keep: Callable[[dict[str, Any]], Kept],
        on_failure: Callable[[int, str, str], object],
        project: str,
        host: LabelStudioHost | None,
        deadline: Deadline,
    ) -> list[Kept | list[Any]]:
        """Predict tasks; nothing for one that failed or was not reached."""


@dataclass(frozen=True)
class Failure:
    """A task that has no prediction of this version.

    Attributes:
        task: Its id.
        reason: A word; see `backend.errors.TaskFailure`, and `refused-by-label-studio`.
        message: What may be shown.
    """

    task: int
    reason: str
    message: str


@dataclass(frozen=True)
class PushProgress:
    """How far a push is.

    Attributes:
        done: Tasks that are through: written, failed, or had one already.
        total: Tasks that lacked a prediction when it began.
        failed: How many of those that are through have none.
    """

    done: int
    total: int
    failed: int


@dataclass
class Pushed:
    """What became of a push.

    Attributes:
        version: Under which the predictions are stored.
        predicted: Predictions that were made.
        written: Predictions that were written.
        skipped: Tasks that had one of this version when it began.
        removed: Earlier predictions of ours that were removed.
        failed: Tasks that have none.
        failures: Why; at most `LISTED_FAILURES` of them.
        is_complete: It came to the end.
    """

    version: str
    predicted: int = 0
    written: int = 0
    skipped: int = 0
    removed: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    is_complete: bool = False

    def fail(self, failure: Failure) -> None:
        """Count a task that failed."""
        self.failed += 1
        if len(self.failures) < LISTED_FAILURES:
            self.failures.append(failure)


def push(
    api: ProjectApi,
    predictor: Predicts,
    config: "LabelConfig",
    project: int,
    *,
    host: LabelStudioHost | None = None,
    only_unannotated: bool = False,
    keep_old: bool = False,
    write: bool = True,
    stop: Event | None = None,
    progress: Callable[[PushProgress], object] = lambda _progress: None,
    batch: int | None = None,
) -> Pushed:
    """Bring every task of a project to a prediction of this version.

    Args:
        api: Of its Label Studio, with `Patience`; its pause may be `stop.wait`.
        predictor: Predicts; behind everything that somebody waits for.
        config: The project's, with what it has learned.
        project: Its id.
        host: Where pictures come from.
        only_unannotated: Leave out tasks that somebody has annotated or skipped.
        keep_old: Leave our own earlier predictions where they are.
        write: Otherwise Label Studio is left as it is: pictures are encoded, and their features kept for whoever asks.
        stop: Ends it: what is predicted is still written, the rest is for the next time.
        progress: Told how far it is.
        batch: Tasks that are predicted together, and predictions in one request; by the size of the project, if left
            out.

    Raises:
        LabelStudioApiError: If Label Studio refuses, or was away for longer than `api` has patience. What was written
            stays; the next call goes on.
    """
    job = _Push(api, predictor, config, project, host, only_unannotated, stop or Event(), progress)
    try:
        job.run(batch, write=write)
        if write and not job.stop.is_set():
            if not keep_old:
                job.sweep()
            job.choose_version()
    except LabelStudioApiError as err:
        # Whoever was waiting for Label Studio to come back has been told that there is no use.
        if not (job.stop.is_set() and err.is_passing):
            raise
    job.pushed.is_complete = not job.stop.is_set()
    return job.pushed


def batch_for(tasks: int) -> int:
    """Return how many predictions go into one request to a project of so many tasks.

    With each request Label Studio counts the predictions of every task of the project again, which takes longer the
    more there are; so large projects get few requests, and small ones are not kept waiting for a full one.
    """
    return max(BATCHES[0], min(BATCHES[1], tasks // _REQUESTS))


class _Push:
    """One push under way."""

    def __init__(
        self,
        api: ProjectApi,
        predictor: Predicts,
        config: "LabelConfig",
        project: int,
        host: LabelStudioHost | None,
        only_unannotated: bool,
        stop: Event,
        progress: Callable[[PushProgress], object],
    ) -> None:
        self.stop = stop
        self.pushed = Pushed(predictor.model_version(config))
        self._api = api
        self._predictor = predictor
        self._config = config
        self._project = project
        self._host = host
        self._whose = TaskFilter.untouched() if only_unannotated else ()
        self._progress = progress
        self._writer = Writer(api, project, self.pushed.version, stop=stop)
        self._again: list[int] | None = []
        self._done = self._total = 0
        self._lock = Lock()

    def run(self, batch: int | None, *, write: bool) -> None:
        """Predict what has no prediction, and write it while the next is predicted."""
        lacking = [*self._whose, TaskFilter.without_version(self.pushed.version)]
        self._total = self._api.count_tasks(self._project, lacking)
        whose = self._api.count_tasks(self._project, self._whose)
        self.pushed.skipped = whose - self._total
        batch = batch or batch_for(whose)
        self._tell()
        self._work(self._api.task_pages(self._project, page_size=batch, filters=lacking), write=write)
        again, self._again = self._again or [], None
        for start in range(0, len(again), LOOKED_UP):
            some = TaskFilter.among(again[start : start + LOOKED_UP])
            self._work(self._api.task_pages(self._project, page_size=batch, filters=[some, *lacking]), write=write)

    def _work(self, pages: Iterator[list[dict[str, Any]]], *, write: bool) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="push") as pool:
            writing: Future[None] | None = None
            try:
                for page in pages:
                    if self.stop.is_set():
                        break
                    predicted = self._predict(page)
                    self.pushed.predicted += len(predicted)
                    if writing is not None:
                        writing.result()
                    if write:
                        writing = pool.submit(self._write, predicted)
                    else:
                        self._tell(len(predicted))
            finally:
                if writing is not None:
                    writing.result()

    def _predict(self, page: Sequence[Mapping[str, Any]]) -> list[Encoded]:
        def failed(place: int, reason: str, message: str) -> None:
            if self._again is not None and reason in PASSING:
                self._again.append(int(page[place]["id"]))
                return
            self._fail(Failure(int(page[place]["id"]), reason, message))

        answers = self._predictor.predict_behind(
            page,
            self._config,
            keep=lambda prediction: (float(prediction["score"]), orjson.dumps(prediction["result"])),
            on_failure=failed,
            project=str(self._project),
            host=self._host,
            deadline=until_stopped(self.stop),
        )
        return [
            Encoded(int(task["id"]), *answer)
            for task, answer in zip(page, answers, strict=True)
            if isinstance(answer, tuple)
        ]

    def _write(self, predicted: Sequence[Encoded]) -> None:
        refused: list[int] = []

        def refuse(task: int, message: str) -> None:
            refused.append(task)
            self._fail(Failure(task, "refused-by-label-studio", message))

        self.pushed.written += self._writer.write(predicted, refuse)
        self._tell(len(predicted) - len(refused))

    def _fail(self, failure: Failure) -> None:
        with self._lock:
            self.pushed.fail(failure)
        self._tell(1)

    def _tell(self, done: int = 0) -> None:
        # Pictures fail in one thread, writing goes on in another.
        with self._lock:
            self._done += done
            self._progress(PushProgress(self._done, max(self._total, self._done), self.pushed.failed))

    def sweep(self) -> None:
        """Remove what this version replaces, from tasks that nobody has touched."""
        filters = [*TaskFilter.untouched(), TaskFilter.with_version(self.pushed.version), TaskFilter.with_several()]
        pages = self._api.task_pages(self._project, fields="all", page_size=SWEPT, filters=filters)
        for page in pages:
            for prediction in self._replaced(page):
                if self.stop.is_set():
                    return
                self._api.delete_prediction(prediction)
                self.pushed.removed += 1

    def _replaced(self, page: Sequence[Mapping[str, Any]]) -> Iterator[int]:
        """Return the predictions of ours that are not the first of this version."""
        for task in page:
            ours = [one for one in task["predictions"] if str(one.get("model_version")).startswith(OURS)]
            now = sorted(int(one["id"]) for one in ours if one["model_version"] == self.pushed.version)
            if now and not task.get("annotations"):
                yield from (int(one["id"]) for one in ours if int(one["id"]) != now[0])

    def choose_version(self) -> None:
        """Let the project show this version, unless somebody has chosen another model's or a backend's."""
        if not self.pushed.written:
            return
        chosen = str(self._api.project(self._project).get("model_version") or "")
        titles = [str(backend.get("title")) for backend in self._api.backends(self._project)]
        is_ours = chosen.startswith(OURS) and chosen not in titles
        if chosen != self.pushed.version and (is_ours or not chosen):
            with suppress(LabelStudioApiError):  # a wish, not the work
                self._api.update_project(self._project, model_version=self.pushed.version)
