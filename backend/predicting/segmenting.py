"""Asks a method for the classes of a picture, or of a piece of one, as a control wants it and was taught."""

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from backend.labeling.controls import MaskControl
from backend.labeling.taught import Taught
from clipdiy.config import SegmentOptions
from clipdiy.learning.calibration import Calibration
from clipdiy.learning.learned import Learned
from clipdiy.method import Features, Method
from clipdiy.scores import picture_score
from clipdiy.segmentation import Segmentation

WORDS = Taught(0)


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
            control: Its vocabulary, what competes with that, scales, refinement and what it was taught count.
        """
        method = self.whole if features.made_by == self.whole.encoder_identity else self.pieces
        vocabulary = control.vocabulary
        if control.others is not None:
            vocabulary = vocabulary.with_others(method.choose_others(vocabulary, control.others.words).competing)
        taught = control.taught or WORDS
        learned = None if taught.learned is None else self._fitting(taught.learned, method)
        options = SegmentOptions(control.scales, refine=control.refine, learned=learned)
        segmentation = method.segment(features, vocabulary, options)
        return segmentation if taught.calibration is None else calibrated(segmentation, taught.calibration)

    def _fitting(self, learned: Learned, method: Method[Any]) -> Learned | None:
        """Return as much of a fit as holds for features of a method: it was learned on whole pictures.

        A piece has the same CLIP, so names carry over; its objectness was measured at another size.
        """
        if learned.encoder != self.whole.encoder_identity:
            return None
        return learned if method is self.whole else replace(learned, objectness=None)


def calibrated(segmentation: Segmentation, calibration: Calibration) -> Segmentation:
    """Return a segmentation whose scores are expected IoU."""
    present = segmentation.area > 0
    score = np.where(present, calibration.expected_iou(segmentation.score), 0).astype(np.float32)
    score[0] = segmentation.score[0]  # nobody corrects the background
    image_score = picture_score(torch.from_numpy(score), torch.from_numpy(present))
    return replace(segmentation, score=score, image_score=image_score)
