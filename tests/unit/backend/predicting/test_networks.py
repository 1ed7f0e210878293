import subprocess
import sys
import threading
import time

import pytest

from backend.predicting.networks import NetworkThread


@pytest.fixture
def networks():
    made = NetworkThread()
    yield made
    made.close()


def test_all_jobs_run_in_one_thread_that_is_not_the_callers(networks):
    seen = set()
    callers = [threading.Thread(target=networks.run, args=(lambda: seen.add(threading.get_ident()),)) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(seen) == 1
    assert seen.isdisjoint({threading.get_ident(), *(caller.ident for caller in callers)})


def test_what_a_job_returns_and_raises(networks):
    assert networks.run(lambda: None) == (None,), "not to be taken for a turn that did not come"
    with pytest.raises(ZeroDivisionError):
        networks.run(lambda: 1 // 0, time.monotonic() + 10)
    assert networks.run(lambda: 3, time.monotonic() + 10) == (3,), "lives on"


def test_a_time_limit_of_the_jobs_own_is_no_missed_turn(networks):
    def job():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        networks.run(job, time.monotonic() + 10)


def test_a_turn_that_does_not_come_in_time(networks):
    free, begun = threading.Event(), threading.Event()

    def long():
        begun.set()
        return free.wait(10)

    first = threading.Thread(target=networks.run, args=(long,))
    first.start()
    begun.wait(10)
    ran = []
    assert networks.run(lambda: ran.append(1), time.monotonic() + 0.05) is None
    free.set()
    first.join()
    assert networks.run(lambda: "next") == ("next",)
    assert ran == [], "what was given up never begins"


def test_what_has_begun_is_waited_for(networks):
    assert networks.run(lambda: time.sleep(0.3) or "done", time.monotonic() + 0.05) == ("done",)


def test_others_compute_alone_and_the_networks_do_not():
    """In a process of its own, as it changes all threads that come after."""
    program = """
import threading, torch
from backend.predicting.networks import NetworkThread, computing_alone
networks = NetworkThread()
count = lambda: (torch.ones(2).sum(), torch.get_num_threads())[1]
def team():
    torch.set_num_threads(3)
    return count()
assert networks.run(team) == (3,)
computing_alone()
seen = []
other = threading.Thread(target=lambda: seen.append(count()))
other.start()
other.join()
assert seen == [1], seen
assert networks.run(count) == (3,)
networks.close()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
