"""Failed tasks are remembered until they succeed, by every process, and never at the cost of a prediction."""

import os
import stat

import pytest

from backend.predicting.failures import Failures


def listed(failures, most=99):
    return [(one.project, one.task, one.reason, one.message) for one in failures.recent(most)]


def test_what_failed_is_listed_until_it_is_done(tmp_path):
    one, other = Failures(tmp_path), Failures(tmp_path)
    assert one.recent(9) == []
    one.note("3", done=[], failed=[(1, "download", "gone"), (2, "too-large", "big")])
    one.note("4", done=[], failed=[(1, "download", "gone too")])
    assert listed(other) == [
        ("4", "1", "download", "gone too"),
        ("3", "2", "too-large", "big"),
        ("3", "1", "download", "gone"),
    ]
    assert listed(other, 1) == [("4", "1", "download", "gone too")]
    other.note("3", done=[1, 7], failed=[(2, "timeout", "slow")])
    assert listed(one) == [("3", "2", "timeout", "slow"), ("4", "1", "download", "gone too")]


def test_tasks_and_projects_that_are_no_more(tmp_path):
    failures = Failures(tmp_path)
    for project in ("3", "4"):
        failures.note(project, done=[], failed=[(number, "download", "") for number in (1, 2)])
    failures.forget("3", [2, 9])
    assert {(one.project, one.task) for one in failures.recent(9)} == {("3", "1"), ("4", "1"), ("4", "2")}
    failures.forget("4")
    assert {(one.project, one.task) for one in failures.recent(9)} == {("3", "1")}
    Failures(None).forget("4")
    Failures(tmp_path / "none").forget("4")
    assert not (tmp_path / "none").exists()


def test_a_file_that_cannot_be_used_keeps_nobody_from_deleting(tmp_path, caplog):
    (tmp_path / "failed-tasks.sqlite").write_bytes(b"no database at all" * 99)
    Failures(tmp_path).forget("4")
    assert "cannot be used" in caplog.text


def test_many_that_are_done_at_once(tmp_path):
    failures = Failures(tmp_path)
    failures.note("3", done=[], failed=[(number, "download", "") for number in range(20)])
    failures.note("3", done=range(5_000), failed=[])
    assert failures.recent(99) == []


def test_the_newest_are_kept(tmp_path):
    failures = Failures(tmp_path, remembered=3)
    failures.note("3", done=[], failed=[(number, "download", "") for number in range(5)])
    assert [one.task for one in failures.recent(99)] == ["4", "3", "2"]
    failures.note("3", done=[], failed=[("x", "download", "")])
    assert [one.task for one in failures.recent(99)] == ["x", "4", "3"]


def test_nothing_is_made_before_the_first_failure(tmp_path):
    Failures(tmp_path / "data").note("3", done=[1], failed=[])
    assert not (tmp_path / "data").exists()
    nowhere = Failures(None)
    nowhere.note("3", done=[], failed=[(1, "download", "")])
    assert nowhere.recent(9) == []


def test_no_other_user_can_read_it(tmp_path):
    before = os.umask(0)
    try:
        Failures(tmp_path / "data").note("3", done=[], failed=[(1, "download", "")])
    finally:
        os.umask(before)
    [path] = (tmp_path / "data").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_file_is_begun_anew(tmp_path):
    (tmp_path / "failed-tasks.sqlite").write_bytes(b"no data base" * 200)
    failures = Failures(tmp_path)
    assert failures.recent(9) == []
    failures.note("3", done=[], failed=[(1, "download", "")])
    assert [one.task for one in failures.recent(9)] == ["1"]


def test_a_file_that_cannot_be_used_is_done_without(tmp_path, caplog):
    (tmp_path / "failed-tasks.sqlite").mkdir()
    failures = Failures(tmp_path)
    for _ in range(3):
        failures.note("3", done=[1], failed=[(1, "download", "")])
        assert failures.recent(9) == []
    assert len([line for line in caplog.messages if "failed tasks are not listed" in line]) == 1


@pytest.mark.parametrize("task", [None, "x\ud800", 2**62, ""])
def test_ids_of_any_kind(tmp_path, task):
    failures = Failures(tmp_path)
    failures.note("3", done=[], failed=[(task, "download", "\ud800" * 5_000)])
    assert len(failures.recent(9)[0].message) <= 1_000
    failures.note("3", done=[task], failed=[])
    assert failures.recent(9) == []
