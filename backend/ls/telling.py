"""What a command says while it works: warnings above its progress bar, and how it is asked to stop."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

from rich.console import Console
from rich.markup import escape

from backend.web.start import OneLine

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: not all is done, and the same command goes on."""
# Each picture that fails is listed at the end, with its reason.
_LISTED_LATER = "backend.predicting.request"


class _Above(logging.Handler):
    """Prints records above a progress bar."""

    def __init__(self, tell: Console) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(OneLine("%(message)s"))
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell.print(f"[yellow]warning: {escape(self.format(record))}[/]", soft_wrap=True)


@contextmanager
def warnings_on(tell: Console) -> Iterator[None]:
    """Show what our own code warns of."""
    handler, ours = _Above(tell), logging.getLogger("backend")
    handler.addFilter(lambda record: record.name != _LISTED_LATER)
    ours.addHandler(handler)
    before, ours.propagate = ours.propagate, False
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.propagate = before


@contextmanager
def stopping(tell: Console) -> Iterator[Event]:
    """Give an event that Ctrl-C and SIGTERM set; the second Ctrl-C ends the process where it is."""
    stop = Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        tell.print("[yellow]stopping after what is under way; once more ends at once, and loses that[/]")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
