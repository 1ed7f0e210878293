"""What can be changed of what is kept of corrections: what is sent, what goes, what is learned."""

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from backend.corrections.events import ProjectFacts, SentAnnotation
from backend.corrections.evidence import ControlShares
from backend.corrections.kept import Agreement, BesideWords
from backend.corrections.layout import OF_A_PROJECT, stored_page


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

    def is_newer(self, project: str, annotation: SentAnnotation, digest: bytes) -> bool:
        """Whether an annotation says more than what is stored: not deleted meanwhile, not older, and not the same.

        Args:
            project: Key.
            annotation: What was sent.
            digest: Of it and the config that it is read by.
        """
        gone = self._database.execute(
            "SELECT 1 FROM gone WHERE project = ? AND (kind = 'annotation' AND id = ? OR kind = 'task' AND id = ?)",
            (project, annotation.number, annotation.task),
        ).fetchone()
        stored = self._database.execute(
            "SELECT updated, digest FROM annotation WHERE project = ? AND id = ?", (project, annotation.number)
        ).fetchone()
        return gone is None and (stored is None or (stored[0] <= annotation.updated and stored[1] != digest))

    def keep(
        self,
        project: str,
        annotation: SentAnnotation,
        shares: Iterable[tuple[str, ControlShares]],
        problems: Iterable[str],
        waits: Mapping[str, Any],
        digest: bytes | None = None,
    ) -> None:
        """Keep an annotation as it is now, in place of what was known of it.

        Args:
            project: Key.
            annotation: What was sent.
            shares: Per control and picture, with the field that the picture stands in.
            problems: What of it could not be read.
            waits: What is needed to compare it with its prediction later; empty if it did not begin as one.
            digest: Of what it was read from; without it, it is read again when it comes again.
        """
        self._drop_annotation(project, annotation.number)
        prediction = annotation.prediction or {}
        version = prediction.get("model_version")
        self._database.execute(
            "INSERT INTO annotation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(project, annotation.number, annotation.task, annotation.created, annotation.updated, annotation.who),
                *(annotation.lead_time_s, annotation.is_cancelled, annotation.is_ground_truth, annotation.started_from),
                *(version if isinstance(version, str) else "", json.dumps([*problems])),
                zlib.compress(json.dumps(waits).encode(), 1) if waits else None,
                digest,
            ),
        )
        for data_key, one in shares:
            self._database.execute(
                "INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(project, annotation.number, one.control, stored_page(one.page), data_key),
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
            (project, task, data_key, stored_page(page), content, project, task),
        )

    def is_examined(
        self,
        project: str,
        annotation: int,
        version: str,
        agreements: Iterable[Agreement],
        beside_words: BesideWords | None = None,
    ) -> None:
        """Keep what became of an annotation's prediction, unless the annotation has gone meanwhile.

        Args:
            project: Key.
            annotation: Its id.
            version: Model version that had predicted; empty if unknown.
            agreements: Class by class.
            beside_words: What the labels' own words would have predicted, if that is known and was not shown.
        """
        changed = self._database.execute(
            "UPDATE annotation SET waits = NULL, version = ? WHERE project = ? AND id = ?",
            (version, project, annotation),
        ).rowcount
        self._forget_comparison(project, annotation)
        if not changed:
            return
        if beside_words is not None:
            row = (project, annotation, beside_words.number, beside_words.iou, beside_words.words_iou)
            self._database.execute("INSERT INTO beside_words VALUES (?, ?, ?, ?, ?)", row)
        self._database.executemany(
            "INSERT INTO agreement VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(project, annotation, one.control, stored_page(one.page), one.label),
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
        for table in OF_A_PROJECT:
            self._database.execute(f"DELETE FROM {table} WHERE project = ?", (project,))
        self._database.execute("DELETE FROM project WHERE key = ?", (project,))

    def _drop_annotation(self, project: str, number: int) -> bool:
        values = (project, number)
        self._database.execute("DELETE FROM evidence WHERE project = ? AND annotation = ?", values)
        self._forget_comparison(project, number)
        return self._database.execute("DELETE FROM annotation WHERE project = ? AND id = ?", values).rowcount > 0

    def _forget_comparison(self, project: str, annotation: int) -> None:
        for table in ("agreement", "beside_words"):
            self._database.execute(f"DELETE FROM {table} WHERE project = ? AND annotation = ?", (project, annotation))

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
        """Forget a fit, and what it gained over the words; who had pinned it gets the newest."""
        values = (project, number)
        for table in ("fit", "made_of", "beside_words"):
            self._database.execute(f"DELETE FROM {table} WHERE project = ? AND number = ?", values)
        self._database.execute("UPDATE project SET pinned = NULL WHERE key = ? AND pinned = ?", values)

    def _touch(self, project: str) -> None:
        self._database.execute("UPDATE project SET changed = ? WHERE key = ?", (time.time(), project))
