"""From pooled features and a vocabulary to class probabilities, on the grid of patches and at any size."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipdiy.aggregate import as_matrix, bilinear_samples
from clipdiy.dinoiser.windows import Window
from clipdiy.errors import ShapeError

TEMPERATURE = 100.0  # of the method, whatever CLIP's own learned scale is


def class_cosines(pooled: Tensor, text_embeddings: Tensor) -> Tensor:
    """Take the cosine of every patch with every class.

    Args:
        pooled: (h, w, D), of any length.
        text_embeddings: (C, D) float32 unit vectors.

    Returns:
        (C, h, w) float32, in [-1, 1].

    Raises:
        ShapeError: If the embeddings have not the same length D.
    """
    if pooled.shape[2] != text_embeddings.shape[1]:
        raise ShapeError(
            f"patches have {pooled.shape[2]} numbers and texts {text_embeddings.shape[1]}: "
            "they come from different CLIP models"
        )
    unit = F.normalize(pooled.float(), dim=2)
    return (text_embeddings @ unit.flatten(0, 1).T).reshape(-1, *pooled.shape[:2])


def class_probabilities(cosines: Tensor) -> Tensor:
    """Return the softmax over the classes of 100 times their cosines: (C, h, w) float32, sums to 1 over C."""
    return (cosines * TEMPERATURE).softmax(dim=0)


def refine_background(probabilities: Tensor, background_logits: Tensor, delta: float) -> Tensor:
    """Give the background every patch that no class is sure of and that does not look like an object.

    Section 3.4 of the paper. Where it acts the background's probability becomes 1 and the others stay: the sum over
    the classes then exceeds 1, and between this patch and the next an enlarged map still favours the background.

    Args:
        probabilities: (C, h, w) float32, background first.
        background_logits: (h, w), above 0 on the foreground.
        delta: A patch whose largest probability is at least this is left alone.

    Returns:
        (C, h, w) float32.
    """
    unsure = (probabilities.amax(dim=0) < delta) & (background_logits <= 0)
    refined = probabilities.clone()
    refined[0].masked_fill_(unsure, 1)
    return refined


@dataclass(frozen=True)
class ProbabilityTile:
    """The probabilities of one window, on its grid.

    Attributes:
        values: (C, h, w) float32.
        window: Which part of the seen picture it is.
        extent_hw: How many rows and columns of the grid the window covers: all of them, or less where the rest of the
            grid is padding.
    """

    values: Tensor
    window: Window
    extent_hw: tuple[float, float]


class ProbabilityField:
    """Class probabilities of a whole picture, ready to be read out at one size, some rows and classes at a time.

    A single map is brought to that size at once. Windows are enlarged to their own size, averaged where they overlap,
    and their mean is brought to that size: the published way.
    """

    def __init__(
        self, tiles: Sequence[ProbabilityTile], seen_hw: tuple[int, int] | None, size_hw: tuple[int, int]
    ) -> None:
        """Prepare reading.

        Args:
            tiles: At least one; all with the same classes. Together they cover the picture.
            seen_hw: Size of the picture that the windows were cut from, or `None` for a single tile that is all of it.
            size_hw: Size at which the maps are to be read.
        """
        self.size_hw = size_hw
        self.device = tiles[0].values.device
        # Read at once, a single tile is one window of the size that is asked for.
        self._seen_hw = size_hw if seen_hw is None else seen_hw
        windows = [Window(0, 0, *size_hw)] if seen_hw is None else [tile.window for tile in tiles]
        self._parts = [_Part(tile, window) for tile, window in zip(tiles, windows, strict=True)]
        self._counts = torch.zeros(self._seen_hw, device=self.device)
        for window in windows:
            self._counts[window.top : window.bottom, window.left : window.right] += 1
        self._rows, self._cols = (
            tuple(part.to(self.device) for part in bilinear_samples(size_out, size_in))
            for size_out, size_in in zip(size_hw, self._seen_hw, strict=True)
        )

    def rows(self, start: int, stop: int, classes: Tensor | slice = slice(None)) -> Tensor:
        """Return (C, stop - start, W) float32: rows start..stop of the chosen classes' maps."""
        if self._seen_hw == self.size_hw:
            return self._mean(start, stop, classes)
        lower, upper, down = (part[start:stop] for part in self._rows)
        first = int(lower[0])
        seen = self._mean(first, int(upper[-1]) + 1, classes)
        values = torch.lerp(seen[:, lower - first], seen[:, upper - first], down[:, None])
        left, right, across = self._cols
        return torch.lerp(values[:, :, left], values[:, :, right], across)

    def winners(self, start: int, stop: int) -> Tensor:
        """Return which classes can be the most probable one somewhere in rows start..stop: ascending int64."""
        lower, upper, _ = self._rows
        seen_start, seen_stop = int(lower[start]), int(upper[stop - 1]) + 1
        peaks = [part.peaks(seen_start, seen_stop) for part in self._parts if part.meets(seen_start, seen_stop)]
        peak = torch.stack(peaks).amax(dim=0)
        # Their sum is 1 or more at every pixel; a little less for the rounding of float32.
        return torch.nonzero(peak >= 0.999 / len(peak)).squeeze(1)

    def _mean(self, start: int, stop: int, classes: Tensor | slice) -> Tensor:
        """Return rows of the mean over the windows, at the size of the picture that they were cut from."""
        count = len(self._parts[0].values[classes])
        total = torch.zeros(count, stop - start, self._seen_hw[1], device=self.device)
        for part in self._parts:
            if part.meets(start, stop):
                window = part.window
                top, bottom = max(start, window.top), min(stop, window.bottom)
                total[:, top - start : bottom - start, window.left : window.right] += part.rows(top, bottom, classes)
        return total.div_(self._counts[start:stop])


class _Part:
    """One tile, enlarged to its window when it is read."""

    def __init__(self, tile: ProbabilityTile, window: Window) -> None:
        self.values = tile.values
        self.window = window
        device = tile.values.device
        down, across = (
            tuple(part.to(device) for part in bilinear_samples(size_out, size_in, extent))
            for size_out, size_in, extent in zip(window.size_hw, tile.values.shape[1:], tile.extent_hw, strict=True)
        )
        self._lower, self._upper = down[:2]
        self._down = as_matrix(down, tile.values.shape[1])
        self._across = as_matrix(across, tile.values.shape[2]).T

    def meets(self, start: int, stop: int) -> bool:
        """Say whether any of the picture's rows start..stop lies in the window."""
        return max(start, self.window.top) < min(stop, self.window.bottom)

    def rows(self, start: int, stop: int, classes: Tensor | slice) -> Tensor:
        """Return (C, stop - start, window width): rows of the picture, all inside the window."""
        top = self.window.top
        return self._down[start - top : stop - top] @ self.values[classes] @ self._across

    def peaks(self, start: int, stop: int) -> Tensor:
        """Return the largest value of each class on the grid rows that the picture's rows start..stop read: (C,)."""
        top, bottom = max(start, self.window.top) - self.window.top, min(stop, self.window.bottom) - self.window.top
        return self.values[:, int(self._lower[top]) : int(self._upper[bottom - 1]) + 1].amax(dim=(1, 2))
