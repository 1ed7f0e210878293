"""What Label Studios said of themselves: known to all processes, private, bounded, and not a stranger's to change."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from web_server import Reply, Seen, WebServer

from backend.images.host import LabelStudioHost
from backend.images.introductions import A_PROJECT, Introductions, trial_at

FIRST = LabelStudioHost("http://ls:8080", "first")
SECOND = LabelStudioHost("http://ls:8080", "second")
STRANGER = LabelStudioHost("http://evil", "stolen")


def test_what_was_said_last_counts_for_every_process_and_after_a_restart(tmp_path: Path) -> None:
    one, other = Introductions(tmp_path), Introductions(tmp_path)
    assert other.of("1.5") == LabelStudioHost()
    one.remember("1.5", FIRST)
    one.remember("2.5", STRANGER)
    assert other.of("1.5") == FIRST
    other.remember("1.5", SECOND)
    assert one.of("1.5") == SECOND
    one.remember("1.5", FIRST)
    assert Introductions(tmp_path).of("1.5") == FIRST
    one.remember("3.5", LabelStudioHost())
    assert other.of("3.5") == LabelStudioHost()


def test_another_process_can_read_it_and_no_other_user(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Introductions(tmp_path / "data").remember("1.5", FIRST)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()] == [0o600]
    script = (
        "import sys; from pathlib import Path; from backend.images.introductions import Introductions; "
        "print(Introductions(Path(sys.argv[1])).of('1.5').token)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "data")], capture_output=True, timeout=60)
    assert ended.stdout == b"first\n"


def test_it_is_bounded(tmp_path: Path) -> None:
    kept = Introductions(tmp_path, remembered=5)
    for number in range(8):
        kept.remember(str(number), FIRST)
    assert [bool(kept.of(str(number)).url) for number in range(8)] == [False] * 3 + [True] * 5
    kept.remember("3", FIRST)
    kept.remember("9", FIRST)
    assert (kept.of("3"), kept.of("4")) == (FIRST, LabelStudioHost())
    for number in range(20):
        kept.remember("3", LabelStudioHost(f"http://{number}"))
    with sqlite3.connect(kept.path) as database:
        [(count,)] = database.execute("SELECT count(*) FROM said WHERE project = '3'")
    database.close()
    assert count == A_PROJECT


def test_from_many_threads(tmp_path: Path) -> None:
    kept = [Introductions(tmp_path), Introductions(tmp_path)]

    def work(number: int) -> LabelStudioHost:
        project, host = str(number % 7), LabelStudioHost(f"http://{number % 7}")
        kept[number % 2].remember(project, host)
        return kept[1 - number % 2].of(project)

    with ThreadPoolExecutor(4) as pool:
        assert [host.url for host in pool.map(work, range(60))] == [f"http://{number % 7}" for number in range(60)]


def test_without_its_file_it_works_in_memory_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").write_text("a file")
    kept = Introductions(tmp_path / "data")
    kept.remember("1.5", FIRST)
    kept.remember("2.5", SECOND)
    assert (kept.of("1.5"), kept.of("2.5"), kept.of("3.5")) == (FIRST, SECOND, LabelStudioHost())
    assert len(caplog.records) == 1
    assert "stays in this process" in caplog.text
    assert str(tmp_path) not in caplog.text


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    kept = Introductions(tmp_path)
    kept.path.write_text("no database at all" * 100)
    assert kept.of("1.5") == LabelStudioHost()
    kept.remember("1.5", FIRST)
    assert Introductions(tmp_path).of("1.5") == FIRST


def test_memory_is_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    kept = Introductions(tmp_path / "data", remembered=3)
    for number in range(5):
        kept.remember(str(number), FIRST)
    assert [bool(kept.of(str(number)).url) for number in range(5)] == [False, False, True, True, True]


class TestWhereLabelStudioIsConfigured:
    """The project's token is tried there before it counts."""

    def make(self, folder: Path, right: set[str | None], asked: list[str | None]) -> Introductions:
        def opens(project: str, host: LabelStudioHost) -> bool | None:
            asked.append(host.token)
            return None if None in right else host.token in right

        return Introductions(folder, opens)

    def test_a_stranger_replaces_nothing(self, tmp_path: Path) -> None:
        asked: list[str | None] = []
        kept = self.make(tmp_path, {"first"}, asked)
        kept.remember("1.5", FIRST)
        assert kept.of("1.5") == FIRST
        kept.remember("1.5", STRANGER)
        assert [kept.of("1.5") for _ in range(3)] == [FIRST] * 3
        assert asked == ["first", "stolen"], "each is tried once"

    def test_a_stranger_who_was_first_is_replaced(self, tmp_path: Path) -> None:
        kept = self.make(tmp_path, {"first"}, [])
        kept.remember("1.5", STRANGER)
        kept.of("1.5")
        kept.remember("1.5", FIRST)
        kept.remember("1.5", STRANGER)
        assert kept.of("1.5") == FIRST

    def test_a_new_token_of_its_own_counts(self, tmp_path: Path) -> None:
        right: set[str | None] = {"first"}
        kept = self.make(tmp_path, right, [])
        kept.remember("1.5", FIRST)
        assert kept.of("1.5") == FIRST
        right.clear()
        right.add("second")
        kept.remember("1.5", SECOND)
        assert kept.of("1.5") == SECOND
        kept.remember("1.5", FIRST)
        assert kept.of("1.5") == SECOND, "what was right before is tried like any other"

    def test_what_cannot_be_tried_now_changes_nothing(self, tmp_path: Path) -> None:
        right: set[str | None] = {"first"}
        kept = self.make(tmp_path, right, [])
        kept.remember("1.5", FIRST)
        assert kept.of("1.5") == FIRST
        right.add(None)
        kept.remember("1.5", SECOND)
        assert kept.of("1.5") == FIRST
        right -= {None, "first"}
        right.add("second")
        assert kept.of("1.5") == SECOND

    def test_many_strangers_do_not_push_it_out(self, tmp_path: Path) -> None:
        kept = self.make(tmp_path, {"first"}, [])
        kept.remember("1.5", FIRST)
        assert kept.of("1.5") == FIRST
        for number in range(3 * A_PROJECT):
            kept.remember("1.5", LabelStudioHost("http://evil", str(number)))
        assert kept.of("1.5") == FIRST


def test_which_projects_there_are_and_where(tmp_path: Path) -> None:
    kept = Introductions(tmp_path, lambda _project, host: host.token == "first")
    assert kept.introduced(9) == []
    for project, host in (("1.5", FIRST), ("2.5", SECOND), ("", SECOND), ("3.5", LabelStudioHost()), ("1.5", STRANGER)):
        kept.remember(project, host)
    listed = Introductions(tmp_path).introduced(9)
    assert [(one.project, one.url) for one in listed] == [
        ("1.5", "http://evil"),
        ("3.5", ""),
        ("2.5", "http://ls:8080"),
    ]
    assert all(0 <= time.time() - one.at < 60 for one in listed)
    assert kept.of("1.5") == FIRST
    kept.remember("1.5", STRANGER)
    assert kept.introduced(1)[0].url == "http://ls:8080", "not the stranger's"
    assert len(kept.introduced(2)) == 2


def test_projects_are_known_without_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "introductions.sqlite").mkdir()
    kept = Introductions(tmp_path)
    kept.remember("1.5", FIRST)
    kept.remember("2.5", SECOND)
    assert [(one.project, one.url, one.at) for one in kept.introduced(9)] == [
        ("2.5", "http://ls:8080", 0),
        ("1.5", "http://ls:8080", 0),
    ]


def test_a_token_is_tried_on_its_project_and_nowhere_else() -> None:
    def project(seen: Seen) -> Reply:
        return Reply(200 if seen.headers.get("authorization") == "Token right" else 401, json.dumps({}).encode())

    with WebServer() as web, WebServer() as other:
        web.replies["/api/projects/12/"] = project
        web.replies["/api/projects/13/"] = Reply(500)
        opens = trial_at(web.url)
        assert opens("12.1795331629", LabelStudioHost(other.url, "right")) is True
        assert opens("12.1795331629", LabelStudioHost(other.url, "wrong")) is False
        assert opens("12", LabelStudioHost(other.url, None)) is False
        assert opens("99.1", LabelStudioHost(other.url, "right")) is False
        assert opens("13.1", LabelStudioHost(other.url, "right")) is None
        for odd in ("", "x", "../users.1", "1²", "-1.5"):
            assert opens(odd, LabelStudioHost(other.url, "right")) is None
        assert len(web.seen) == 5
        assert other.seen == []
    assert opens("12.1", LabelStudioHost(None, "right")) is None, "it is gone"
