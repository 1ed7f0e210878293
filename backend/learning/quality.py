"""How good are a project's masks? From what people made of them. Pure: rows in, figures out.

Every figure is of pictures that were predicted first and corrected afterwards. What a version predicted of a picture
that it was learned from is not compared at all, so none is in sample.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.corrections.agreement import task_iou
from backend.corrections.store import Agreement, BesideWords, KeptAnnotation
from backend.learning.report import ClassQuality, Gain, MeanIou, QualityPoint

DRAWS = 1000
WINDOW = 20
"""Pictures in one point of the curve, at least."""
MOST_POINTS = 100
"""Of the curve; more are not told apart on any screen, and each is a bootstrap of its own."""
DRAWN_AT_ONCE = 1_000_000
"""Numbers of a bootstrap that are held at once, so that its memory does not grow with the pictures."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """A task whose prediction was corrected.

    Attributes:
        annotation: By which annotation.
        found: What became of each class.
    """

    annotation: KeptAnnotation
    found: tuple[Agreement, ...]


def judged(
    by_task: Mapping[int, Sequence[KeptAnnotation]], agreements: Mapping[int, Sequence[Agreement]]
) -> list[Judged]:
    """Return the tasks whose prediction was corrected, in the order in which they were.

    Args:
        by_task: Annotations that count.
        agreements: What became of predictions, by annotation.
    """
    every = [
        Judged(one, tuple(agreements[one.number]))
        for several in by_task.values()
        for one in several
        if agreements.get(one.number)
    ]
    return sorted(every, key=lambda one: (one.annotation.created, one.annotation.number))


def mean_iou(per_picture: Sequence[float], seed: int = 0) -> MeanIou | None:
    """Return the mean over pictures with its 95 % interval, by bootstrap over pictures; `None` without any.

    Args:
        per_picture: IoU of each picture, in [0, 1].
        seed: The same figures give the same interval.
    """
    if not per_picture:
        return None
    values = np.array(per_picture, np.float64)
    mean = float(values.mean())
    rng, step = np.random.default_rng(seed), max(1, DRAWN_AT_ONCE // len(values))
    means = [
        values[rng.integers(0, len(values), (min(step, DRAWS - begun), len(values)))].mean(axis=1)
        for begun in range(0, DRAWS, step)
    ]
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return MeanIou(mean, min(float(low), mean), max(float(high), mean), len(values))


def classes(every: Iterable[Judged]) -> tuple[ClassQuality, ...]:
    """Return how good each class is, the worst first; those that were never predicted last."""
    rows: dict[tuple[str, str], list[Agreement]] = {}
    for one in every:
        for agreement in one.found:
            rows.setdefault((agreement.control, agreement.label), []).append(agreement)
    found = []
    for (control, label), several in sorted(rows.items()):
        states = [agreement.state for agreement in several]
        iou = mean_iou([agreement.iou for agreement in several if agreement.iou is not None])
        counts = (states.count(state) for state in ("accepted", "changed", "deleted", "added"))
        found.append(ClassQuality(control, label, len(several), iou, *counts))
    return tuple(sorted(found, key=lambda one: 2.0 if one.iou is None else one.iou.mean))


def of_pictures(every: Iterable[Judged]) -> list[float]:
    """Return the mean IoU of each task over its classes, those that were added counting 0."""
    return [task_iou(one.found) for one in every]


def curve(every: Sequence[Judged], window: int = WINDOW) -> tuple[QualityPoint, ...]:
    """Return how good masks were over time: one point for every full window of pictures, and one for what is left.

    Args:
        every: In the order in which they were corrected.
        window: How many pictures a point is made of; more where there would be more than `MOST_POINTS` points.
    """
    window = max(window, -(-len(every) // MOST_POINTS))
    points = []
    for start in range(0, len(every), window):
        part = every[start : start + window]
        iou = mean_iou(of_pictures(part))
        if iou is not None:
            points.append(QualityPoint(start + len(part), part[-1].annotation.updated, iou))
    return tuple(points)


def by_version(every: Iterable[Judged]) -> dict[int, MeanIou]:
    """Return how good each version was on pictures that were corrected after it had predicted them."""
    of_version: dict[int, list[Judged]] = {}
    for one in every:
        of_version.setdefault(one.found[0].number, []).append(one)
    found = {number: mean_iou(of_pictures(several)) for number, several in of_version.items()}
    return {number: iou for number, iou in found.items() if iou is not None}


def gains(by_task: Mapping[int, Sequence[KeptAnnotation]], beside: Mapping[int, BesideWords]) -> dict[int, Gain]:
    """Return what each version gained over the words alone, on pictures that it had predicted.

    Args:
        by_task: Annotations that count; several of one task count as one picture.
        beside: What is known of them, by annotation.
    """
    of_version: dict[int, list[tuple[float, float]]] = {}
    for several in by_task.values():
        of_task: dict[int, list[BesideWords]] = {}
        for one in several:
            pair = beside.get(one.number)
            if pair is not None:
                of_task.setdefault(pair.number, []).append(pair)
        for number, pairs in of_task.items():
            mean = np.mean([(pair.iou, pair.words_iou) for pair in pairs], axis=0)
            of_version.setdefault(number, []).append((float(mean[0]), float(mean[1])))
    found = {}
    for number, pictures in of_version.items():
        difference = mean_iou([iou - words for iou, words in pictures])
        assert difference is not None, "there is one at least"
        iou, words = (sum(column) / len(pictures) for column in zip(*pictures, strict=True))
        found[number] = Gain(iou, words, difference.mean, difference.low, difference.high, difference.pictures)
    return found


def median_lead_time_s(annotations: Iterable[KeptAnnotation]) -> float | None:
    """Return the median time that people took, `None` if nobody said."""
    times = [one.lead_time_s for one in annotations if one.lead_time_s is not None]
    return float(np.median(times)) if times else None
