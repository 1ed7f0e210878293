"""A deadline that comes when somebody says stop."""

import math
import time
from threading import Event

from backend.deadline import Deadline

_FAR_S = 1e9


def until_stopped(stop: Event) -> Deadline:
    """Return a deadline that comes when an event is set, and not before.

    Whoever waits for something looks at it when the next thing has happened: it does not wake anybody. Shorter
    deadlines that are made of it (`Deadline.at_most`) come in their time, as others do.
    """
    return Deadline.after(_FAR_S, lambda: math.inf if stop.is_set() else time.monotonic())
