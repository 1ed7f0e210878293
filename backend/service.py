"""Puts the parts of the service together, once, from its settings."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

from backend.images.loader import ImageLoader
from backend.images.sources import ImageLimits, ImageSources
from backend.images.values import SCHEMES
from backend.labeling.reader import LabelConfig, parse_label_config
from backend.learning.report import Reports
from backend.metrics import Metrics
from backend.predicting.failures import Failures
from backend.predicting.feature_cache import FeatureCache
from backend.predicting.networks import computing_alone, network_thread
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.settings import Settings
from backend.webhooks import WebhookStore
from clipdiy.method import Method, build_method, method_named

logger = logging.getLogger(__name__)

CUDA_IMAGE_BATCH = 8
CPU_IMAGE_BATCH = 1  # one image is 59 crops: a CPU gains nothing from more


@dataclass(frozen=True)
class Service:
    """Everything that answers requests. One per process."""

    settings: Settings
    predictor: Predictor
    webhooks: WebhookStore
    metrics: Metrics
    learning: Reports | None = None

    def read_label_config(self, xml: str) -> LabelConfig:
        """Read a labeling config as this service can answer it.

        Raises:
            LabelConfigError: If it cannot be answered.
        """
        return read_label_config(xml, self.settings)


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
    )


def build_service(settings: Settings) -> Service:
    """Load the weights and connect the parts.

    Raises:
        ConfigError: If the settings contradict each other.
        WeightsError: If weights are missing or damaged.
    """
    networks = network_thread()
    config, weights, kept = settings.core_config(), settings.weights_dir, settings.data_dir
    method = networks.submit(lambda: build_method(config, weights_dir=weights, cache_dir=kept)).result()
    computing_alone()
    metrics = Metrics()
    metrics.info.labels(method.name, str(method.device), method.identity).set(1)
    predictor = Predictor(
        method,
        make_loader(settings, method),
        PredictorOptions(
            deadline_s=settings.deadline_s,
            load_threads=settings.download_threads,
            finish_threads=finish_threads(),
            image_batch=CUDA_IMAGE_BATCH if method.device.type == "cuda" else CPU_IMAGE_BATCH,
        ),
        metrics,
        FeatureCache(
            settings.data_dir / "features",
            memory_bytes=settings.cache_memory_bytes,
            disk_bytes=settings.cache_disk_bytes,
        ),
        networks,
        failures=Failures(settings.data_dir),
    )
    if settings.chosen_others is not None:
        predictor.learn_others()
    logger.info("ready: weights %s on %s, core %s", method.name, method.device, method.identity)
    if settings.preset == "starter" and not settings.clip:
        logger.warning(
            "these are the starter weights, a closed world of 48 nouns in drawn pictures; for photos and any other "
            "word set CLIPDIY_PRESET=paper (run `clipdiy weights fetch` first)"
        )
    return Service(settings, predictor, WebhookStore(settings.data_dir), metrics)


def finish_threads() -> int:
    """Return how many pictures are turned into regions at the same time; each thread computes alone."""
    return max(2, min(8, (os.cpu_count() or 2) // 2))


def make_loader(settings: Settings, method: Method[Any]) -> ImageLoader:
    """Connect the images' room to the settings."""
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
        max_bytes=settings.max_image_bytes, max_px=settings.max_image_px, timeout_s=settings.download_timeout_s
    )
    return ImageLoader(sources, limits, keep_px=method.keep_long_px, keep_short_px=method.keep_short_px)


@cache
def shared_service() -> Service:
    """Return the service of this process, made from the environment with the first call.

    For servers that make model objects themselves and as often as they like (label-studio-ml does).
    """
    return build_service(Settings())
