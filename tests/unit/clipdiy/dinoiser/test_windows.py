import pytest

from clipdiy.dinoiser.windows import Window, limited_size, published_size, sliding_windows
from clipdiy.errors import ConfigError

PUBLISHED = {
    "VOC, wide": ((480, 640), (448, 597)),
    "VOC, tall": ((500, 375), (597, 448)),
    "square": ((448, 448), (448, 448)),
    "small ones grow": ((30, 60), (448, 896)),
    "rounded half up": ((400, 405), (448, 454)),  # 453.6
    "the longer side is the limit": ((100, 1000), (205, 2048)),  # 204.8
    "Cityscapes": ((1024, 2048), (448, 896)),
    "one pixel": ((1, 1), (448, 448)),
    "a line": ((1, 9000), (1, 2048)),
}


@pytest.mark.parametrize(("size_hw", "expected"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_size(size_hw, expected):
    assert published_size(size_hw, 448, 2048) == expected


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [
        ((480, 640), (480, 640)),
        ((641, 20), (640, 20)),
        ((3000, 4000), (480, 640)),
        ((1, 1), (1, 1)),
        ((1, 9000), (1, 640)),
    ],
    ids=["fits", "one too long", "large", "one pixel", "a line"],
)
def test_limited_size(size_hw, expected):
    assert limited_size(size_hw, 640) == expected


def spans(windows, axis):
    return sorted({(one.top, one.bottom) if axis == 0 else (one.left, one.right) for one in windows})


SIDES = {
    "one window": (448, [(0, 448)]),
    "shorter than a window": (100, [(0, 100)]),
    "one pixel more": (449, [(0, 448), (1, 449)]),
    "pushed back": (597, [(0, 448), (149, 597)]),
    "exactly two": (672, [(0, 448), (224, 672)]),
    "one pixel more than two": (673, [(0, 448), (224, 672), (225, 673)]),
    "three": (896, [(0, 448), (224, 672), (448, 896)]),
}


@pytest.mark.parametrize(("side", "expected"), SIDES.values(), ids=SIDES)
def test_windows_of_a_side(side, expected):
    for axis, size_hw in enumerate([(side, 448), (448, side)]):
        windows = sliding_windows(size_hw, 448, 224)
        assert spans(windows, axis) == expected
        assert len(windows) == len(expected), "each once"


def test_a_window_has_a_size_wherever_it_lies():
    assert Window(0, 0, 4, 6).size_hw == (4, 6)
    assert Window(3, 5, 7, 12).size_hw == (4, 7)


def test_windows_go_row_by_row():
    assert sliding_windows((5, 6), 4, 4) == (
        Window(0, 0, 4, 4),
        Window(0, 2, 4, 6),
        Window(1, 0, 5, 4),
        Window(1, 2, 5, 6),
    )


@pytest.mark.parametrize(("window", "stride"), [(10, 0), (10, 11)], ids=["no step", "gaps"])
def test_windows_that_leave_gaps_are_refused(window, stride):
    with pytest.raises(ConfigError, match="stride"):
        sliding_windows((50, 50), window, stride)
