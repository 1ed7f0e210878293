"""What did a person point at, draw or type? Label Studio's `context` of an interactive request, read into plain values.

Pure. Positions are in percent of the picture, as Label Studio gives them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.errors import RequestError

MAX_ENTRIES = 200
MAX_PERCENT = 100_000
MAX_PHRASES = 20
MAX_PHRASE_CHARS = 300
_NAMED = "->"


@dataclass(frozen=True)
class Point:
    """A click.

    Attributes:
        x: In percent of the width.
        y: In percent of the height.
        is_positive: What lies there is meant; else it is not.
        label: The label that was chosen, as Label Studio stores it.
    """

    x: float
    y: float
    is_positive: bool = True
    label: str | None = None


@dataclass(frozen=True)
class Box:
    """A rectangle that was drawn.

    Attributes:
        x: Left edge, in percent of the width.
        y: Upper edge, in percent of the height.
        width: In percent of the width.
        height: In percent of the height.
        rotation: In degrees, clockwise around the upper left corner.
        label: The label that was chosen, as Label Studio stores it.
    """

    x: float
    y: float
    width: float
    height: float
    rotation: float = 0.0
    label: str | None = None


@dataclass(frozen=True)
class Phrase:
    """Words that were typed, and the label that what they name is to get, if one was named or chosen."""

    text: str
    label: str | None = None


@dataclass(frozen=True)
class Gesture:
    """Everything of one interactive request; it is about one image.

    Attributes:
        to_name: Name of the image.
        item_index: Its page, if it has several.
        points: In the order they were set.
        boxes: In the order they were drawn.
        phrases: In the order they were typed.
    """

    to_name: str
    item_index: int | None = None
    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    phrases: tuple[Phrase, ...] = ()


def read_gesture(context: object) -> Gesture | None:
    """Read a context.

    Entries of other kinds (the person's brush strokes) are skipped. Of what was typed, the newest text counts: the
    others have been answered.

    Args:
        context: `params.context` of the request.

    Returns:
        The gesture; `None` if there is nothing in it that could be answered.

    Raises:
        RequestError: If it is not what Label Studio sends.
    """
    entries = context.get("result") if isinstance(context, Mapping) else None
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise RequestError("params.context.result: expected a list of regions")
    if len(entries) > MAX_ENTRIES:
        raise RequestError(f"params.context.result: at most {MAX_ENTRIES} regions, got {len(entries)}")
    # A shape without labels of its own has them in a second entry with the same id.
    labels = {entry["id"]: label for entry in entries if isinstance(entry.get("id"), str) and (label := _label(entry))}
    chosen = next((label for entry in reversed(entries) if (label := _label(entry))), None)
    points: list[Point] = []
    boxes: list[Box] = []
    phrases: tuple[Phrase, ...] = ()
    about: list[tuple[str, int | None]] = []
    for entry in entries:
        value, kind = entry.get("value"), str(entry.get("type", ""))
        if not isinstance(value, Mapping):
            continue
        label = _label(entry) or labels.get(str(entry.get("id")))
        if kind.startswith("keypoint"):
            points.append(Point(_number(value, "x"), _number(value, "y"), _is_positive(entry), label))
        elif kind.startswith("rectangle"):
            x, y, width, height = (_number(value, name) for name in ("x", "y", "width", "height"))
            boxes.append(Box(x, y, width, height, _number(value, "rotation", 0.0), label))
        elif kind == "textarea":
            phrases = split_phrases(_newest_text(value), chosen)
        else:
            continue
        about.append(_about(entry))
    if not about:
        return None
    to_name, item_index = about[-1]
    return Gesture(to_name, item_index, tuple(points), tuple(boxes), phrases)


def split_phrases(text: str, label: str | None = None) -> tuple[Phrase, ...]:
    """Read `red car -> Car, tree`: phrases with commas between them, each with the label it is for, if it says so.

    Args:
        text: As it was typed.
        label: For phrases that name none.

    Raises:
        RequestError: If there are too many, or one is too long.
    """
    phrases = []
    for part in text.split(","):
        words, arrow, named = part.rpartition(_NAMED)
        phrase = (words if arrow else part).strip()
        if phrase:
            phrases.append(Phrase(phrase, (named.strip() if arrow else "") or label))
    if len(phrases) > MAX_PHRASES or any(len(phrase.text) > MAX_PHRASE_CHARS for phrase in phrases):
        raise RequestError(f"at most {MAX_PHRASES} phrases of {MAX_PHRASE_CHARS} characters can be asked for at once")
    return tuple(phrases)


def _about(entry: Mapping[str, Any]) -> tuple[str, int | None]:
    page = entry.get("item_index")
    return str(entry.get("to_name", "")), page if isinstance(page, int) and page >= 0 else None


def _label(entry: Mapping[str, Any]) -> str | None:
    """Return the first label of an entry: under its own type (`keypointlabels`), or under `labels`."""
    value = entry.get("value")
    if not isinstance(value, Mapping):
        return None
    for name in (str(entry.get("type", "")), "labels"):
        found = value.get(name)
        if name.endswith("labels") and isinstance(found, list) and found and isinstance(found[0], str):
            return found[0]
    return None


def _is_positive(entry: Mapping[str, Any]) -> bool:
    value = entry["value"]
    return bool(entry.get("is_positive", value.get("is_positive", True)))


def _newest_text(value: Mapping[str, Any]) -> str:
    text = value.get("text")
    if isinstance(text, list):
        text = text[-1] if text else ""
    if not isinstance(text, str):
        raise RequestError("params.context.result: a text area holds a text or a list of them")
    return text


def _number(value: Mapping[str, Any], name: str, default: float | None = None) -> float:
    number = value.get(name, default)
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= MAX_PERCENT:
        raise RequestError(f"params.context.result: expected a number for {name}, no larger than {MAX_PERCENT:,}")
    return float(number)
