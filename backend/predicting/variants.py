"""One core in other ways than the service's: as a control asks (fewer scales, edges as they are), and for pieces."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol, Self

from backend.labeling.controls import MaskControl
from clipdiy.config import CoreConfig
from clipdiy.crops import scale_boxes
from clipdiy.errors import ConfigError
from clipdiy.features import ImageFeatures
from clipdiy.photo import Photo
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import Vocabulary

PIECE_OBJECTNESS_PX = 256
"""Longer side at which FOUND sees a piece of a picture."""


def for_pieces(config: CoreConfig) -> CoreConfig:
    """Return how a piece of a picture is encoded, for which somebody waits with the mouse in the hand.

    Its own pyramid of crops, side by side as in the paper's text instead of overlapping by half: 21 instead of 59. And
    FOUND at no more than `PIECE_OBJECTNESS_PX`. A piece shows little beside what was drawn around, so its masks hardly
    change (`benchmarks/boxes.py`).
    """
    objectness = replace(config.objectness, long_px=min(config.objectness.long_px, PIECE_OBJECTNESS_PX))
    beside = replace(config.grid, stride_ratio=1.0)
    try:
        scale_boxes(beside)
    except ConfigError:
        beside = config.grid  # sizes that only fit if the crops overlap
    return replace(config, grid=beside, objectness=objectness)


class ConfigurableCore(Protocol):
    """What is used of `clipdiy.segmenter.Segmenter`."""

    config: CoreConfig

    @property
    def encoder_identity(self) -> str:
        """Changes whenever the same photo would give other features."""

    def encode(self, photos: Sequence[Photo]) -> list[ImageFeatures]:
        """Encode photos."""

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

    @property
    def core(self) -> ConfigurableCore:
        """The core that was given."""
        return self._core

    @cached_property
    def pieces(self) -> "Variants":
        """The same weights as pieces of pictures are encoded; see `for_pieces`."""
        return Variants(self._core.with_config(for_pieces(self._core.config)))

    def segment(self, features: ImageFeatures, control: MaskControl) -> Segmentation:
        """Segment as a control wants it.

        Args:
            features: Of the core given at the start, or of a piece encoded by that of `pieces`.
            control: Its vocabulary, scales and refinement count.
        """
        if features.made_by != self._core.encoder_identity and features.made_by == self.pieces.core.encoder_identity:
            return self.pieces.segment(features, control)
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
