"""Which of a task's annotations count? Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from backend.labeling.controls import Counting


@dataclass(frozen=True)
class AnnotationFacts:
    """What of an annotation decides whether it counts.

    Attributes:
        id: Its id.
        updated_at: Unix seconds.
        was_cancelled: It was skipped.
        ground_truth: Marked as such.
        completed_by: Id of the person, `None` if unknown.
    """

    id: int
    updated_at: float
    was_cancelled: bool = False
    ground_truth: bool = False
    completed_by: int | None = None


def counting(annotations: Sequence[AnnotationFacts], rule: Counting) -> list[AnnotationFacts]:
    """Return those of one task that count, the newest first.

    Skipped ones never do; drafts are no annotations. If one is ground truth, only ground truth counts. Of what is left
    the newest counts, or, for a majority, the newest of each person.

    Args:
        annotations: Of one task.
        rule: Which of several.
    """
    done = [one for one in annotations if not one.was_cancelled]
    chosen = [one for one in done if one.ground_truth] or done
    newest = sorted(chosen, key=lambda one: (one.updated_at, one.id), reverse=True)
    if rule == "latest":
        return newest[:1]
    people: dict[object, AnnotationFacts] = {}
    for one in newest:
        # Who it was is not always known: then each is a person of its own.
        people.setdefault(("?", one.id) if one.completed_by is None else one.completed_by, one)
    return [*people.values()]
