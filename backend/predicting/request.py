"""The work on one request: every task taken through its stages until all are done or the deadline has come.

The order of a task stands in `Request._answer`, that of the request in `Request.run`. Nothing is computed here and no
thread begins here: stages give futures, and this is the thread that waits for them. What was begun when the deadline
comes is not lost, only not waited for: features are kept by whoever makes them, so the next request finds them.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.pages import ImageKey
from backend.metrics import Metrics
from backend.predicting.failures import REMEMBERED, Failures
from backend.predicting.pictures import LoadedPicture
from clipdiy.errors import ClipDiyError
from clipdiy.method import Features

logger = logging.getLogger(__name__)

PROGRESS_EVERY_S = 5.0
FAILURES_SHOWN = 20
"""Failures of one request that get a line of their own in the log; the others are counted."""

Task = Mapping[str, Any]
OnFailure = Callable[[int, str, str], object]
"""Told of a task that failed: its place, the reason as a word, what may be shown of it."""
Answer = TypeVar("Answer")
StageName = Literal["load", "encode", "finish"]


class Stages(Protocol[Answer]):
    """What is done with a task, step by step, in other threads."""

    def load(self, task: Task) -> "Future[dict[ImageKey, LoadedPicture]]":
        """Bring in the pictures of a task."""

    def words(self, task: Task) -> "Sequence[Future[Any]]":
        """Embed the prompts that a task is asked for and that are not known yet."""

    def encode(self, picture: LoadedPicture) -> "Future[Features]":
        """Bring the features of a picture."""

    def finish(self, task: Task, features: Mapping[ImageKey, Features]) -> "Future[Answer]":
        """Turn features into the task's answer."""


class Waiting(Protocol):
    """How futures are waited for; `wait_for`, or a clock of a test's own."""

    def __call__(self, futures: "Sequence[Future[Any]]", timeout_s: float) -> None:
        """Return when one of them is done or the time is over; at once, if there are none."""


def wait_for(futures: "Sequence[Future[Any]]", timeout_s: float) -> None:
    """Wait for the first of some futures, by the clock on the wall."""
    wait(futures, timeout=timeout_s, return_when=FIRST_COMPLETED)


@dataclass(frozen=True)
class Window:
    """How many tasks are under way: enough to keep every stage busy, and no more, as each holds a picture.

    Attributes:
        unfinished: Most tasks that are loaded, or in the networks, or wait for them.
        finishing: Most tasks that are turned into answers, or wait for that.
    """

    unfinished: int
    finishing: int


@dataclass(frozen=True)
class Outcome(Generic[Answer]):
    """What became of a request.

    Attributes:
        answers: One a task, in order: what the last stage made, or `[]` for a task that failed or was not reached.
        put_off: Places of the tasks that should go last the next time: failed, or still loading at the deadline.
        left: Places of the tasks that neither failed nor were done, in the order in which they would have been begun.
    """

    answers: list[Answer | list[Any]]
    put_off: tuple[int, ...]
    left: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Step:
    """What a task waits for before it goes on: all of these."""

    stage: StageName
    futures: "Sequence[Future[Any]]"

    @property
    def is_done(self) -> bool:
        return all(future.done() for future in self.futures)


@dataclass
class _Journey(Generic[Answer]):
    """A task under way: its order of steps, and where it stands."""

    steps: Generator[_Step, None, Answer]
    step: _Step


@dataclass
class _Progress:
    """What is said of a request while it is worked on."""

    project: str
    total: int
    deadline: Deadline
    started: float = field(init=False)
    reported: float = field(init=False)
    done: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.started = self.reported = self.deadline.clock()

    @property
    def open(self) -> int:
        """Tasks that are neither done nor failed."""
        return self.total - self.done - self.failures.total()

    @property
    def per_second(self) -> float:
        """Tasks that it was done with in a second, so far; 0 if that cannot be said yet."""
        elapsed = self.deadline.clock() - self.started
        return (self.total - self.open) / elapsed if elapsed > 0 else 0.0

    def report(self) -> None:
        """Say how far it is, every few seconds."""
        if self.deadline.clock() - self.reported >= PROGRESS_EVERY_S:
            self.reported = self.deadline.clock()
            self._log("")

    def report_end(self) -> None:
        """Say what became of it."""
        self._log("finished, ")
        if self.failures.total() > FAILURES_SHOWN:
            counts = ", ".join(f"{count} {reason}" for reason, count in self.failures.most_common())
            logger.warning("project %s: %d tasks failed in all: %s", self.project, self.failures.total(), counts)
        if self.open:
            logger.warning(
                "project %s: %d of %d tasks are left for the next request, the deadline of %.0f s has come",
                *(self.project, self.open, self.total, self.deadline.seconds),
            )

    def _log(self, state: str) -> None:
        elapsed, rate = self.deadline.clock() - self.started, self.per_second
        outlook = f", about {self.open / rate:.0f} s left" if rate > 0 and self.open and not state else ""
        logger.info(
            "project %s: %s%d of %d tasks done, %d failed, %d open, %.1f s (%.1f images/s)%s",
            *(self.project, state, self.done, self.total, self.failures.total(), self.open, elapsed, rate, outlook),
        )


class Request(Generic[Answer]):
    """One request. Lives in the thread that answers it."""

    def __init__(
        self,
        tasks: Sequence[Task],
        stages: Stages[Answer],
        deadline: Deadline,
        window: Window,
        metrics: Metrics,
        *,
        project: str = "?",
        order: Sequence[int] | None = None,
        waiting: Waiting = wait_for,
        failures: Failures | None = None,
        on_failure: OnFailure = lambda _place, _reason, _message: None,
    ) -> None:
        """Take what is to be done, and begin nothing.

        Args:
            tasks: As Label Studio sends them, with `id` and `data`.
            stages: What is done with each.
            deadline: When there must be an answer.
            window: How many tasks are under way at a time.
            metrics: Where they are counted.
            project: For the log.
            order: In which tasks are begun, by their places; as they come, if left out.
            waiting: How futures are waited for.
            failures: Where it is kept which of them failed; nowhere, if left out.
            on_failure: Told of each task that fails, as it does; not of those that are left.
        """
        self._on_failure = on_failure
        self._tasks = tasks
        self._stages = stages
        self._deadline = deadline
        self._window = window
        self._metrics = metrics
        self._wait = waiting
        self._order = tuple(range(len(tasks)) if order is None else order)
        self._queue = deque(self._order)
        self._under_way: dict[int, _Journey[Answer]] = {}
        self._answers: list[Answer | list[Any]] = [[] for _ in tasks]
        self._put_off: list[int] = []
        self._failures = failures or Failures(None)
        self._done_ids: list[object] = []
        self._failed: deque[tuple[object, str, str]] = deque(maxlen=REMEMBERED)
        self._per_second = 0.0
        self._ended: set[int] = set()
        self._progress = _Progress(project, len(tasks), deadline)

    def run(self) -> Outcome[Answer]:
        """Work on all tasks until they are done or the deadline has come."""
        self._metrics.tasks_waiting.inc(len(self._tasks))
        try:
            while (self._queue or self._under_way) and not self._deadline.has_come:
                self._begin_tasks()
                self._wait(self._open_futures(), self._deadline.left_s)
                self._go_on()
                self._progress.report()
        finally:
            self._leave_the_rest()
            self._failures.note(self._progress.project, done=self._done_ids, failed=self._failed)
        self._progress.report_end()
        return Outcome(self._answers, tuple(self._put_off), tuple(i for i in self._order if i not in self._ended))

    def _answer(self, task: Task) -> Generator[_Step, None, Answer]:
        """Everything that happens to a task, in order; each step waits for what it yields."""
        loading = self._stages.load(task)
        yield _Step("load", [loading])
        pictures = loading.result()
        encoding = {key: self._stages.encode(picture) for key, picture in pictures.items()}
        words = self._stages.words(task)
        yield _Step("encode", [*encoding.values(), *words])
        for learned in words:
            learned.result()
        features = {key: future.result() for key, future in encoding.items()}
        finishing = self._stages.finish(task, features)
        yield _Step("finish", [finishing])
        return finishing.result()

    def _begin_tasks(self) -> None:
        """Begin as many tasks as the window has room for."""
        while self._queue:
            finishing = sum(journey.step.stage == "finish" for journey in self._under_way.values())
            unfinished = len(self._under_way) - finishing
            if unfinished >= self._window.unfinished or finishing >= self._window.finishing:
                return
            i = self._queue.popleft()
            steps = self._answer(self._tasks[i])
            self._advance(i, steps)

    def _open_futures(self) -> "list[Future[Any]]":
        """Return all that is waited for; nothing if a task can go on already."""
        every: list[Future[Any]] = []
        for journey in self._under_way.values():
            its = [future for future in journey.step.futures if not future.done()]
            if not its:
                return []
            every += its
        return every

    def _go_on(self) -> None:
        """Take every task on whose step is done."""
        for i, journey in [*self._under_way.items()]:
            if journey.step.is_done:
                self._advance(i, journey.steps)

    def _advance(self, i: int, steps: Generator[_Step, None, Answer]) -> None:
        """Take a task to its next step that is not done yet, or to its end."""
        try:
            step = next(steps)
            while step.is_done:
                step = next(steps)
        except StopIteration as end:
            self._under_way.pop(i, None)
            self._done(i, end.value)
        except Exception as err:  # noqa: BLE001 - whatever it is, it concerns this task only
            self._under_way.pop(i, None)
            self._fail(i, err)
        else:
            self._under_way[i] = _Journey(steps, step)

    def _done(self, i: int, answer: Answer) -> None:
        self._answers[i] = answer
        self._ended.add(i)
        self._progress.done += 1
        self._done_ids.append(self._tasks[i].get("id"))
        self._metrics.tasks.labels("predicted").inc()
        self._metrics.tasks_waiting.dec()
        self._set_speed(self._progress.per_second)

    def _fail(self, i: int, err: Exception) -> None:
        self._put_off.append(i)
        if isinstance(err, TaskError) and err.reason == "deadline":
            return  # it is one of those that are left
        self._ended.add(i)
        reason, message = reason_of(err)
        task_id = self._tasks[i].get("id")
        if not isinstance(err, TaskError | ClipDiyError):
            logger.debug("task %s", task_id, exc_info=err)
        self._progress.failures[reason] += 1
        self._failed.append((task_id, reason, message))
        self._on_failure(i, reason, message)
        self._metrics.tasks.labels(reason).inc()
        self._metrics.tasks_waiting.dec()
        self._set_speed(self._progress.per_second)
        if self._progress.failures.total() <= FAILURES_SHOWN:
            logger.warning("project %s, task %s: %s: %s", self._progress.project, task_id, reason, message)

    def _leave_the_rest(self) -> None:
        """Let go of what is not done: nobody waits for it any more, and what has not begun never will."""
        for i, journey in self._under_way.items():
            begun = [future for future in journey.step.futures if not future.cancel()]
            if journey.step.stage == "load" and begun:
                self._put_off.append(i)
        if self._progress.open:
            self._metrics.tasks.labels("deadline").inc(self._progress.open)
            self._metrics.tasks_waiting.dec(self._progress.open)
        self._set_speed(0.0)

    def _set_speed(self, per_second: float) -> None:
        """Say how fast this request is; the gauge adds up all that are running."""
        self._metrics.tasks_per_second.inc(per_second - self._per_second)
        self._per_second = per_second


def reason_of(err: Exception) -> tuple[str, str]:
    """Say why a task failed: a word for the metric, and what may be shown."""
    if isinstance(err, TaskError):
        return str(err.reason), str(err)
    # An unexpected error is named without what it may carry (paths, payloads).
    return "inference", str(err) if isinstance(err, ClipDiyError) else f"unexpected {type(err).__name__}"
