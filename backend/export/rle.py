"""COCO's compressed run-length code of a mask, written here so that exporting needs no pycocotools. Pure.

The mask is read column by column. Its runs, beginning with one of 0 (which may be empty), are numbers; each from the
fourth on is written as the difference to the one two before it. A number becomes groups of five bits, the lowest first,
each with a sixth bit that says whether more follow, and 48 added to make it a letter. The last group's fifth bit is the
sign.

Worked by hand: 3 rows, 2 columns, 1 in the second column only: runs 3, 3. 3 is one group, 00011, no more: 3 + 48 = "3".
So the code is "33".
"""

import numpy as np
from numpy.typing import NDArray

from backend.outputs.parts import Part

_GROUP_BITS = 5
_MORE = 32
_FIRST_LETTER = 48
_MOST_GROUPS = 7  # 35 bits; runs are shorter than 2**31


def encode_part(part: Part, size_hw: tuple[int, int]) -> str:
    """Encode a part of a picture's mask.

    Args:
        part: Where it lies, and its mask.
        size_hw: Of the picture.
    """
    return letters(runs(part, size_hw))


def encode_mask(mask: NDArray[np.bool_]) -> str:
    """Encode a whole mask, (H, W) bool."""
    height, width = mask.shape
    return encode_part(Part((0, 0, width, height), mask, 0), (height, width))


def runs(part: Part, size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """Return the lengths of the runs of a mask in columns, beginning with 0s; int64, their sum is H x W."""
    height, width = size_hw
    left, top, right, _ = part.box_xyxy
    columns = np.zeros((right - left, part.mask.shape[0] + 2), np.int8)
    columns[:, 1:-1] = part.mask.T
    changes = np.diff(columns, axis=1)
    # Both in reading order of the columns, so the i-th begin goes with the i-th end.
    begins, ends = (_places(changes == edge, left, top, height) for edge in (1, -1))
    # Where a column is painted to its end and the next from its beginning, it is one run.
    is_new = np.ones(len(begins), bool)
    is_new[1:] = begins[1:] != ends[:-1]
    borders = np.empty(2 * int(is_new.sum()) + 2, np.int64)
    borders[0], borders[-1] = 0, height * width
    borders[1:-1:2] = begins[is_new]
    borders[2:-1:2] = ends[np.append(is_new[1:], True)[: len(ends)]]
    lengths = np.diff(borders)
    # What ends with the picture has no 0s behind it.
    return lengths if lengths[-1] else lengths[:-1]


def _places(is_edge: NDArray[np.bool_], left: int, top: int, height: int) -> NDArray[np.int64]:
    """Return where edges lie in the whole picture, read in columns; of one dimension, which is much faster."""
    columns, rows = np.divmod(np.flatnonzero(is_edge), is_edge.shape[1])
    places: NDArray[np.int64] = (left + columns) * height + top + rows
    return places


def letters(lengths: NDArray[np.int64]) -> str:
    """Write runs as letters."""
    numbers = lengths.astype(np.int64)
    numbers[3:] -= lengths[1:-2]
    groups = np.empty((len(numbers), _MOST_GROUPS), np.uint8)
    is_used = np.zeros(groups.shape, bool)
    is_open = np.ones(len(numbers), bool)
    for place in range(_MOST_GROUPS):
        low = numbers & 31
        numbers >>= _GROUP_BITS
        more = np.where(low & 16, numbers != -1, numbers != 0)
        groups[:, place] = (low | np.where(more, _MORE, 0)) + _FIRST_LETTER
        is_used[:, place] = is_open
        is_open &= more
    return str(groups[is_used].tobytes(), "ascii")
