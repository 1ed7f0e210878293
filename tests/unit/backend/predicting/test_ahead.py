"""What is encoded before it is asked for: in which order, when, and what is dropped."""

import logging
import threading
import time

import pytest

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.host import LabelStudioHost
from backend.predicting.ahead import PROJECTS, Ahead, Wanted

HERE = LabelStudioHost("http://ls")


def host():
    return HERE


def wanted(*values, first=1):
    return [Wanted(number, value) for number, value in enumerate(values, first)]


class Bringing:
    """Says what it begins with, and ends it when the test lets it."""

    def __init__(self):
        self.begun = []
        self.askers = []
        self.starts = threading.Semaphore(0)
        self.ends = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    def __call__(self, value, task_id, asker):
        self.begun.append(value)
        self.askers.append(asker)
        self.starts.release()
        assert self.ends.acquire(timeout=10)
        self.ended.release()
        if value == "breaks":
            raise TaskError("not-found", "gone")

    def let(self, count):
        """Let so many more begin and end."""
        for _ in range(count):
            assert self.starts.acquire(timeout=10)
            self.ends.release()
            assert self.ended.acquire(timeout=10)


@pytest.fixture
def bring():
    return Bringing()


@pytest.fixture
def make(bring):
    made = []

    def _make(most=100, **options):
        made.append(Ahead(bring, most=most, **options))
        return made[-1]

    yield _make
    for ahead in made:
        ahead.stop()
        for _ in range(100):
            bring.ends.release()
        ahead.join()


def test_first_come_first_served_and_projects_take_turns(make, bring):
    ahead = make()
    with ahead.giving_way():
        ahead.add(wanted("a1", "a2", "a3"), "a", host)
        ahead.add(wanted("b1", "b2"), "b", host)
    bring.let(5)
    assert bring.begun == ["a1", "b1", "a2", "b2", "a3"]
    assert {(asker.owner, asker.host) for asker in bring.askers} == {("a", HERE), ("b", HERE)}
    assert all(asker.deadline == Deadline.never() for asker in bring.askers)


def test_nothing_is_begun_while_somebody_waits(make, bring):
    ahead = make()
    with ahead.giving_way():
        with ahead.giving_way():
            ahead.add(wanted("1", "2", "3"), "a", host)
        assert not bring.starts.acquire(timeout=0.05), "one of two is still waiting"
    assert bring.starts.acquire(timeout=10)
    with ahead.giving_way():
        bring.ends.release()  # what was begun is finished
        assert bring.ended.acquire(timeout=10)
        assert not bring.starts.acquire(timeout=0.05)
        assert len(ahead) == 2
    bring.let(2)
    assert bring.begun == ["1", "2", "3"]


def test_somebody_waits_no_longer_also_when_that_ended_badly(make, bring):
    ahead = make()
    with pytest.raises(ZeroDivisionError), ahead.giving_way():
        raise ZeroDivisionError
    ahead.add(wanted("1"), "a", host)
    bring.let(1)


def test_what_came_first_is_dropped_first(make, bring):
    ahead = make(most=3)
    with ahead.giving_way():
        ahead.add(wanted("old1", "old2", "old3"), "a", host)
        ahead.add(wanted("b1"), "b", host)
        ahead.add(wanted("new1", "new2"), "a", host)
        assert len(ahead) == 4
    bring.let(4)
    assert bring.begun == ["b1", "old3", "new1", "new2"]


def test_of_too_many_at_once_those_that_are_asked_for_first_stay(make, bring):
    ahead = make(most=2)
    with ahead.giving_way():
        ahead.add(wanted("1", "2", "3", "4"), "a", host)
    bring.let(2)
    assert bring.begun == ["1", "2"]


def test_one_that_waits_already_waits_once_and_where_it_was_named_last(make, bring):
    ahead = make()
    with ahead.giving_way():
        ahead.add(wanted("1", "2", "3"), "a", host)
        ahead.add(wanted("1", "2"), "a", host)
    bring.let(3)
    assert bring.begun == ["3", "1", "2"]


def test_values_are_bounded_together(make, bring):
    ahead = make(most_chars=250)
    with ahead.giving_way():
        ahead.add(wanted("x" * 100, "y" * 100, "z" * 100, "w" * 400), "a", host)
        assert len(ahead) == 2, "the first made room, and the last alone is too long"
        ahead.drop(wanted("y" * 100, first=2), "a")
        ahead.add(wanted("v" * 150, first=9), "a", host)
        assert len(ahead) == 2
    bring.let(2)
    assert [value[0] for value in bring.begun] == ["z", "v"]


@pytest.mark.parametrize(("last", "waiting"), [(50, 2), (51, 1)])
def test_values_that_fill_the_room_exactly_stay(make, last, waiting):
    ahead = make(most_chars=100)
    with ahead.giving_way():
        ahead.add(wanted("x" * 50, "y" * last), "a", host)
        assert len(ahead) == waiting


def test_a_value_that_fills_the_room_alone_stays(make):
    ahead = make(most_chars=100)
    with ahead.giving_way():
        ahead.add(wanted("x" * 100), "a", host)
        assert len(ahead) == 1


def test_projects_are_bounded(make):
    ahead = make()
    with ahead.giving_way():
        for number in range(PROJECTS + 1):
            ahead.add(wanted("1"), str(number), host)
        assert len(ahead) == PROJECTS
        assert not ahead.waits_for("0")
        assert ahead.waits_for("1")


def test_what_was_asked_for_meanwhile_is_left_out(make, bring):
    ahead = make()
    with ahead.giving_way():
        ahead.add(wanted("1", "2", "3"), "a", host)
        ahead.drop(wanted("1", "2", "9"), "a")
        ahead.drop(wanted("3", first=3), "b")
        assert ahead.waits_for("a")
    bring.let(1)
    assert bring.begun == ["3"]
    with ahead.giving_way():
        ahead.add(wanted("1"), "a", host)
        ahead.drop(wanted("1"), "a")
        assert not ahead.waits_for("a")


def test_one_that_cannot_be_had_costs_no_other(make, bring):
    ahead = make()
    ahead.add(wanted("breaks", "2"), "a", host)
    bring.let(2)
    assert bring.begun == ["breaks", "2"]


def test_where_they_come_from_is_found_out_once_in_a_thread_of_its_own(make, bring):
    threads = []

    def find():
        threads.append(threading.current_thread())
        return HERE

    ahead = make()
    ahead.add(wanted("1", "2", "3"), "a", find)
    bring.let(3)
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


def test_where_that_cannot_be_found_out_nothing_else_suffers(make, bring):
    ahead = make()
    ahead.add(wanted("1"), "a", lambda: 1 / 0)
    ahead.add(wanted("2"), "b", host)
    bring.let(1)
    assert bring.begun == ["2"]


def test_several_are_brought_at_the_same_time(make, bring):
    ahead = make(threads=2)
    ahead.add(wanted("1", "2", "3"), "a", host)
    assert bring.starts.acquire(timeout=10)
    assert bring.starts.acquire(timeout=10)
    assert not bring.starts.acquire(timeout=0.05)
    assert len(ahead) == 1


def idle(ahead):
    """Wait until its threads wait for something to do."""
    while len(ahead._changed._waiters) < len(ahead._running):
        time.sleep(0.001)


def test_one_that_has_nothing_to_do_begins_with_what_comes(make, bring):
    ahead = make()
    ahead.add(wanted("1"), "a", host)
    bring.let(1)
    idle(ahead)
    ahead.add(wanted("2"), "a", host)
    bring.let(1)
    assert bring.begun == ["1", "2"]
    assert len(ahead._running) == 1, "one at a time, unless more are asked for"


def test_one_that_has_nothing_to_do_ends_with_the_others(make, bring):
    ahead = make(threads=2)
    ahead.add(wanted("1"), "a", host)
    bring.let(1)
    idle(ahead)
    ahead.stop()
    ahead.join()
    assert [thread.is_alive() for thread in ahead._running] == [False, False]


def test_a_download_that_hangs_is_not_waited_for_at_the_end(make, bring, monkeypatch):
    monkeypatch.setattr("backend.predicting.ahead._JOIN_S", 0.01)
    ahead = make()
    ahead.add(wanted("hangs"), "a", host)
    assert bring.starts.acquire(timeout=10)
    ahead.stop()
    ahead.join()
    [thread] = ahead._running
    assert thread.is_alive()
    assert thread.daemon, "nor by the process"


def test_nothing_to_add_adds_nothing(make):
    ahead = make()
    ahead.add([], "a", host)
    assert not ahead.waits_for("a")
    assert not ahead._running


def test_how_many_wait_is_said_whenever_that_changes(make, bring):
    seen = []
    ahead = make(watch=seen.append)
    with ahead.giving_way():
        ahead.add(wanted("1", "2", "3"), "a", host)
        ahead.add(wanted("1"), "b", host)
        ahead.drop(wanted("1"), "a")
        assert seen == [3, 4, 3]
    bring.let(3)
    assert seen[3:] == [2, 1, 0]


def test_what_is_begun_and_what_cannot_be_had_is_said(make, bring, caplog):
    ahead = make()
    with caplog.at_level(logging.DEBUG, "backend.predicting.ahead"):
        ahead.add(wanted("breaks", "2"), "a", host)
        bring.let(2)
        ahead.add(wanted("breaks", first=5), "", host)
        bring.let(1)
        idle(ahead)
    assert caplog.messages == [
        "project a: 2 pictures are encoded while nobody asks for any",
        "project a, task 1: not encoded ahead",
        "project ?: 1 pictures are encoded while nobody asks for any",
        "project ?, task 5: not encoded ahead",
    ]
    assert [record.exc_info is not None for record in caplog.records] == [False, True, False, True]


@pytest.mark.parametrize("most", [0, 10])
def test_without_room_or_after_the_end_nothing_is_begun(make, most):
    seen = []
    ahead = make(most=most, watch=seen.append)
    assert ahead.room() == most
    if most:
        ahead.stop()
    ahead.add(wanted("1"), "a", host)
    assert len(ahead) == 0
    assert not ahead._running


def test_the_end_drops_what_waits(make, bring):
    seen = []
    ahead = make(watch=seen.append)
    ahead.add(wanted("1", "2", "3"), "a", host)
    assert bring.starts.acquire(timeout=10)
    assert seen[0] == 3
    ahead.stop()
    assert len(ahead) == 0
    assert not ahead.waits_for("a")
    bring.ends.release()
    ahead.join()
    assert seen[-1] == 0
    assert bring.begun == ["1"]
    assert not any(thread.is_alive() for thread in ahead._running)
