import cv2
import numpy as np
import pytest

from clipdiy.clean_up import clean_up, count_pixels


def picture(rows):
    return np.array([[int(char) if char != "." else 0 for char in row] for row in rows], dtype=np.uint16)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(["....", "....", "...."], ["....", "....", "...."], id="empty"),
        pytest.param(["1111", "1111", "1111"], ["1111", "1111", "1111"], id="full"),
        pytest.param([".....", ".1...", "....."], [".....", ".....", "....."], id="speck in the background"),
        pytest.param(["11111", "11.11", "11111"], ["11111", "11111", "11111"], id="hole"),
        pytest.param(["11111", "11211", "11111"], ["11111", "11111", "11111"], id="speck inside a class"),
        pytest.param(["1111..", "1111.2", "1111.."], ["1111..", "1111..", "1111.."], id="speck at the border"),
        pytest.param(["11112222", "111.2222", "11112222"], ["11112222", "111.2222", "11112222"], id="between classes"),
        pytest.param(["1.1.", ".1.1", "1.1."], ["1.1.", ".1.1", "1.1."], id="diagonal neighbours are one part"),
        pytest.param(["222..", "222..", "2221."], ["222..", "222..", "222.."], id="speck between class and background"),
    ],
)
def test_clean_up(before, after):
    source = picture(before)
    kept = source.copy()
    np.testing.assert_array_equal(clean_up(source, 4), picture(after))
    np.testing.assert_array_equal(source, kept, err_msg="the input is not changed")


def plainly(label_map, min_area_px):
    """Return what `clean_up` says of itself, part by part over the whole picture."""
    cleaned = label_map.copy()
    for value in [*np.unique(label_map[label_map > 0]), 0]:
        source = cleaned.copy() if value == 0 else label_map
        count, parts = cv2.connectedComponents((source == value).astype(np.uint8), connectivity=8)
        for number in range(1, count):
            part = parts == number
            if part.sum() >= min_area_px:
                continue
            ring = cv2.dilate(part.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~part
            around = np.unique(source[ring])
            if len(around) == 1:
                cleaned[part] = around[0]
            elif value != 0:
                cleaned[part] = 0
    return cleaned


@pytest.mark.parametrize("seed", range(30))
def test_parts_anywhere_are_treated_alike(seed):
    rng = np.random.default_rng(seed)
    size_hw = rng.integers(5, 90, 2)
    label_map = np.zeros(size_hw, np.uint16)
    for _ in range(int(rng.integers(1, 60))):
        top, left = rng.integers(0, size_hw)
        height, width = rng.integers(1, 9, 2)
        label_map[top : top + height, left : left + width] = rng.integers(0, 4)
    for min_area_px in (1.5, 2, 2.5, 9, 40):
        np.testing.assert_array_equal(clean_up(label_map, min_area_px), plainly(label_map, min_area_px))


def test_exactly_the_area_stays():
    source = picture(["11..", "11..", "...."])
    np.testing.assert_array_equal(clean_up(source, 4), source)
    assert clean_up(source, 4.5).max() == 0


def test_switched_off_returns_the_same():
    source = picture(["1.", ".."])
    assert clean_up(source, 0) is source
    assert clean_up(source, 1) is source


def test_high_positions_survive():
    source = np.zeros((20, 30), np.uint16)
    source[2:12, 3:20] = 40_000
    source[15, 25] = 999
    cleaned = clean_up(source, 5)
    assert set(np.unique(cleaned)) == {0, 40_000}


@pytest.mark.parametrize("size_hw", [(1, 1), (7, 5), (300, 401), (2, 1100)], ids=str)
def test_pixels_are_counted_as_numpy_does(monkeypatch, size_hw):
    monkeypatch.setattr("clipdiy.clean_up.HISTOGRAM_PX", 1000)  # several strips
    label_map = np.random.default_rng(0).integers(0, 40_000, size_hw).astype(np.uint16)
    label_map[0, 0] = 39_999
    counts = count_pixels(label_map, 40_001)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, np.bincount(label_map.ravel(), minlength=40_001))
