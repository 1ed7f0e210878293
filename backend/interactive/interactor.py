"""A mask for what a person points at, draws or types, from features that are kept: the networks run once a picture.

    gesture -> picture (remembered) -> features (cached) -> segmentation (remembered) -> mask -> regions

- Points: the connected part under each, of the segmentation of the whole picture (`backend.interactive.pointing`).
- Boxes: the piece of the photo inside is encoded as a picture of its own, with its own crops at every scale
  (`clipdiy.method.Method.for_pieces`), and segmented into the box's label, the other labels and the background.
- Phrases: a vocabulary of the phrase, the other labels and the background.

Where the chosen label loses everywhere against the others, they are left out and it is asked for against the
background alone: a person has said that it is there.
"""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.asking import Asker
from backend.images.pages import pictures_of
from backend.images.pixel_budget import PixelBudget
from backend.images.values import source_key
from backend.interactive.gesture import Box, Gesture, Phrase
from backend.interactive.pointing import box_window, inside_box, pointed_at
from backend.labeling.controls import LabelConfig, MaskControl, MaskLabel
from backend.outputs.regions import make_prediction, make_suggestion
from clipdiy.method import Features
from clipdiy.photo import Photo, Window
from clipdiy.recent import Recent
from clipdiy.segmentation import Segmentation
from clipdiy.usual_stuff import is_usual_stuff
from clipdiy.vocabulary import phrases_to_prompts

REMEMBERED_S = 300.0
"""For so long a picture is not asked for again: whoever draws on it sees the one that was loaded."""
PICTURES = 8
SEGMENTATIONS = 8
SEGMENTATION_BYTES = 200_000_000
"""A label map takes two bytes a pixel: as many pictures of usual size as there may be, or one of 100 megapixels."""
PIECES = 64
WORKING_PX = 100_000_000
"""Most pixels of label maps and masks that are worked on at the same time; one takes up to 12 bytes meanwhile."""

Segment = Callable[[Features, MaskControl], Segmentation]
"""Segments a picture or a piece of one as a control wants it."""
ReadWindow = Callable[[Window, Deadline], Photo]
"""Brings a window of a picture as a photo of its own, within a deadline."""


@dataclass(frozen=True)
class Picture:
    """A picture that is being worked on.

    Attributes:
        content: SHA-256 of its file.
        features: Its features.
        read: Brings all pixels of a window of it, within a deadline.
    """

    content: str
    features: Features
    read: ReadWindow


class Pictures(Protocol):
    """Where pictures and features come from; `backend.predicting.pictures.Pictures`."""

    def bring(self, value: str, task_id: object, asker: Asker) -> Picture:
        """Return the picture that a task's value names, encoded."""

    def encode_piece(self, photo: Photo, asker: Asker) -> Features:
        """Encode a piece of a picture, quickly."""


@dataclass(frozen=True)
class _Mask:
    """What was found for one label, or for none that is known: then Label Studio puts it under the chosen one."""

    mask: NDArray[np.bool_]
    score: float
    control: MaskControl
    label: MaskLabel | None


class Interactor:
    """Answers gestures. Remembers the pictures of the last few minutes; safe from any thread."""

    def __init__(self, pictures: Pictures, segment: Segment) -> None:
        """Take where pictures come from, and what segments one, or a piece of one, as a control wants it."""
        self._pictures = pictures
        self._segment_one = segment
        self._recent: Recent[str, tuple[Picture, float]] = Recent(PICTURES)
        self._pieces: Recent[tuple[str, tuple[int, ...]], Features] = Recent(PIECES)
        self._segmentations: Recent[Hashable, Segmentation] = Recent(
            SEGMENTATIONS, most_bytes=SEGMENTATION_BYTES, size_of=lambda segmentation: segmentation.label_map.nbytes
        )
        self._working = PixelBudget(WORKING_PX)

    def answer(
        self,
        task: Mapping[str, Any],
        config: LabelConfig,
        gesture: Gesture,
        *,
        asker: Asker,
        model_version: str,
    ) -> dict[str, Any]:
        """Find what a gesture means.

        Args:
            task: With `id` and `data`.
            config: The project's.
            gesture: About one image of it.
            asker: Where the request came from, and when there must be an answer.
            model_version: Of the config.

        Returns:
            A prediction; its regions become suggestions. Empty if nothing was found.

        Raises:
            TaskError: If the picture or the labels cannot be had.
        """
        controls = [
            control
            for control in config.for_task(task.get("data")).without_others().controls
            if control.to_name == gesture.to_name and control.kind != "choices" and control.drawn
        ]
        if not controls:
            return make_prediction([], score=0.0, model_version=model_version)
        page = (gesture.item_index or 0) if controls[0].is_list else None
        value = pictures_of(task.get("data"), controls).get((controls[0].data_key, page))
        if value is None:
            raise TaskError("missing-data", f"the task has no page {page}")
        picture = self._picture(value, task.get("id"), asker)
        height, width = picture.features.size_hw
        with self._working.hold(height * width, asker.deadline):
            regions: list[list[dict[str, Any]]] = []
            score = 0.0
            for mask in self._masks(gesture, controls, picture, asker):
                score = max(score, mask.score)
                regions.append(
                    make_suggestion(mask.mask, mask.control, mask.label, mask.score, item_index=gesture.item_index)
                )
        return make_prediction(regions, score=score, model_version=model_version)

    def _masks(
        self, gesture: Gesture, controls: Sequence[MaskControl], picture: Picture, asker: Asker
    ) -> Iterator[_Mask]:
        """Yield what was found, one after the other: each is as large as the picture."""
        yield from self._points(gesture, controls, picture)
        for box in gesture.boxes:
            yield from self._box(box, controls, picture, asker)
        for phrase in gesture.phrases:
            yield from self._phrase(phrase, gesture, controls, picture)

    def _picture(self, value: str, task_id: object, asker: Asker) -> Picture:
        key = source_key(value, task_id, asker.host)
        picture, loaded_at = self._recent.get(key) or (None, 0.0)
        if picture is None or time.monotonic() - loaded_at >= REMEMBERED_S:
            picture = self._pictures.bring(value, task_id, asker)
            self._recent.put(key, (picture, time.monotonic()))
        return picture

    def _segment(self, content: Hashable, features: Features, control: MaskControl) -> Segmentation:
        question = (content, features.made_by, control.vocabulary, control.scales, control.refine, control.taught)
        known = self._segmentations.get(question)
        return known or self._segmentations.put(question, self._segment_one(features, control))

    def _points(self, gesture: Gesture, controls: Sequence[MaskControl], picture: Picture) -> list[_Mask]:
        if not any(point.is_positive for point in gesture.points):
            return []
        newest = next(point.label for point in reversed(gesture.points) if point.is_positive)
        control, label = _home(controls, newest)
        segmentation = self._segment(picture.content, picture.features, control)
        mask = pointed_at(segmentation.label_map, gesture.points)
        if not mask.any() and label is not None:
            control, label = _alone(control, label)
            segmentation = self._segment(picture.content, picture.features, control)
            mask = pointed_at(segmentation.label_map, gesture.points)
        return [_Mask(mask, _score_of(segmentation, mask), control, label)]

    def _box(self, box: Box, controls: Sequence[MaskControl], picture: Picture, asker: Asker) -> list[_Mask]:
        size_hw = picture.features.size_hw
        window = box_window(box, size_hw)
        control, label = _home(controls, box.label)
        if window is None:
            return []
        rows, cols = window
        corners = (cols.start, rows.start, cols.stop, rows.stop)
        features = self._pieces.get((picture.content, corners))
        if features is None:
            piece = picture.read(window, asker.deadline)
            features = self._pieces.put((picture.content, corners), self._pictures.encode_piece(piece, asker))
        content = (picture.content, corners)
        segmentation = self._segment(content, features, control)
        wanted = _is_label(segmentation, control, label)
        if not wanted.any() and label is not None:
            control, label = _alone(control, label)
            segmentation = self._segment(content, features, control)
            wanted = _is_label(segmentation, control, label)
        mask = np.zeros(size_hw, np.bool_)
        mask[window] = wanted
        score = _score_of(segmentation, wanted)
        if box.rotation:
            mask &= inside_box(box, size_hw)
        return [_Mask(mask, score, control, label)]

    def _phrase(
        self, phrase: Phrase, gesture: Gesture, controls: Sequence[MaskControl], picture: Picture
    ) -> list[_Mask]:
        control, label = _home(controls, phrase.label)
        if label is None:
            control, label = _named_by(phrase.text, controls, control)
        templates = control.rules.templates

        def label_of(text: str, meant: MaskLabel | None) -> MaskLabel:
            # Words for the sky are stuff as the sky is.
            prompts = phrases_to_prompts((text,), templates)
            by_words = meant is None and control.rules.usual_stuff and is_usual_stuff((text,))
            return MaskLabel(text, prompts, is_stuff=by_words or (meant is not None and meant.is_stuff))

        asked = label_of(phrase.text, label)
        # What competes: all other labels, but not `car` with `red car`; and what else was typed.
        others = tuple(
            other
            for other in control.drawn
            if (label is None or other.value != label.value) and not _is_kind_of(phrase.text, other, templates)
        )
        typed = tuple(
            label_of(other.text, _meant_by(other, controls, control)) for other in gesture.phrases if other != phrase
        )
        rivals = tuple(replace(rival, is_rival=True) for rival in dict.fromkeys((*others, *typed)))
        open_control = replace(control, labels=(asked, *rivals))
        segmentation = self._segment(picture.content, picture.features, open_control)
        mask = segmentation.label_map == 1
        if not mask.any() and rivals:
            open_control = replace(control, labels=(asked,))
            segmentation = self._segment(picture.content, picture.features, open_control)
            mask = segmentation.label_map == 1
        return [_Mask(mask, float(segmentation.score[1]), control, label)]


def _home(controls: Sequence[MaskControl], value: str | None) -> tuple[MaskControl, MaskLabel | None]:
    """Return the control that takes a label, and the label in it; the first control and none, if no control has it."""
    for control in controls:
        for label in control.drawn:
            if label.value == value:
                return control, label
    if value is not None:
        for control in controls:
            for label in control.drawn:
                if label.value.lower() == value.lower():
                    return control, label
    return controls[0], None


def _named_by(
    text: str, controls: Sequence[MaskControl], otherwise: MaskControl
) -> tuple[MaskControl, MaskLabel | None]:
    """Return the label whose name or prompt a phrase is; the only label, if there is only one."""
    for control in controls:
        prompts = {prompt.lower() for prompt in phrases_to_prompts((text,), control.rules.templates)}
        for label in control.drawn:
            if label.value.lower() == text.lower() or prompts & {prompt.lower() for prompt in label.prompts}:
                return control, label
    return otherwise, otherwise.drawn[0] if len(otherwise.drawn) == 1 else None


def _meant_by(phrase: Phrase, controls: Sequence[MaskControl], otherwise: MaskControl) -> MaskLabel | None:
    return _home(controls, phrase.label)[1] or _named_by(phrase.text, controls, otherwise)[1]


def _is_kind_of(text: str, label: MaskLabel, templates: Sequence[str]) -> bool:
    """A phrase is another word for a label, or narrows it down: all words of its name or of one prompt are in it."""
    prompts = {word for prompt in phrases_to_prompts((text,), templates) for word in prompt.lower().split()}
    return set(label.value.lower().split()) <= set(text.lower().split()) or any(
        set(prompt.lower().split()) <= prompts for prompt in label.prompts
    )


def _alone(control: MaskControl, label: MaskLabel) -> tuple[MaskControl, MaskLabel]:
    """Return the control with one label only."""
    return replace(control, labels=(label,)), label


def _is_label(segmentation: Segmentation, control: MaskControl, label: MaskLabel | None) -> NDArray[np.bool_]:
    """Return where a label is; without one, where anything is."""
    if label is None:
        anything: NDArray[np.bool_] = segmentation.label_map > 0
        return anything
    positions = [place for place, other in enumerate(control.drawn, 1) if other.value == label.value]
    return np.isin(segmentation.label_map, positions)


def _score_of(segmentation: Segmentation, mask: NDArray[np.bool_]) -> float:
    """Return the score of the classes under a mask, each weighted by its share of it."""
    counts = np.bincount(segmentation.label_map[mask], minlength=len(segmentation.score))
    return float((counts * segmentation.score).sum() / counts.sum()) if counts.sum() else 0.0
