"""Asks a method for the classes of a picture, or of a piece of one, as a control wants it."""

from functools import cached_property
from typing import Any

from backend.labeling.controls import MaskControl
from clipdiy.config import SegmentOptions
from clipdiy.method import Features, Method
from clipdiy.segmentation import Segmentation


class Segmenting:
    """One method, for whole pictures and for pieces of them."""

    def __init__(self, method: Method[Any]) -> None:
        """Take the method that encodes whole pictures."""
        self.whole = method

    @cached_property
    def pieces(self) -> Method[Any]:
        """The same weights as a piece of a picture is encoded, while a person waits."""
        return self.whole.for_pieces()

    def segment(self, features: Features, control: MaskControl) -> Segmentation:
        """Segment as a control wants it.

        Args:
            features: Of a picture, encoded by `whole`, or of a piece, encoded by `pieces`.
            control: Its vocabulary, what competes with that, scales and refinement count.
        """
        method = self.whole if features.made_by == self.whole.encoder_identity else self.pieces
        vocabulary = control.vocabulary
        if control.others is not None:
            vocabulary = vocabulary.with_others(method.choose_others(vocabulary, control.others.words).competing)
        options = SegmentOptions(control.scales, refine=control.refine)
        return method.segment(features, vocabulary, options)
