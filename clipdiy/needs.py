"""Which weight files CLIP-DIY needs. Not in `build.py`, so that listing them loads no torch."""

from clipdiy.config import CoreConfig
from clipdiy.objectness.source import objectness_named
from clipdiy.weights import WeightFile, clip_files


def clip_diy_files(config: CoreConfig) -> tuple[WeightFile, ...]:
    """List what has to be fetched; empty where everything is bundled or in named folders.

    Raises:
        ConfigError: If a model, tag or objectness is named that nobody knows.
    """
    return (*clip_files(config.clip), *objectness_named(config.objectness.method).required_files(config))
