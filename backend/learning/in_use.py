"""Which fit is in use? Asked with every request, so it looks into the file once a second at most.

Any number of processes ask the same file, so all of them use a new version within that second.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Mapping

from backend.corrections.store import CorrectionStore
from backend.deadline import Clock
from backend.labeling.taught import Taught
from backend.learning.fits import Fit
from clipdiy.learning.errors import LearningError
from clipdiy.recent import Recent

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
REMEMBERED = 1_000
NOTHING: Mapping[str, Taught] = {}


class InUse:
    """What each project's controls have been taught. Safe from any thread."""

    def __init__(self, store: CorrectionStore, encoder: str, *, clock: Clock = time.monotonic) -> None:
        """Take where fits are kept.

        Args:
            store: The file.
            encoder: `Method.encoder_identity`: a fit of other features is none.
            clock: By which it looks again.
        """
        self._store = store
        self._encoder = encoder
        self._clock = clock
        self._looked: Recent[str, tuple[float, Mapping[str, Taught]]] = Recent(REMEMBERED)
        self._fits: Recent[tuple[str, int, float], Mapping[str, Taught]] = Recent(REMEMBERED)
        self._lock = threading.Lock()

    def taught(self, key: str) -> Mapping[str, Taught]:
        """Return what the controls of a project have been taught, by `from_name`; nothing for the words alone.

        Args:
            key: The project, as Label Studio names it.
        """
        if not key or not self._store.exists:
            return NOTHING
        with self._lock:
            looked = self._looked.get(key)
            if looked is None or self._clock() - looked[0] >= LOOK_EVERY_S:
                before = NOTHING if looked is None else looked[1]
                looked = self._looked.put(key, (self._clock(), self._look(key, before)))
            return looked[1]

    def _look(self, key: str, before: Mapping[str, Taught]) -> Mapping[str, Taught]:
        try:
            project = self._store.project(key)
            return NOTHING if project is None else self.version(key, project.used)
        except sqlite3.Error as err:
            logger.warning("project %s: its version cannot be looked up now (%s)", key, err)
            return before

    def version(self, key: str, number: int) -> Mapping[str, Taught]:
        """Return what a version means; nothing if there is none of this number."""
        if number == 0:
            return NOTHING
        stored = self._store.fit(key, number)
        if stored is None:
            return NOTHING
        known = self._fits.get((key, number, stored.at))
        if known is None:
            try:
                known = Fit.from_bytes(stored.data).taught(number, self._encoder)
            except LearningError as err:
                logger.error("project %s, version %d: %s", key, number, err)
                known = NOTHING
            self._fits.put((key, number, stored.at), known)
        return known

    def forget(self, key: str) -> None:
        """Look again with the next question: something has just been changed here."""
        with self._lock:
            self._looked.pop(key)
