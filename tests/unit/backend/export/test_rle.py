"""COCO's run-length code, as pycocotools writes and reads it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from backend.export.rle import encode_mask, encode_part, letters, runs
from backend.outputs.parts import Part, parts_of


def theirs(mask):
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_worked_by_hand():
    mask = np.array([[0, 1], [0, 1], [0, 1]], bool)
    assert runs(Part((0, 0, 2, 3), mask, 3), (3, 2)).tolist() == [3, 3]
    assert encode_mask(mask) == "33"


MASKS = {
    "empty": np.zeros((3, 5), bool),
    "full": np.ones((3, 5), bool),
    "one pixel": np.ones((1, 1), bool),
    "first pixel": np.pad(np.ones((1, 1), bool), ((0, 4), (0, 3))),
    "last pixel": np.pad(np.ones((1, 1), bool), ((4, 0), (3, 0))),
    "hole": np.pad(np.zeros((2, 3), bool), 2, constant_values=True),
    "two full columns": np.pad(np.ones((7, 2), bool), ((0, 0), (2, 3))),
    "bottom to top": np.eye(2, dtype=bool)[:, ::-1],
    "one row": np.array([[1, 0, 1, 1, 0]], bool),
    "one column": np.array([[1], [0], [1]], bool),
    "long runs": np.pad(np.ones((2000, 2000), bool), ((0, 0), (1000, 0))),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_as_pycocotools(mask):
    assert encode_mask(mask) == theirs(mask)


@settings(max_examples=200)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_any_mask_and_its_parts(mask):
    assert encode_mask(mask) == theirs(mask)
    for part in parts_of(mask):
        whole = np.zeros(mask.shape, bool)
        whole[part.window] = part.mask
        assert encode_part(part, mask.shape) == theirs(whole)


@pytest.mark.parametrize("lengths", [[15], [16], [31], [32], [0, 2**30], [5, 2**31 - 1, 1, 7, 3, 2**30, 1]])
def test_numbers_of_every_size(lengths):
    assert coco_runs(letters(np.array(lengths))) == lengths


def coco_runs(text):
    """Read the letters one by one, as the format is described."""
    found = []
    value = shift = 0
    for letter in text:
        group = ord(letter) - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value = shift = 0
    return found
