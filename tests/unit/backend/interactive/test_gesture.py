"""What is read of an interactive request, as Label Studio 1.23 sends it."""

from typing import Any

import pytest

from backend.errors import RequestError
from backend.interactive.gesture import Box, Gesture, Phrase, Point, read_gesture, split_phrases


def entry(kind: str, value: dict[str, Any], **further: Any) -> dict[str, Any]:
    return {"id": "a", "from_name": "tool", "to_name": "img", "type": kind, "value": value, **further}


def read(*entries: Any) -> Gesture | None:
    return read_gesture({"result": list(entries)})


def keypoint(x: float, y: float, **further: Any) -> dict[str, Any]:
    return entry(
        "keypointlabels",
        {"x": x, "y": y, "width": 0.2, "keypointlabels": ["Cat"], "labels": ["Cat"]},
        **{"is_positive": True, **further},
    )


def test_points() -> None:
    assert read(keypoint(10, 20), keypoint(30, 40, is_positive=False), keypoint(1, 2, is_positive=0)) == Gesture(
        "img", points=(Point(10, 20, True, "Cat"), Point(30, 40, False, "Cat"), Point(1, 2, False, "Cat"))
    )


def test_a_rectangle() -> None:
    drawn = entry(
        "rectanglelabels", {"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 5, "rectanglelabels": ["Cat"]}
    )
    assert read({**drawn, "item_index": 2}) == Gesture("img", 2, boxes=(Box(1, 2, 3, 4, 5, "Cat"),))


def test_a_shape_with_its_label_in_a_second_entry() -> None:
    shape = {"x": 1, "y": 2, "width": 3, "height": 4}
    assert read(entry("rectangle", shape), entry("labels", {**shape, "labels": ["Dog"]})) == Gesture(
        "img", boxes=(Box(1, 2, 3, 4, 0, "Dog"),)
    )


def test_of_several_texts_the_newest_counts() -> None:
    assert read(entry("textarea", {"text": ["the red ellipse", "a dog"]})) == Gesture("img", phrases=(Phrase("a dog"),))
    assert read(entry("textarea", {"text": "a dog"})) == Gesture("img", phrases=(Phrase("a dog"),))


PHRASES = {
    "one": ("the red ellipse", (Phrase("the red ellipse"),)),
    "several": ("red car, tree ,", (Phrase("red car"), Phrase("tree"))),
    "named": ("red car -> Car", (Phrase("red car", "Car"),)),
    "mixed": ("red car->Car, tree", (Phrase("red car", "Car"), Phrase("tree"))),
    "named nothing": ("red car ->", (Phrase("red car"),)),
    "only a name": ("-> Car", ()),
    "nothing": (" ", ()),
    "right to left": ("חתול", (Phrase("חתול"),)),
}


@pytest.mark.parametrize(("text", "phrases"), PHRASES.values(), ids=PHRASES)
def test_phrases(text: str, phrases: tuple[Phrase, ...]) -> None:
    assert split_phrases(text) == phrases


def test_a_chosen_label_is_for_phrases_that_name_none() -> None:
    assert split_phrases("tree, red car -> Car", "Plant") == (Phrase("tree", "Plant"), Phrase("red car", "Car"))


@pytest.mark.parametrize("entries", [[], [entry("brushlabels", {"rle": []})], [{"type": "keypoint"}]], ids=repr)
def test_nothing_to_answer(entries: list[Any]) -> None:
    assert read(*entries) is None


WRONG = {
    "no object": 7,
    "no result": {},
    "no list": {"result": {}},
    "no regions": {"result": [1]},
    "too many": {"result": [{}] * 201},
    "no x": {"result": [entry("keypoint", {"y": 1})]},
    "x is text": {"result": [entry("keypoint", {"x": "1", "y": 1})]},
    "x is not a number": {"result": [entry("keypoint", {"x": float("nan"), "y": 1})]},
    "x is far away": {"result": [entry("keypoint", {"x": 1e300, "y": 1})]},
    "no text": {"result": [entry("textarea", {"text": 7})]},
    "too many phrases": {"result": [entry("textarea", {"text": "a," * 21})]},
    "too long a phrase": {"result": [entry("textarea", {"text": "a" * 301})]},
}


@pytest.mark.parametrize("context", WRONG.values(), ids=WRONG)
def test_what_label_studio_never_sends(context: object) -> None:
    with pytest.raises(RequestError):
        read_gesture(context)
