"""Tasks in, predictions out: names versions, and ties together what brings pictures and what runs requests.

    task -> pictures -> features (cached) -> segmentation -> regions -> prediction

`backend.predicting.request` has the order of a request, `backend.predicting.pictures` where features come from.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, overload

from backend.deadline import Clock, Deadline
from backend.errors import TaskError
from backend.images.asking import Asker
from backend.images.host import LabelStudioHost
from backend.images.pages import ImageKey, pictures_of
from backend.interactive.gesture import read_gesture
from backend.interactive.interactor import Interactor
from backend.labeling.controls import LabelConfig, MaskControl
from backend.metrics import Metrics
from backend.outputs.regions import make_prediction
from backend.predicting.ahead import Ahead, HostOf, Wanted
from backend.predicting.answer import Segment, answer_task
from backend.predicting.failures import Failures
from backend.predicting.fair_pool import FairPool, Lane
from backend.predicting.feature_cache import FeatureCache
from backend.predicting.networks import network_thread
from backend.predicting.pictures import PhotoLoader, Pictures
from backend.predicting.request import OnFailure, Outcome, Request, Window, reason_of
from backend.predicting.segmenting import Segmenting
from backend.predicting.stages import Make, Prediction, RequestStages
from backend.predicting.trying import Tried, Trying
from backend.predicting.words import Words
from clipdiy.method import Features, Method
from clipdiy.recent import Recent
from clipdiy.segmentation import Segmentation

logger = logging.getLogger(__name__)

REMEMBERED_FAILURES = 10_000
REMEMBERED_WARNINGS = 1_000

_Kept = TypeVar("_Kept")


@dataclass(frozen=True)
class PredictorOptions:
    """How the work is spread.

    Attributes:
        deadline_s: A request is answered within this time, with what is done by then.
        load_threads: Pictures of one request that are downloaded and decoded at the same time.
        finish_threads: Pictures turned into regions at the same time, over all requests.
        image_batch: Pictures that go through the networks together, over all requests.
        ahead: Pictures of a project that may wait to be encoded before they are asked for; 0 does not work ahead.
    """

    deadline_s: float = 90.0
    load_threads: int = 8
    finish_threads: int = 2
    image_batch: int = 1
    ahead: int = 0

    @property
    def window(self) -> Window:
        """How many tasks of a request are under way: enough to keep every stage busy."""
        unfinished = self.load_threads + self.image_batch
        return Window(unfinished, unfinished + 2 * self.finish_threads)


@dataclass(frozen=True)
class Running:
    """What computes, for a person.

    Attributes:
        weights: Their name.
        method: Which method they are used with.
        device: Where the networks run.
        dtype: What they compute in; empty if the method does not say.
        core: Identity of all of it.
    """

    weights: str
    method: str
    device: str
    dtype: str
    core: str


class Predictor:
    """Predicts tasks with one method. Holds no project: everything about it comes with the call."""

    def __init__(
        self,
        method: Method[Any],
        loader: PhotoLoader,
        options: PredictorOptions,
        metrics: Metrics,
        cache: FeatureCache | None = None,
        networks: FairPool | None = None,
        *,
        failures: Failures | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """Take loaded models, a source of photos and what is known of them already. Threads start with the first call.

        Args:
            method: With its weights loaded.
            loader: Where photos come from.
            options: How the work is spread.
            metrics: Where it is counted.
            cache: Where features are kept; nowhere, if left out.
            networks: The thread in which the method has been loaded; a new one, if left out.
            failures: Where it is kept which tasks failed; nowhere, if left out.
            clock: By which requests end.
        """
        self.metrics = metrics
        self.options = options
        self.failures = failures or Failures(None)
        self._method = method
        self._clock = clock
        self._networks = networks or network_thread()
        self._finishing = FairPool(options.finish_threads, "finish")
        self._segmenting = Segmenting(method)
        self._words = Words(method, self._networks)
        self._pictures = Pictures(
            self._segmenting,
            loader,
            cache or FeatureCache(None, memory_bytes=0, disk_bytes=0),
            self._networks,
            metrics,
            image_batch=options.image_batch,
        )
        self._ahead = Ahead(
            self._pictures.bring_behind,
            most=options.ahead,
            threads=options.image_batch + 1,
            watch=metrics.pictures_ahead.set,
        )
        self._interactor = Interactor(self._pictures, self._segment)
        self._trying = Trying(method, self._pictures, self._words, self._segment, self._networks)
        self._put_off: Recent[str, None] = Recent(REMEMBERED_FAILURES)
        self._warned: Recent[str, None] = Recent(REMEMBERED_WARNINGS)

    def close(self) -> None:
        """End the threads; work that is under way is finished, the rest is dropped."""
        self._ahead.stop()
        self._networks.close()
        self._pictures.close()
        self._finishing.close()
        self._ahead.join()

    @property
    def runs(self) -> Running:
        """What computes."""
        method = self._method
        description = method.description
        return Running(
            weights=method.name,
            method=method.config.method,
            device=str(method.device),
            dtype=str(description.get("dtype", "")),
            core=method.identity,
        )

    def deadline(self) -> Deadline:
        """Return when a request that comes in now has to be answered."""
        return Deadline.after(self.options.deadline_s, self._clock)

    def model_version(self, config: LabelConfig) -> str:
        """Name everything that decides a prediction: weights, configuration, vocabulary, prompts.

        Label Studio leaves out tasks that already hold a prediction of this version, and asks again when it changes.
        """
        digest = hashlib.sha256(json.dumps([self._method.identity, config.identity]).encode()).hexdigest()
        name = "".join(char if char.isalnum() or char in "-." else "-" for char in self._method.name)
        learned = f"learned{config.version}-" if config.version else ""
        return f"clip-diy-{name[:40]}-{learned}{digest[:10]}"

    def learn_others(self) -> None:
        """Begin to embed the list of others, so that the first request finds it done; nobody waits for it."""
        self._words.learn_others()

    def look_at(self, config: LabelConfig) -> tuple[str, ...]:
        """Return warnings about a config, and log each once per version."""
        doubts = tuple(
            dict.fromkeys(
                doubt
                for control in config.controls
                if control.drawn and (words := control.by_words)
                for doubt in self._method.doubts(words)
            )
        )
        notes = (*config.notes, *doubts)
        if notes and self._warned.add(self.model_version(config), None):
            for note in notes:
                logger.warning("%s", note)
        return notes

    @overload
    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        config: LabelConfig,
        *,
        project: str = "",
        host: LabelStudioHost | None = None,
        deadline: Deadline | None = None,
    ) -> list[Prediction | list[Any]]: ...

    @overload
    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        config: LabelConfig,
        *,
        keep: Callable[[Prediction], _Kept],
        project: str = "",
        host: LabelStudioHost | None = None,
        deadline: Deadline | None = None,
    ) -> list[_Kept | list[Any]]: ...

    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        config: LabelConfig,
        *,
        keep: Callable[[Prediction], Any] = lambda prediction: prediction,
        project: str = "",
        host: LabelStudioHost | None = None,
        deadline: Deadline | None = None,
    ) -> list[Any]:
        """Predict every task, or as many as the deadline allows.

        A picture that has begun to be encoded when the deadline comes is not waited for, but kept, so that repeated
        requests come to an end however short the deadline is.

        Args:
            tasks: As Label Studio sends them, with `id` and `data`.
            config: The project's config.
            keep: Given each prediction in the thread that finished it; what it returns stands for it in the answer.
            project: For the log, and with whom others take turns.
            host: Where the request came from.
            deadline: When it has to be answered; from now on, if left out.

        Returns:
            One entry per task, in order: a prediction (what `keep` made of it), or `[]` for a task that failed or was
            not reached. Label Studio skips such a task and asks for it again.
        """
        deadline = deadline or self.deadline()
        asker = Asker(host or LabelStudioHost(), deadline, project)
        with (
            self._ahead.giving_way(),
            self.metrics.requests_running.track_inprogress(),
            self.metrics.request_seconds.time(),
        ):
            outcome = self._run(tasks, config, self._making(config, keep), asker, Lane.REQUEST)
        if self._ahead.waits_for(project):
            left = set(outcome.left)
            self._ahead.drop(_pictures_of((task for i, task in enumerate(tasks) if i not in left), config), project)
        self.work_ahead([tasks[i] for i in outcome.left], config, project=project, host=host)
        return outcome.answers

    def predict_behind(
        self,
        tasks: Sequence[Mapping[str, Any]],
        config: LabelConfig,
        *,
        keep: Callable[[Prediction], _Kept],
        on_failure: OnFailure,
        project: str = "",
        host: LabelStudioHost | None = None,
        deadline: Deadline | None = None,
    ) -> list[_Kept | list[Any]]:
        """Predict tasks behind everything that somebody waits for.

        Args:
            tasks: As Label Studio has them, with `id` and `data`.
            config: The project's config.
            keep: As for `predict`.
            on_failure: Told of each task that failed.
            project: With whom others take turns.
            host: Where pictures come from.
            deadline: When to end; never, if left out.

        Returns:
            As `predict`. What was neither predicted nor reported as failed was not reached.
        """
        asker = Asker(host or LabelStudioHost(), deadline or Deadline.never(), project)
        return self._run(tasks, config, self._making(config, keep), asker, Lane.BACKGROUND, on_failure).answers

    def segment_behind(
        self,
        tasks: Sequence[Mapping[str, Any]],
        config: LabelConfig,
        *,
        make: Callable[[Mapping[str, Any], Mapping[ImageKey, Features], Segment], _Kept],
        on_failure: OnFailure,
        deadline: Deadline | None = None,
    ) -> list[_Kept | list[Any]]:
        """Take tasks as far as segmentation, behind everything that somebody waits for.

        Args:
            tasks: With `id` and `data`.
            config: What is asked for.
            make: Given a task, the features of its pictures and what segments them; what it returns stands for the
                task. Called in several threads.
            on_failure: Told of each task that failed.
            deadline: When to end; never, if left out.

        Returns:
            As `predict_behind`.
        """
        asker = Asker(LabelStudioHost(), deadline or Deadline.never())
        making: Make[_Kept] = lambda task, features: make(task, features, self._segment)  # noqa: E731
        return self._run(tasks, config, making, asker, Lane.BACKGROUND, on_failure).answers

    def segment_known(
        self,
        features: Sequence[Features | None],
        config: LabelConfig,
        make: Callable[[int, Features, Segment], _Kept],
    ) -> list[_Kept | None]:
        """Segment pictures from features that were kept.

        Args:
            features: Of each picture; `None` for one that has none.
            config: What is asked for.
            make: Given a place, its features and what segments them. Called in several threads.

        Returns:
            What `make` returned, in order; `None` where there are no features.
        """
        for learned in self._words.learn(config, "", Lane.BACKGROUND):
            learned.result()
        begun = [
            None
            if one is None
            else self._finishing.submit(partial(make, place, one, self._segment), lane=Lane.BACKGROUND)
            for place, one in enumerate(features)
        ]
        return [None if future is None else future.result() for future in begun]

    def _making(self, config: LabelConfig, keep: Callable[[Prediction], Any]) -> Make[Any]:
        version = self.model_version(config)

        def make(task: Mapping[str, Any], features: Mapping[ImageKey, Features]) -> Any:
            with self.metrics.stage_seconds.labels("segment").time():
                prediction = answer_task(task, config, features, self._segmenting.segment, model_version=version)
            return keep(prediction)

        return make

    def _run(
        self,
        tasks: Sequence[Mapping[str, Any]],
        config: LabelConfig,
        make: Make[Any],
        asker: Asker,
        lane: Lane,
        on_failure: OnFailure = lambda _place, _reason, _message: None,
    ) -> Outcome[Any]:
        self.look_at(config)
        with RequestStages(
            config,
            asker,
            make,
            pictures=self._pictures,
            words=self._words,
            finishing=self._finishing,
            load_threads=self.options.load_threads,
            lane=lane,
        ) as stages:
            # Tasks that were put off go last, so that they cannot keep the others waiting again and again.
            order = sorted(range(len(tasks)), key=lambda i: _task_key(tasks[i]) in self._put_off)
            outcome = Request(
                tasks,
                stages,
                asker.deadline,
                self.options.window,
                self.metrics,
                project=asker.owner or "?",
                order=order,
                failures=self.failures,
                on_failure=on_failure,
            ).run()
        for i in outcome.put_off:
            self._put_off.put(_task_key(tasks[i]), None)
        return outcome

    def work_ahead(
        self,
        tasks: Sequence[Mapping[str, Any]],
        config: LabelConfig,
        *,
        project: str = "",
        host: LabelStudioHost | HostOf | None = None,
    ) -> None:
        """Encode the pictures of tasks that will be asked for, while nobody asks for anything; returns at once.

        Args:
            tasks: As Label Studio sends them, in the order in which they will be asked for.
            config: The project's config.
            project: With whom others take turns.
            host: Where pictures come from, or what finds that out and may take its time.
        """
        found = host if callable(host) else lambda: host or LabelStudioHost()
        self._ahead.add(_pictures_of(tasks[: self._ahead.room()], config), project, found)

    def interact(
        self,
        task: Mapping[str, Any],
        config: LabelConfig,
        context: object,
        *,
        project: str = "",
        host: LabelStudioHost | None = None,
        deadline: Deadline | None = None,
    ) -> Prediction:
        """Answer what a person points at, draws or types on one task.

        Args:
            task: With `id` and `data`.
            config: The project's config.
            context: What Label Studio sends with an interactive request.
            project: For the log, and with whom others take turns.
            host: Where the request came from.
            deadline: When it has to be answered; from now on, if left out.

        Returns:
            A prediction whose regions become suggestions. Empty if nothing was found, and also if it failed: nothing
            of it is stored, and an empty list would be taken for a broken answer.

        Raises:
            RequestError: If the context is not what Label Studio sends.
        """
        deadline = deadline or self.deadline()
        version = self.model_version(config)
        nothing = make_prediction([], score=0.0, model_version=version)
        gesture = read_gesture(context)
        if gesture is None:
            return nothing
        asker = Asker(host or LabelStudioHost(), deadline, project)
        try:
            with (
                self._ahead.giving_way(),
                self.metrics.requests_running.track_inprogress(),
                self.metrics.request_seconds.time(),
            ):
                deadline.remaining_s()
                own = config.for_task(task.get("data")).without_others()  # a gesture does not ask them
                with self._words.learning(own, project, Lane.INTERACTIVE) as learning:
                    for learned in learning:
                        learned.result(deadline.left_s)
                return self._interactor.answer(task, config, gesture, asker=asker, model_version=version)
        except Exception as err:
            reason, message = ("deadline", "no time was left") if isinstance(err, TimeoutError) else reason_of(err)
            self.metrics.tasks.labels(reason).inc()
            logger.warning("project %s, task %s, interactive: %s: %s", project, task.get("id"), reason, message)
            logger.debug("task %s", task.get("id"), exc_info=err)
            return nothing

    def try_out(self, data: bytes, config: LabelConfig, *, deadline: Deadline) -> Tried:
        """Segment a picture that a person has handed over, and explain the answer; nothing of it is stored elsewhere.

        Args:
            data: The picture's file.
            config: One control, whose labels stand in it.
            deadline: When it has to be answered.

        Raises:
            TaskError: If the picture cannot be read, or there was not enough time.
        """
        with self.metrics.requests_running.track_inprogress(), self.metrics.request_seconds.time():
            return self._trying.answer(data, config, deadline)

    # For work that nobody waits for.

    @property
    def method(self) -> Method[Any]:
        """What predicts."""
        return self._method

    def known_features(self, content: str) -> Features | None:
        """Return the features of a picture by the SHA-256 of its file, if they are kept."""
        return self._pictures.known(content)

    def bring(
        self,
        task: Mapping[str, Any],
        config: LabelConfig,
        *,
        project: str = "",
        host: LabelStudioHost | None = None,
        deadline: Deadline | None = None,
    ) -> dict[ImageKey, tuple[str, Features]]:
        """Bring the pictures of a task in, behind everything that somebody waits for.

        Args:
            task: With `id` and `data`.
            config: The project's config.
            project: With whom others take turns.
            host: Where pictures come from.
            deadline: After which it is given up; from now on, if left out.

        Returns:
            SHA-256 of the file and features, by field and page.

        Raises:
            TaskError: If one cannot be had, or not in time.
        """
        asker = Asker(host or LabelStudioHost(), deadline or self.deadline(), project)
        values = pictures_of(task.get("data"), config.controls)
        return {key: self._pictures.bring_behind(value, task.get("id"), asker) for key, value in values.items()}

    def answer(
        self, task: Mapping[str, Any], config: LabelConfig, features: Mapping[ImageKey, Features], *, version: str
    ) -> Prediction:
        """Make a task's prediction from features, here and now.

        Args:
            task: With `id` and `data`.
            config: The project's config.
            features: Of its pictures, by field and page.
            version: Under which it would be stored; region ids depend on it.
        """
        return answer_task(task, config, features, self._segmenting.segment, model_version=version)

    def _segment(self, features: Features, control: MaskControl) -> Segmentation:
        with self.metrics.stage_seconds.labels("segment").time():
            return self._segmenting.segment(features, control)


def _pictures_of(tasks: Iterable[Mapping[str, Any]], config: LabelConfig) -> list[Wanted]:
    """Return the pictures of tasks; of a task that has none as its config says, nothing."""
    found: dict[Wanted, None] = {}
    for task in tasks:
        with suppress(TaskError):
            values = pictures_of(task.get("data"), config.controls)
            found.update((Wanted(task.get("id"), value), None) for value in values.values())
    return [*found]


def _task_key(task: Mapping[str, Any]) -> str:
    return hashlib.sha256(repr((task.get("project"), task.get("id"), task.get("data"))).encode()).hexdigest()
