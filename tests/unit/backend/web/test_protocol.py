"""How much memory a body would take is known before it is read."""

import json
import tracemalloc

import pytest

from backend.errors import RequestError
from backend.web.protocol import _FACTOR, MAX_TASKS, PredictRequest, TooMuchError, memory_of, parse, read_json

TASK = {
    "id": 123456,
    "data": {"image": "/data/upload/12/abcdef12-photo_000123.jpg", "note": "a b c"},
    "meta": {},
    "created_at": "2026-11-27T11:00:00.000000Z",
    "updated_at": "2026-11-27T11:00:00.000000Z",
    "is_labeled": False,
    "overlap": 1,
    "annotations": [],
    "predictions": [],
    "project": 12,
}
MASK = [{"value": {"rle": [255, 0, 17, 3] * 20_000, "format": "rle"}, "id": "x"}]
POINTS = [{"value": {"points": [[12.345678, 87.654321]] * 20_000}}]
TEXTS = {
    "tasks": json.dumps({"tasks": [TASK] * 4_000}),
    "tasks without blanks": json.dumps({"tasks": [TASK] * 4_000}, separators=(",", ":")),
    "masks": json.dumps({"tasks": [{**TASK, "annotations": MASK}]}),
    "points": json.dumps({"annotation": {"result": POINTS}}),
    "a text of braces": json.dumps({"tasks": ["{[,:" * 2_000_000]}),
    "a text of quotes": json.dumps({"tasks": ['"\\' * 2_000_000]}),
    "a wide sign": json.dumps({"tasks": ["\U0001f408" + "x" * 2_000_000]}, ensure_ascii=False),
    "a picture": json.dumps({"tasks": [{"data": {"image": "data:image/png;base64," + "Qk1+" * 2_000_000}}]}),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_label_studio_sends_is_read_and_takes_no_more_than_was_said(text: str) -> None:
    data = text.encode()
    said = memory_of(data)
    tracemalloc.start()
    body = read_json(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert body
    assert most - 10_000 <= said <= _FACTOR * len(data)


@pytest.mark.parametrize(
    ("piece", "pieces"),
    [("{},", 1_000_000), ("[],", 1_000_000), ('{"":[]},', 1_000_000), ("[" * 50 + "]" * 50 + ",", 50_000)],
    ids=["objects", "lists", "both", "nested"],
)
def test_bodies_that_are_made_to_fill_memory_are_not_read(piece: str, pieces: int) -> None:
    with pytest.raises(TooMuchError, match="fewer"):
        memory_of(f'{{"tasks":[{piece * pieces}0]}}'.encode())


@pytest.mark.parametrize(
    "data",
    [b'"' + b"\\" * 2_000_001, b'"\\"' * 1_000_000, b"\\\"'" * 1_000_000, b'"' * 3_000_001, b"{" * 2_000_000],
    ids=["backslashes", "no end", "outside", "quotes", "braces"],
)
def test_damaged_bodies_are_looked_at_once(data: bytes) -> None:
    try:
        assert memory_of(data) > 0
    except TooMuchError:
        return
    with pytest.raises(RequestError):
        read_json(data)


def test_braces_that_hide_behind_an_escaped_quote_are_counted() -> None:
    with pytest.raises(TooMuchError):
        memory_of(b'["\\\\",' + b"{}," * 1_000_000 + b'"\\""]')


def test_only_utf_8_is_json() -> None:
    with pytest.raises(RequestError, match="JSON"):
        read_json("[]".encode("utf-16"))


def test_too_many_tasks_are_refused_with_a_remedy() -> None:
    body = {"tasks": [{}] * (MAX_TASKS + 1), "label_config": "x"}
    with pytest.raises(RequestError, match=r"tasks: expected at most 100,000 .* select fewer"):
        parse(PredictRequest, body)
