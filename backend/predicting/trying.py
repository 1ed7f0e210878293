"""What would these labels find in this picture, and why? One picture that a person hands over, with everything said."""

import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.asking import Asker
from backend.images.host import LabelStudioHost
from backend.images.pixel_budget import PixelBudget
from backend.labeling.controls import LabelConfig, MaskControl
from backend.predicting.fair_pool import FairPool, Lane
from backend.predicting.pictures import Pictures
from backend.predicting.words import Words
from clipdiy.explanation import Explanation
from clipdiy.method import Features, Method
from clipdiy.others.choice import Choice
from clipdiy.photo import Photo
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import Vocabulary

OWNER = "try it"
WORKING_PX = 100_000_000
"""Most pixels of label maps that are worked on at the same time."""

Segment = Callable[[Features, MaskControl], Segmentation]


@dataclass(frozen=True)
class Tried:
    """What was found in a picture, and what it is made of.

    Attributes:
        photo: The picture; may be smaller than its file.
        vocabulary: The labels, background first, with the others that competed.
        segmentation: What was found.
        explanation: What it is made of.
        choice: Which others competed and which were left out; `None` where none were asked for.
        doubts: What the weights cannot know, for a person.
        seconds: How long it took, waiting for the networks included.
    """

    photo: Photo
    vocabulary: Vocabulary
    segmentation: Segmentation
    explanation: Explanation
    choice: Choice | None
    doubts: tuple[str, ...]
    seconds: float


class Trying:
    """Tries labels out. Safe from any thread; the networks serve it before requests, like every gesture."""

    def __init__(
        self, method: Method[Any], pictures: Pictures, words: Words, segment: Segment, networks: FairPool
    ) -> None:
        """Take what decodes and encodes, what embeds prompts, what segments, and the thread of the networks."""
        self._method = method
        self._pictures = pictures
        self._words = words
        self._segment = segment
        self._networks = networks
        self._working = PixelBudget(WORKING_PX)

    def answer(self, data: bytes, config: LabelConfig, deadline: Deadline) -> Tried:
        """See `backend.predicting.predictor.Predictor.try_out`."""
        begun = time.monotonic()
        [control] = config.controls
        asker = Asker(LabelStudioHost(), deadline, OWNER)
        try:
            with self._words.learning(config, OWNER, Lane.INTERACTIVE) as learning:
                photo, features = self._pictures.bring_file(data, asker)
                for learned in learning:
                    learned.result(deadline.left_s)
            vocabulary, choice = control.vocabulary, None
            if control.others is not None:
                choice = self._method.choose_others(vocabulary, control.others.words)
                vocabulary = vocabulary.with_others(choice.competing)
            height, width = photo.size_hw
            with self._working.hold(height * width, deadline):
                segmentation = self._segment(features, control)
            # A method may have to run its networks again for what it does not keep.
            explaining = self._networks.submit(
                lambda: self._method.explain(photo, features, vocabulary), owner=OWNER, lane=Lane.INTERACTIVE
            )
            try:
                explanation = explaining.result(deadline.left_s)
            finally:
                explaining.cancel()  # if it has not begun, nobody needs it any more
        except FutureTimeoutError as err:
            raise TaskError("deadline", "the networks were busy until the deadline; try again") from err
        words = control.by_words
        doubts = self._method.doubts(words) if words else ()
        return Tried(photo, vocabulary, segmentation, explanation, choice, doubts, time.monotonic() - begun)
