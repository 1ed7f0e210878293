"""What a labeling config asks of us, once it has been read: controls, their labels, and how each is answered.

Frozen, and free of XML. Labels may stand in a task instead of the config: `MaskControl.for_task` fills them in.
"""

import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from backend.errors import TaskError
from backend.labeling.data_path import value_at
from backend.labeling.taught import Taught
from clipdiy.config import PUBLISHED_TEMPLATE
from clipdiy.usual_stuff import is_usual_stuff
from clipdiy.vocabulary import BACKGROUND, Label, Vocabulary, phrases_to_prompts

MAX_PROMPTS = 32_766
"""Most prompts of all controls of a config together; so labels are no more either, which the core counts in int16."""
MAX_LABEL_CHARS = 300
"""Longest value, alias or phrase; CLIP reads 77 tokens, which are hardly more."""
MAX_PAGES = 100
MAX_OTHERS = 1000
MAX_PARTS = 100
"""Most regions of one label. The browser holds each of them at the picture's full size: 8 MB at 1920x1080."""
_LISTED = 20
USUAL_PARTS = 20
"""Where a control says nothing of how many."""

ControlKind = Literal[
    "brushlabels",
    "bitmasklabels",
    "polygonlabels",
    "rectanglelabels",
    "choices",
    "brush",
    "bitmask",
    "polygon",
    "rectangle",
]
"""Type of the results, in Label Studio's words. The last four draw shapes whose labels a `Labels` control gives."""
LearnWhen = Literal["auto", "on-training", "off"]
"""When a project learns: by itself and on Label Studio's button, on the button only, never."""
Counting = Literal["latest", "majority"]
"""Which of several annotations of one task count: the latest, or what most people say."""
Refining = Literal["never", "asked", "always"]
"""Whether the service refines the edges of masks by the picture: never, for controls that say so, or for all others."""


@dataclass(frozen=True)
class Area:
    """An area that does not depend on the picture's size, or one that does.

    Attributes:
        amount: At least 0.
        unit: `share` of the picture, in [0, 1), or `px`.
    """

    amount: float = 0.0
    unit: Literal["share", "px"] = "share"

    @classmethod
    def parse(cls, text: str) -> "Area":
        """Read `0.01` or `1%` (of the picture) or `200px`.

        Raises:
            ValueError: If it is something else.
        """
        text = text.strip().lower()
        if text.endswith("px"):
            return cls(_number(text[:-2], 0, math.inf), "px")
        if text.endswith("%"):
            return cls(_number(text[:-1], 0, 100) / 100)
        return cls(_number(text, 0, 1))

    def pixels(self, size_hw: tuple[int, int]) -> float:
        """Return it in pixels of a picture of this size."""
        return self.amount * size_hw[0] * size_hw[1] if self.unit == "share" else self.amount


def parse_score(text: str) -> float:
    """Read a score, `0.3` or `30%`.

    Raises:
        ValueError: If it is something else than a number in [0, 1].
    """
    text = text.strip()
    return _number(text[:-1], 0, 100) / 100 if text.endswith("%") else _number(text, 0, 1)


@dataclass(frozen=True)
class Others:
    """Words that compete with labels for objects; what they win stays empty.

    Attributes:
        words: Those that somebody named; `None` stands for the list of common things that comes with the weights.
    """

    words: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LabelRules:
    """What holds for every label of a control that does not say otherwise.

    Attributes:
        templates: Texts that phrases are put into; the prompts of all of them are averaged.
        threshold: A region with a lower score is not answered.
        min_area: Connected parts smaller than this are not answered.
        usual_stuff: A label is stuff if its words usually mean it (`clipdiy.usual_stuff`).
    """

    templates: tuple[str, ...] = (PUBLISHED_TEMPLATE,)
    threshold: float = 0.0
    min_area: Area = Area()
    usual_stuff: bool = False


@dataclass(frozen=True)
class MaskLabel:
    """One label of a control.

    Attributes:
        value: What Label Studio stores in a result for this label: its alias if it has one, else its value.
        prompts: Whole texts for CLIP (`a photo of a cat`), at least one; several are averaged.
        is_background: The label stands for t0: its prompts describe what is no object, and it is never drawn.
        threshold: See `LabelRules`.
        min_area: See `LabelRules`.
        is_rival: It takes part in the decision which pixel is what, but is never answered: a label of another control
            that this one's choices have to hold their own against.
        is_stuff: It is stuff (sky, road), no things: it competes on the background's side (see `clipdiy.guide`).
        stuff_by_words: Nobody said so, its words did.
    """

    value: str
    prompts: tuple[str, ...]
    is_background: bool = False
    threshold: float = 0.0
    min_area: Area = Area()
    is_rival: bool = False
    is_stuff: bool = False
    stuff_by_words: bool = False

    @property
    def identity(self) -> list[object]:
        """What of it decides a prediction."""
        steering: list[object] = [self.threshold, self.min_area.amount, self.min_area.unit, self.is_rival]
        given = steering if steering != [0.0, 0.0, "share", False] else []
        return [self.value, list(self.prompts), *given, *(["stuff"] if self.is_stuff else [])]


class LabelError(ValueError):
    """A label cannot be read; only it is meant.

    Attributes:
        attribute: Name of the attribute that makes no sense, in small letters.
        problem: What is wrong with it.
    """

    def __init__(self, attribute: str, problem: str) -> None:
        """Keep both beside the message."""
        super().__init__(f"{attribute}: {problem}")
        self.attribute = attribute
        self.problem = problem


def make_label(attributes: Mapping[str, str], rules: LabelRules) -> MaskLabel | None:
    """Read a label from the attributes of its tag, or from an object in a task's data.

    Args:
        attributes: By name in small letters: value, alias, predicted_values, threshold, min_area, stuff; others are
            ignored.
        rules: What holds unless the label says otherwise.

    Returns:
        The label; `None` for one with neither value nor alias, which no result could name (Label Studio skips it
        too).

    Raises:
        LabelError: If `threshold`, `min_area` or `stuff` make no sense, a text is too long, or there are too many
            phrases.
    """
    value, alias = attributes.get("value", ""), attributes.get("alias", "")
    for name, text in (("value", value), ("alias", alias)):
        if len(text) > MAX_LABEL_CHARS:
            raise LabelError(name, f"expected at most {MAX_LABEL_CHARS} characters, got {len(text):,}")
    if not value.strip() and not alias.strip():
        return None
    # The browser writes, and the server checks for, the alias wherever there is one.
    stored = alias or value
    is_background = BACKGROUND in (value.strip().lower(), alias.strip().lower())
    predicted = [phrase.strip() for phrase in attributes.get("predicted_values", "").split(",")]
    phrases = [phrase for phrase in predicted if phrase] or [alias.strip() or value.strip() or stored]
    if any(len(phrase) > MAX_LABEL_CHARS for phrase in phrases):
        raise LabelError("predicted_values", f"expected phrases of at most {MAX_LABEL_CHARS} characters each")
    if len(phrases) * len(rules.templates) > MAX_PROMPTS:
        raise LabelError(
            "predicted_values",
            f"expected at most {MAX_PROMPTS:,} prompts, got {len(phrases):,} phrases for each of "
            f"{len(rules.templates)} templates",
        )
    if is_background:
        phrases = [BACKGROUND if phrase.lower() == BACKGROUND else phrase for phrase in phrases]
    threshold, min_area = rules.threshold, rules.min_area
    if attributes.get("threshold", "").strip():
        threshold = _read("threshold", parse_score, attributes)
    if attributes.get("min_area", "").strip():
        min_area = _read("min_area", Area.parse, attributes)
    said = _read("stuff", _parse_truth, attributes) if attributes.get("stuff", "").strip() else None
    by_words = said is None and rules.usual_stuff and is_usual_stuff(phrases)
    # The background is what stuff joins.
    is_stuff, by_words = (not is_background and bool(which) for which in (said or by_words, by_words))
    prompts = phrases_to_prompts(phrases, rules.templates)
    return MaskLabel(stored, prompts, is_background, threshold, min_area, is_stuff=is_stuff, stuff_by_words=by_words)


@dataclass(frozen=True)
class MaskControl:
    """One control that wants masks, or what follows from them, of one image.

    Attributes:
        from_name: Name of the control that the regions belong to.
        to_name: Name of the image.
        data_key: Where the image is found in the task's data (`image` for `value="$image"`); see `value_at`.
        kind: Type of the results, in Label Studio's words.
        labels: In the order of the config. Labels are positions: two of them may have one value.
        background: Prompts of t0.
        labels_name: For a shape without labels of its own (`Brush`), the `Labels` control that names its regions.
        labels_key: The labels stand in the task's data under this name, and none in the config.
        rules: What holds for those.
        is_list: The task's data hold a list of pages (`valueList`), each with regions of its own.
        is_single: Of several labels that are there, only the best is answered (`Choices` without `choice="multiple"`).
        per_item: `Choices` that are given for each page, not for the whole task.
        scales: Crop sizes that are looked at; `None` means all that were encoded.
        refine: Whether edges follow the picture, where the service can do that.
        tolerance_px: How far a polygon may lie from the edge of its mask.
        max_parts: A brush or bitmask is one region for each connected part, and at most so many a label; `None` for one
            region a label. Polygons and boxes are one for each part in any case.
        others: What competes with the labels and stays empty, if anything does.
        learns: Corrections of its masks may change later ones.
        taught: What they have changed so far.
    """

    from_name: str
    to_name: str
    data_key: str
    kind: ControlKind
    labels: tuple[MaskLabel, ...]
    background: tuple[str, ...]
    labels_name: str | None = None
    labels_key: str | None = None
    rules: LabelRules = field(default_factory=LabelRules)
    is_list: bool = False
    is_single: bool = False
    per_item: bool = False
    scales: tuple[int, ...] | None = None
    refine: bool = True
    tolerance_px: float | None = None
    max_parts: int | None = None
    others: Others | None = None
    learns: bool = True
    taught: Taught | None = None

    @cached_property
    def drawn(self) -> tuple[MaskLabel, ...]:
        """The labels that can become a region, in vocabulary order: the first is at position 1."""
        return tuple(label for label in self.labels if not label.is_background)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The control's own vocabulary: t0, then `drawn`.

        Raises:
            VocabularyError: If the labels stand in the task's data; see `for_task`.
        """
        t0 = Label(BACKGROUND, self.background)
        return Vocabulary((t0, *(Label(label.value, label.prompts, label.is_stuff) for label in self.drawn)))

    @property
    def question(self) -> Hashable:
        """What is asked of a picture: controls with the same one (several forms of the same labels) share an answer."""
        return self.vocabulary, self.others, self.scales, self.refine, self.taught

    @property
    def by_words(self) -> Vocabulary | None:
        """The labels that only their words speak for, as no examples were learned from; `None` if there are none."""
        learned = self.taught.learned if self.taught else None
        if learned is None or learned.naming is None:
            return self.vocabulary
        background, *labels = self.vocabulary.labels
        examples = learned.examples_of(self.vocabulary)[1:]
        unseen = [label for label, count in zip(labels, examples, strict=True) if not count]
        return Vocabulary((background, *unseen)) if unseen else None

    @property
    def prompt_count(self) -> int:
        """How many prompts its labels have together, the background's among them."""
        return len(self.background) + sum(len(label.prompts) for label in self.drawn)

    def for_task(self, data: object) -> "MaskControl":
        """Take the labels that stand in a task's data.

        Args:
            data: The task's data. Under `labels_key` a list of objects with the attributes of a `<Label>` (`value`,
                `alias`, `predicted_values`, `threshold`, `min_area`, `stuff`) or of plain texts.

        Returns:
            This control where the config names all labels. May be without any label to draw.

        Raises:
            TaskError: `missing-data`, if they are not there, or are something else.
        """
        if self.labels_key is None:
            return self
        labels = task_labels(data, self.labels_key, self.rules)
        background = tuple(prompt for label in labels if label.is_background for prompt in label.prompts)
        return replace(self, labels=labels, background=background or self.background, labels_key=None)

    @property
    def identity(self) -> str:
        """Everything of the control that decides a prediction, as stable JSON.

        Of labels that stand in tasks it is the rule by which they are read. What is at its default is left out.
        """
        labels = [label.identity for label in self.drawn]
        further = {
            "labels_name": self.labels_name,
            "labels_key": self.labels_key,
            "rules": None if self.labels_key is None else _rules_identity(self.rules),
            "is_list": self.is_list or None,
            "is_single": self.is_single or None,
            "per_item": self.per_item or None,
            "scales": self.scales,
            "refine": None if self.refine else False,
            "tolerance_px": self.tolerance_px,
            "max_parts": self.max_parts,
            "others": self.others and (self.others.words or "auto"),
            "taught": self.taught and self.taught.identity,
        }
        given = {name: value for name, value in further.items() if value is not None}
        parts = [self.kind, self.from_name, self.to_name, self.data_key, list(self.background), labels]
        return json.dumps([*parts, given] if given else parts)


@dataclass(frozen=True)
class LabelConfig:
    """What a labeling config asks of us.

    Attributes:
        controls: At least one, in the order of the config.
        skipped: One sentence for each control that looks like ours but cannot be served, for the log.
    """

    controls: tuple[MaskControl, ...]
    skipped: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Everything of the config that decides predictions, as stable JSON: two configs with one identity are one.

        Colours, hotkeys, layout, tools and skipped controls are not in it.
        """
        return "[" + ", ".join(control.identity for control in self.controls) + "]"

    @property
    def version(self) -> int:
        """Number of the version that corrections have brought it to; 0 for the labels' own words."""
        return max((control.taught.number for control in self.controls if control.taught), default=0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how it was read: `skipped`, and which labels nobody called stuff are."""
        names = dict.fromkeys(
            label.value for control in self.controls for label in control.drawn if label.stuff_by_words
        )
        if not names:
            return self.skipped
        listed = ", ".join(repr(name) for name in [*names][:_LISTED]) + (" and more" if len(names) > _LISTED else "")
        sentence = (
            f'taken for stuff by their words, so that they need no object: {listed}; stuff="false" on a label, or '
            'stuff="none" on its control, makes them objects'
        )
        return (*self.skipped, sentence)

    def taught(self, taught: Mapping[str, Taught]) -> "LabelConfig":
        """Return it with what corrections taught its controls, by `from_name`; where they may learn."""
        if not any(control.learns and control.from_name in taught for control in self.controls):
            return self
        return replace(
            self,
            controls=tuple(
                replace(control, taught=taught.get(control.from_name)) if control.learns else control
                for control in self.controls
            ),
        )

    def without_others(self) -> "LabelConfig":
        """Leave out what competes with labels without being one: a person has said that something is there."""
        return replace(self, controls=tuple(replace(control, others=None) for control in self.controls))

    def for_task(self, data: object) -> "LabelConfig":
        """Add the labels that stand in a task's data; see `MaskControl.for_task`.

        Raises:
            TaskError: `missing-data`, if they are not there, or are something else; `too-large`, if all controls
                together have more than `MAX_PROMPTS` prompts.
        """
        if all(control.labels_key is None for control in self.controls):
            return self
        controls: list[MaskControl] = []
        left = MAX_PROMPTS
        for control in self.controls:
            controls.append(control.for_task(data))
            left -= controls[-1].prompt_count
            if left < 0:
                raise _too_many_prompts(control.labels_key or control.from_name)
        return replace(self, controls=tuple(controls))


def task_labels(data: object, key: str, rules: LabelRules) -> tuple[MaskLabel, ...]:
    """Read labels from a task's data; see `MaskControl.for_task`.

    Raises:
        TaskError: `missing-data`, if they are not there, or are something else; `too-large`, if they have more than
            `MAX_PROMPTS` prompts.
    """
    found = value_at(data, key)
    if not isinstance(found, list):
        kind = "nothing" if found is None else type(found).__name__
        raise TaskError("missing-data", f"expected a list of labels in the task's {key!r}, got {kind}")
    labels = []
    left = MAX_PROMPTS
    for number, entry in enumerate(found):
        try:
            label = make_label(_as_attributes(entry), rules)
        except ValueError as err:
            raise TaskError("missing-data", f"label {number} in the task's {key!r}: {err}") from err
        if label is not None:
            labels.append(label)
            left -= len(label.prompts)
            if left < 0:
                raise _too_many_prompts(key)
    return tuple(labels)


def _as_attributes(entry: Any) -> dict[str, str]:
    attributes = {"value": entry} if isinstance(entry, str) else entry
    if not isinstance(attributes, Mapping):
        raise ValueError(f'expected a text or an object with a "value", got {type(entry).__name__}')
    known = {str(name).lower(): value for name, value in attributes.items()}
    texts = {name: str(value) for name, value in known.items() if isinstance(value, str | int | float)}
    return texts


def _too_many_prompts(key: str) -> TaskError:
    return TaskError(
        "too-large", f"expected at most {MAX_PROMPTS:,} prompts in a task, the labels in its {key!r} make more"
    )


def _rules_identity(rules: LabelRules) -> list[object]:
    steering: list[object] = [list(rules.templates), rules.threshold, rules.min_area.amount, rules.min_area.unit]
    return [*steering, *(["usual stuff"] if rules.usual_stuff else [])]


def _read(name: str, parse: Any, attributes: Mapping[str, str]) -> Any:
    try:
        return parse(attributes[name])
    except ValueError as err:
        raise LabelError(name, str(err)) from err


def _parse_truth(text: str) -> bool:
    truth = {"true": True, "false": False}.get(text.strip().lower())
    if truth is None:
        raise ValueError(f'expected "true" or "false", got {text[:40]!r}')
    return truth


def _number(text: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {text[:40]!r}") from None
    if not least <= number <= most or math.isinf(number):
        raise ValueError(f"expected a number from {least:g} to {most:g}, got {number:g}")
    return number
