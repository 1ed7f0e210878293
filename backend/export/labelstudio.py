"""JSON that Label Studio imports again: tasks with what counts of them, as it was drawn.

Nothing is painted, resolved or fetched: results stay as they are, with soft edges, overlaps and every other control's
answers. Addresses of pictures stay too, so they have to mean something where the file is imported.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from backend.export.source import ReadTask

MOST_BYTES = 100_000_000
"""Of one file: Label Studio takes 250 MB in one request, and holds it in memory."""
MOST_TASKS = 100_000
"""Of one project: about where Label Studio becomes slow."""


class LabelStudioWriter:
    """Writes `tasks-001.json`, and further ones where one is full; in `project-2` what is too much for one project."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES, most_tasks: int = MOST_TASKS) -> None:
        """Begin.

        Args:
            folder: Where files go; it is there, and empty.
            most_bytes: A file ends before it has more, unless one task alone has.
            most_tasks: The files of one project have no more together.
        """
        self._folder = folder
        self._most_bytes = most_bytes
        self._most_tasks = most_tasks
        self._projects, self._tasks = 1, 0
        self._files = 0
        self._size = 0

    def add(self, task: ReadTask) -> None:
        """Write a task."""
        data = orjson.dumps(importable(task))
        is_full = self._tasks == self._most_tasks
        if self._files and (is_full or self._size + len(data) > self._most_bytes):
            self._close()
        if is_full:
            self._projects, self._tasks, self._files = self._projects + 1, 0, 0
            self._path.parent.mkdir()
        self._tasks += 1
        if not self._size:
            self._files += 1
        with self._path.open("ab") as file:
            file.write((b",\n" if self._size else b"[\n") + data)
        self._size += len(data) + 2

    def finish(self) -> None:
        """Close the last file; without any task, it holds an empty list."""
        if not self._files:
            self._files = 1
            self._path.write_bytes(b"[")
        self._close()

    @property
    def _path(self) -> Path:
        folder = self._folder if self._projects == 1 else self._folder / f"project-{self._projects}"
        return folder / f"tasks-{self._files:03d}.json"

    def _close(self) -> None:
        with self._path.open("ab") as file:
            file.write(b"\n]\n")
        self._size = 0


def importable(task: ReadTask) -> dict[str, Any]:
    """Return a task as Label Studio imports it."""
    made: dict[str, Any] = {"data": task.sent.get("data")}
    if meta := task.sent.get("meta"):
        made["meta"] = meta
    if task.chosen is not None and task.chosen.origin == "annotation":
        made["annotations"] = [_fields(sent, ("result", "ground_truth", "lead_time")) for sent in task.chosen.sent]
    if task.chosen is not None and task.chosen.origin == "prediction":
        made["predictions"] = [_fields(sent, ("result", "score", "model_version")) for sent in task.chosen.sent]
    return made


def _fields(sent: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: sent[name] for name in names if sent.get(name) is not None}
