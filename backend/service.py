"""Puts the parts of the service together, once, from its settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from threading import Event
from typing import Any

from backend.bulk.behind import PushBehind
from backend.bulk.pushing import push
from backend.corrections.events import read_event, read_project
from backend.errors import BackendError, LabelConfigError, RequestError
from backend.images.host import LabelStudioHost
from backend.images.introductions import Introductions, trial_at
from backend.images.loader import ImageLoader
from backend.images.sources import ImageLimits, ImageSources
from backend.images.values import SCHEMES
from backend.label_studio_api import LabelStudioApi, Patience, Pause
from backend.labeling.reader import LabelConfig, parse_label_config
from backend.learning.learner import Wishes
from backend.learning.learning import Learning
from backend.learning.lessons import Lesson
from backend.learning.sync import sync
from backend.metrics import Metrics
from backend.predicting.failures import Failures
from backend.predicting.feature_cache import FeatureCache
from backend.predicting.networks import computing_alone, network_thread
from backend.predicting.pictures import PhotoLoader
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.settings import Settings
from clipdiy.learning.learned import Learned
from clipdiy.method import Method, build_method, method_named
from clipdiy.threads import usable_cores

logger = logging.getLogger(__name__)

CUDA_IMAGE_BATCH = 8
AHEAD_PICTURES = 10_000
"""Of a project, that may wait to be encoded before they are asked for: hours of a CPU, minutes of a GPU."""
CPU_IMAGE_BATCH = 1  # one image is 59 crops: a CPU gains nothing from more


@dataclass(frozen=True)
class Service:
    """Everything that answers requests. One per process."""

    settings: Settings
    predictor: Predictor
    introductions: Introductions
    learning: Learning
    metrics: Metrics

    def read_label_config(self, xml: str, project: str = "") -> LabelConfig:
        """Read a labeling config as this service can answer it, with what its project has learned.

        Args:
            xml: The config.
            project: As Label Studio names it to a backend; without it, the labels' own words count.

        Raises:
            LabelConfigError: If it cannot be answered.
        """
        return self.learning.teach(read_label_config(xml, self.settings), project)

    def host_of(self, project: str) -> LabelStudioHost:
        """Return what is known of the Label Studio of a project; may ask it whether that is so.

        Args:
            project: As Label Studio names it to a backend.
        """
        host = self.introductions.of(project)
        # One on this machine's loopback was only kept because it said so from here.
        return replace(host, is_neighbour=host.is_loopback)

    def work_ahead(self, body: Mapping[str, Any]) -> None:
        """Encode the pictures of new tasks, behind everything that somebody waits for; returns at once.

        Args:
            body: Of a webhook; anything but TASKS_CREATED is left alone, and so is what cannot be read: who asks for
                these tasks later will be told.
        """
        if body.get("action") != "TASKS_CREATED":
            return
        sent = body.get("tasks")
        every = sent if isinstance(sent, list) else []
        tasks = [task for task in every if isinstance(task, Mapping) and isinstance(task.get("id"), int)]
        try:
            project = read_project(body.get("project"))
            config = self.read_label_config(project.label_config, project.key)
        except (RequestError, LabelConfigError):
            return
        # Which Label Studio that is must not be found out here: it waits for the answer, and may be asked.
        self.predictor.work_ahead(tasks, config, project=str(project.number), host=lambda: self.host_of(project.key))

    def forget_deleted(self, body: Mapping[str, Any]) -> None:
        """Tell no more of failed tasks that have been deleted.

        Args:
            body: Of a webhook; what says nothing of that, or cannot be read, is left alone.
        """
        if body.get("action") not in ("TASKS_DELETED", "PROJECT_DELETED"):
            return
        try:
            event = read_event(body)
        except RequestError:
            return
        if event is not None:
            gone = None if event.is_project_gone else event.tasks_gone
            self.predictor.failures.forget(str(event.project.number), gone)

    def close(self) -> None:
        """End the threads; what is under way is finished, the rest is dropped."""
        self.learning.close()
        self.predictor.close()


def read_label_config(xml: str, settings: Settings) -> LabelConfig:
    """Read a labeling config as a service with these settings can answer it.

    Raises:
        LabelConfigError: If it cannot be answered.
    """
    config = settings.core_config()
    method = method_named(config.method)
    return parse_label_config(
        xml,
        templates=method.templates(config),
        scales=method.scales(config),
        refining=settings.refine,
        others=settings.chosen_others,
        usual_stuff=settings.stuff == "usual",
    )


def build_service(settings: Settings, *, learns: bool = True) -> Service:
    """Load the weights and connect the parts.

    Args:
        settings: What the service was told.
        learns: It also learns. Otherwise it uses what another process has learned.

    Raises:
        ConfigError: If the settings contradict each other.
        WeightsError: If weights are missing or damaged.
    """
    predictor = build_predictor(settings, failures=Failures(settings.data_dir))
    method, metrics = predictor.method, predictor.metrics
    metrics.info.labels(method.name, str(method.device), method.identity).set(1)
    if settings.chosen_others is not None:
        predictor.learn_others()
    logger.info("ready: weights %s on %s, core %s", method.name, method.device, method.identity)
    if settings.preset == "starter" and not settings.clip:
        logger.warning(
            "these are the starter weights, a closed world of 48 nouns in drawn pictures; for photos and any other "
            "word set CLIPDIY_PRESET=paper (run `clipdiy weights fetch` first)"
        )
    url = settings.label_studio_url
    introductions = Introductions(settings.data_dir, trial_at(url) if url else None)
    learning = make_learning(settings, method, predictor, introductions)
    if learns:
        learning.start()
    return Service(settings, predictor, introductions, learning, metrics)


def build_predictor(
    settings: Settings,
    loader_of: Callable[[Method[Any]], PhotoLoader] | None = None,
    cache: FeatureCache | None = None,
    failures: Failures | None = None,
) -> Predictor:
    """Load the weights, and connect what predicts with them.

    Args:
        settings: What the service was told.
        loader_of: Makes what fetches pictures for a method; by the settings, if left out.
        cache: Where features are kept; by the settings, if left out.
        failures: Where failed tasks are told of, if anywhere.

    Raises:
        ConfigError: If the settings contradict each other.
        WeightsError: If weights are missing or damaged.
    """
    networks = network_thread()
    config, weights, kept = settings.core_config(), settings.weights_dir, settings.data_dir
    method = networks.submit(lambda: build_method(config, weights_dir=weights, cache_dir=kept)).result()
    computing_alone()
    return Predictor(
        method,
        make_loader(settings, method) if loader_of is None else loader_of(method),
        PredictorOptions(
            deadline_s=settings.deadline_s,
            load_threads=settings.download_threads,
            finish_threads=finish_threads(),
            image_batch=CUDA_IMAGE_BATCH if method.device.type == "cuda" else CPU_IMAGE_BATCH,
            # What is not kept need not be made before it is asked for.
            ahead=AHEAD_PICTURES if settings.work_ahead and settings.keeps_features else 0,
        ),
        Metrics(),
        cache
        or FeatureCache(
            settings.data_dir / "features",
            memory_bytes=settings.cache_memory_bytes,
            disk_bytes=settings.cache_disk_bytes,
        ),
        networks,
        failures=failures,
    )


def make_learning(
    settings: Settings, method: Method[Any], predictor: Predictor, introductions: Introductions
) -> Learning:
    """Connect the room that learns: to the method, to what predicts, and to the Label Studios that it reads from."""
    entry = method_named(method.config.method)
    own = entry.learn

    def host_of(key: str) -> LabelStudioHost:
        host = introductions.of(key)
        if settings.label_studio_url is not None:
            token = settings.label_studio_token
            return LabelStudioHost(
                settings.label_studio_url, token.get_secret_value() if token else host.token, is_configured=True
            )
        return replace(host, is_neighbour=host.is_loopback)

    def learn_lesson(lesson: Lesson) -> Learned:
        assert own is not None
        vocabulary = lesson.vocabulary
        if lesson.others is not None:
            vocabulary = vocabulary.with_others(method.choose_others(vocabulary, lesson.others.words).competing)
        return own(method, lesson.pictures, vocabulary)

    def sync_from(learning: Learning, key: str) -> None:
        for each in [key] if key else introductions.projects():
            host = host_of(each)
            if not (host.is_configured or host.is_neighbour):
                # Anybody can say on /setup where a Label Studio is: that is no reason to go there with a token, and to
                # believe what it says.
                logger.info(
                    "project %s: its annotations are read from webhooks alone; set CLIPDIY_LABEL_STUDIO_URL to have "
                    "those read that webhooks missed",
                    each.partition(".")[0],
                )
                continue
            # Not for long: the service may be about to end, and it is tried again.
            api = api_of(host, Patience(for_s=10))
            if api is None:
                continue
            try:
                sync(api, learning.intake, int(each.partition(".")[0]), expected=each)
            except (BackendError, ValueError) as err:
                logger.warning("project %s: annotations could not be read: %s", each.partition(".")[0], err)

    def push_project(key: str, stop: Event) -> None:
        host, stored = host_of(key), learning.store.project(key)
        api = api_of(host, pause=stop.wait) if host.is_configured or host.is_neighbour else None
        if stored is None or api is None:
            logger.warning(
                "project %s: CLIPDIY_PUSH needs Label Studio's address and a token: set CLIPDIY_LABEL_STUDIO_URL and "
                "CLIPDIY_LABEL_STUDIO_TOKEN",
                key.partition(".")[0],
            )
            return
        config = learning.teach(read_label_config(stored.facts.label_config, settings), key)
        pushed = push(api, predictor, config, stored.facts.number, host=host, only_unannotated=True, stop=stop)
        facts = stored.facts.number, pushed.written, pushed.version, pushed.failed
        logger.info("project %s: %d predictions of %s written, %d failed", *facts)

    pushing = PushBehind(push_project)
    learning = Learning(
        settings.data_dir,
        predictor,
        lambda xml: read_label_config(xml, settings),
        encoder=method.encoder_identity,
        learn=None if own is None else learn_lesson,
        evidence=entry.evidence,
        wishes=Wishes(settings.learn, settings.annotators),
        host_of=host_of,
        sync=sync_from,
        on_new_version=pushing.ask if settings.push else lambda _key: None,
        on_close=pushing.close,
    )
    return learning


def api_of(
    host: LabelStudioHost, patience: Patience | None = None, pause: Pause | None = None
) -> LabelStudioApi | None:
    """Return a client for a Label Studio, `None` where its address or token is not known.

    Args:
        host: Which one.
        patience: How long it is waited for while it is away; as for long work, if left out.
        pause: How it is waited for; see `LabelStudioApi`.
    """
    if not host.url or not host.token:
        return None
    return LabelStudioApi.with_token(host.base_url, host.token, patience=patience, pause=pause)


def finish_threads() -> int:
    """Return how many pictures are turned into regions at the same time; each thread computes alone."""
    return max(2, min(8, usable_cores() // 2))


def make_loader(settings: Settings, method: Method[Any] | None = None) -> ImageLoader:
    """Connect the images' room to the settings.

    Args:
        settings: Of this process.
        method: What looks at the photos, so that no more of them is kept than it needs; without one, all pixels are.
    """
    token = settings.label_studio_token
    sources = ImageSources(
        label_studio_url=settings.label_studio_url,
        label_studio_aliases=settings.label_studio_aliases,
        token=token.get_secret_value() if token else None,
        local_files_roots=settings.local_files_root,
        schemes=settings.allowed_schemes or SCHEMES,
        allowed_hosts=settings.allowed_hosts,
        denied_hosts=settings.denied_hosts,
        private_hosts=settings.private_hosts,
        allow_private_addresses=settings.allow_private_addresses,
    )
    limits = ImageLimits(
        max_bytes=settings.max_image_bytes,
        max_px=settings.max_image_px,
        max_scans=settings.max_jpeg_scans,
        max_decoding_px=settings.max_decoding_px,
        decode_s=settings.decode_timeout_s,
        timeout_s=settings.download_timeout_s,
    )
    if method is None:
        return ImageLoader(sources, limits)
    return ImageLoader(sources, limits, keep_px=method.keep_long_px, keep_short_px=method.keep_short_px)


@cache
def shared_service() -> Service:
    """Return the service of this process, made from the environment with the first call.

    For servers that make model objects themselves and as often as they like (label-studio-ml does).
    """
    return build_service(Settings())
