"""A deadline that comes when somebody says stop."""

from threading import Event

from backend.bulk.until import until_stopped


def test_it_comes_with_the_event_and_not_before():
    stop = Event()
    deadline = until_stopped(stop)
    assert not deadline.has_come
    assert deadline.left_s > 1e8
    stop.set()
    assert deadline.has_come
    assert deadline.left_s == 0


def test_shorter_ones_come_in_their_time_and_with_the_event():
    stop = Event()
    deadline = until_stopped(stop)
    assert deadline.at_most(0).has_come
    hour = deadline.at_most(3600)
    assert 3590 < hour.left_s <= 3600
    stop.set()
    assert hour.has_come
    assert deadline.at_most(3600).has_come


def test_one_that_was_stopped_before_it_began():
    stop = Event()
    stop.set()
    assert until_stopped(stop).has_come
    assert until_stopped(stop).at_most(5).has_come
