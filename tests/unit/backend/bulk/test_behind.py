"""Pushes behind everything else: one at a time, the newest version of a project wins."""

import threading

import pytest

from backend.bulk.behind import PushBehind
from backend.label_studio_api import LabelStudioApiError


class Pushing:
    """Pushes when it is let, and writes down what happened."""

    def __init__(self):
        self.seen = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.fails = {}

    def __call__(self, key, stop):
        self.begun.release()
        assert self.gate.acquire(timeout=10)
        self.seen.append((key, stop.is_set()))
        if key in self.fails:
            raise self.fails.pop(key)


@pytest.fixture
def pushing():
    made = Pushing()
    made.behind = PushBehind(made)
    yield made
    for _ in range(9):
        made.gate.release()
    made.behind.close()


def finish(pushing, count):
    for _ in range(count):
        pushing.gate.release()
    for _ in range(200):
        if len(pushing.seen) >= count:
            return
        threading.Event().wait(0.01)


def test_one_after_the_other_each_once(pushing):
    for key in ("1.1", "2.2", "2.2", "3.3"):
        pushing.behind.ask(key)
    finish(pushing, 3)
    assert pushing.seen == [("1.1", False), ("2.2", False), ("3.3", False)]


def test_a_newer_version_ends_the_push_of_an_older_one(pushing):
    pushing.behind.ask("1.1")
    assert pushing.begun.acquire(timeout=10)
    pushing.behind.ask("1.1")
    finish(pushing, 2)
    assert pushing.seen == [("1.1", True), ("1.1", False)]


def test_what_fails_keeps_no_other_project_waiting(pushing, caplog):
    pushing.fails = {"1.1": LabelStudioApiError("GET /x: 500"), "2.2": ZeroDivisionError("secret")}
    for key in ("1.1", "2.2", "3.3"):
        pushing.behind.ask(key)
    finish(pushing, 3)
    assert [key for key, _ in pushing.seen] == ["1.1", "2.2", "3.3"]
    assert "not all there: GET /x: 500" in caplog.text
    assert "unexpected ZeroDivisionError" in caplog.text
    assert "secret" not in caplog.text


def test_closing_stops_what_is_under_way_and_forgets_the_rest(pushing):
    pushing.behind.ask("1.1")
    assert pushing.begun.acquire(timeout=10)
    pushing.behind.ask("2.2")
    closing = threading.Thread(target=pushing.behind.close)
    closing.start()
    while not pushing.behind._closed:
        threading.Event().wait(0.001)
    pushing.gate.release()
    closing.join(10)
    assert pushing.seen == [("1.1", True)]
    pushing.behind.ask("3.3")
    assert len(pushing.seen) == 1


def test_nothing_begins_before_somebody_asks(pushing):
    assert pushing.behind._thread is None
