"""Which pixels a few clicks and boxes mean, on small maps worked by hand."""

import numpy as np
import pytest

from backend.interactive.gesture import Box, Point
from backend.interactive.pointing import box_window, inside_box, pointed_at

MAP = np.array(
    [
        [1, 1, 0, 0, 1],
        [1, 1, 0, 0, 1],
        [0, 0, 0, 0, 0],
        [2, 2, 2, 2, 2],
    ],
    np.uint16,
)


def at(row: int, col: int, is_positive: bool = True) -> Point:
    return Point((col + 0.5) / 5 * 100, (row + 0.5) / 4 * 100, is_positive)


CLICKS: dict[str, tuple[list[Point], list[str]]] = {
    "a part, not its class": ([at(0, 0)], ["##...", "##...", ".....", "....."]),
    "another class": ([at(3, 2)], [".....", ".....", ".....", "#####"]),
    "two parts": ([at(0, 0), at(1, 4)], ["##..#", "##..#", ".....", "....."]),
    "one part twice": ([at(0, 0), at(1, 1)], ["##...", "##...", ".....", "....."]),
    "beside a part": ([at(0, 3)], ["....#", "....#", ".....", "....."]),
    "a negative part": ([at(0, 0), at(1, 4), at(0, 4, False)], ["##...", "##...", ".....", "....."]),
    "negative first": ([at(0, 4, False), at(0, 0), at(1, 0)], ["##...", "##...", ".....", "....."]),
    "taken away and added again": ([at(3, 0), at(3, 4, False), at(3, 1)], [".....", ".....", ".....", "#####"]),
    "negative on the background": ([at(0, 0), at(2, 2, False)], ["##...", "##...", ".....", "....."]),
    "only negative": ([at(0, 0, False)], [".....", ".....", ".....", "....."]),
    "the last pixel": ([Point(100, 100)], [".....", ".....", ".....", "#####"]),
    "outside": ([Point(-5, 300)], [".....", ".....", ".....", "#####"]),
}


@pytest.mark.parametrize(("points", "rows"), CLICKS.values(), ids=CLICKS)
def test_clicks(points: list[Point], rows: list[str]) -> None:
    np.testing.assert_array_equal(pointed_at(MAP, points), [[char == "#" for char in row] for row in rows])


def test_far_from_everything_is_nothing() -> None:
    label_map = np.zeros((200, 200), np.uint16)
    label_map[0, 0] = 1
    assert not pointed_at(label_map, [Point(50, 50)]).any()
    assert pointed_at(label_map, [Point(1, 1)]).sum() == 1


WINDOWS = {
    "inside": (Box(20, 25, 40, 50), (1, 3, 1, 3)),
    "everything": (Box(0, 0, 100, 100), (0, 4, 0, 5)),
    "beyond": (Box(-50, 50, 300, 300), (2, 4, 0, 5)),
    "part of a pixel": (Box(1, 1, 1, 1), (0, 1, 0, 1)),
    "drawn upwards": (Box(60, 75, -40, -50), (1, 3, 1, 3)),
}


@pytest.mark.parametrize(("box", "expected"), WINDOWS.values(), ids=WINDOWS)
def test_boxes(box: Box, expected: tuple[int, int, int, int]) -> None:
    window = box_window(box, (4, 5))
    assert window is not None
    rows, cols = window
    assert (rows.start, rows.stop, cols.start, cols.stop) == expected
    assert inside_box(box, (4, 5)).sum() == (rows.stop - rows.start) * (cols.stop - cols.start)


@pytest.mark.parametrize("box", [Box(120, 0, 10, 10), Box(10, 10, 0, 0), Box(0, -20, 10, 10)], ids=repr)
def test_boxes_with_nothing_in_them(box: Box) -> None:
    assert box_window(box, (4, 5)) is None


def test_a_turned_box() -> None:
    # A square of 40 x 40 pixels, turned by 45 degrees around its upper left corner at (50, 10).
    inside = inside_box(Box(50, 10, 40, 40, 45), (100, 100))
    assert inside.sum() == pytest.approx(1600, rel=0.05)
    assert inside[38, 50]
    assert not inside[12, 80]
    window = box_window(Box(50, 10, 40, 40, 45), (100, 100))
    assert window == (slice(10, 67), slice(21, 79))
