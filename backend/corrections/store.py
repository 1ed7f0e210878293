"""What people made of predictions: one SQLite file, for any number of threads and processes.

What is stored is enough to learn again from nothing: which class covers how much of each cell of each corrected
picture, which picture that is, and what became of what had been predicted. Deleting an annotation deletes its rows and
every fit that was made with it; nothing else was ever derived from it.

Only the service's own user may read the file. A file that is damaged is moved aside, and what it held can be read again
from Label Studio (`needs_rebuilding`).
"""

import errno
import json
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backend.corrections.change import Change
from backend.corrections.database import CorrectionsDatabase
from backend.corrections.events import ProjectFacts
from backend.corrections.evidence import ControlShares
from backend.corrections.kept import Agreement, BesideWords, KeptAnnotation, StoredEvidence, StoredFit, StoredProject
from backend.corrections.layout import page_of
from clipdiy.learning.evidence import ClassShares

__all__ = [
    "Agreement",
    "BesideWords",
    "Change",
    "CorrectionStore",
    "Full",
    "KeptAnnotation",
    "StoredEvidence",
    "StoredFit",
    "StoredProject",
]

MOST_INBOX_BYTES = 2_000_000_000
"""Webhooks that wait to be read; one more is refused, so that whoever sends it sees that."""


class Full(OSError):
    """As many webhooks wait to be read as may."""


class CorrectionStore:
    """The file. Reads see whole changes; a change is made whole or not at all, also when the machine dies."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; the file is made with the first thing that is kept."""
        self._database = CorrectionsDatabase(folder)

    @property
    def path(self) -> Path:
        """Where the file lies, or will."""
        return self._database.path

    @property
    def exists(self) -> bool:
        """Whether anything was ever kept."""
        return self._database.exists

    @property
    def needs_rebuilding(self) -> bool:
        """Whether the file was damaged, and what it held is to be read again; whoever has done so says `False`."""
        return self._database.needs_rebuilding

    @needs_rebuilding.setter
    def needs_rebuilding(self, value: bool) -> None:
        self._database.needs_rebuilding = value

    # What comes in.

    def receive(self, body: Mapping[str, Any]) -> None:
        """Keep a webhook until it is read; quick, whatever it holds.

        Raises:
            Full: If too many wait.
            sqlite3.Error: If it cannot be written.
            ValueError: If it holds a number that JSON does not have.
        """
        packed = zlib.compress(json.dumps(body, separators=(",", ":"), allow_nan=False).encode(), 1)
        with self._database.open(write=True) as database:
            # How large the file is is known at once; what waits in it is counted only where that could be too much.
            [used] = database.execute(_USED_BYTES).fetchone()
            if used + len(packed) > MOST_INBOX_BYTES:
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
        with self._database.open() as database:
            row = database.execute("SELECT id, at, body FROM inbox ORDER BY id LIMIT 1").fetchone()
        if row is None:
            return None
        try:
            return row[0], row[1], json.loads(zlib.decompress(row[2]))
        except (ValueError, zlib.error, RecursionError):
            return row[0], row[1], None

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Make a change: all that is done with what this yields is kept, or nothing of it."""
        with self._database.open(write=True) as database:
            yield Change(database)

    # What is read.

    def projects(self) -> list[StoredProject]:
        """Return all projects, those whose corrections changed last first."""
        if not self.exists:
            return []
        with self._database.open() as database:
            rows = database.execute(f"SELECT {_PROJECT} FROM project ORDER BY changed DESC, key").fetchall()
        return [_project(row) for row in rows]

    def project(self, key: str) -> StoredProject | None:
        """Return a project, or `None`."""
        if not self.exists:
            return None
        with self._database.open() as database:
            row = database.execute(f"SELECT {_PROJECT} FROM project WHERE key = ?", (key,)).fetchone()
        return None if row is None else _project(row)

    def annotations(self, key: str) -> list[KeptAnnotation]:
        """Return a project's annotations by number, also those that do not count."""
        with self._database.open() as database:
            rows = database.execute(
                "SELECT id, task, updated, created, who, is_cancelled, is_ground_truth, started_from, version, "
                "problems, lead_time_s FROM annotation WHERE project = ? ORDER BY id",
                (key,),
            ).fetchall()
        return [_annotation(row) for row in rows]

    def digests(self, key: str) -> dict[int, bytes]:
        """Return what a project's annotations were read from, by annotation, as far as that is known."""
        with self._database.open() as database:
            rows = database.execute(
                "SELECT id, digest FROM annotation WHERE project = ? AND digest IS NOT NULL", (key,)
            )
            return dict(rows.fetchall())

    def evidence(self, key: str, annotation: int | None = None) -> dict[int, list[StoredEvidence]]:
        """Return the shares of a project's annotations, by annotation, in a fixed order.

        Args:
            key: Of the project.
            annotation: The only one that is wanted; all, if left out.
        """
        found: dict[int, list[StoredEvidence]] = {}
        only, values = ("", (key,)) if annotation is None else (" AND annotation = ?", (key, annotation))
        with self._database.open() as database:
            rows = database.execute(
                "SELECT annotation, control, page, data_key, labels, shares, height, width FROM evidence "
                f"WHERE project = ?{only} ORDER BY annotation, control, page",
                values,
            )
            for number, control, page, data_key, labels, shares, *size_hw in rows:
                place = (control, page_of(page), tuple(json.loads(labels)))
                size = (size_hw[0], size_hw[1]) if size_hw[0] else None
                one = ControlShares(*place, ClassShares.from_bytes(shares), size)
                found.setdefault(number, []).append(StoredEvidence(number, data_key, one))
        return found

    def agreements(self, key: str) -> dict[int, list[Agreement]]:
        """Return what became of predictions, by annotation."""
        found: dict[int, list[Agreement]] = {}
        with self._database.open() as database:
            rows = database.execute(
                "SELECT annotation, control, page, label, state, iou, score, number FROM agreement WHERE project = ? "
                "ORDER BY annotation, control, page, label",
                (key,),
            )
            for number, control, page, *rest in rows:
                found.setdefault(number, []).append(Agreement(control, page_of(page), *rest))
        return found

    def beside_words(self, key: str) -> dict[int, BesideWords]:
        """Return what versions gained over the labels' own words, by annotation, as far as that is known."""
        with self._database.open() as database:
            rows = database.execute(
                "SELECT annotation, number, iou, words_iou FROM beside_words WHERE project = ?", (key,)
            ).fetchall()
        return {annotation: BesideWords(*row) for annotation, *row in rows}

    def learned_from(self, key: str) -> dict[int, frozenset[str]]:
        """Return the pictures (SHA-256 of their files) that each fit was made of, by the fit's number."""
        found: dict[int, set[str]] = {}
        with self._database.open() as database:
            for number, content in database.execute(
                "SELECT DISTINCT made_of.number, picture.content FROM made_of "
                "JOIN annotation ON annotation.project = made_of.project AND annotation.id = made_of.annotation "
                "JOIN picture ON picture.project = made_of.project AND picture.task = annotation.task "
                "WHERE made_of.project = ?",
                (key,),
            ):
                found.setdefault(number, set()).add(content)
        return {number: frozenset(contents) for number, contents in found.items()}

    def pictures(self, key: str, task: int | None = None) -> dict[tuple[int, str, int | None], str]:
        """Return which picture (SHA-256 of its file) stands where: by task, field and page.

        Args:
            key: Of the project.
            task: The only one that is wanted; all, if left out.
        """
        only, values = ("", (key,)) if task is None else (" AND task = ?", (key, task))
        with self._database.open() as database:
            rows = database.execute(
                f"SELECT task, data_key, page, content FROM picture WHERE project = ?{only}", values
            )
            return {(task, field, page_of(page)): content for task, field, page, content in rows}

    def task_data(self, key: str, task: int) -> Mapping[str, Any] | None:
        """Return a task's data, or `None`."""
        packed = self._one("SELECT data FROM task WHERE project = ? AND id = ?", key, task)
        return None if packed is None else dict(json.loads(zlib.decompress(packed)))

    def unexamined(self, key: str) -> list[int]:
        """Return annotations that are still to be compared with the prediction they began as."""
        with self._database.open() as database:
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
        with self._database.open() as database:
            rows = database.execute(
                "SELECT number, at, pictures, note, data FROM fit WHERE project = ? ORDER BY number DESC", (key,)
            ).fetchall()
        return [StoredFit(*row) for row in rows]

    def fit(self, key: str, number: int) -> StoredFit | None:
        """Return one fit, or `None`."""
        with self._database.open() as database:
            row = database.execute(
                "SELECT number, at, pictures, note, data FROM fit WHERE project = ? AND number = ?", (key, number)
            ).fetchone()
        return None if row is None else StoredFit(*row)

    def _one(self, statement: str, *values: object) -> Any:
        with self._database.open() as database:
            row = database.execute(statement, values).fetchone()
        return None if row is None else row[0]


_USED_BYTES = (
    "SELECT (page_count - freelist_count) * page_size "
    "FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
)
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
