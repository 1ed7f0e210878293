"""Reads what comes in and learns from it, in a thread of its own, behind everything that somebody waits for.

    webhook -> inbox -> rows (backend.corrections.intake) -> compared with its prediction -> lessons -> a fit

One process of a service does it: whoever holds the lock on a file. If it dies, the system lets go of the lock, and the
next takes over where the rows stand. A fit is put into use with the row that keeps it, whole or not at all.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from backend.corrections.intake import Intake, ReadConfig
from backend.corrections.old_webhooks import NAMES, read_old_webhooks
from backend.corrections.store import CorrectionStore, KeptAnnotation, StoredProject
from backend.deadline import Deadline
from backend.errors import AnnotationError, LabelConfigError, TaskError
from backend.images.host import LabelStudioHost
from backend.images.pages import ImageKey
from backend.labeling.controls import Counting, LabelConfig, LearnWhen
from backend.learning.examining import Examined, Version, examine
from backend.learning.fits import Fit
from backend.learning.in_use import NOTHING, InUse
from backend.learning.lessons import MOST_PICTURES, CountedAnnotations, Lesson, counted, lessons
from backend.learning.when import is_due, is_quiet
from clipdiy.errors import ClipDiyError
from clipdiy.learning.calibration import Calibration, calibrate
from clipdiy.learning.evidence import Evidence
from clipdiy.learning.learned import Learned
from clipdiy.method import Features

logger = logging.getLogger(__name__)

LOCK = "learner.lock"
LOOK_EVERY_S = 1.0
READ_AT_ONCE = 200
"""Webhooks that are read before it is looked whether somebody wants to learn."""
COMPARED_AT_ONCE = 20
"""Tasks that are compared with their predictions before it is looked again."""
FITS_KEPT = 10
AGAIN = -1
"""Stands for how many pictures it was learned from, where it is to be done again soon."""
PICTURE_S = 60.0
"""For one picture that has to be brought in again."""
NICENESS = 10

Learn = Callable[[Lesson], Learned]
"""Teaches a method a lesson, beside what competes with its labels."""
AsEvidence = Callable[[Features], Evidence]
"""Says what is learned from of a picture's features: it is held for all pictures at once."""


class Predicting(Protocol):
    """What is used of `backend.predicting.predictor.Predictor`."""

    def model_version(self, config: LabelConfig) -> str:
        """Name what decides a prediction."""

    def known_features(self, content: str) -> Features | None:
        """Return features that are kept."""

    def bring(
        self,
        task: Mapping[str, Any],
        config: LabelConfig,
        *,
        project: str,
        host: LabelStudioHost | None,
        deadline: Deadline | None,
    ) -> dict[ImageKey, tuple[str, Features]]:
        """Bring the pictures of a task in, behind everything that somebody waits for."""

    def answer(
        self, task: Mapping[str, Any], config: LabelConfig, features: Mapping[ImageKey, Features], *, version: str
    ) -> dict[str, Any]:
        """Make a task's prediction from features."""


@dataclass(frozen=True)
class Wishes:
    """What the operator wants.

    Attributes:
        when: When projects learn.
        several: Which of several annotations of a task count.
    """

    when: LearnWhen = "auto"
    several: Counting = "latest"


class Learner:
    """One a process. Does nothing until it is started."""

    def __init__(
        self,
        store: CorrectionStore,
        intake: Intake,
        in_use: InUse,
        predicting: Predicting,
        learn: Learn | None,
        read_config: ReadConfig,
        folder: Path,
        *,
        evidence: AsEvidence | None,
        wishes: Wishes = Wishes(),
        host_of: Callable[[str], LabelStudioHost] = lambda _key: LabelStudioHost(),
        sync: Callable[[str], None] = lambda _key: None,
        on_new_version: Callable[[str], None] = lambda _key: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Take what it works with.

        Args:
            store: What people made of predictions.
            intake: Reads what comes in.
            in_use: Which fit is in use.
            predicting: Brings features, and makes predictions again.
            learn: The method's own; `None` if it cannot learn.
            read_config: Reads a labeling config.
            folder: Where the lock lies.
            evidence: The method's own; `None` if it cannot learn.
            wishes: What the operator wants.
            host_of: Which Label Studio a project is in.
            sync: Makes the store equal to what Label Studio has of a project, where there is a token; called when
                somebody asks to learn, and for every project after a damaged file.
            on_new_version: Called with a project's key when another version has come into use, and for every project
                with one when this process begins to learn.
            now: Unix seconds.
        """
        self._store = store
        self._intake = intake
        self._in_use = in_use
        self._predicting = predicting
        self._learn = learn
        self._as_evidence = evidence
        self._read_config = read_config
        self._folder = folder
        self._wishes = wishes
        self._host_of = host_of
        self._sync = sync
        self._on_new_version = on_new_version
        self._now = now
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock_file: int | None = None
        self._counted: dict[str, tuple[float, int]] = {}
        self._compared: dict[str, float] = {}
        self._in_vain: dict[str, set[int]] = {}
        self._failed = False
        self._has_read_old = False
        self._has_begun = False

    def start(self) -> None:
        """Begin the thread."""
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread when what it does now is done; wait a little for that."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5)

    def wake(self) -> None:
        """Something has come in."""
        self._wake.set()

    def _run(self) -> None:
        # Of this thread only, on Linux: whoever waits for a picture goes first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while not self._stop.is_set():
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()
            if self._stop.is_set():
                break
            try:
                if not (self._has_work() and self._is_leader()):
                    continue
                if not self._has_begun:
                    self._go_on()
                    self._has_begun = True
                self.step()
                self._failed = False
            except Exception as err:
                if not self._failed:
                    logger.error("learning: %s: %s; trying again", type(err).__name__, err)
                    logger.debug("learning", exc_info=err)
                self._failed = True
        if self._lock_file is not None:
            os.close(self._lock_file)

    def _go_on(self) -> None:
        """Whoever learned before may have ended before all was told that was to be."""
        for project in self._store.projects():
            if project.used:
                self._on_new_version(project.facts.key)

    def _has_work(self) -> bool:
        return self._store.exists or any((self._folder / name).exists() for name in NAMES)

    def _is_leader(self) -> bool:
        """Whether this process is the one that learns; tried again each time."""
        if self._lock_file is None:
            descriptor = os.open(self._folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            self._lock_file = descriptor
        return True

    def step(self) -> None:
        """Read what has come in, then let the projects learn that are to."""
        if not self._has_read_old:
            read_old_webhooks(self._folder, self._store)
            self._has_read_old = True
        for _ in range(READ_AT_ONCE):
            if self._stop.is_set() or self._intake.read_first() is None:
                break
        if self._store.needs_rebuilding:
            self._store.needs_rebuilding = False
            self._sync("")
        for project in self._store.projects():
            if self._stop.is_set():
                return
            if is_due(project, self._pictures(project), self._now(), self._wishes.when):
                self.learn(project.facts.key)
            elif self._wishes.when != "off" and is_quiet(project, self._now()):
                self._compare(project)

    def _pictures(self, project: StoredProject) -> int:
        """Return how many tasks have corrections that count."""
        key = project.facts.key
        known = self._counted.get(key)
        if known is None or known[0] != project.changed:
            counting = counted(self._store.annotations(key), self._wishes.several)
            known = self._counted[key] = (project.changed, len(counting.by_task))
        return known[1]

    def learn(self, key: str) -> None:
        """Let a project learn now, and put what it learned into use if it is sure to help."""
        begun = self._now()
        project = self._store.project(key)
        if project is None:
            return
        if project.asked:
            self._sync(key)
            project = self._store.project(key)
            if project is None:
                return
        try:
            config = self._read_config(project.facts.label_config)
        except LabelConfigError as err:
            self._note(key, 0, f"its config cannot be read: {str(err).splitlines()[0]}", begun)
            return
        annotations = counted(self._store.annotations(key), self._wishes.several)
        self._say(key, "looks at what was corrected")
        evidence = _EvidenceOnce(self._predicting.known_features, self._as_evidence)
        missing = self._look_at_pictures(key, config, annotations, evidence)
        made = lessons(self._store, key, config, annotations, evidence.of)
        pictures = max((len(lesson.pictures) for lesson in made), default=0)
        if self._learn is None:
            self._note(key, len(annotations.by_task), "this method does not learn; corrections are kept", begun)
            return
        self._say(key, f"learns from {pictures} pictures")
        fit, used = self._fit(key, made, annotations)
        state = self._put_into_use(key, fit, used, pictures)
        if state is None:
            # An annotation that it was made of was deleted meanwhile, in another process.
            self._note(key, AGAIN, "learns again without what was deleted meanwhile", begun)
            return
        without = f"; {missing} pictures could not be had" if missing else ""
        self._note(key, len(annotations.by_task), f"learned from {pictures} pictures: {state}{without}", begun)
        logger.info(
            "project %s: learned from %d pictures in %.1f s: %s%s",
            *(project.facts.number, pictures, self._now() - begun, state, without),
        )

    def _fit(self, key: str, made: list[Lesson], annotations: CountedAnnotations) -> tuple[Fit, frozenset[int]]:
        """Learn every lesson, and what scores are worth; return also which annotations took part."""
        assert self._learn is not None, "asked before"
        controls: dict[str, Learned] = {}
        used: frozenset[int] = frozenset()
        for lesson in made:
            learned = self._learn(lesson)
            controls |= dict.fromkeys(lesson.controls, learned)
            used |= lesson.annotations
        calibration, judged = self._calibrate(key, annotations)
        return Fit(controls, calibration), used | judged

    def _calibrate(self, key: str, annotations: CountedAnnotations) -> tuple[Calibration | None, frozenset[int]]:
        """Learn what scores are worth, from what became of predictions."""
        found, counting = self._store.agreements(key), annotations.numbers
        contents = self._store.pictures(key)
        task_of = {one.number: task for task, several in annotations.by_task.items() for one in several}
        rows = [
            (agreement.score, agreement.iou, number)
            for number, several in found.items()
            if number in counting
            for agreement in several
            if agreement.score is not None and agreement.iou is not None
        ]
        if not rows:
            return None, frozenset()
        # Pictures are numbered by their content, so that it does not matter when they came.
        by_task: dict[int, str] = {}
        for (task, _, _), content in sorted(contents.items(), key=repr):
            by_task.setdefault(task, content)
        names = [by_task.get(task_of[number], f"task {task_of[number]}") for _, _, number in rows]
        place = {name: i for i, name in enumerate(sorted(set(names)))}
        scores, ious, _ = (np.array(column, np.float64) for column in zip(*rows, strict=True))
        pictures = np.array([place[name] for name in names], np.int64)
        order = np.lexsort((ious, scores, pictures))
        calibration = calibrate(scores[order], ious[order], pictures[order])
        return calibration, frozenset(number for _, _, number in rows) if calibration else frozenset()

    def _put_into_use(self, key: str, fit: Fit, used: frozenset[int], pictures: int) -> str | None:
        """Use a fit, if it is another one than the one in use.

        Returns:
            What to say of it; `None` if it must not be kept, as something that it was made of has gone.
        """
        project = self._store.project(key)
        if project is None:
            return "the project is gone"
        current = self._store.fit(key, project.in_use) if project.in_use else None
        if fit.is_words_only:
            with self._store.change() as change:
                change.use(key, 0)
            if current is not None:
                self.announce(key)
            return "nothing is sure to be better than the labels' own words"
        if current is not None and Fit.from_bytes(current.data).same_as(fit):
            return f"the same as version {current.number}"
        with self._store.change() as change:
            number = change.add_fit(key, pictures, describe(fit), fit.to_bytes(), used)
            if number is None:
                return None
            change.use(key, number)
            for old in [one.number for one in self._store.fits(key)][FITS_KEPT - 1 :]:
                if old not in (number, project.pinned):
                    change.drop_fit(key, old)
        self.announce(key)
        return f"version {number}, {describe(fit)}"

    def announce(self, key: str) -> None:
        """Another version is in use."""
        self._in_use.forget(key)
        self._on_new_version(key)

    def _compare(self, project: StoredProject) -> None:
        """Compare what was corrected with what had been predicted, so that how good it is is known before it learns.

        What cannot be had is not asked for again before it learns.
        """
        key = project.facts.key
        if self._compared.get(key) == project.changed:
            return
        unexamined = set(self._store.unexamined(key))
        in_vain = self._in_vain.setdefault(key, set())
        waiting: dict[int, list[KeptAnnotation]] = {}
        if unexamined:
            for task, several in counted(self._store.annotations(key), self._wishes.several).by_task.items():
                if task not in in_vain and (own := [one for one in several if one.number in unexamined]):
                    waiting[task] = own
        try:
            config = self._read_config(project.facts.label_config)
        except LabelConfigError:
            waiting = {}
        versions = self._versions(key) if waiting else []
        for rank, (task, own) in enumerate(waiting.items()):
            if rank == COMPARED_AT_ONCE or self._stop.is_set():
                return
            if self._look_at_task(key, config, task, own, versions) is None:
                in_vain.add(task)
        self._compared[key] = project.changed

    def _look_at_pictures(
        self, key: str, config: LabelConfig, annotations: CountedAnnotations, evidence: "_EvidenceOnce"
    ) -> int:
        """Find out which pictures were corrected, and compare what was predicted.

        Args:
            key: Of the project.
            config: As it is now.
            annotations: Those that count.
            evidence: Where what is learned from them is found afterwards.

        Returns:
            How many tasks' pictures could not be had.
        """
        contents: dict[int, list[str]] = {}
        for (task, _, _), content in self._store.pictures(key).items():
            contents.setdefault(task, []).append(content)
        versions = self._versions(key)
        unexamined = set(self._store.unexamined(key))
        missing = 0
        for rank, (task, several) in enumerate(annotations.by_task.items()):
            waiting = [one for one in several if one.number in unexamined]
            if not waiting and (rank >= MOST_PICTURES or evidence.has(contents.get(task, ()))):
                continue
            brought = self._look_at_task(key, config, task, waiting, versions)
            if brought is None:
                missing += 1
                continue
            for content, found in brought.values():
                evidence.keep(content, found)
        return missing

    def _look_at_task(
        self, key: str, config: LabelConfig, task: int, waiting: Sequence[KeptAnnotation], versions: Sequence[Version]
    ) -> dict[ImageKey, tuple[str, Features]] | None:
        """Find out which pictures a task has, and compare its annotations with the predictions that they began as.

        Returns:
            The pictures' content and features; `None` if they could not be had.
        """
        data = self._store.task_data(key, task)
        if data is None:
            return None
        asked = {"id": task, "data": data}
        number = key.partition(".")[0]
        try:
            deadline = Deadline.after(PICTURE_S)
            brought = self._predicting.bring(asked, config, project=number, host=self._host_of(key), deadline=deadline)
        except TaskError as err:
            logger.warning("project %s, task %s: not learned from: %s", number, task, err)
            return None
        with self._store.change() as change:
            for (field, page), (content, _) in brought.items():
                change.is_picture(key, task, field, page, content)
        for one in waiting:
            likely = sorted(versions, key=lambda version: (version.at > one.created, -version.at))
            self._examine(key, one.number, asked, config, brought, likely)
        return brought

    def _examine(
        self,
        key: str,
        annotation: int,
        task: Mapping[str, Any],
        config: LabelConfig,
        pictures: Mapping[ImageKey, tuple[str, Features]],
        versions: list[Version],
    ) -> None:
        sent = self._store.waits(key, annotation)
        if sent is None:
            return
        try:
            found = examine(sent, task, config, pictures, versions, self._predicting)
        except (AnnotationError, TaskError, ClipDiyError) as err:
            logger.warning("annotation %d is not compared with its prediction: %s", annotation, err)
            found = Examined()
        with self._store.change() as change:
            change.is_examined(key, annotation, found.version, found.agreements, found.beside_words)

    def _versions(self, key: str) -> list[Version]:
        """Return the words, and all fits that are kept."""
        learned_from = self._store.learned_from(key)
        fits = [
            Version(
                fit.number, fit.at, self._in_use.version(key, fit.number), learned_from.get(fit.number, frozenset())
            )
            for fit in self._store.fits(key)
        ]
        return [*fits, Version(0, 0.0, NOTHING)]

    def _say(self, key: str, state: str) -> None:
        with self._store.change() as change:
            change.say(key, state)

    def _note(self, key: str, pictures: int, state: str, begun: float) -> None:
        with self._store.change() as change:
            change.tried(key, pictures, state, begun=begun)


class _EvidenceOnce:
    """What is learned from of corrected pictures, each read once in a fit: from where features are kept, or as brought.

    Of a method that does not learn it holds nothing, and knows only which features can be had.
    """

    def __init__(self, known: Callable[[str], Features | None], as_evidence: AsEvidence | None) -> None:
        self._known = known
        self._as_evidence = as_evidence
        self._read: dict[str, Evidence | None] = {}

    def of(self, content: str) -> Evidence | None:
        """Return that of a picture by the SHA-256 of its file, if it can be had."""
        if content not in self._read:
            features = self._known(content)
            return None if features is None else self.keep(content, features)
        return self._read[content]

    def has(self, contents: Sequence[str]) -> bool:
        """Whether there are pictures, and the features of all of them."""
        for content in contents:
            self.of(content)
        return bool(contents) and all(content in self._read for content in contents)

    def keep(self, content: str, features: Features) -> Evidence | None:
        """Take features that may be kept nowhere else; return what is learned from of them."""
        evidence = None if self._as_evidence is None else self._as_evidence(features)
        if len(self._read) < MOST_PICTURES:
            self._read[content] = evidence
        return evidence


def describe(fit: Fit) -> str:
    """Say in words what a fit changes."""
    parts = []
    named = [learned for learned in fit.controls.values() if learned.naming or learned.lying]
    if named:
        parts.append(f"names of {max(len(learned.labels) for learned in named)} labels")
    if any(learned.objectness is not None for learned in fit.controls.values()):
        parts.append("what counts as an object")
    if fit.calibration is not None:
        parts.append("what scores are worth")
    return ", ".join(parts) or "nothing"
