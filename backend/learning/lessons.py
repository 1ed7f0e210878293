"""Which pictures does a project learn from, and what do they say? From the store's rows to what the core learns from.

Rules, each with a reason:

- Of a task's annotations those count that `backend.annotations.which` says: never skipped ones; ground truth, if there
  is any; else the latest, or what most people say.
- An annotation of which a part could not be read teaches nothing: what is missing may be anywhere.
- Regions drawn on a picture of another shape than the one that is there now teach nothing.
- Controls with the same labels, prompts and others learn together, whatever they draw with; each other one by itself.
- One picture in several tasks counts once, as it was corrected last.
- At most `MOST_PICTURES` pictures, those that were corrected last.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.annotations.which import AnnotationFacts, counting
from backend.corrections.evidence import as_class_shares, in_vocabulary, joined, majority
from backend.corrections.intake import mask_controls
from backend.corrections.store import CorrectionStore, KeptAnnotation, StoredEvidence
from backend.images.pages import ImageKey
from backend.labeling.controls import Counting, LabelConfig, MaskControl, Others
from clipdiy.learning.evidence import ClassShares, CorrectedPicture, Evidence
from clipdiy.vocabulary import Vocabulary

MOST_PICTURES = 1000

Doubles = NDArray[np.float64]
EvidenceOf = Callable[[str], Evidence | None]
"""What is learned from of a picture by the SHA-256 of its file, if it can be had."""


@dataclass(frozen=True)
class CountedAnnotations:
    """Which annotations of a project count.

    Attributes:
        by_task: Those that count, by task; tasks in the order of their last correction, the latest first.
        unused: How many do not count, by reason.
    """

    by_task: Mapping[int, tuple[KeptAnnotation, ...]]
    unused: Mapping[str, int]

    @property
    def numbers(self) -> frozenset[int]:
        """Ids of all that count."""
        return frozenset(one.number for several in self.by_task.values() for one in several)


@dataclass(frozen=True)
class Lesson:
    """What controls with one vocabulary are taught.

    Attributes:
        controls: Their `from_name`s.
        vocabulary: Of their labels.
        others: What competes with them.
        pictures: With no more of their features than is learned from.
        annotations: Ids of the annotations that say so.
    """

    controls: tuple[str, ...]
    vocabulary: Vocabulary
    others: Others | None
    pictures: tuple[CorrectedPicture, ...]
    annotations: frozenset[int]


def counted(annotations: Sequence[KeptAnnotation], rule: Counting) -> CountedAnnotations:
    """Say which annotations count.

    Args:
        annotations: Of one project.
        rule: Which of several on one task.
    """
    of_task: dict[int, list[KeptAnnotation]] = {}
    unused: Counter[str] = Counter()
    for one in annotations:
        if one.is_cancelled:
            unused["skipped"] += 1
        elif one.problems:
            unused["not readable"] += 1
        else:
            of_task.setdefault(one.task, []).append(one)
    by_task: dict[int, tuple[KeptAnnotation, ...]] = {}
    for task, several in of_task.items():
        facts = [
            AnnotationFacts(one.number, one.updated, one.is_cancelled, one.is_ground_truth, one.who) for one in several
        ]
        chosen = {fact.id for fact in counting(facts, rule)}
        by_task[task] = tuple(one for one in several if one.number in chosen)
        unused["another of the task counts"] += len(several) - len(chosen)
    newest = sorted(by_task, key=lambda task: (-max(one.updated for one in by_task[task]), task))
    return CountedAnnotations({task: by_task[task] for task in newest}, {k: v for k, v in unused.items() if v})


def lessons(
    store: CorrectionStore, key: str, config: LabelConfig, annotations: CountedAnnotations, evidence_of: EvidenceOf
) -> list[Lesson]:
    """Put together what a project's controls are taught.

    Args:
        store: The rows.
        key: Of the project.
        config: As it is now.
        annotations: Those that count.
        evidence_of: Brings what is learned from; a picture without any is left out.
    """
    groups: dict[tuple[Vocabulary, Others | None], list[MaskControl]] = {}
    for control in mask_controls(config):
        groups.setdefault((control.vocabulary, control.others), []).append(control)
    evidence, contents = store.evidence(key), store.pictures(key)
    made = []
    for (vocabulary, others), controls in groups.items():
        pictures: dict[str, CorrectedPicture] = {}
        said: set[int] = set()
        for task, several in annotations.by_task.items():
            for place, opinions in _opinions(controls, several, evidence).items():
                content = contents.get((task, *place))
                if content is None or content in pictures or len(pictures) == MOST_PICTURES:
                    continue
                seen = evidence_of(content)
                if seen is None:
                    continue
                fitting = [opinion for opinion in opinions if opinion.fits(seen.size_hw)]
                if fitting:
                    shares = _one_opinion(fitting)
                    pictures[content] = CorrectedPicture(content, seen, shares)
                    said.update(opinion.annotation for opinion in fitting)
        names = tuple(control.from_name for control in controls)
        made.append(Lesson(names, vocabulary, others, tuple(pictures.values()), frozenset(said)))
    return made


def places_of(controls: Sequence[MaskControl], evidence: Sequence[StoredEvidence]) -> set[ImageKey]:
    """Return fields and pages that evidence of some controls is of."""
    names = {control.from_name for control in controls}
    return {(one.data_key, one.shares.page) for one in evidence if one.shares.control in names}


@dataclass(frozen=True)
class _Opinion:
    """What one annotation says of one picture."""

    annotation: int
    shares: Doubles
    parts: tuple[StoredEvidence, ...]

    def fits(self, size_hw: tuple[int, int]) -> bool:
        return all(part.shares.fits(size_hw) for part in self.parts)


def _opinions(
    controls: Sequence[MaskControl],
    annotations: Sequence[KeptAnnotation],
    evidence: Mapping[int, Sequence[StoredEvidence]],
) -> dict[ImageKey, list[_Opinion]]:
    """Return what annotations of a task say of each of its pictures, over the vocabulary of the controls."""
    positions: dict[str, int] = {}
    for position, label in enumerate(controls[0].drawn, 1):
        positions.setdefault(label.value, position)
    found: dict[ImageKey, list[_Opinion]] = {}
    for annotation in annotations:
        own = evidence.get(annotation.number, ())
        for place in sorted(places_of(controls, own), key=repr):
            parts = tuple(
                part
                for part in own
                if (part.data_key, part.shares.page) == place
                and part.shares.control in {control.from_name for control in controls}
            )
            shares = joined([in_vocabulary(part.shares, positions) for part in parts])
            found.setdefault(place, []).append(_Opinion(annotation.number, shares, parts))
    return found


def _one_opinion(opinions: Sequence[_Opinion]) -> ClassShares:
    shares = [opinion.shares for opinion in opinions]
    return as_class_shares(shares[0] if len(shares) == 1 else majority(shares))
