"""What people made of predictions: one SQLite file, for any number of threads and processes.

What is stored is enough to learn again from nothing: which class covers how much of each cell of each corrected
picture, which picture that is, and what became of what had been predicted. Deleting an annotation deletes its rows and
every fit that was made with it; nothing else was ever derived from it.

Only the service's own user may read the file. A file that is damaged is moved aside, and what it held can be read again
from Label Studio (`needs_rebuilding`).
"""

import errno
import fcntl
import json
import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.corrections.events import ProjectFacts, SentAnnotation
from backend.corrections.evidence import ControlShares
from clipdiy.learning.evidence import ClassShares

logger = logging.getLogger(__name__)

NAME = "corrections.sqlite"
_WAIT_S = 10.0
MOST_INBOX_BYTES = 2_000_000_000
"""Webhooks that wait to be read; one more is refused, so that whoever sends it sees that."""

# One entry a version of the layout: what brings the one before to it.
MIGRATIONS = (
    """
    CREATE TABLE inbox (id INTEGER PRIMARY KEY, at REAL NOT NULL, body BLOB NOT NULL);
    CREATE TABLE project (
        key TEXT PRIMARY KEY, number INTEGER NOT NULL, title TEXT NOT NULL, label_config TEXT NOT NULL,
        changed REAL NOT NULL, asked REAL NOT NULL DEFAULT 0, tried_pictures INTEGER NOT NULL DEFAULT 0,
        tried_at REAL NOT NULL DEFAULT 0, pinned INTEGER, in_use INTEGER NOT NULL DEFAULT 0,
        next_number INTEGER NOT NULL DEFAULT 1, state TEXT NOT NULL DEFAULT ''
    ) WITHOUT ROWID;
    CREATE TABLE annotation (
        project TEXT NOT NULL, id INTEGER NOT NULL, task INTEGER NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
        who INTEGER, lead_time_s REAL, is_cancelled INTEGER NOT NULL, is_ground_truth INTEGER NOT NULL,
        started_from INTEGER, version TEXT NOT NULL, problems TEXT NOT NULL, waits BLOB,
        PRIMARY KEY (project, id)
    ) WITHOUT ROWID;
    CREATE INDEX annotation_of_task ON annotation (project, task);
    CREATE TABLE task (project TEXT NOT NULL, id INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (project, id))
        WITHOUT ROWID;
    CREATE TABLE picture (
        project TEXT NOT NULL, task INTEGER NOT NULL, data_key TEXT NOT NULL, page INTEGER NOT NULL,
        content TEXT NOT NULL, PRIMARY KEY (project, task, data_key, page)
    ) WITHOUT ROWID;
    CREATE TABLE evidence (
        project TEXT NOT NULL, annotation INTEGER NOT NULL, control TEXT NOT NULL, page INTEGER NOT NULL,
        data_key TEXT NOT NULL, labels TEXT NOT NULL, shares BLOB NOT NULL,
        height INTEGER NOT NULL, width INTEGER NOT NULL,
        PRIMARY KEY (project, annotation, control, page)
    ) WITHOUT ROWID;
    CREATE TABLE agreement (
        project TEXT NOT NULL, annotation INTEGER NOT NULL, control TEXT NOT NULL, page INTEGER NOT NULL,
        label TEXT NOT NULL, state TEXT NOT NULL, iou REAL, score REAL, number INTEGER NOT NULL,
        PRIMARY KEY (project, annotation, control, page, label)
    ) WITHOUT ROWID;
    CREATE TABLE gone (project TEXT NOT NULL, kind TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (project, kind, id))
        WITHOUT ROWID;
    CREATE TABLE fit (
        project TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, pictures INTEGER NOT NULL,
        note TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (project, number)
    ) WITHOUT ROWID;
    CREATE TABLE made_of (
        project TEXT NOT NULL, number INTEGER NOT NULL, annotation INTEGER NOT NULL,
        PRIMARY KEY (project, number, annotation)
    ) WITHOUT ROWID;
    """,
)
_TABLES = ("annotation", "task", "picture", "evidence", "agreement", "gone", "fit", "made_of")
NO_PAGE = -1


@dataclass(frozen=True)
class KeptAnnotation:
    """An annotation that is stored.

    Attributes:
        number: Its id.
        task: Id of its task.
        updated: Unix seconds.
        created: Unix seconds.
        who: Id of the person, `None` if unknown.
        is_cancelled: It was skipped.
        is_ground_truth: Marked as such.
        started_from: Id of the prediction it began as.
        version: Model version of that prediction, empty if unknown.
        problems: What of it could not be read.
        lead_time_s: How long the person took.
    """

    number: int
    task: int
    updated: float
    created: float
    who: int | None
    is_cancelled: bool
    is_ground_truth: bool
    started_from: int | None
    version: str
    problems: tuple[str, ...]
    lead_time_s: float | None


@dataclass(frozen=True)
class Agreement:
    """What became of one class of one picture.

    Attributes:
        control: `from_name`.
        page: Of several, else `None`.
        label: Value that Label Studio stores.
        state: `accepted`, `changed`, `deleted` (predicted and not kept) or `added` (kept and not predicted).
        iou: Between what was predicted and what was kept; `None` for what was not predicted.
        score: Raw score that it was predicted with; `None` if unknown.
        number: Version that predicted it.
    """

    control: str
    page: int | None
    label: str
    state: str
    iou: float | None
    score: float | None
    number: int


@dataclass(frozen=True)
class StoredProject:
    """A project, and where its learning stands.

    Attributes:
        facts: As Label Studio describes it.
        changed: When its corrections last changed, Unix seconds.
        asked: When somebody last asked it to learn; 0 for never, or done.
        tried_pictures: From how many pictures it was learned last; 0 for never.
        tried_at: When, Unix seconds.
        pinned: Version that a person chose; `None` for the newest.
        in_use: Version that is used where none is pinned; 0 for the words.
        state: In words, what it last did.
    """

    facts: ProjectFacts
    changed: float
    asked: float
    tried_pictures: int
    tried_at: float
    pinned: int | None
    in_use: int
    state: str

    @property
    def used(self) -> int:
        """Number of the version that predicts now."""
        return self.in_use if self.pinned is None else self.pinned


@dataclass(frozen=True)
class StoredFit:
    """One version of a project.

    Attributes:
        number: From 1.
        at: When it was learned, Unix seconds.
        pictures: From how many.
        note: In words, what was learned.
        data: As `backend.learning.fits` packs it.
    """

    number: int
    at: float
    pictures: int
    note: str
    data: bytes


@dataclass(frozen=True)
class StoredEvidence:
    """Shares of one control on one picture of one annotation."""

    annotation: int
    data_key: str
    shares: ControlShares


class Full(OSError):
    """As many webhooks wait to be read as may."""


class CorrectionStore:
    """The file. Reads see whole changes; a change is made whole or not at all, also when the machine dies."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; the file is made with the first thing that is kept."""
        self.path = folder / NAME
        self.needs_rebuilding = False
        self._lock = threading.Lock()

    @property
    def exists(self) -> bool:
        """Whether anything was ever kept."""
        return self.path.exists()

    # What comes in.

    def receive(self, body: Mapping[str, Any]) -> None:
        """Keep a webhook until it is read; quick, whatever it holds.

        Raises:
            Full: If too many wait.
            sqlite3.Error: If it cannot be written.
            ValueError: If it holds a number that JSON does not have.
        """
        packed = zlib.compress(json.dumps(body, separators=(",", ":"), allow_nan=False).encode(), 1)
        with self._open(write=True) as database:
            [waiting] = database.execute("SELECT coalesce(sum(length(body)), 0) FROM inbox").fetchone()
            if waiting + len(packed) > MOST_INBOX_BYTES:
                raise Full(errno.ENOSPC, "too many webhooks wait to be read")
            database.execute("INSERT INTO inbox (at, body) VALUES (?, ?)", (time.time(), packed))

    def waiting(self) -> int:
        """Return how many webhooks have not been read."""
        return int(self._one("SELECT count(*) FROM inbox") or 0) if self.exists else 0

    def first(self) -> tuple[int, float, Any] | None:
        """Return number, time and body of the webhook that waits longest; a body that cannot be read is `None`."""
        if not self.exists:
            return None
        with self._open() as database:
            row = database.execute("SELECT id, at, body FROM inbox ORDER BY id LIMIT 1").fetchone()
        if row is None:
            return None
        try:
            return row[0], row[1], json.loads(zlib.decompress(row[2]))
        except (ValueError, zlib.error, RecursionError):
            return row[0], row[1], None

    @contextmanager
    def change(self) -> Iterator["Change"]:
        """Make a change: all that is done with what this yields is kept, or nothing of it."""
        with self._open(write=True) as database:
            yield Change(database)

    # What is read.

    def projects(self) -> list[StoredProject]:
        """Return all projects, those whose corrections changed last first."""
        if not self.exists:
            return []
        with self._open() as database:
            rows = database.execute(f"SELECT {_PROJECT} FROM project ORDER BY changed DESC, key").fetchall()
        return [_project(row) for row in rows]

    def project(self, key: str) -> StoredProject | None:
        """Return a project, or `None`."""
        if not self.exists:
            return None
        with self._open() as database:
            row = database.execute(f"SELECT {_PROJECT} FROM project WHERE key = ?", (key,)).fetchone()
        return None if row is None else _project(row)

    def annotations(self, key: str) -> list[KeptAnnotation]:
        """Return a project's annotations by number, also those that do not count."""
        with self._open() as database:
            rows = database.execute(
                "SELECT id, task, updated, created, who, is_cancelled, is_ground_truth, started_from, version, "
                "problems, lead_time_s FROM annotation WHERE project = ? ORDER BY id",
                (key,),
            ).fetchall()
        return [_annotation(row) for row in rows]

    def evidence(self, key: str) -> dict[int, list[StoredEvidence]]:
        """Return the shares of a project's annotations, by annotation, in a fixed order."""
        found: dict[int, list[StoredEvidence]] = {}
        with self._open() as database:
            rows = database.execute(
                "SELECT annotation, control, page, data_key, labels, shares, height, width FROM evidence "
                "WHERE project = ? ORDER BY annotation, control, page",
                (key,),
            )
            for number, control, page, data_key, labels, shares, *size_hw in rows:
                place = (control, None if page == NO_PAGE else page, tuple(json.loads(labels)))
                size = (size_hw[0], size_hw[1]) if size_hw[0] else None
                one = ControlShares(*place, ClassShares.from_bytes(shares), size)
                found.setdefault(number, []).append(StoredEvidence(number, data_key, one))
        return found

    def agreements(self, key: str) -> dict[int, list[Agreement]]:
        """Return what became of predictions, by annotation."""
        found: dict[int, list[Agreement]] = {}
        with self._open() as database:
            rows = database.execute(
                "SELECT annotation, control, page, label, state, iou, score, number FROM agreement WHERE project = ? "
                "ORDER BY annotation, control, page, label",
                (key,),
            )
            for number, control, page, *rest in rows:
                found.setdefault(number, []).append(Agreement(control, None if page == NO_PAGE else page, *rest))
        return found

    def pictures(self, key: str) -> dict[tuple[int, str, int | None], str]:
        """Return which picture (SHA-256 of its file) stands where: by task, field and page."""
        with self._open() as database:
            rows = database.execute("SELECT task, data_key, page, content FROM picture WHERE project = ?", (key,))
            return {(task, field, None if page == NO_PAGE else page): content for task, field, page, content in rows}

    def task_data(self, key: str, task: int) -> Mapping[str, Any] | None:
        """Return a task's data, or `None`."""
        packed = self._one("SELECT data FROM task WHERE project = ? AND id = ?", key, task)
        return None if packed is None else dict(json.loads(zlib.decompress(packed)))

    def unexamined(self, key: str) -> list[int]:
        """Return annotations that are still to be compared with the prediction they began as."""
        with self._open() as database:
            rows = database.execute(
                "SELECT id FROM annotation WHERE project = ? AND waits IS NOT NULL ORDER BY id", (key,)
            ).fetchall()
        return [number for [number] in rows]

    def waits(self, key: str, annotation: int) -> Mapping[str, Any] | None:
        """Return what was sent for that of one annotation; `None` if it has gone, or has been compared."""
        packed = self._one("SELECT waits FROM annotation WHERE project = ? AND id = ?", key, annotation)
        return None if packed is None else dict(json.loads(zlib.decompress(packed)))

    def fits(self, key: str) -> list[StoredFit]:
        """Return the fits of a project that are kept, the newest first."""
        with self._open() as database:
            rows = database.execute(
                "SELECT number, at, pictures, note, data FROM fit WHERE project = ? ORDER BY number DESC", (key,)
            ).fetchall()
        return [StoredFit(*row) for row in rows]

    def fit(self, key: str, number: int) -> StoredFit | None:
        """Return one fit, or `None`."""
        with self._open() as database:
            row = database.execute(
                "SELECT number, at, pictures, note, data FROM fit WHERE project = ? AND number = ?", (key, number)
            ).fetchone()
        return None if row is None else StoredFit(*row)

    def _one(self, statement: str, *values: object) -> Any:
        with self._open() as database:
            row = database.execute(statement, values).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
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
            _migrate(database)

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


class Change:
    """What can be changed, within one transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Take the open transaction."""
        self._database = database

    def has_read(self, number: int) -> None:
        """Take a webhook out of those that wait."""
        self._database.execute("DELETE FROM inbox WHERE id = ?", (number,))

    def see(self, project: ProjectFacts) -> None:
        """Keep how Label Studio describes a project; what it leaves out stays as it was."""
        self._database.execute(
            "INSERT INTO project (key, number, title, label_config, changed) VALUES (?, ?, ?, ?, 0) "
            "ON CONFLICT (key) DO UPDATE SET title = iif(excluded.title = '', title, excluded.title), "
            "label_config = iif(excluded.label_config = '', label_config, excluded.label_config)",
            (project.key, project.number, project.title, project.label_config),
        )

    def keys_of(self, number: int) -> list[str]:
        """Return the keys of projects with this id; of several Label Studios there may be several."""
        rows = self._database.execute("SELECT key FROM project WHERE number = ? ORDER BY key", (number,)).fetchall()
        return [key for [key] in rows]

    def is_newer(self, project: str, annotation: SentAnnotation) -> bool:
        """Whether an annotation says more than what is stored: not deleted meanwhile, and not older."""
        gone = self._database.execute(
            "SELECT 1 FROM gone WHERE project = ? AND (kind = 'annotation' AND id = ? OR kind = 'task' AND id = ?)",
            (project, annotation.number, annotation.task),
        ).fetchone()
        stored = self._database.execute(
            "SELECT updated FROM annotation WHERE project = ? AND id = ?", (project, annotation.number)
        ).fetchone()
        return gone is None and (stored is None or stored[0] <= annotation.updated)

    def keep(
        self,
        project: str,
        annotation: SentAnnotation,
        shares: Iterable[tuple[str, ControlShares]],
        problems: Iterable[str],
        waits: Mapping[str, Any],
    ) -> None:
        """Keep an annotation as it is now, in place of what was known of it.

        Args:
            project: Key.
            annotation: What was sent.
            shares: Per control and picture, with the field that the picture stands in.
            problems: What of it could not be read.
            waits: What is needed to compare it with its prediction later; empty if it did not begin as one.
        """
        self._drop_annotation(project, annotation.number)
        prediction = annotation.prediction or {}
        version = prediction.get("model_version")
        self._database.execute(
            "INSERT INTO annotation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(project, annotation.number, annotation.task, annotation.created, annotation.updated, annotation.who),
                *(annotation.lead_time_s, annotation.is_cancelled, annotation.is_ground_truth, annotation.started_from),
                *(version if isinstance(version, str) else "", json.dumps([*problems])),
                zlib.compress(json.dumps(waits).encode(), 1) if waits else None,
            ),
        )
        for data_key, one in shares:
            self._database.execute(
                "INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(project, annotation.number, one.control, NO_PAGE if one.page is None else one.page, data_key),
                    *(json.dumps(one.labels), one.shares.to_bytes(), *(one.size_hw or (0, 0))),
                ),
            )
        if annotation.data is not None:
            packed = zlib.compress(json.dumps(annotation.data).encode())
            stored = self._database.execute(
                "SELECT data FROM task WHERE project = ? AND id = ?", (project, annotation.task)
            ).fetchone()
            if stored is None or stored[0] != packed:
                values = (project, annotation.task)
                self._database.execute("DELETE FROM picture WHERE project = ? AND task = ?", values)
                self._database.execute("INSERT OR REPLACE INTO task VALUES (?, ?, ?)", (*values, packed))
        self._touch(project)

    def is_picture(self, project: str, task: int, data_key: str, page: int | None, content: str) -> None:
        """Keep which picture stands in a task's field."""
        self._database.execute(
            "INSERT OR REPLACE INTO picture SELECT ?, ?, ?, ?, ? WHERE EXISTS "
            "(SELECT 1 FROM task WHERE project = ? AND id = ?)",
            (project, task, data_key, NO_PAGE if page is None else page, content, project, task),
        )

    def is_examined(self, project: str, annotation: int, version: str, agreements: Iterable[Agreement]) -> None:
        """Keep what became of an annotation's prediction, unless the annotation has gone meanwhile."""
        changed = self._database.execute(
            "UPDATE annotation SET waits = NULL, version = ? WHERE project = ? AND id = ?",
            (version, project, annotation),
        ).rowcount
        self._database.execute("DELETE FROM agreement WHERE project = ? AND annotation = ?", (project, annotation))
        if not changed:
            return
        self._database.executemany(
            "INSERT INTO agreement VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(project, annotation, one.control, NO_PAGE if one.page is None else one.page, one.label),
                    *(one.state, one.iou, one.score, one.number),
                )
                for one in agreements
            ],
        )

    # What goes.

    def annotation_gone(self, project: str, number: int) -> None:
        """Forget an annotation, everything that was made of it, and whatever comes late about it."""
        self._database.execute("INSERT OR IGNORE INTO gone VALUES (?, 'annotation', ?)", (project, number))
        if self._drop_annotation(project, number):
            self._drop_fits(project, number)
            self._touch(project)

    def task_gone(self, project: str, number: int) -> None:
        """Forget a task, its annotations, and whatever comes late about them."""
        self._database.execute("INSERT OR IGNORE INTO gone VALUES (?, 'task', ?)", (project, number))
        rows = self._database.execute("SELECT id FROM annotation WHERE project = ? AND task = ?", (project, number))
        for [annotation] in rows.fetchall():
            self.annotation_gone(project, annotation)
        self._database.execute("DELETE FROM picture WHERE project = ? AND task = ?", (project, number))
        self._database.execute("DELETE FROM task WHERE project = ? AND id = ?", (project, number))

    def project_gone(self, project: str) -> None:
        """Forget a project."""
        for table in _TABLES:
            self._database.execute(f"DELETE FROM {table} WHERE project = ?", (project,))
        self._database.execute("DELETE FROM project WHERE key = ?", (project,))

    def _drop_annotation(self, project: str, number: int) -> bool:
        values = (project, number)
        self._database.execute("DELETE FROM evidence WHERE project = ? AND annotation = ?", values)
        self._database.execute("DELETE FROM agreement WHERE project = ? AND annotation = ?", values)
        return self._database.execute("DELETE FROM annotation WHERE project = ? AND id = ?", values).rowcount > 0

    def _drop_fits(self, project: str, annotation: int) -> None:
        """Forget the fits that were made with an annotation; the newest that was not is in use then, or the words."""
        numbers = self._database.execute(
            "SELECT number FROM made_of WHERE project = ? AND annotation = ?", (project, annotation)
        ).fetchall()
        for [number] in numbers:
            self.drop_fit(project, number)
        if numbers:
            self._database.execute(
                "UPDATE project SET tried_pictures = -1, in_use = coalesce((SELECT max(number) FROM fit WHERE "
                "fit.project = project.key AND fit.number <= project.in_use), 0) WHERE key = ?",
                (project,),
            )

    # What is learned.

    def ask(self, project: str) -> None:
        """Somebody wants the project to learn now."""
        self._database.execute("UPDATE project SET asked = ? WHERE key = ?", (time.time(), project))

    def tried(self, project: str, pictures: int, state: str, *, begun: float) -> None:
        """It was learned from so many pictures, asked or not.

        Args:
            project: Key.
            pictures: How many.
            state: In words, what came of it.
            begun: When the evidence was read; who asked later is not served yet.
        """
        self._database.execute(
            "UPDATE project SET tried_pictures = ?, tried_at = ?, state = ?, asked = iif(asked <= ?, 0, asked) "
            "WHERE key = ?",
            (pictures, time.time(), state, begun, project),
        )

    def say(self, project: str, state: str) -> None:
        """Keep in words what a project does now."""
        self._database.execute("UPDATE project SET state = ? WHERE key = ?", (state, project))

    def use(self, project: str, number: int) -> None:
        """Let a version be the one in use where none is pinned; 0 for the words."""
        self._database.execute("UPDATE project SET in_use = ? WHERE key = ?", (number, project))

    def pin(self, project: str, number: int | None) -> None:
        """Choose a version, or none.

        Raises:
            LookupError: If there is no such project, or version.
        """
        if number:
            values = (project, number)
            if not self._database.execute("SELECT 1 FROM fit WHERE project = ? AND number = ?", values).fetchone():
                raise LookupError(f"project {project} has no version {number}")
        if not self._database.execute("UPDATE project SET pinned = ? WHERE key = ?", (number, project)).rowcount:
            raise LookupError(f"nothing is known of project {project}")

    def add_fit(self, project: str, pictures: int, note: str, data: bytes, annotations: Iterable[int]) -> int | None:
        """Keep a fit under the next number, and return that.

        Returns:
            `None` if one of the annotations that it was made of has gone meanwhile: then it is not kept.
        """
        made_of = sorted(set(annotations))
        stored = {
            number for [number] in self._database.execute("SELECT id FROM annotation WHERE project = ?", (project,))
        }
        if not stored.issuperset(made_of):
            return None
        [number] = self._database.execute("SELECT next_number FROM project WHERE key = ?", (project,)).fetchone()
        self._database.execute("UPDATE project SET next_number = ? WHERE key = ?", (number + 1, project))
        self._database.execute(
            "INSERT INTO fit VALUES (?, ?, ?, ?, ?, ?)", (project, number, time.time(), pictures, note, data)
        )
        self._database.executemany(
            "INSERT INTO made_of VALUES (?, ?, ?)", [(project, number, annotation) for annotation in made_of]
        )
        return int(number)

    def drop_fit(self, project: str, number: int) -> None:
        """Forget a fit; who had pinned it gets the newest."""
        values = (project, number)
        self._database.execute("DELETE FROM fit WHERE project = ? AND number = ?", values)
        self._database.execute("DELETE FROM made_of WHERE project = ? AND number = ?", values)
        self._database.execute("UPDATE project SET pinned = NULL WHERE key = ? AND pinned = ?", values)

    def _touch(self, project: str) -> None:
        self._database.execute("UPDATE project SET changed = ? WHERE key = ?", (time.time(), project))


_PROJECT = "key, number, title, label_config, changed, asked, tried_pictures, tried_at, pinned, in_use, state"


def _project(row: tuple[Any, ...]) -> StoredProject:
    return StoredProject(ProjectFacts(*row[:4]), *row[4:])


def _annotation(row: tuple[Any, ...]) -> KeptAnnotation:
    number, task, updated, created, who, is_cancelled, is_ground_truth, started_from, version, problems, lead_time_s = (
        row
    )
    flags = bool(is_cancelled), bool(is_ground_truth)
    said = tuple(json.loads(problems))
    return KeptAnnotation(number, task, updated, created, who, *flags, started_from, version, said, lead_time_s)


def _migrate(database: sqlite3.Connection) -> None:
    """Bring the layout to the newest version.

    Raises:
        sqlite3.OperationalError: If it is newer than this program.
    """
    [version] = database.execute("PRAGMA user_version").fetchone()
    if version == len(MIGRATIONS):
        return
    if version > len(MIGRATIONS):
        raise sqlite3.OperationalError(
            f"the corrections' file has layout {version} and was written by a newer release; this one knows "
            f"{len(MIGRATIONS)}"
        )
    database.execute("BEGIN IMMEDIATE")
    [version] = database.execute("PRAGMA user_version").fetchone()  # another process may have been quicker
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        for statement in script.split(";"):
            if statement.strip():
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {number}")
    database.commit()
