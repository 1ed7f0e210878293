"""Where the curve's points lie."""

import pytest

from backend.learning.report import MeanIou, QualityPoint
from backend.web.page.curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw_curve


def points(*means, half=0.05, step=5):
    return [
        QualityPoint(step * (i + 1), 0.0, MeanIou(mean, max(0, mean - half), min(1, mean + half), 5))
        for i, mean in enumerate(means)
    ]


def test_there_is_none_without_a_point():
    assert draw_curve([]) is None


def test_one_point():
    curve = draw_curve(points(0.5))
    [dot] = curve.dots
    assert dot.x == WIDTH - RIGHT
    assert TOP < dot.y < HEIGHT - BOTTOM
    assert curve.summary == "IoU of predicted with kept masks: 0.50 after 5 corrected pictures"


def test_up_is_better_and_right_is_later_whatever_the_order():
    curve = draw_curve(points(0.4, 0.6, 0.5)[::-1])
    assert [dot.x for dot in curve.dots] == sorted(dot.x for dot in curve.dots)
    low, high, middle = (dot.y for dot in curve.dots)
    assert high < middle < low
    assert curve.dots[1].text == "10 corrected: IoU 0.60 (0.55 to 0.65)"
    assert curve.summary.endswith("0.40 after 5 corrected pictures, 0.50 after 15")
    assert len(curve.line.split()) == 3
    assert len(curve.band.split()) == 6


@pytest.mark.parametrize("means", [(0.0,), (1.0,), (0.0, 1.0), (0.99, 1.0), (0.001, 0.0), (0.55, 0.56)])
def test_everything_is_inside_and_a_flat_curve_looks_flat(means):
    curve = draw_curve(points(*means))
    places = [tuple(map(float, place.split(","))) for place in (*curve.line.split(), *curve.band.split())]
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in places)
    values = [float(tick.text) for tick in curve.up]
    assert values == sorted(values)
    assert 0 <= values[0] < values[-1] <= 1
    assert values[-1] - values[0] > 0.35
    assert all(TOP <= tick.at <= HEIGHT - BOTTOM for tick in curve.up)


@pytest.mark.parametrize(
    ("most", "ticks"),
    [(1, "0 1"), (3, "0 1 2 3"), (5, "0 1 2 3 4 5"), (7, "0 2 4 6"), (40, "0 10 20 30 40"), (1234, "0 500 1000")],
)
def test_ticks_across_are_round(most, ticks):
    curve = draw_curve(points(0.5, step=most))
    assert " ".join(tick.text for tick in curve.across) == ticks
    assert curve.across[0].at == LEFT
