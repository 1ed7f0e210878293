"""How do regions become one class a pixel, and instances? Pure.

Regions may overlap. The rule: **the smaller region lies on top.** What is small and drawn over something large stands
in front of it nearly always (the cup on the table), and with this rule no region vanishes behind a larger one. The
order in which regions were drawn is no rule: it is lost when somebody deletes one and draws it again, and predictions
have none. Of two regions with equally many pixels, the one whose label is first in the config lies on top, and of one
label the later one. Regions of a label for the background, or to be ignored, take part as all others do.

An instance is a connected part of what can be seen of one region (8-connected). Two regions of one label that touch
remain two instances; one region in two pieces is two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backend.annotations.reading import KeptRegion
from backend.errors import AnnotationError
from backend.export.classes import BACKGROUND, IGNORED, Classes
from backend.outputs.parts import Part, bounding_box, parts_of

_STORED_AS_PIXELS = ("brush", "bitmask")


@dataclass(frozen=True)
class Instance:
    """A connected part of a region.

    Attributes:
        number: Of its class, from 1.
        part: Where it is.
        score: Of its region, if it has one.
    """

    number: int
    part: Part
    score: float | None = None


@dataclass(frozen=True)
class Painted:
    """What a picture's regions say.

    Attributes:
        label_map: (H, W) uint16: 0 background, from 1 the classes, `IGNORED`.
        instances: In the order of the regions; none of them overlaps another.
    """

    label_map: NDArray[np.uint16]
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class _Drawn:
    """A region's mask, as far as it reaches; in bits, as all of a picture's regions are kept at once."""

    number: int
    order: int
    window: tuple[slice, slice]
    bits: NDArray[np.uint8]
    area_px: int
    score: float | None

    @property
    def mask(self) -> NDArray[np.bool_]:
        rows, cols = self.window
        shape = rows.stop - rows.start, cols.stop - cols.start
        return np.unpackbits(self.bits, count=shape[0] * shape[1]).reshape(shape).view(np.bool_)


def paint(regions: Sequence[KeptRegion], size_hw: tuple[int, int], classes: Classes) -> Painted:
    """Paint the regions of one picture.

    Args:
        regions: In their order.
        size_hw: Of the picture.
        classes: What labels stand for.

    Raises:
        AnnotationError: If a region cannot be read, or holds pixels of a picture of another size.
    """
    drawn = []
    for order, region in enumerate(regions):
        mask = _mask_of(region, size_hw)
        box = bounding_box(mask)
        if box is None:
            continue
        left, top, right, bottom = box
        window = (slice(top, bottom), slice(left, right))
        number = classes.number_of(region.labels)
        drawn.append(_Drawn(number, order, window, np.packbits(mask[window]), int(mask[window].sum()), region.score))
    label_map = np.zeros(size_hw, np.uint16)
    owners = np.zeros(size_hw, np.int32)
    for one in sorted(drawn, key=lambda one: (-one.area_px, -one.number, one.order)):
        mask = one.mask
        label_map[one.window][mask] = one.number
        owners[one.window][mask] = one.order + 1
    instances = [
        Instance(one.number, _moved(part, one.window), one.score)
        for one in drawn
        if one.number not in (BACKGROUND, IGNORED)
        for part in parts_of(owners[one.window] == one.order + 1)
    ]
    return Painted(label_map, tuple(instances))


def majority(opinions: Sequence[NDArray[np.uint16]]) -> Painted:
    """Return what more than half of several people say of each pixel; where no such half is, it is ignored.

    Args:
        opinions: Label maps of one picture, at least one.
    """
    label_map = np.full(opinions[0].shape, IGNORED, np.uint16)
    for number in np.unique(np.concatenate([np.unique(opinion) for opinion in opinions])):
        votes = np.sum([opinion == number for opinion in opinions], axis=0)
        label_map[2 * votes > len(opinions)] = number
    numbers = [int(number) for number in np.unique(label_map) if number not in (BACKGROUND, IGNORED)]
    return Painted(
        label_map, tuple(Instance(number, part) for number in numbers for part in parts_of(label_map == number))
    )


def _mask_of(region: KeptRegion, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a region's mask on the picture as it is. Shapes in percent fit any size, as they do on the screen.

    Raises:
        AnnotationError: If it cannot.
    """
    if region.kind not in _STORED_AS_PIXELS:
        return replace(region, size_hw=size_hw).mask()
    if region.size_hw != size_hw:
        raise AnnotationError(
            f"region {region.region_id[:40]!r} was drawn on a picture of {region.size_hw[1]} x {region.size_hw[0]} "
            f"pixels, and the picture has {size_hw[1]} x {size_hw[0]}"
        )
    return region.mask()


def _moved(part: Part, window: tuple[slice, slice]) -> Part:
    rows, cols = window
    left, top, right, bottom = part.box_xyxy
    down, across = int(rows.start), int(cols.start)
    return replace(part, box_xyxy=(left + across, top + down, right + across, bottom + down))
