"""The corrections' file itself: how it is opened, who may read it, and what happens when it is damaged."""

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from backend.corrections.layout import MIGRATIONS, migrate

logger = logging.getLogger(__name__)

NAME = "corrections.sqlite"
_WAIT_S = 10.0


class CorrectionsDatabase:
    """One SQLite file, for any number of threads and processes, readable for the service's own user alone."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; the file is made when it is first opened."""
        self.path = folder / NAME
        self.needs_rebuilding = False
        self._lock = threading.Lock()

    @property
    def exists(self) -> bool:
        """Whether anything was ever kept."""
        return self.path.exists()

    @contextmanager
    def open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Open it for one transaction: all that is done in it is kept, or nothing of it.

        Args:
            write: Begin to write at once, so that what is read meanwhile is still so when it is changed.

        Raises:
            sqlite3.OperationalError: If it is busy for too long, the disk is full, or a newer release wrote it.
            sqlite3.DatabaseError: If it is damaged; then it has been moved aside, and the next call begins a new one.
        """
        try:
            with closing(self._connect()) as database:
                if write:
                    database.execute("BEGIN IMMEDIATE")
                try:
                    yield database
                except BaseException:
                    if database.in_transaction:
                        database.rollback()
                    raise
                if database.in_transaction:
                    database.commit()
        except sqlite3.OperationalError:
            raise  # busy, or the disk is full
        except sqlite3.DatabaseError as err:
            if not isinstance(err, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError):
                self._move_aside(err)
            raise

    def _connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite's other files take over this mode.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        database = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
        try:
            if database.execute("PRAGMA user_version").fetchone() != (len(MIGRATIONS),):
                self._prepare(database)
            database.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Give a new or older file the newest layout."""
        # SQLite does not wait for a lock when it changes the way it writes, so one goes after the other by our own.
        with open(self.path.with_name(self.path.name + ".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            database.execute("PRAGMA journal_mode = WAL")
            migrate(database)

    def _move_aside(self, err: sqlite3.DatabaseError) -> None:
        """Keep a damaged file for whoever wants to look, and begin anew."""
        with self._lock:
            aside = self.path.with_name(f"{self.path.stem}.damaged-{int(time.time())}{self.path.suffix}")
            for ending in ("", "-wal", "-shm"):
                part = self.path.with_name(self.path.name + ending)
                if part.exists():
                    os.replace(part, aside.with_name(aside.name + ending))
            self.needs_rebuilding = True
        logger.error(
            "the corrections' file was damaged (%s) and has been moved to %s; corrections are read again from Label "
            "Studio where there is a token for it, else with `clipdiy-ls sync`",
            *(err, aside.name),
        )
