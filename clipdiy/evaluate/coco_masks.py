"""A mask as COCO writes it, an RLE or polygons: is it one, does it fit its picture, and which pixels are meant?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_NUMBERS = 6  # of a polygon: three points


def check_mask(segmentation: Any, size_hw: tuple[int, int]) -> None:
    """Make sure that a segmentation can be meant for a picture.

    pycocotools would read four numbers as a box, take an RLE of any size, and crash on others.

    Args:
        segmentation: A list of polygons, or an RLE, compressed or not.
        size_hw: Height and width of the picture.

    Raises:
        ValueError: If it is empty, no such thing, or of another size.
    """
    if isinstance(segmentation, list):
        if not segmentation:
            raise ValueError("its segmentation is empty")
        for polygon in segmentation:
            if not _is_polygon(polygon):
                raise ValueError(f"a polygon is x and y of 3 or more points, got {_short(polygon)}")
    elif isinstance(segmentation, dict) and {"size", "counts"} <= segmentation.keys():
        if list(segmentation["size"]) != list(size_hw):
            raise ValueError(f"its RLE is of size {segmentation['size']}, the picture {list(size_hw)} (height, width)")
        counts = segmentation["counts"]
        if isinstance(counts, list):
            if not all(isinstance(run, int) and run >= 0 for run in counts) or sum(counts) != size_hw[0] * size_hw[1]:
                raise ValueError(f"the runs of its RLE must add up to the picture's {size_hw[0]} x {size_hw[1]} pixels")
        elif not isinstance(counts, str) or not counts:
            raise ValueError(f"the counts of an RLE are a list of runs or a text, got {_short(counts)}")
    else:
        raise ValueError(f"a segmentation is a list of polygons or an RLE, got {_short(segmentation)}")


def to_rle(segmentation: Any, size_hw: tuple[int, int]) -> Any:
    """Return one compressed RLE of what `check_mask` let pass."""
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size_hw))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size_hw)
    return segmentation


def decode_mask(segmentation: Any, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels of what `check_mask` let pass: (H, W) bool.

    Raises:
        ValueError: If a compressed RLE has other pixels than its size says.
    """
    from pycocotools import mask as coco_mask

    mask: NDArray[np.bool_] = coco_mask.decode(to_rle(segmentation, size_hw)).astype(bool)
    if mask.shape != size_hw:
        raise ValueError(f"its mask is {mask.shape}, the picture {size_hw} (height, width)")
    return mask


def count_union(segmentations: Sequence[Any], size_hw: tuple[int, int]) -> int:
    """Count the pixels that lie in any of the masks, without decoding them."""
    if not segmentations:
        return 0
    from pycocotools import mask as coco_mask

    return int(coco_mask.area(coco_mask.merge([to_rle(segmentation, size_hw) for segmentation in segmentations])))


def _is_polygon(polygon: Any) -> bool:
    return (
        isinstance(polygon, list)
        and len(polygon) >= LEAST_NUMBERS
        and len(polygon) % 2 == 0
        and all(isinstance(number, int | float) and abs(number) < 1e6 for number in polygon)
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
