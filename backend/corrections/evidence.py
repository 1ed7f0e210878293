"""What does an annotation teach? Which class covers how much of each cell of its pictures, control by control. Pure.

What each form says:

- A brush, bitmask, polygon or ellipse is taken at its word.
- A rectangle is weak: its inner half (by side) is taken for its label; between there and its border nothing is known.
- Choices say what is in a picture and not where: nothing is learned from them.
- What no region covers is background: whoever submits an annotation says that nothing else is there.
- A region with several labels is the first of them that its control has; one with none, or with another, is unknown.
- Where regions of different labels overlap, each has its part of the cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.annotations.reading import KeptRegion
from backend.errors import AnnotationError
from backend.labeling.controls import MaskControl
from clipdiy.learning.evidence import CELLS, WHOLE, ClassShares, area_means

INNER = 0.5
"""Of a rectangle, by side."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class ControlShares:
    """Shares of one control's labels on one picture.

    Attributes:
        control: `from_name`.
        page: Of several, else `None`.
        labels: Values, by position: the first is at 1, the background at 0.
        shares: What they cover; what is left of a cell is unknown.
        size_hw: Height and width of the picture, as the regions say; `None` without any.
    """

    control: str
    page: int | None
    labels: tuple[str, ...]
    shares: ClassShares
    size_hw: tuple[int, int] | None = None

    def fits(self, size_hw: tuple[int, int]) -> bool:
        """Whether the regions were drawn on a picture of this shape: as wide for its height, but for rounding."""
        if self.size_hw is None:
            return True
        (height, width), (its_height, its_width) = size_hw, self.size_hw
        # A reduced copy's sides are rounded to whole pixels.
        slack = max(height, its_height) + max(width, its_width)
        return abs(height * its_width - width * its_height) <= slack


def control_shares(regions: Sequence[KeptRegion], control: MaskControl, page: int | None) -> ControlShares:
    """Read the shares of one control on one picture.

    Args:
        regions: Of the control on this picture; none means that the picture is all background.
        control: Its labels count.
        page: Of several, else `None`.

    Raises:
        AnnotationError: If a region cannot be read, or two are of pictures of different sizes. Then nothing is to be
            learned from the whole annotation: what is missing may be anywhere.
    """
    labels = tuple(dict.fromkeys(label.value for label in control.drawn))
    of_background = {label.value for label in control.labels if label.is_background}
    sizes = {region.size_hw for region in regions}
    if len(sizes) > 1:
        raise AnnotationError(f"its regions are of pictures of {len(sizes)} sizes: {sorted(sizes)[:5]}")
    # What a label covers, however many regions it has; 0 is what nothing is known of.
    masks: dict[int, NDArray[np.bool_]] = {}

    def cover(position: int, mask: NDArray[np.bool_]) -> None:
        masks[position] = masks[position] | mask if position in masks else mask

    for region in regions:
        label = next((value for value in region.labels if value in labels or value in of_background), None)
        mask = region.mask()
        if label in of_background:
            continue
        if label is None:
            cover(0, mask)
            continue
        position = labels.index(label) + 1
        if region.kind == "rectangle":
            cover(0, mask)
            mask = inner_part(mask)
        cover(position, mask)
    cells = {position: area_means(mask) for position, mask in masks.items()}
    unknown = cells.pop(0, None)
    return ControlShares(control.from_name, page, labels, _as_shares(cells, unknown), next(iter(sizes), None))


_NOTHING = np.zeros((0, CELLS, CELLS), np.uint8)


def _as_shares(cells: Mapping[int, Doubles], unknown: Doubles | None) -> ClassShares:
    """Put background where nothing else is."""
    drawn = sum(cells.values(), np.zeros(_NOTHING.shape[1:]))
    covered = np.minimum(drawn if unknown is None else np.maximum(drawn, unknown), 1)
    every = {0: 1 - covered, **{position: share / np.maximum(drawn, 1) for position, share in cells.items()}}
    rounded = {position: np.rint(share * WHOLE).astype(np.uint8) for position, share in sorted(every.items())}
    kept = {position: share for position, share in rounded.items() if share.any()}
    return ClassShares(tuple(kept), np.stack([*kept.values()]) if kept else _NOTHING)


def inner_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the part of a box's mask that lies within its inner half, by the sides of its bounding box.

    Of a turned box it is the part in the middle of that.
    """
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    inner = np.zeros_like(mask)
    if len(rows):
        window = tuple(
            slice(
                int(np.floor(at[0] + (at[-1] + 1 - at[0]) * (1 - INNER) / 2)),
                int(np.ceil(at[-1] + 1 - (at[-1] + 1 - at[0]) * (1 - INNER) / 2)),
            )
            for at in (rows, cols)
        )
        inner[window] = mask[window]
    return inner


def in_vocabulary(control: ControlShares, positions: Mapping[str, int]) -> Doubles:
    """Lay shares over a vocabulary.

    Args:
        control: Of a control with that vocabulary, maybe when it had other labels.
        positions: Position of each label that there is now, the background's 0 left out.

    Returns:
        (C, CELLS, CELLS) float64 in [0, 1], C = 1 + the largest position. What is covered by labels that are no more is
        unknown.
    """
    every = np.zeros((1 + max(positions.values(), default=0), *_NOTHING.shape[1:]))
    for old, share in zip(control.shares.positions, control.shares.shares, strict=True):
        if old == 0:
            every[0] += share / WHOLE
        elif control.labels[old - 1] in positions:
            every[positions[control.labels[old - 1]]] += share / WHOLE
    return every


def joined(parts: Sequence[Doubles]) -> Doubles:
    """Put together what several controls with one vocabulary say of a picture: (C, CELLS, CELLS) float64.

    A person draws each object with one of them. What none of them drew is background, unless one does not know.
    """
    drawn = sum((part[1:] for part in parts), np.zeros_like(parts[0][1:]))
    every = drawn.sum(axis=0)
    unknown = np.stack([1 - part.sum(axis=0) for part in parts]).max(axis=0).clip(0, 1)
    drawn = drawn / np.maximum(every, 1)
    ground = (1 - np.minimum(every, 1) - unknown).clip(0, 1)
    return np.concatenate([ground[None], drawn])


def majority(opinions: Sequence[Doubles]) -> Doubles:
    """Return what more than half of several people say of a picture, cell by cell: (C, CELLS, CELLS) float64.

    A person's word on a cell is the class that covers most of it. Where more than half have one word, the mean of their
    shares counts; elsewhere nothing is known.
    """
    every = np.stack(opinions)
    words = np.where(every.sum(axis=1) > 0, every.argmax(axis=1), -1)
    result = np.zeros_like(opinions[0])
    for position in range(every.shape[1]):
        agree = words == position
        chosen = agree.sum(axis=0) * 2 > len(opinions)
        mean = (every * agree[:, None]).sum(axis=0) / np.maximum(agree.sum(axis=0), 1)
        result[:, chosen] = mean[:, chosen]
    return result


def as_class_shares(shares: Doubles) -> ClassShares:
    """Round to what is learned from."""
    rounded = np.rint(shares * WHOLE).astype(np.uint8)
    kept = np.flatnonzero(rounded.reshape(len(rounded), -1).any(axis=1))
    return ClassShares(tuple(int(position) for position in kept), rounded[kept])
