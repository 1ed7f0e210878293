import threading
import time

import pytest

from backend.predicting.fair_pool import FairPool, FairQueue, Lane


@pytest.fixture
def pool():
    made = FairPool(1, "one")
    yield made
    made.close()


@pytest.fixture
def gate(pool):
    """Keeps the only thread busy until it is opened."""
    opened, begun = threading.Event(), threading.Event()

    def job():
        begun.set()
        assert opened.wait(10)

    pool.submit(job)
    assert begun.wait(10)
    yield opened
    opened.set()


def everything(queue):
    taken = []
    while (item := queue.take()) is not None:
        taken.append(item)
    return taken


class TestQueue:
    def test_nothing(self):
        assert FairQueue().take() is None

    def test_owners_take_turns(self):
        queue = FairQueue()
        for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
            queue.put(item, item[0], Lane.REQUEST)
        assert everything(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]

    def test_an_owner_that_comes_back_goes_behind(self):
        queue = FairQueue()
        queue.put("a1", "a", Lane.REQUEST)
        queue.put("b1", "b", Lane.REQUEST)
        assert queue.take() == "a1"
        queue.put("a2", "a", Lane.REQUEST)
        assert everything(queue) == ["b1", "a2"]

    def test_who_waits_with_the_mouse_goes_first(self):
        queue = FairQueue()
        queue.put("a1", "a", Lane.REQUEST)
        queue.put("b1", "b", Lane.INTERACTIVE)
        queue.put("a2", "a", Lane.INTERACTIVE)
        assert everything(queue) == ["b1", "a2", "a1"]


def test_all_jobs_run_in_one_thread_that_is_not_the_callers(pool):
    seen = {pool.submit(threading.get_ident).result() for _ in range(8)}
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_what_a_job_returns_and_raises(pool):
    assert pool.submit(lambda: 3).result() == 3
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result()
    with pytest.raises(SystemExit):
        pool.submit(exit).result()
    assert pool.submit(lambda: "lives on").result() == "lives on"


def test_projects_take_turns(pool, gate):
    ran = []
    futures = [
        pool.submit(lambda name=name: ran.append(name), owner=name[0]) for name in ("a1", "a2", "a3", "b1", "b2")
    ]
    futures.append(pool.submit(lambda: ran.append("mouse"), owner="c", lane=Lane.INTERACTIVE))
    gate.set()
    for future in futures:
        future.result(10)
    assert ran == ["mouse", "a1", "b1", "a2", "b2", "a3"]


def test_what_is_cancelled_never_begins(pool, gate):
    ran = []
    dropped = pool.submit(lambda: ran.append("dropped"))
    kept = pool.submit(lambda: ran.append("kept"))
    assert dropped.cancel()
    gate.set()
    kept.result(10)
    assert ran == ["kept"]


def test_what_nobody_waits_for_comes_last():
    queue = FairQueue()
    for lane in (Lane.BACKGROUND, Lane.REQUEST, Lane.INTERACTIVE):
        queue.put(lane.name, "a", lane)
        queue.put(lane.name, "b", lane)
    assert everything(queue) == ["INTERACTIVE"] * 2 + ["REQUEST"] * 2 + ["BACKGROUND"] * 2


def test_closing_finishes_what_has_begun_and_cancels_the_rest(pool, gate):
    waiting = [pool.submit(lambda: None, owner=str(i)) for i in range(3)]
    closing = threading.Thread(target=pool.close)
    closing.start()
    # From here on the threads' own queue is empty; the job under way is the last one.
    while not pool._threads._shutdown or pool._threads._work_queue.qsize() > 1:
        time.sleep(0.001)
    gate.set()
    closing.join(10)
    assert all(future.cancelled() for future in waiting)
    late = None
    with pytest.raises(RuntimeError):
        late = pool.submit(lambda: None)
    assert late is None


def test_several_threads_work_at_the_same_time():
    pool = FairPool(2, "two")
    meet = threading.Barrier(2, timeout=10)
    for future in [pool.submit(meet.wait), pool.submit(meet.wait)]:
        future.result(10)
    pool.close()


def test_the_end_can_wait_for_all_that_waits(pool, gate):
    done = [pool.submit(lambda number=number: number, owner=str(number)) for number in range(3)]
    closing = threading.Thread(target=pool.close, kwargs={"finish": True})
    closing.start()
    gate.set()
    closing.join(10)
    assert [future.result(0) for future in done] == [0, 1, 2]
    with pytest.raises(RuntimeError):
        pool.submit(lambda: None)
