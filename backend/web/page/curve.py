"""The curve of quality over corrections: where everything lies in the drawing. Pure; a template draws it."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backend.learning.report import QualityPoint

WIDTH, HEIGHT = 480, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 12, 44
MAX_TICKS = 6


@dataclass(frozen=True)
class Dot:
    """One point of the curve.

    Attributes:
        x: From the left, in units of the drawing.
        y: From the top.
        text: What it says.
    """

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in units of the drawing, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A drawing of `WIDTH` x `HEIGHT` units.

    Attributes:
        line: Points of a polyline, as SVG writes them.
        band: Points of a polygon: the 95 % intervals.
        dots: The points.
        across: Ticks of corrected pictures.
        up: Ticks of IoU.
        summary: The curve in a sentence, for who cannot see it.
    """

    line: str
    band: str
    dots: tuple[Dot, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    summary: str


def draw_curve(points: Sequence[QualityPoint]) -> Curve | None:
    """Lay out a curve; `None` if there is no point."""
    points = sorted(points, key=lambda point: point.corrected)
    if not points:
        return None
    most = max(1, points[-1].corrected)
    lows, highs = (min(point.iou.low for point in points), max(point.iou.high for point in points))
    floor, ceiling = _limits(lows, highs)

    def x(corrected: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * corrected / most, 1)

    def y(iou: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (ceiling - iou) / (ceiling - floor), 1)

    dots = tuple(
        Dot(
            x(point.corrected),
            y(point.iou.mean),
            f"{point.corrected} corrected: IoU {point.iou.mean:.2f} ({point.iou.low:.2f} to {point.iou.high:.2f})",
        )
        for point in points
    )
    upper = [(x(point.corrected), y(point.iou.high)) for point in points]
    lower = [(x(point.corrected), y(point.iou.low)) for point in points]
    first, last = points[0].iou.mean, points[-1].iou.mean
    summary = f"IoU of predicted with kept masks: {first:.2f} after {points[0].corrected} corrected pictures"
    if len(points) > 1:
        summary += f", {last:.2f} after {points[-1].corrected}"
    return Curve(
        line=_points((dot.x, dot.y) for dot in dots),
        band=_points([*upper, *reversed(lower)]),
        dots=dots,
        across=tuple(Tick(x(value), str(value)) for value in _whole_ticks(most)),
        up=tuple(Tick(y(value), f"{value:.1f}") for value in _tenths(floor, ceiling)),
        summary=summary,
    )


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _limits(low: float, high: float) -> tuple[float, float]:
    """Return full tenths around all values, at least four of them: a flat curve must look flat."""
    floor, ceiling = math.floor(low * 10 + 1e-9), math.ceil(high * 10 - 1e-9)
    while ceiling - floor < 4:
        if ceiling < 10:
            ceiling += 1
        if ceiling - floor < 4 and floor > 0:
            floor -= 1
    return max(0, floor) / 10, min(10, ceiling) / 10


def _tenths(floor: float, ceiling: float) -> list[float]:
    first, last = round(floor * 10), round(ceiling * 10)
    step = 1 if last - first <= MAX_TICKS else 2
    return [tenth / 10 for tenth in range(first, last + 1, step)]


def _whole_ticks(most: int) -> list[int]:
    """Return round numbers from 0 to `most`."""
    steps = (factor * 10**power for power in itertools.count() for factor in (1, 2, 5))
    step = next(step for step in steps if most // step < MAX_TICKS)
    return [*range(0, most + 1, step)]
