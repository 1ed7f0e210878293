"""Tasks in, predictions out: within a deadline, one failing task never costing another.

    task -> image -> features (cached) -> segmentation -> regions -> prediction

Images are downloaded and decoded in threads, the networks run for one batch at a time, and finished features are
turned into regions in threads while the networks already work on the next batch. Only a window of tasks is under way,
and who asks may take each prediction as it is finished (`keep`), so memory does not grow with the size of a request.
"""

import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, overload

from backend.errors import TaskError
from backend.images.host import LabelStudioHost
from backend.images.outbound import Fetched, Validator
from backend.images.pages import ImageKey, pictures_of
from backend.interactive.gesture import read_gesture
from backend.interactive.interactor import Interactor, Picture
from backend.labeling.controls import LabelConfig, MaskControl
from backend.metrics import Metrics
from backend.outputs.regions import make_prediction
from backend.predicting.answer import answer_task
from backend.predicting.feature_cache import FeatureCache, content_of
from backend.predicting.networks import NetworkThread
from backend.predicting.variants import ConfigurableCore, Variants
from clipdiy.errors import ClipDiyError
from clipdiy.features import ImageFeatures
from clipdiy.photo import Photo
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

PROGRESS_EVERY_S = 5.0
REMEMBERED_FAILURES = 10_000
SPEED_MEMORY = 0.3  # share of the newest measurement in the running means

Prediction = dict[str, Any]
_Kept = TypeVar("_Kept")


class PhotoLoader(Protocol):
    """Where photos come from; `backend.images.loader.ImageLoader`, or a fake in tests."""

    def fetch_if_changed(
        self, value: str, *, task_id: object, host: LabelStudioHost, known: Validator | None = None
    ) -> Fetched:
        """Return the file that a task's value names, or that it is still the known one; or raise `TaskError`."""

    def decode(self, data: bytes, value: str, *, whole: bool = False) -> Photo:
        """Decode it, with all of its pixels if `whole`, or raise `TaskError`."""


class Core(ConfigurableCore, Protocol):
    """What is used of `clipdiy.segmenter.Segmenter`."""

    name: str

    @property
    def identity(self) -> str:
        """Changes whenever the same photo and vocabulary would give another segmentation."""

    def doubts(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """Warn of words the weights never saw."""


@dataclass(frozen=True)
class LoadedImage:
    """One image of a task, as far as it had to be brought in.

    Attributes:
        content: SHA-256 of its file.
        photo: Its pixels, unless its features are known.
        features: Its features, if they are known.
    """

    content: str
    photo: Photo | None = None
    features: ImageFeatures | None = None


@dataclass(frozen=True)
class PredictorOptions:
    """How the work is spread.

    Attributes:
        deadline_s: A request is answered within this time, with what is done by then.
        load_threads: Images downloaded and decoded at the same time, over all requests.
        finish_threads: Images turned into regions at the same time, over all requests.
        image_batch: Images that go through the networks together.
    """

    deadline_s: float = 90.0
    load_threads: int = 8
    finish_threads: int = 2
    image_batch: int = 1


@dataclass
class _Progress:
    """What is known about one request while it is worked on."""

    total: int
    started: float
    done: int = 0
    failed: int = 0
    last_report: float = 0.0

    def report(self, project: str, *, finished: bool = False) -> None:
        now = time.monotonic()
        if not finished and now - self.last_report < PROGRESS_EVERY_S:
            return
        self.last_report = now
        elapsed = now - self.started
        rate = (self.done + self.failed) / elapsed if elapsed > 0 else 0.0
        left = self.total - self.done - self.failed
        outlook = f", about {left / rate:.0f} s left" if rate > 0 and left and not finished else ""
        logger.info(
            "project %s: %s%d of %d tasks done, %d failed, %d open, %.1f s (%.1f images/s)%s",
            *(project, "finished, " if finished else "", self.done, self.total, self.failed, left, elapsed, rate),
            outlook,
        )


class Predictor:
    """Predicts tasks with one segmenter. Holds no project: everything about it comes with the call."""

    def __init__(
        self,
        core: Core,
        loader: PhotoLoader,
        options: PredictorOptions,
        metrics: Metrics,
        cache: FeatureCache | None = None,
        networks: NetworkThread | None = None,
    ) -> None:
        """Take loaded models, a source of photos and what is known of them already. Threads start with the first call.

        Without a cache nothing is kept between requests. The networks run in a thread of their own: the one given, in
        which they have been loaded, or a new one.
        """
        self._cache = cache or FeatureCache(None, memory_bytes=0, disk_bytes=0)
        self._core = core
        self._variants = Variants(core)
        self._interactor = Interactor(self)
        self._loader = loader
        self._options = options
        self._metrics = metrics
        self._networks = networks or NetworkThread()
        self._loads = ThreadPoolExecutor(options.load_threads, thread_name_prefix="load")
        self._finishes = ThreadPoolExecutor(options.finish_threads, thread_name_prefix="finish")
        self._timing = threading.Lock()
        self._encode_s = 0.0
        self._finish_s = 0.0
        self._failed_before: OrderedDict[str, None] = OrderedDict()
        self._warned: OrderedDict[str, None] = OrderedDict()

    def close(self) -> None:
        """End the threads; work that is under way is finished, the rest is dropped."""
        self._loads.shutdown(cancel_futures=True)
        self._finishes.shutdown(cancel_futures=True)
        self._networks.close()

    def model_version(self, config: LabelConfig) -> str:
        """Name everything that decides a prediction: weights, configuration, vocabulary, prompts.

        Label Studio leaves out tasks that already hold a prediction of this version, and asks again when it changes.
        """
        digest = hashlib.sha256(json.dumps([self._core.identity, config.identity]).encode()).hexdigest()
        name = "".join(char if char.isalnum() or char in "-." else "-" for char in self._core.name)
        return f"clip-diy-{name[:40]}-{digest[:10]}"

    def look_at(self, config: LabelConfig) -> tuple[str, ...]:
        """Return warnings about a config, and log each once per version."""
        doubts = tuple(
            dict.fromkeys(
                doubt for control in config.controls if control.drawn for doubt in self._core.doubts(control.vocabulary)
            )
        )
        notes = (*config.skipped, *doubts)
        if notes and _remember(self._warned, self.model_version(config), 1000):
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
    ) -> list[_Kept | list[Any]]: ...

    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        config: LabelConfig,
        *,
        keep: Callable[[Prediction], Any] = lambda prediction: prediction,
        project: str = "",
        host: LabelStudioHost | None = None,
    ) -> list[Any]:
        """Predict every task, or as many as the deadline allows.

        What was loaded first is worked on even if that will take longer than the deadline, so that repeated requests
        come to an end however short it is.

        Args:
            tasks: As Label Studio sends them, with `id` and `data`.
            config: The project's config.
            keep: Given each prediction in the thread that finished it; what it returns stands for it in the answer.
            project: For the log.
            host: Where the request came from.

        Returns:
            One entry per task, in order: a prediction (what `keep` made of it), or `[]` for a task that failed or was
            not reached. Label Studio skips such a task and asks for it again.
        """
        started = time.monotonic()
        self.look_at(config)
        with self._metrics.requests_running.track_inprogress(), self._metrics.request_seconds.time():
            run = _Run(self, tasks, config, keep, project or "?", host or LabelStudioHost(), started)
            return run.work()

    def interact(
        self,
        task: Mapping[str, Any],
        config: LabelConfig,
        context: object,
        *,
        project: str = "",
        host: LabelStudioHost | None = None,
    ) -> Prediction:
        """Answer what a person points at, draws or types on one task.

        Returns:
            A prediction whose regions become suggestions. Empty if nothing was found, and also if it failed: nothing
            of it is stored, and an empty list would be taken for a broken answer.

        Raises:
            RequestError: If the context is not what Label Studio sends.
        """
        started = time.monotonic()
        version = self.model_version(config)
        nothing = make_prediction([], score=0.0, model_version=version)
        gesture = read_gesture(context)
        if gesture is None:
            return nothing
        try:
            with self._metrics.requests_running.track_inprogress(), self._metrics.request_seconds.time():
                return self._interactor.answer(
                    task,
                    config,
                    gesture,
                    host=host or LabelStudioHost(),
                    until=started + self._options.deadline_s,
                    model_version=version,
                )
        except Exception as err:
            reason, message = _reason(err)
            self._metrics.tasks.labels(reason).inc()
            logger.warning("project %s, task %s, interactive: %s: %s", project, task.get("id"), reason, message)
            logger.debug("task %s", task.get("id"), exc_info=err)
            return nothing

    # What follows is used by the interactor.

    def bring(self, value: str, task_id: object, host: LabelStudioHost, until: float) -> Picture:
        """Return the picture that a task's value names, encoded.

        Raises:
            TaskError: If it cannot be had, or not in time.
        """
        loaded = self._load_image(value, task_id, host)
        features = loaded.features
        if features is None:
            assert loaded.photo is not None, "what has no features has pixels"
            features = _in_time(self.encode([loaded.photo], until))
            self._cache.put(loaded.content, self._core.encoder_identity, features)
        kept: list[bytes] = []

        def read() -> Photo:
            if not kept:
                data = self._loader.fetch_if_changed(value, task_id=task_id, host=host).data
                if data is None or content_of(data) != loaded.content:
                    raise TaskError("download", "the picture has changed since it was opened; open the task again")
                kept.append(data)
            return self._loader.decode(kept[0], value, whole=True)

        return Picture(loaded.content, features, read, time.monotonic())

    def encode_piece(self, photo: Photo, until: float) -> ImageFeatures:
        """Encode a piece of a picture now, the quick way; see `backend.predicting.variants.for_pieces`.

        Raises:
            TaskError: `deadline`, if the networks were not free in time.
        """
        return _in_time(self.encode([photo], until, self._variants.pieces.core))

    def segment(self, features: ImageFeatures, control: MaskControl) -> Segmentation:
        """Segment a picture or a piece of one as a control wants it."""
        pieces = self._variants.pieces
        variants = pieces if features.made_by == pieces.core.encoder_identity else self._variants
        with self._metrics.stage_seconds.labels("segment").time():
            return variants.segment(features, control)

    # What follows is used by `_Run` only.

    def load(self, task: Mapping[str, Any], config: LabelConfig, host: LabelStudioHost) -> dict[ImageKey, LoadedImage]:
        """Bring in the images of a task, by field and page: their features where they are known, else their pixels."""
        images: dict[ImageKey, LoadedImage] = {}
        config.for_task(task.get("data"))  # what is missing there is better known before anything is downloaded
        for key, value in pictures_of(task.get("data"), config.controls).items():
            with self._metrics.stage_seconds.labels("load").time():
                images[key] = self._load_image(value, task.get("id"), host)
        return images

    def _load_image(self, value: str, task_id: object, host: LabelStudioHost) -> LoadedImage:
        source = f"{host.url} {value}"
        known = self._cache.source(source)
        if known is not None:
            fetched = self._loader.fetch_if_changed(value, task_id=task_id, host=host, known=known.validator)
            if fetched.data is None:
                features = self._cached(known.content)
                if features is not None:
                    self._metrics.cache.labels("not-downloaded").inc()
                    return LoadedImage(known.content, features=features)
                # Unchanged, but its features have been dropped meanwhile: the file is needed after all.
                fetched = self._loader.fetch_if_changed(value, task_id=task_id, host=host)
        else:
            fetched = self._loader.fetch_if_changed(value, task_id=task_id, host=host)
        if fetched.data is None:
            raise TaskError("download", "the source says that nothing has changed, though nothing was known")
        content = content_of(fetched.data)
        self._cache.remember_source(source, content, fetched.validator)
        features = self._cached(content)
        if features is not None:
            self._metrics.cache.labels("hit").inc()
            return LoadedImage(content, features=features)
        self._metrics.cache.labels("miss").inc()
        return LoadedImage(content, photo=self._loader.decode(fetched.data, value))

    def _cached(self, content: str) -> ImageFeatures | None:
        return self._cache.get(content, self._core.encoder_identity)

    def encode(
        self, photos: Sequence[Photo], until: float, core: ConfigurableCore | None = None
    ) -> list[ImageFeatures] | None:
        """Run the networks, one batch at a time over all requests; `None` if the deadline came first.

        Args:
            photos: At least one.
            until: The deadline, by the monotonic clock.
            core: The one for pieces; the service's own if left out.
        """

        def job() -> tuple[list[ImageFeatures], float]:
            begun = time.monotonic()
            return (core or self._core).encode(photos), time.monotonic() - begun

        ran = self._networks.run(job, until)
        if ran is None:
            return None
        [(features, seconds)] = ran
        per_image = seconds / len(photos)
        for _ in photos:
            self._metrics.stage_seconds.labels("encode").observe(per_image)
        if core is None:
            with self._timing:
                self._encode_s = _running_mean(self._encode_s, per_image)
        return features

    def finish(
        self,
        task: Mapping[str, Any],
        config: LabelConfig,
        features: Mapping[ImageKey, ImageFeatures],
        new: Mapping[str, ImageFeatures],
        version: str,
    ) -> Prediction:
        """Turn features into a prediction, and keep those that are new (by content) for the next time."""
        begun = time.monotonic()
        for content, encoded in new.items():
            self._cache.put(content, self._core.encoder_identity, encoded)
        with self._metrics.stage_seconds.labels("segment").time():
            prediction = answer_task(task, config, features, self._variants.segment, model_version=version)
        with self._timing:
            self._finish_s = _running_mean(self._finish_s, time.monotonic() - begun)
        return prediction

    def in_turn(self, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Put tasks that failed before last, so that they cannot keep the others waiting again and again."""
        return sorted(range(len(tasks)), key=lambda i: _task_key(tasks[i]) in self._failed_before)

    def remember_failure(self, task: Mapping[str, Any]) -> None:
        """See `in_turn`."""
        _remember(self._failed_before, _task_key(task), REMEMBERED_FAILURES)

    def start_load(self, job: Callable[[], dict[ImageKey, LoadedImage]]) -> "Future[dict[ImageKey, LoadedImage]]":
        """Load in a thread."""
        return self._loads.submit(job)

    def start_finish(self, job: Callable[[], _Kept]) -> "Future[_Kept]":
        """Finish in a thread."""
        return self._finishes.submit(job)

    @property
    def options(self) -> PredictorOptions:
        """How the work is spread."""
        return self._options

    @property
    def metrics(self) -> Metrics:
        """Where the work is counted."""
        return self._metrics

    def expected_seconds(self, images: int, queued: int) -> float:
        """Say how long a batch will take from now until it is turned into predictions, by experience; 0 without any.

        Args:
            images: How many go through the networks.
            queued: How many others are being turned into predictions already.
        """
        with self._timing:
            encode, finish = self._encode_s, self._finish_s
        return images * encode + finish * (1 + (queued + images) / self._options.finish_threads)


class _Run(Generic[_Kept]):
    """The work on one request. Lives in the thread that answers it."""

    def __init__(
        self,
        predictor: Predictor,
        tasks: Sequence[Mapping[str, Any]],
        config: LabelConfig,
        keep: Callable[[Prediction], _Kept],
        project: str,
        host: LabelStudioHost,
        started: float,
    ) -> None:
        self.predictor = predictor
        self.tasks = tasks
        self.config = config
        self.keep = keep
        self.project = project
        self.host = host
        self.version = predictor.model_version(config)
        self.until = started + predictor.options.deadline_s
        self.answers: list[_Kept | list[Any]] = [[] for _ in tasks]
        self.progress = _Progress(len(tasks), started, last_report=started)
        self.waiting = deque(predictor.in_turn(tasks))
        self.loading: dict[Future[dict[ImageKey, LoadedImage]], int] = {}
        self.loaded: deque[tuple[int, dict[ImageKey, LoadedImage]]] = deque()
        self.finishing: dict[Future[_Kept], int] = {}
        self.batches = 0
        # Enough to keep every stage busy, and no more: a photo waits decoded until its batch, then its features do.
        options = predictor.options
        self.window = options.load_threads + options.image_batch
        self.finish_window = self.window + 2 * options.finish_threads

    def work(self) -> list[_Kept | list[Any]]:
        self.predictor.metrics.tasks_waiting.inc(len(self.tasks))
        try:
            while self.waiting or self.loading or self.loaded or self.finishing:
                self._start_loads()
                if not self._step():
                    break
                self.progress.report(self.project)
        finally:
            self._give_up()
        self.progress.report(self.project, finished=True)
        return self.answers

    def _start_loads(self) -> None:
        while (
            self.waiting
            and len(self.loading) + len(self.loaded) < self.window
            and len(self.finishing) < self.finish_window
        ):
            i = self.waiting.popleft()
            self.loading[self.predictor.start_load(self._load_job(i))] = i

    def _load_job(self, i: int) -> Callable[[], dict[ImageKey, LoadedImage]]:
        return lambda: self.predictor.load(self.tasks[i], self.config, self.host)

    def _step(self) -> bool:
        """Take what is ready, then run a batch of what is loaded, or wait; False when the deadline has come."""
        futures: set[Future[Any]] = {*self.loading, *self.finishing}
        if futures:
            left = max(0.0, self.until - time.monotonic())
            ready, _ = wait(futures, timeout=0 if self.loaded else left, return_when=FIRST_COMPLETED)
            for future in ready:
                self._take(future)
        if not self.loaded:
            return self.until > time.monotonic()
        # The first batch is tried even if experience says that it will not be done in time: otherwise a deadline that
        # is too short would never get anything done.
        if (self.batches and self._next_batch_ends() > self.until) or not self._run_batch():
            self._finish_rest()
            return False
        return True

    def _next_batch_ends(self) -> float:
        """When one more batch will have been turned into predictions, by experience."""
        count = min(len(self.loaded), self.predictor.options.image_batch)
        return time.monotonic() + self.predictor.expected_seconds(count, len(self.finishing))

    def _take(self, future: Future[Any]) -> None:
        if future in self.loading:
            i = self.loading.pop(future)
            try:
                images: dict[ImageKey, LoadedImage] = future.result()
                if any(image.features is None for image in images.values()):
                    self.loaded.append((i, images))
                else:
                    self._start_finish(i, images, {})
            except Exception as err:  # noqa: BLE001 - whatever it is, it concerns this task only
                self._fail(i, err)
        elif future in self.finishing:
            i = self.finishing.pop(future)
            try:
                self.answers[i] = future.result()
            except Exception as err:  # noqa: BLE001
                self._fail(i, err)
            else:
                self.progress.done += 1
                self.predictor.metrics.tasks.labels("predicted").inc()
                self.predictor.metrics.tasks_waiting.dec()

    def _run_batch(self) -> bool:
        """Run the networks on what is loaded; False if they were not free before the deadline."""
        batch = [self.loaded.popleft() for _ in range(min(len(self.loaded), self.predictor.options.image_batch))]
        self.batches += 1
        try:
            return self._encode_and_finish(batch)
        except Exception as err:  # noqa: BLE001 - one photo may have broken the batch: find out which
            if len(batch) == 1:
                self._fail(batch[0][0], err)
                return True
            logger.warning("a batch of %d images failed (%s), trying them one by one", len(batch), _short(err))
        for member in batch:
            try:
                if not self._encode_and_finish([member]):
                    return False
            except Exception as err:  # noqa: BLE001
                self._fail(member[0], err)
        return True

    def _encode_and_finish(self, batch: Sequence[tuple[int, dict[ImageKey, LoadedImage]]]) -> bool:
        """Encode what is not known yet of several tasks together, each image once."""
        photos = {
            image.content: image.photo for _, images in batch for image in images.values() if image.photo is not None
        }
        encoded = self.predictor.encode(list(photos.values()), self.until)
        if encoded is None:
            return False
        new = dict(zip(photos, encoded, strict=True))
        for i, images in batch:
            mine = {image.content: new[image.content] for image in images.values() if image.content in new}
            self._start_finish(i, images, mine)
        return True

    def _start_finish(self, i: int, images: Mapping[ImageKey, LoadedImage], new: Mapping[str, ImageFeatures]) -> None:
        features = {key: image.features or new[image.content] for key, image in images.items()}

        def job() -> _Kept:
            return self.keep(self.predictor.finish(self.tasks[i], self.config, features, new, self.version))

        self.finishing[self.predictor.start_finish(job)] = i

    def _finish_rest(self) -> None:
        while self.finishing and self.until > time.monotonic():
            ready, _ = wait(
                self.finishing, timeout=max(0.0, self.until - time.monotonic()), return_when=FIRST_COMPLETED
            )
            for future in ready:
                self._take(future)

    def _give_up(self) -> None:
        """Leave what is not done for the next request, and say how much that is."""
        for future in [*self.finishing]:
            if future.done():
                self._take(future)
        open_ones: list[Future[Any]] = [*self.loading, *self.finishing]
        for future in open_ones:
            future.cancel()
        left = self.progress.total - self.progress.done - self.progress.failed
        if left:
            self.predictor.metrics.tasks.labels("deadline").inc(left)
            self.predictor.metrics.tasks_waiting.dec(left)
            logger.warning(
                "project %s: %d of %d tasks are left for the next request, the deadline of %.0f s has come",
                *(self.project, left, self.progress.total, self.predictor.options.deadline_s),
            )

    def _fail(self, i: int, err: Exception) -> None:
        reason, message = _reason(err)
        if not isinstance(err, TaskError | ClipDiyError):
            logger.debug("task %s", self.tasks[i].get("id"), exc_info=err)
        self.progress.failed += 1
        self.predictor.metrics.tasks.labels(reason).inc()
        self.predictor.metrics.tasks_waiting.dec()
        self.predictor.remember_failure(self.tasks[i])
        logger.warning("project %s, task %s: %s: %s", self.project, self.tasks[i].get("id"), reason, message)


def _in_time(encoded: list[ImageFeatures] | None) -> ImageFeatures:
    if encoded is None:
        raise TaskError("deadline", "the networks were busy until the deadline")
    return encoded[0]


def _reason(err: Exception) -> tuple[str, str]:
    """Say why a task failed: a word for the metric, and what may be shown."""
    if isinstance(err, TaskError):
        return str(err.reason), str(err)
    return "inference", str(err) if isinstance(err, ClipDiyError) else _short(err)


def _short(err: Exception) -> str:
    """Name an unexpected error without what it may carry (paths, payloads)."""
    return f"unexpected {type(err).__name__}"


def _running_mean(known: float, newest: float) -> float:
    return (1 - SPEED_MEMORY) * known + SPEED_MEMORY * newest if known else newest


def _task_key(task: Mapping[str, Any]) -> str:
    return hashlib.sha256(repr((task.get("project"), task.get("id"), task.get("data"))).encode()).hexdigest()


def _remember(known: OrderedDict[str, None], key: str, most: int) -> bool:
    """Add a key, dropping the oldest beyond `most`; True if it is new."""
    is_new = key not in known
    known[key] = None
    known.move_to_end(key)
    while len(known) > most:
        known.popitem(last=False)
    return is_new
