"""How many pixels are in memory at the same time, over all requests: who needs many waits for those who have them."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from backend.deadline import Deadline
from backend.errors import TaskError


class PixelBudget:
    """Lets in as many pixels at once as there is room for, in the order in which they ask. Safe from any thread.

    A picture that is larger than the whole budget is let in when it is alone: it is slow, but never left waiting.
    """

    def __init__(self, most_px: int, *, remedy: str = "") -> None:
        """Begin with nothing in it.

        Args:
            most_px: Most pixels (height x width) at the same time.
            remedy: What a person can do so that there is more room; stands at the end of the error.
        """
        self._most_px = most_px
        self._late = "other large pictures were being worked on until the deadline" + (remedy and f": {remedy}")
        self._held_px = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, px: int, deadline: Deadline) -> Iterator[None]:
        """Wait until there is room for some pixels, and take it until the end of the `with` block.

        Raises:
            TaskError: `deadline`, if there was none in time.
        """
        self._enter(px, deadline)
        try:
            yield
        finally:
            with self._changed:
                self._held_px -= px
                self._changed.notify_all()

    def _enter(self, px: int, deadline: Deadline) -> None:
        mine = object()
        with self._changed:
            self._waiting.append(mine)
            try:
                # First come, first served: a large picture is not overtaken by small ones for ever.
                while self._waiting[0] is not mine or not self._has_room(px):
                    if deadline.has_come:
                        raise TaskError("deadline", self._late)
                    self._changed.wait(deadline.left_s)
                self._held_px += px
            finally:
                self._waiting.remove(mine)
                self._changed.notify_all()

    def _has_room(self, px: int) -> bool:
        return self._held_px == 0 or self._held_px + px <= self._most_px
