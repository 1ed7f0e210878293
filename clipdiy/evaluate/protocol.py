"""By which rules are figures counted: ours, or those by which published ones were?"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipdiy.evaluate.resizing import Label, resize_nearest, short_side_size

ProtocolName = Literal["clean", "authors", "mmseg"]


@dataclass(frozen=True)
class Protocol:
    """Rules of counting. docs/evaluation.md has a table of them, with what each is good for.

    Attributes:
        name: What it is called on the command line.
        first_on_top: Where instances of COCO overlap, the first one in the file wins; otherwise the last one.
        crowds_count: A crowd region of COCO counts as its class; otherwise it is ignored.
        least_labelled_px: Pictures of COCO with fewer labelled pixels than this are left out.
        voc_dining_table: How the prompt of PASCAL VOC's class `diningtable` is written.
        voc_tv: How the prompt of its class `tvmonitor` is written.
        own_size: Truth and prediction are compared at the picture's own size; otherwise at a fixed shorter side.
        pillow_sizes: The longer side is cut to whole pixels, not rounded, and label maps are resized by Pillow, which
            looks from the centres of pixels; otherwise from their upper left corners.
        answer_as_compared: Systems are asked for a label map of the size at which it is compared; otherwise for one of
            the picture's own size, which is then resized as the truth is.
        turned: A photo with an EXIF orientation is turned where the truth's size says so; otherwise never.
        absent_counts: A class that is in neither truth nor prediction counts as 0 in the mean; otherwise not at all.
    """

    name: ProtocolName
    first_on_top: bool
    crowds_count: bool
    least_labelled_px: int
    voc_dining_table: str
    voc_tv: str
    own_size: bool
    pillow_sizes: bool
    answer_as_compared: bool
    turned: bool
    absent_counts: bool

    def compared_size(self, size_hw: tuple[int, int], short_px: int) -> tuple[int, int]:
        """Return the size at which truth and prediction of a picture are compared."""
        if self.own_size:
            return size_hw
        if not self.pillow_sizes:
            return short_side_size(size_hw, short_px)
        height, width = (short_px * side // min(size_hw) for side in size_hw)
        return height, width

    def resize(self, labels: NDArray[Label], size_hw: tuple[int, int]) -> NDArray[Label]:
        """Resize a truth or an answer to the nearest pixel; one of this size already is returned as it is.

        Args:
            labels: (H, W) uint8 or uint16.
            size_hw: New height and width.

        Returns:
            (h, w) of the same dtype, holding no value that was not there before.
        """
        if labels.shape == size_hw:
            return labels
        if not self.pillow_sizes:
            return resize_nearest(labels, size_hw)
        height, width = size_hw
        resized = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
        return np.asarray(resized).astype(labels.dtype, copy=False)


CLEAN = Protocol(
    "clean",
    first_on_top=False,
    crowds_count=False,
    least_labelled_px=0,
    voc_dining_table="dining table",
    voc_tv="tv/monitor",
    own_size=False,
    pillow_sizes=False,
    answer_as_compared=False,
    turned=True,
    absent_counts=False,
)
AUTHORS = Protocol(
    "authors",
    first_on_top=True,
    crowds_count=True,
    least_labelled_px=1000,
    voc_dining_table="diningtable",
    voc_tv="tv/monitor",
    own_size=False,
    pillow_sizes=True,
    answer_as_compared=True,
    turned=False,
    absent_counts=True,
)
# As MMSegmentation 0.27 counts, with which the figures of CLIP-DINOiser and of many others were made.
MMSEG = replace(CLEAN, name="mmseg", voc_tv="tvmonitor", own_size=True)
PROTOCOLS: dict[ProtocolName, Protocol] = {protocol.name: protocol for protocol in (CLEAN, AUTHORS, MMSEG)}
