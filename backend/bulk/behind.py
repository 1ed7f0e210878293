"""Pushes that nobody waits for: one project after the other, in a thread of their own; the newest version wins."""

import logging
import threading
from collections.abc import Callable
from threading import Event

from backend.errors import BackendError

logger = logging.getLogger(__name__)

PushProject = Callable[[str, Event], None]
"""Brings a project (by its key) to its newest version, until it is done or the event says stop."""


class PushBehind:
    """Asked for projects; does one at a time. Safe from any thread."""

    def __init__(self, push_project: PushProject) -> None:
        """Take what pushes; the thread begins with the first project."""
        self._push_project = push_project
        self._waiting: dict[str, None] = {}
        self._now: tuple[str, Event] | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self, key: str) -> None:
        """Bring a project to its newest version; what is under way for an older one of it ends."""
        with self._changed:
            if self._closed:
                return
            self._waiting[key] = None
            if self._now is not None and self._now[0] == key:
                self._now[1].set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="push", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """End: what is predicted is still written, the rest is for the next time."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            if self._now is not None:
                self._now[1].set()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(5)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                key = next(iter(self._waiting))
                del self._waiting[key]
                stop = Event()
                self._now = key, stop
            try:
                self._push_project(key, stop)
            except BackendError as err:
                logger.warning("project %s: its new predictions are not all there: %s", key.partition(".")[0], err)
            except Exception as err:
                logger.error("project %s: pushing failed: unexpected %s", key.partition(".")[0], type(err).__name__)
                logger.debug("pushing", exc_info=err)
            with self._changed:
                self._now = None
