"""What each project's Label Studio said of itself on /setup; /predict does not say it again.

Kept in the data folder, so that all processes of the service know it, and still know it after a restart. The file holds
access tokens: only the service's own user may read it.

Anybody who reaches the service can say anything on /setup. Where the operator configured which Label Studio it is, what
was said is tried there before it replaces what is known to work: a token that opens the project is not a stranger's.
That happens when pictures are about to be fetched, not on /setup itself: then Label Studio may be waiting for us.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.host import LabelStudioHost
from backend.images.outbound import Outbound
from backend.images.policy import HostPolicy
from backend.images.tokens import AccessTokens
from clipdiy.recent import Recent

logger = logging.getLogger(__name__)

REMEMBERED = 10_000
A_PROJECT = 4
"""How many introductions of one project are kept until it is known which is right."""
_WAIT_S = 2.0
_TRIAL_S = 5.0
_MAX_ANSWER_BYTES = 10_000_000

Opens = Callable[[str, LabelStudioHost], bool | None]
"""Whether the project's Label Studio accepts what was said: `None` if that cannot be found out now."""


@dataclass(frozen=True)
class Introduced:
    """A project that a Label Studio spoke of.

    Attributes:
        project: As it names the project (`1.1795331629`).
        url: What it said of its own address, which may be anything; empty if nothing.
        at: When it did so last, Unix seconds.
    """

    project: str
    url: str
    at: float


@dataclass(frozen=True)
class _Said:
    """One introduction of a project."""

    host: LabelStudioHost
    tried: bool


class Introductions:
    """Introductions by project; safe with any number of threads and processes.

    Where the file cannot be used they are kept in memory, and a warning says so.
    """

    def __init__(self, folder: Path, opens: Opens | None = None, *, remembered: int = REMEMBERED) -> None:
        """Name the file; it is made with the first introduction.

        Args:
            folder: Where it lies.
            opens: How an introduction is tried, if there is a way.
            remembered: How many are kept; those that were not heard for longest go first.
        """
        self.path = folder / "introductions.sqlite"
        self._opens = opens
        self._remembered = remembered
        self._memory: Recent[str, LabelStudioHost] = Recent(remembered)
        self._warned = False

    def remember(self, project: str, host: LabelStudioHost) -> None:
        """Keep what a project's Label Studio said."""
        self._memory.pop(project)
        try:
            self._write(project, host)
        except (sqlite3.Error, OSError) as err:
            self._warn(err)
            self._memory.put(project, host)

    def _write(self, project: str, host: LabelStudioHost, *, again: bool = True) -> None:
        try:
            with self._database(write=True) as database:
                # What was tried stays tried when it is said again.
                database.execute(
                    "INSERT INTO said (project, url, token, tried, at) VALUES (?, ?, ?, 0, ?) "
                    "ON CONFLICT (project, url, token) DO UPDATE SET at = excluded.at",
                    (project, host.url or "", host.token or "", time.time_ns()),
                )
                database.execute(
                    "DELETE FROM said WHERE project = ? AND NOT tried AND rowid NOT IN "
                    "(SELECT rowid FROM said WHERE project = ? ORDER BY at DESC LIMIT ?)",
                    (project, project, A_PROJECT),
                )
                database.execute(
                    "DELETE FROM said WHERE rowid NOT IN (SELECT rowid FROM said ORDER BY at DESC LIMIT ?)",
                    (self._remembered,),
                )
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            # Damaged: everything in it will be said again.
            if not again:
                raise
            self.path.unlink()
            self._write(project, host, again=False)

    def projects(self) -> list[str]:
        """Return all projects that were introduced, those that were heard last first."""
        return [one.project for one in self.introduced(self._remembered)]

    def of(self, project: str) -> LabelStudioHost:
        """Return what it said last, or what is known to be right; an empty one if it said nothing."""
        known = self._memory.get(project)
        if known is not None:
            return known
        try:
            said = self._said(project)
        except (sqlite3.Error, OSError) as err:
            self._warn(err)
            return LabelStudioHost()
        for one in said:
            if one.tried or self._opens is None:
                return one.host
            verdict = self._opens(project, one.host)
            if verdict is not None:
                self._note(project, one.host, right=verdict)
            if verdict:
                return one.host
        # Nothing that could be tried was right: what was known before, else what came last.
        return next((one.host for one in said if one.tried), said[0].host if said else LabelStudioHost())

    def introduced(self, most: int) -> list[Introduced]:
        """Return what is known of projects, those that were heard last first, each with the address that counts."""
        found: dict[str, Introduced] = {}
        tried: set[str] = set()
        for project, host in reversed(self._memory.items()):
            found[project] = Introduced(project, host.url or "", 0.0)
        try:
            for project, url, is_tried, at in self._every() if self.path.exists() else ():
                known = found.setdefault(project, Introduced(project, url, at / 1e9))
                if is_tried and project not in tried and project not in self._memory:
                    tried.add(project)
                    found[project] = replace(known, url=url)
        except (sqlite3.Error, OSError) as err:
            self._warn(err)
        found.pop("", None)
        return [*found.values()][:most]

    def _every(self) -> list[tuple[str, str, int, int]]:
        """Return project, address, whether it was tried, and when it was said, the newest first."""
        with self._database() as database:
            return database.execute("SELECT project, url, tried, at FROM said ORDER BY at DESC").fetchall()

    def _said(self, project: str) -> list[_Said]:
        """Return a project's introductions, the newest first."""
        if not self.path.exists():
            return []
        with self._database() as database:
            found = database.execute(
                "SELECT url, token, tried FROM said WHERE project = ? ORDER BY at DESC", (project,)
            ).fetchall()
        return [_Said(LabelStudioHost(url or None, token or None), bool(tried)) for url, token, tried in found]

    def _note(self, project: str, host: LabelStudioHost, *, right: bool) -> None:
        """Write down what a trial has shown: what is wrong is forgotten; of what is right only the newest is kept."""
        key = (project, host.url or "", host.token or "")
        try:
            with self._database(write=True) as database:
                if right:
                    database.execute("DELETE FROM said WHERE project = ? AND tried", (project,))
                    database.execute("UPDATE said SET tried = 1 WHERE project = ? AND url = ? AND token = ?", key)
                else:
                    database.execute("DELETE FROM said WHERE project = ? AND url = ? AND token = ? AND NOT tried", key)
        except (sqlite3.Error, OSError) as err:
            self._warn(err)

    @contextmanager
    def _database(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        if write and not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite's journal takes over this mode.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(self.path, timeout=_WAIT_S)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS said (project TEXT, url TEXT, token TEXT, tried INTEGER, at INTEGER, "
                "PRIMARY KEY (project, url, token))"
            )
            yield database

    def _warn(self, err: Exception) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "what Label Studio says of itself stays in this process, its file cannot be used: %s",
                getattr(err, "strerror", None) or type(err).__name__,
            )


def trial_at(url: str, outbound: Outbound | None = None) -> Opens:
    """Return how introductions are tried where the operator configured which Label Studio it is.

    Args:
        url: Its address; nothing else is asked.
        outbound: How it is asked.
    """
    asking = outbound or Outbound(HostPolicy())
    tokens = AccessTokens(asking)

    def opens(project: str, host: LabelStudioHost) -> bool | None:
        number = project.partition(".")[0]
        if not (number.isascii() and number.isdigit()):
            return None
        there, deadline = LabelStudioHost(url, host.token, is_configured=True), Deadline.after(_TRIAL_S)
        try:
            asking.get(
                there.address_of(f"/api/projects/{number}/"),
                max_bytes=_MAX_ANSWER_BYTES,
                deadline=deadline,
                home=there,
                authorization=tokens.authorization(there, deadline),
            )
        except TaskError as err:
            return False if err.reason in ("unauthorized", "not-found") else None
        return True

    return opens
