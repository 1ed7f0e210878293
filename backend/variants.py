"""Controls that want their masks made in another way than the service's: fewer scales, edges refined or not."""

import logging
import threading
from dataclasses import replace
from typing import Protocol, Self

from backend.controls import MaskControl, Refinement
from clipdiy.config import CoreConfig
from clipdiy.features import ImageFeatures
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


class ConfigurableCore(Protocol):
    """What is used of `clipdiy.segmenter.Segmenter`."""

    config: CoreConfig

    @property
    def encoder_identity(self) -> str:
        """Changes whenever the same photo would give other features."""

    def with_config(self, config: CoreConfig) -> Self:
        """Return the same weights under another configuration."""

    def segment(self, features: ImageFeatures, vocabulary: Vocabulary) -> Segmentation:
        """Segment one encoded photo."""


class Variants:
    """One core under all the configurations that controls ask for. Features are encoded once for all of them."""

    def __init__(self, core: ConfigurableCore) -> None:
        """Take the core whose features come."""
        self._core = core
        self._made: dict[tuple[tuple[int, ...] | None, Refinement | None], ConfigurableCore] = {}
        self._lock = threading.Lock()

    def segment(self, features: ImageFeatures, control: MaskControl) -> Segmentation:
        """Segment as a control wants it.

        Args:
            features: Of the core given at the start.
            control: Its vocabulary, scales and refinement count.
        """
        if control.scales is None and control.refinement is None:
            return self._core.segment(features, control.vocabulary)
        core = self._variant(control.scales, control.refinement)
        known = self._core.config.grid.patch_px
        places = [place for place, scale in enumerate(known) if control.scales is None or scale in control.scales]
        return core.segment(features.of_scales(places, core.encoder_identity), control.vocabulary)

    def _variant(self, scales: tuple[int, ...] | None, refinement: Refinement | None) -> ConfigurableCore:
        with self._lock:
            if (scales, refinement) not in self._made:
                config = self._core.config
                if scales is not None:
                    kept = tuple(scale for scale in config.grid.patch_px if scale in scales) or config.grid.patch_px
                    config = replace(config, grid=replace(config.grid, patch_px=kept))
                if refinement == "none":
                    config = replace(config, pamr=None)
                elif refinement == "pamr" and config.pamr is None:
                    logger.warning('a control asks for refine="pamr", and this service keeps no pictures to refine by')
                self._made[scales, refinement] = self._core.with_config(config)
            return self._made[scales, refinement]
