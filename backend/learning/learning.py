"""Learning as the rest of the service sees it: webhooks in, what controls were taught and reports out."""

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.corrections.events import read_event
from backend.corrections.intake import Intake, ReadConfig
from backend.corrections.store import CorrectionStore
from backend.deadline import Clock
from backend.errors import LabelConfigError, RequestError
from backend.images.host import LabelStudioHost
from backend.labeling.controls import LabelConfig
from backend.learning.in_use import InUse
from backend.learning.learner import AsEvidence, Learn, Learner, Predicting, Wishes
from backend.learning.lessons import counted
from backend.learning.report import Comparison, ProjectReport
from backend.learning.reports import StoredReports
from backend.learning.thumbnails import compare, worst

logger = logging.getLogger(__name__)

LOOKED_AT_IN_VAIN = 20
"""Pictures beyond those that are wanted, where features of some are gone."""


class Learning:
    """One a process. Safe from any thread."""

    def __init__(
        self,
        folder: Path,
        predicting: Predicting,
        read_config: ReadConfig,
        *,
        encoder: str,
        learn: Learn | None,
        evidence: AsEvidence | None,
        wishes: Wishes,
        host_of: Callable[[str], LabelStudioHost] = lambda _key: LabelStudioHost(),
        sync: Callable[["Learning", str], None] = lambda _learning, _key: None,
        on_new_version: Callable[[str], None] = lambda _key: None,
        on_close: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
        clock: Clock = time.monotonic,
    ) -> None:
        """Put its parts together; the thread begins with `start`.

        Args:
            folder: Where everything is kept.
            predicting: Brings features, and makes predictions again.
            read_config: Reads a labeling config.
            encoder: `Method.encoder_identity`.
            learn: The method's own; `None` if it cannot learn.
            evidence: The method's own; `None` if it cannot learn.
            wishes: What the operator wants.
            host_of: Which Label Studio a project is in.
            sync: See `Learner`.
            on_new_version: See `Learner`.
            on_close: Called when it ends.
            now: Unix seconds.
            clock: By which versions are looked up again.
        """
        self.store = CorrectionStore(folder)
        self.intake = Intake(self.store, read_config)
        self.wishes = wishes
        self._read_config = read_config
        self._on_close = on_close
        self._predicting = predicting
        self._reports = StoredReports(
            self.store, when=wishes.when, several=wishes.several, host_of=lambda key: host_of(key).base_url
        )
        self._in_use = InUse(self.store, encoder, clock=clock)
        self.learner = Learner(
            self.store,
            self.intake,
            self._in_use,
            predicting,
            learn,
            read_config,
            folder,
            evidence=evidence,
            wishes=wishes,
            host_of=host_of,
            sync=lambda key: sync(self, key),
            on_new_version=on_new_version,
            now=now,
        )

    def receive(self, body: Mapping[str, Any]) -> bool:
        """Keep a webhook; it is read behind everything that somebody waits for.

        Returns:
            Whether it says something about corrections; nothing else is kept.

        Raises:
            RequestError: If it is not what Label Studio would send.
            OSError: If it cannot be kept.
        """
        if read_event(body) is None:
            return False
        try:
            try:
                self.store.receive(body)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                # The file was damaged and has been moved aside: into the new one.
                self.store.receive(body)
        except sqlite3.Error as err:
            raise OSError(0, str(err)) from err
        except ValueError as err:
            raise RequestError("body: a number is too large") from err
        self.learner.wake()
        return True

    def teach(self, config: LabelConfig, key: str) -> LabelConfig:
        """Return a config with what its project has learned.

        Args:
            config: As it stands in Label Studio.
            key: The project, as Label Studio names it.
        """
        return config if self.wishes.when == "off" else config.taught(self._in_use.taught(key))

    # For people who look.

    def projects(self) -> Sequence[str]:
        """Return the keys of all projects, those that were corrected last first."""
        return self._reports.projects()

    def report(self, key: str) -> ProjectReport | None:
        """Return everything that is known of a project's corrections, `None` if there is no such project."""
        return self._reports.report(key)

    def config(self, key: str) -> LabelConfig | None:
        """Return a project's config as it was heard last, with what the project has learned; `None` if there is none.

        Raises:
            LabelConfigError: If it cannot be read.
        """
        project = self.store.project(key)
        return None if project is None else self.teach(self._read_config(project.facts.label_config), key)

    def pin(self, key: str, number: int | None) -> None:
        """Choose the version that a project uses: 0 for the labels' own words, `None` for the newest that helps.

        Raises:
            LookupError: If there is no such project, or version.
        """
        before = self.store.project(key)
        self._reports.pin(key, number)
        self._in_use.forget(key)
        after = self.store.project(key)
        if before and after and before.used != after.used:
            self.learner.announce(key)

    def thumbnails(self, key: str, control: str, label: str, most: int) -> Sequence[Comparison]:
        """Return pictures in which a class was corrected, the worst first; without those whose features are gone."""
        project = self.store.project(key)
        if project is None:
            return ()
        try:
            config = self._read_config(project.facts.label_config)
        except LabelConfigError:
            return ()
        counting = counted(self.store.annotations(key), self.wishes.several)
        kept = {one.number: one for several in counting.by_task.values() for one in several}
        found: list[Comparison] = []
        for chosen in worst(self.store.agreements(key), control, label)[: most + LOOKED_AT_IN_VAIN]:
            taught = self._in_use.version(key, chosen[2].number)
            comparison = compare(self.store, key, config, kept, chosen, taught, self._predicting)
            if comparison is not None:
                found.append(comparison)
            if len(found) == most:
                break
        return found

    def start(self) -> None:
        """Begin to learn."""
        self.learner.start()

    def close(self) -> None:
        """End the thread."""
        self.learner.close()
        self._on_close()
