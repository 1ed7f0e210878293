"""Where a config's variable leads in a task's data: as lodash's `get`, with which the browser looks it up."""

from typing import Any

import pytest

from backend.labeling.data_path import value_at

DATA: dict[str, Any] = {
    "image": "a",
    "doc": {"image": "b", "pages": ["c", {"url": "d"}], "null": None, "0": "e"},
    "doc.title": "f",
    "pages[0]": "g",
    "list": ["h"],
}
PATHS: dict[str, tuple[str, object]] = {
    "field": ("image", "a"),
    "path": ("doc.image", "b"),
    "place in a list": ("doc.pages[0]", "c"),
    "and on": ("doc.pages[1].url", "d"),
    "a place with a full stop": ("list.0", "h"),
    "a field that is a number": ("doc[0]", "e"),
    "quotes": ('doc["image"]', "b"),
    "a field of just that name comes first": ("doc.title", "f"),
    "also with brackets": ("pages[0]", "g"),
    "nothing there": ("doc.other", None),
    "nothing there, and on": ("doc.other.image", None),
    "null": ("doc.null", None),
    "null, and on": ("doc.null.image", None),
    "behind the end": ("list[1]", None),
    "far behind the end": ("list[99999999999999999999]", None),
    "before the beginning": ("list[-1]", None),
    "no place": ("list.length", None),
    "no digits of ours": ("list[\u0660]", None),
    "into a text": ("image.0", None),
}


@pytest.mark.parametrize(("key", "found"), PATHS.values(), ids=PATHS)
def test_paths(key: str, found: object) -> None:
    assert value_at(DATA, key) == found


@pytest.mark.parametrize("data", [None, "text", 7, []])
def test_data_that_are_none(data: object) -> None:
    assert value_at(data, "image") is None
