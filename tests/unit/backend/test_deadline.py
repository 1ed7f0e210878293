import math
import threading
from concurrent.futures import Future, wait

import pytest
from clocks import HandClock

from backend.deadline import Deadline


def test_it_comes_when_its_seconds_are_over():
    clock = HandClock(100.0)
    deadline = Deadline.after(5, clock)
    assert deadline.left_s == deadline.remaining_s() == 5
    assert not deadline.has_come
    clock.now += 4
    assert deadline.remaining_s() == 1
    clock.now += 0.5
    assert not deadline.has_come
    clock.now += 0.5
    assert deadline.has_come
    assert deadline.left_s == 0
    clock.now += 7
    assert deadline.left_s == 0
    with pytest.raises(TimeoutError):
        deadline.remaining_s()


def test_never_does_not_come():
    assert not Deadline.never().has_come
    done = Future()
    done.set_result(1)
    assert done.result(Deadline.never().left_s) == 1
    assert wait([done], Deadline.never().left_s).done
    condition = threading.Condition()
    with condition:
        assert condition.wait_for(lambda: True, Deadline.never().left_s)


@pytest.mark.parametrize(
    ("own_s", "most_s", "at", "seconds"),
    [
        pytest.param(5, 9, 105, 5, id="this one is earlier"),
        pytest.param(5, 2, 102, 2, id="the limit is earlier"),
        pytest.param(5, 5, 105, 5, id="both at once"),
        pytest.param(math.inf, 3, 103, 3, id="of none"),
    ],
)
def test_at_most(own_s, most_s, at, seconds):
    clock = HandClock(100.0)
    inner = Deadline.after(own_s, clock).at_most(most_s)
    assert (inner.at, inner.seconds) == (at, seconds)
    clock.now = at
    assert inner.has_come
