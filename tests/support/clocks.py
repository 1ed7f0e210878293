"""Time as a test wants it: a clock that is set by hand, and stages that take as long as they are told."""

import heapq
from concurrent.futures import Future
from itertools import count


class HandClock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now=3.0):
        self.now = now

    def __call__(self):
        return self.now


class Simulation:
    """Futures that are done at a time of the clock; waiting for them makes the time pass."""

    def __init__(self):
        self.clock = HandClock()
        self.began = self.clock.now
        self._events = []
        self._numbers = count()
        self.cancelled = []
        self.waits = []

    @property
    def elapsed(self):
        return self.clock.now - self.began

    def after(self, seconds, result=None, error=None, name=None, begun=False):
        """A future that gets its result after so many seconds; 0 is now. What has begun cannot be cancelled."""
        future = Future()
        if begun:
            future.set_running_or_notify_cancel()
        event = (self.clock.now + seconds, next(self._numbers), future, result, error, name)
        if seconds == 0:
            self._complete(event)
        else:
            heapq.heappush(self._events, event)
        return future

    def wait(self, futures, timeout_s):
        self.waits.append((self.elapsed, len(futures)))
        if not futures:
            return
        assert not any(future.done() for future in futures), "what is done need not be waited for"
        until = self.clock.now + timeout_s
        while self._events and self._events[0][0] <= until:
            event = heapq.heappop(self._events)
            self.clock.now = event[0]
            self._complete(event)
            if event[2] in futures:
                return
        self.clock.now = until

    def pass_by(self, seconds):
        """Let time go on while nobody waits."""
        self.clock.now += seconds
        while self._events and self._events[0][0] <= self.clock.now:
            self._complete(heapq.heappop(self._events))

    def let_the_rest_happen(self):
        while self._events:
            event = heapq.heappop(self._events)
            self.clock.now = event[0]
            self._complete(event)

    def _complete(self, event):
        _, _, future, result, error, name = event
        if not future.running() and not future.set_running_or_notify_cancel():
            self.cancelled.append(name)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result() if callable(result) else result)
