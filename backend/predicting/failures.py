"""Which tasks failed and have no masks yet, and why: kept for people to look at, over processes and restarts."""

import logging
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

REMEMBERED = 1_000
_MOST_CHARS = 1_000
_WAIT_S = 2.0
_NEWEST = "ORDER BY at DESC, rowid DESC LIMIT ?"
_ONE_STATEMENT = 500
"""Values in one statement; SQLite takes 999 at least."""


@dataclass(frozen=True)
class Failure:
    """A task that has no prediction because something was wrong with it.

    Attributes:
        project: Its project's id, empty if the request did not say it.
        task: Its own id.
        reason: A word, see `backend.errors.TaskFailure`.
        message: For a person; holds nothing secret.
        at: When it failed last, Unix seconds.
    """

    project: str
    task: str
    reason: str
    message: str
    at: float


class Failures:
    """The newest failures, in a file that several processes share. Safe from any thread.

    A file that cannot be used is done without: predictions matter more than what is said of them.
    """

    def __init__(self, folder: Path | None, *, remembered: int = REMEMBERED) -> None:
        """Name the file; it is made with the first failure.

        Args:
            folder: Where it lies; `None` keeps nothing.
            remembered: How many are kept.
        """
        self._path = None if folder is None else folder / "failed-tasks.sqlite"
        self._remembered = remembered
        self._warned = False

    def note(self, project: str, *, done: Collection[object], failed: Collection[tuple[object, str, str]]) -> None:
        """Keep what became of the tasks of a request.

        Args:
            project: Of all of them.
            done: Ids of tasks that have a prediction now: their failures are forgotten.
            failed: Id, reason and message of each that failed.
        """
        if self._path is None or not (failed or self._path.exists()):
            return
        project, finished = _text(project), [_text(task) for task in done]
        others = [(_text(task), reason, _text(message)) for task, reason, message in [*failed][-self._remembered :]]
        try:
            try:
                self._note(project, finished, others)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self._path.unlink()  # damaged: what fails will fail again
                self._note(project, finished, others)
        except (sqlite3.Error, OSError) as err:
            self._warn(err)

    def forget(self, project: str, tasks: Collection[object] | None = None) -> None:
        """Forget what is told of tasks that are no more.

        Args:
            project: Of all of them.
            tasks: Their ids; `None` for all of the project's.
        """
        if self._path is None or not self._path.exists():
            return
        if tasks is not None:
            self.note(project, done=tasks, failed=())
            return
        try:
            with self._database() as database:
                database.execute("DELETE FROM failed WHERE project = ?", (_text(project),))
        except (sqlite3.Error, OSError) as err:
            self._warn(err)

    def recent(self, most: int) -> list[Failure]:
        """Return the newest failures, the newest first."""
        if self._path is None or not self._path.exists():
            return []
        try:
            with self._database() as database:
                rows = database.execute(
                    f"SELECT project, task, reason, message, at FROM failed {_NEWEST}",
                    (most,),
                ).fetchall()
        except (sqlite3.Error, OSError) as err:
            self._warn(err)
            return []
        return [Failure(*row) for row in rows]

    def _note(self, project: str, done: Sequence[str], failed: Sequence[tuple[str, str, str]]) -> None:
        now = time.time()
        with self._database() as database:
            if database.execute("SELECT 1 FROM failed WHERE project = ? LIMIT 1", (project,)).fetchone():
                for start in range(0, len(done), _ONE_STATEMENT):
                    part = done[start : start + _ONE_STATEMENT]
                    marks = ",".join("?" * len(part))
                    database.execute(f"DELETE FROM failed WHERE project = ? AND task IN ({marks})", (project, *part))
            if failed:
                database.executemany(
                    "INSERT OR REPLACE INTO failed (project, task, reason, message, at) VALUES (?, ?, ?, ?, ?)",
                    [(project, task, reason, message, now) for task, reason, message in failed],
                )
                database.execute(
                    f"DELETE FROM failed WHERE rowid NOT IN (SELECT rowid FROM failed {_NEWEST})",
                    (self._remembered,),
                )

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        assert self._path is not None
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # What is wrong with somebody's tasks is nobody else's business. SQLite's journal takes over this mode.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(self._path, timeout=_WAIT_S)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS failed (project TEXT, task TEXT, reason TEXT, message TEXT, at REAL, "
                "PRIMARY KEY (project, task))"
            )
            yield database

    def _warn(self, err: Exception) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("failed tasks are not listed, their file cannot be used: %s", type(err).__name__)


def _text(value: object) -> str:
    """Return what SQLite takes: no half characters, and not too many."""
    return str(value)[:_MOST_CHARS].encode("utf-8", "replace").decode()
