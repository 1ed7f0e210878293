"""Records of single pictures."""

import json

import numpy as np
import pytest

from clipdiy.errors import ConfigError
from clipdiy.evaluate.record import Outcome, Record, RecordFile


def test_records_survive_being_written():
    confusion = np.array([[5, 0], [2, 1]])
    record = Record("ä", {"x": Outcome(confusion, None, 1.5), "y": Outcome(confusion, confusion, 0.0)})
    again = Record.from_line(record.to_line(), 2)
    assert again.image_id == "ä"
    np.testing.assert_array_equal(again.outcomes["x"].confusion, confusion)
    assert again.outcomes["x"].boundary is None
    np.testing.assert_array_equal(again.outcomes["y"].boundary, confusion)


COUNTS = np.array([[5, 0], [2, 1]])


def line(image_id: str) -> str:
    return Record(image_id, {"x": Outcome(COUNTS, None, 1.5)}).to_line()


def opened(path, identity: dict | None = None) -> RecordFile:
    return RecordFile(path, identity or {"b": 1, "a": 2}, ("1", "2", "3"), 2)


def test_a_record_is_one_short_line() -> None:
    record = Record("1", {"x": Outcome(COUNTS, np.array([[0, 0], [0, 7]]), 1.23456)})
    assert record.to_line().endswith("}\n")
    assert json.loads(record.to_line()) == {
        "image": "1",
        "variants": {"x": {"confusion": [[0, 0, 5], [1, 0, 2], [1, 1, 1]], "boundary": [[1, 1, 7]], "ms": 1.23}},
    }


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="no JSON"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="nothing in it"),
        pytest.param('{"variants": {}}', id="no picture"),
        pytest.param('{"image": "1", "variants": []}', id="variants without names"),
        pytest.param('{"image": "1", "variants": {"x": 3}}', id="a variant that is a number"),
        pytest.param('{"image": "1", "variants": {"x": {"confusion": [], "boundary": 5, "ms": 1}}}', id="no boundary"),
        pytest.param(
            '{"image": "1", "variants": {"x": {"confusion": [[0, 2, 1]], "boundary": null, "ms": 1}}}',
            id="a class more",
        ),
        pytest.param(
            '{"image": "1", "variants": {"x": {"confusion": [[0, 1]], "boundary": null, "ms": 1}}}', id="no count"
        ),
        pytest.param('{"image": "1", "variants": {"x": {"confusion": [], "boundary": null, "ms": "a"}}}', id="no time"),
    ],
)
def test_what_is_no_record_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of json's, NumPy's or ours
        Record.from_line(text, 2)


def test_a_file_of_records_says_first_of_what_it_is(tmp_path) -> None:
    path = tmp_path / "records"
    assert list(opened(path).start(resume=False)) == []
    header = path.read_text()
    assert header.startswith('{"clipdiy": "evaluation ')
    assert header.endswith('"of": {"a": 2, "b": 1}}\n')
    assert list(opened(path, {"a": 2, "b": 1}).start(resume=True)) == [], "in whatever order it is told"
    path.write_text(header + line("1"))
    assert [record.image_id for record in opened(path).start(resume=True)] == ["1"]
    assert list(opened(path).start(resume=False)) == []
    assert path.read_text() == header, "it starts anew"
    path.unlink()
    assert list(opened(path).start(resume=True)) == [], "there is nothing to go on with"
    assert path.read_text() == header


@pytest.mark.parametrize("identity", [{"b": 1, "a": 1}, {"b": 1, "a": 3}, {"a": 2}])
def test_records_of_something_else_are_not_gone_on_with(tmp_path, identity: dict) -> None:
    path = tmp_path / "records"
    list(opened(path).start(resume=False))
    before = path.read_text()
    with pytest.raises(ConfigError, match="another evaluation"):
        list(opened(path, identity).start(resume=True))
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("ending", "there"),
    [
        pytest.param("", ["1"], id="nothing"),
        pytest.param(line("2")[:-1], ["1"], id="a line without its end"),
        pytest.param(line("2")[:-5] + "\n", ["1"], id="a line cut off"),
        pytest.param("[]\n" + line("2"), ["1"], id="a strange line"),
        pytest.param(line("3"), ["1"], id="another picture's turn"),
        pytest.param(line("2") + line("1"), ["1", "2"], id="a picture again"),
        pytest.param(line("2") + line("3"), ["1", "2", "3"], id="all"),
        pytest.param(line("2") + line("3") + line("4"), ["1", "2", "3"], id="more than all"),
    ],
)
def test_what_follows_a_strange_line_is_cut_off(tmp_path, ending: str, there: list[str]) -> None:
    path = tmp_path / "records"
    list(opened(path).start(resume=False))
    good = path.read_text() + "".join(map(line, there))
    path.write_text(path.read_text() + line("1") + ending)
    assert [record.image_id for record in opened(path).start(resume=True)] == there
    assert path.read_text() == good
