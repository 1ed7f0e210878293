"""A record of the log is one line, and a setting that is wrong is named."""

import logging
import sys

import pytest

from backend.settings import Settings
from backend.web.start import MAX_LINE_CHARS, OneLine, start


def line(message, **others):
    record = logging.LogRecord("backend", logging.WARNING, "x.py", 1, "%s", (message,), others.get("exc_info"))
    return OneLine("%(levelname)s %(message)s").format(record)


@pytest.mark.parametrize(
    ("message", "written"),
    [
        ("Katze 猫 é", "Katze 猫 é"),
        ("a\n2026-01-01 ERROR all is lost", r"a\n2026-01-01 ERROR all is lost"),
        ("a\r\nb", r"a\r\nb"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x85b\u2028c\u2029d", r"a\x85b\u2028c\u2029d"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("\x00\x7f\t", r"\x00\x7f\t"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_nothing_in_a_record_passes_for_another(message, written):
    assert line(message) == f"WARNING {written}"
    assert len(line(message).splitlines()) == 1


def test_a_long_record_is_cut():
    assert len(line("x" * 1_000_000)) == MAX_LINE_CHARS


def test_lines_of_a_traceback_are_set_in():
    try:
        raise ValueError("a\n2026-01-01 ERROR all is lost")
    except ValueError:
        written = line("failed", exc_info=sys.exc_info())
    assert all(text.startswith("    ") for text in written.splitlines()[1:])
    assert len(written.splitlines()) > 3


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("DTYPE", "float8", ("'float32'", "'auto'")),
        ("DEADLINE_S", "soon", ("number",)),
        ("PRESET", "papier", ("there is no preset",)),
        ("BASIC_AUTH_USER", "anna", ("CLIPDIY_BASIC_AUTH_PASSWORD",)),
    ],
)
def test_a_setting_that_is_wrong_is_named_as_it_is_set(monkeypatch, capsys, variable, value, words):
    monkeypatch.setenv(f"CLIPDIY_{variable}", value)
    with pytest.raises(SystemExit):
        start(lambda _settings: 1 / 0, lambda _service: None)
    said = capsys.readouterr().err
    assert f"CLIPDIY_{variable}" in said
    assert "LITERAL" not in said
    assert len(said.splitlines()) == 1
    assert all(word in said for word in words)


def test_an_empty_variable_is_not_set(monkeypatch):
    for name in ("DTYPE", "BASIC_AUTH_USER", "BASIC_AUTH_PASSWORD", "DEADLINE_S"):
        monkeypatch.setenv(f"CLIPDIY_{name}", "")
    settings = Settings(_env_file=None)
    assert (settings.dtype, settings.basic_auth_user, settings.deadline_s) == ("auto", None, 90.0)
