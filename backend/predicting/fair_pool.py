"""Threads for work that several ask for: whoever asks for much does not keep the others waiting."""

from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import IntEnum
from threading import Lock
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lane(IntEnum):
    """Who is waiting. A lower lane is served only while the higher ones are empty."""

    INTERACTIVE = 0
    """A person with the mouse in the hand."""
    REQUEST = 1
    """A request with a deadline."""
    BACKGROUND = 2
    """Nobody waits: work ahead, and what is learned from."""


class FairQueue(Generic[Item]):
    """First come, first served within an owner; owners take turns. Not safe from several threads by itself."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lanes: dict[Lane, OrderedDict[str, deque[Item]]] = {lane: OrderedDict() for lane in Lane}

    def put(self, item: Item, owner: str, lane: Lane) -> None:
        """Put an item behind all others of its owner in this lane."""
        self._lanes[lane].setdefault(owner, deque()).append(item)

    def take(self, up_to: Lane = Lane.BACKGROUND) -> Item | None:
        """Return the next item, `None` if there is none; its owner goes behind the others in its lane.

        Args:
            up_to: The last lane that is looked at.
        """
        for lane, owners in self._lanes.items():
            if owners and lane <= up_to:
                owner, items = owners.popitem(last=False)
                item = items.popleft()
                if items:
                    owners[owner] = items
                return item
        return None


class FairPool:
    """Runs jobs in some threads, in turns among those who ask."""

    def __init__(self, threads: int, name: str) -> None:
        """Start nothing yet.

        Args:
            threads: How many jobs run at the same time.
            name: What the threads are called.
        """
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._queue: FairQueue[tuple[Future[Any], Callable[[], Any]]] = FairQueue()
        self._lock = Lock()

    def submit(self, job: Callable[[], Result], *, owner: str = "", lane: Lane = Lane.REQUEST) -> "Future[Result]":
        """Run a job when its turn comes.

        Args:
            job: What to run.
            owner: For whom; owners take turns.
            lane: How urgent it is.

        Returns:
            Its future, which can be cancelled as long as the job has not begun.

        Raises:
            RuntimeError: If the pool has been closed.
        """
        future: Future[Result] = Future()
        with self._lock:
            self._queue.put((future, job), owner, lane)
        try:
            self._threads.submit(self._run_next)
        except RuntimeError:
            future.cancel()
            raise
        return future

    def close(self, *, finish: bool = False) -> None:
        """End the threads: what has begun is finished, the rest is cancelled.

        Args:
            finish: Nothing is cancelled: all that waits is done first.
        """
        self._threads.shutdown(cancel_futures=not finish)
        while (waiting := self._take()) is not None:
            waiting[0].cancel()

    def _take(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._lock:
            return self._queue.take()

    def _run_next(self) -> None:
        """Run the job whose turn it is: as many are asked for as there are jobs, but not each for its own."""
        taken = self._take()
        if taken is None:
            return
        future, job = taken
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = job()
        except BaseException as err:  # noqa: BLE001 - whatever it is, it is for whoever waits
            future.set_exception(err)
        else:
            future.set_result(result)
