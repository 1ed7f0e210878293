"""Controls that want their masks made in another way than the service's: fewer scales, edges refined or not."""

import threading
from dataclasses import replace
from typing import Protocol, Self

from backend.controls import MaskControl
from clipdiy.config import CoreConfig
from clipdiy.features import ImageFeatures
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import Vocabulary


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
        self._made: dict[tuple[tuple[int, ...] | None, bool], ConfigurableCore] = {}
        self._lock = threading.Lock()

    def segment(self, features: ImageFeatures, control: MaskControl) -> Segmentation:
        """Segment as a control wants it.

        Args:
            features: Of the core given at the start.
            control: Its vocabulary, scales and refinement count.
        """
        if control.scales is None and not control.unrefined:
            return self._core.segment(features, control.vocabulary)
        known = self._core.config.grid.patch_px
        scales = tuple(scale for scale in known if control.scales is None or scale in control.scales) or known
        core = self._variant(scales, control.unrefined)
        places = [known.index(scale) for scale in scales]
        return core.segment(features.of_scales(places, core.encoder_identity), control.vocabulary)

    def _variant(self, scales: tuple[int, ...], unrefined: bool) -> ConfigurableCore:
        with self._lock:
            if (scales, unrefined) not in self._made:
                config = self._core.config
                config = replace(config, grid=replace(config.grid, patch_px=scales))
                if unrefined:
                    config = replace(config, pamr=None)
                self._made[scales, unrefined] = self._core.with_config(config)
            return self._made[scales, unrefined]
