"""Polygons cover the pixels of their masks: exactly where every corner is kept, by 0.98 where they are simplified."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backend.outputs import polygons as painting
from backend.outputs.parts import bounding_box, parts_of, without_small_parts
from backend.outputs.polygons import LEAST_IOU, fill, polygons_of


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[char == "#" for char in row] for row in rows])


def area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2))


def disc(radius: float, size_hw: tuple[int, int], hole: float = 0) -> np.ndarray:
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(x - width / 2, y - height / 2)
    return (distance < radius) & (distance >= hole)


MASKS = {
    "empty": mask_of("...", "..."),
    "one pixel": mask_of("...", ".#."),
    "all": mask_of("##", "##", "##"),
    "one row": mask_of("#####"),
    "L": mask_of("#..", "#..", "###"),
    "hole": mask_of("###", "#.#", "###"),
    "two holes": mask_of("#####", "#.#.#", "#####"),
    "hole at a corner": mask_of("####", "#.##", "##.#", "####"),
    "touching at a corner": mask_of("#..", ".#.", "..#"),
    "island in a hole": mask_of("#####", "#...#", "#.#.#", "#...#", "#####"),
    "two parts": mask_of("##..#", "##..#"),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_without_tolerance_the_pixels_are_exactly_the_masks(mask: np.ndarray) -> None:
    polygons = list(polygons_of(mask, tolerance_px=0))
    assert len(polygons) == sum(1 for _ in parts_of(mask)), "one polygon for each connected part"
    painted = np.zeros_like(mask)
    for polygon in polygons:
        painted |= fill(polygon, mask.shape)
    np.testing.assert_array_equal(painted, mask)
    assert sum(map(area, polygons)) == mask.sum(), "an area computed from the points leaves the holes out"


@settings(max_examples=200)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_mask(mask: np.ndarray) -> None:
    exact = np.zeros_like(mask)
    for polygon in polygons_of(mask, tolerance_px=0):
        exact |= fill(polygon, mask.shape)
    np.testing.assert_array_equal(exact, mask)
    for part, polygon in zip(parts_of(mask), polygons_of(mask), strict=True):
        whole = np.zeros_like(mask)
        whole[part.window] = part.mask
        filled = fill(polygon, mask.shape)
        assert (filled & whole).sum() >= LEAST_IOU * (filled | whole).sum()


@pytest.mark.parametrize("hole", [0, 30], ids=["disc", "ring"])
@pytest.mark.parametrize("tolerance_px", [1.5, 5.0, 40.0])
def test_few_points_and_still_the_same_pixels(tolerance_px: float, hole: float) -> None:
    mask = disc(100, (240, 320), hole)
    (polygon,) = polygons_of(mask, tolerance_px)
    filled = fill(polygon, mask.shape)
    assert (filled & mask).sum() >= LEAST_IOU * (filled | mask).sum(), "the tolerance gives way"
    assert len(polygon) < 60


ZIGZAG = np.array([[(7 * i) % 50, 31 * (i % 2) - 0.3 * (i % 5)] for i in range(40)])
PAINTED = {"ring": next(iter(polygons_of(disc(15, (40, 50), 6)))), "to and fro": ZIGZAG, "nothing": np.zeros((0, 2))}


@pytest.mark.parametrize("at_once", [1, 7, 60, 1000])
@pytest.mark.parametrize("polygon", PAINTED.values(), ids=PAINTED)
def test_in_bands_and_portions_it_is_the_same(polygon: np.ndarray, at_once: int, monkeypatch) -> None:
    whole = fill(polygon, (40, 50))
    assert whole.any() == (len(polygon) > 0)
    monkeypatch.setattr(painting, "_AT_ONCE", at_once)
    np.testing.assert_array_equal(fill(polygon, (40, 50)), whole)


def test_painting_holds_little_beside_its_mask() -> None:
    polygon = np.array([[i % 97, 400 * (i % 2)] for i in range(20_000)], np.float64)
    tracemalloc.start()
    fill(polygon, (400, 1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000, "8 million crossings at once would be half a gigabyte"


def test_one_pixel_is_a_square() -> None:
    (polygon,) = polygons_of(mask_of("...", "..#"))
    assert sorted(map(tuple, polygon)) == [(2, 1), (2, 2), (3, 1), (3, 2)]


def test_parts_are_8_connected_and_have_tight_boxes() -> None:
    found = list(parts_of(mask_of("....", ".#..", "..#.", "....", "#...")))
    assert [(part.box_xyxy, part.area_px) for part in found] == [((1, 1, 3, 3), 2), ((0, 4, 1, 5), 1)]
    assert bounding_box(mask_of("..")) is None


def test_small_parts_are_dropped() -> None:
    mask = mask_of("##.#", "##..")
    np.testing.assert_array_equal(without_small_parts(mask, 2), mask_of("##..", "##.."))
    assert without_small_parts(mask, 1) is mask
    assert not without_small_parts(mask, 5).any()
