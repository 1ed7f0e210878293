"""At what size CLIP sees a picture, and through which windows: sizes in, boxes out, no pixels.

Two ways. *Whole*, as the authors' demo: the picture at its own size in one pass. *Windows*, as their published numbers:
a fixed shorter side, square windows that overlap by half, probabilities averaged where they do.
"""

from dataclasses import dataclass

from clipdiy.errors import ConfigError


@dataclass(frozen=True)
class Window:
    """A part of the picture as it is seen, in pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left


def limited_size(size_hw: tuple[int, int], long_px: int) -> tuple[int, int]:
    """Return the size of a picture whose longer side is reduced to `long_px`, if it is larger; never below a pixel."""
    height, width = size_hw
    scale = min(1.0, long_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def published_size(size_hw: tuple[int, int], short_px: int, long_px: int) -> tuple[int, int]:
    """Return the size at which the published evaluation sees a picture; small ones grow.

    The ratio is kept; the shorter side becomes `short_px` unless the longer one would then exceed `long_px`. Sides are
    rounded half up.

    Args:
        size_hw: Height and width in pixels.
        short_px: 448 in the published numbers.
        long_px: 2048 in the published numbers.
    """
    height, width = size_hw
    scale = min(short_px / min(height, width), long_px / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def sliding_windows(size_hw: tuple[int, int], window_px: int, stride_px: int) -> tuple[Window, ...]:
    """Lay windows over a picture, row by row.

    They start every `stride_px`; those that would reach beyond the right or bottom border are pushed back inside. A
    side shorter than a window is seen whole.

    Args:
        size_hw: Height and width in pixels.
        window_px: Side of the windows.
        stride_px: From one to the next.

    Raises:
        ConfigError: If strides leave pixels between the windows.
    """
    if not 1 <= stride_px <= window_px:
        raise ConfigError(f"windows need 1 <= stride <= window, got stride {stride_px} and window {window_px}")
    spans = []
    for side in size_hw:
        steps = max(side - window_px + stride_px - 1, 0) // stride_px + 1
        ends = [min(i * stride_px + window_px, side) for i in range(steps)]
        spans.append([(max(end - window_px, 0), end) for end in ends])
    rows, cols = spans
    return tuple(Window(top, left, bottom, right) for top, bottom in rows for left, right in cols)
