"""Until when something is waited for: made once, where a request comes in, and handed down to whoever waits."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

Clock = Callable[[], float]
"""Seconds that only go up, such as `time.monotonic`."""


@dataclass(frozen=True)
class Deadline:
    """A point in time after which nothing is waited for.

    Attributes:
        seconds: How long it was away when it was made, for messages.
        at: When it comes, by the clock.
        clock: Which clock.
    """

    seconds: float
    at: float
    clock: Clock = field(default=time.monotonic, repr=False, compare=False)

    @classmethod
    def after(cls, seconds: float, clock: Clock = time.monotonic) -> Self:
        """Return the deadline that many seconds from now; `math.inf` for none."""
        return cls(seconds, clock() + seconds, clock)

    @classmethod
    def never(cls) -> Self:
        """Return a deadline that does not come."""
        return cls(math.inf, math.inf)

    def at_most(self, seconds: float) -> Self:
        """Return this deadline, or one that many seconds from now if that is earlier."""
        at = self.clock() + seconds
        return self if self.at <= at else replace(self, seconds=seconds, at=at)

    @property
    def left_s(self) -> float:
        """The seconds left, at least 0 and at most what one can wait for."""
        return min(max(0.0, self.at - self.clock()), threading.TIMEOUT_MAX)

    @property
    def has_come(self) -> bool:
        """Nothing is left."""
        return self.left_s <= 0

    def remaining_s(self) -> float:
        """Return the seconds left, more than 0.

        Raises:
            TimeoutError: If there are none.
        """
        left = self.left_s
        if left <= 0:
            raise TimeoutError
        return left
