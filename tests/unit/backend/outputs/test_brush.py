"""Our brush codec against Label Studio's own, in both directions, and against damage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from label_studio_sdk.converter.brush import decode_rle, encode_rle, mask2rle
from numpy.typing import NDArray

from backend.errors import RleError
from backend.outputs.brush import decode_mask, encode_label_map, encode_mask
from clipdiy.errors import ShapeError

BY_HAND = [0, 0, 0, 12, 57, 27, 252, 96, 19, 255, 128]


def size_hw(mask: NDArray[np.uint8]) -> tuple[int, int]:
    height, width = mask.shape
    return height, width


def blank(height: int, width: int) -> NDArray[np.uint8]:
    return np.zeros((height, width), np.uint8)


def full(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width), 255, np.uint8)


def one_pixel(height: int, width: int) -> NDArray[np.uint8]:
    mask = blank(height, width)
    mask[height // 2, width // 2] = 255
    return mask


def ring(height: int, width: int) -> NDArray[np.uint8]:
    mask = blank(height, width)
    mask[height // 5 : -height // 5, width // 5 : -width // 5] = 255
    mask[height // 3 : -height // 3, width // 3 : -width // 3] = 0
    return mask


def speckle(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 2, (height, width), np.uint8) * np.uint8(255)


def soft(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(8).integers(0, 256, (height, width), np.uint8)


def run_of(pixels: int) -> NDArray[np.uint8]:
    mask = blank(1, pixels + 2)
    mask[0, 1:-1] = 255
    return mask


MASKS = {
    "1x1 empty": blank(1, 1),
    "1x1 full": full(1, 1),
    "empty": blank(48, 64),
    "full": full(48, 64),
    "one pixel": one_pixel(48, 64),
    "first pixel": np.eye(1, 9, 0, dtype=np.uint8) * np.uint8(255),
    "last pixel": np.eye(1, 9, 8, dtype=np.uint8) * np.uint8(255),
    "hole": ring(50, 60),
    "odd size": speckle(37, 53),
    "one row": speckle(1, 301),
    "one column": speckle(301, 1),
    "portrait": ring(91, 20),
    "antialiased": soft(40, 50),
    "alpha of 1": blank(6, 7) + np.uint8(1),
    "run of 2 (8 bytes, short length)": run_of(2),
    "run of 3 (12 bytes, 4 bits)": run_of(3),
    "run of 4 (16 bytes, 4 bits)": run_of(4),
    "run of 5 (20 bytes, 8 bits)": run_of(5),
    "run of 64 (256 bytes, 8 bits)": run_of(64),
    "run of 65 (260 bytes, 16 bits)": run_of(65),
    "run of 16384 (65,536 bytes)": run_of(16384),
    "run of 16385 (a rest of 4 bytes)": run_of(16385),
    "run of 32768 (two full pieces)": run_of(32768),
    "run of 50000 (several pieces)": run_of(50000),
    "long run, then short ones": np.concatenate((run_of(20000), speckle(1, 99)), axis=1),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_equals_the_sdk_in_both_directions(mask: NDArray[np.uint8]) -> None:
    code = encode_mask(mask)
    assert code == mask2rle(mask)
    np.testing.assert_array_equal(decode_mask(code, size_hw(mask)), decode_rle(code).reshape(*mask.shape, 4)[..., 3])
    np.testing.assert_array_equal(decode_mask(code, size_hw(mask)), mask)


@settings(max_examples=150)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 24), st.integers(1, 24)),
        elements=st.sampled_from([0, 0, 0, 0, 255, 255, 255, 17]),
    )
)
def test_equals_the_sdk_on_any_mask(mask: NDArray[np.uint8]) -> None:
    code = encode_mask(mask)
    assert code == mask2rle(mask)
    np.testing.assert_array_equal(decode_mask(code, size_hw(mask)), mask)


def test_every_filling_of_the_last_byte_is_met() -> None:
    # Rows of growing length with one painted pixel each: the bits at the end run through all eight cases.
    ends = set()
    for width in range(1, 40):
        mask = speckle(1, width)
        code = encode_mask(mask)
        assert code == mask2rle(mask)
        runs = np.diff(np.flatnonzero(np.diff(mask[0], prepend=1, append=1))) * 4
        ends.add((53 + sum(14 if run <= 8 else 15 if run <= 16 else 19 for run in runs)) % 8)
    assert ends == set(range(8)), "0 is the case in which the SDK adds a whole byte"


def test_the_example_of_the_docstring() -> None:
    assert encode_mask(np.array([[False, True, True]])) == BY_HAND
    np.testing.assert_array_equal(decode_mask(BY_HAND, (1, 3)), [[0, 255, 255]])


def test_a_bool_mask_is_painted_opaque() -> None:
    mask = ring(20, 31)
    assert encode_mask(mask > 0) == encode_mask(mask)


def test_memory_layout_does_not_matter() -> None:
    mask = speckle(20, 31)
    assert encode_mask(mask.T) == encode_mask(mask.T.copy())
    assert encode_mask(mask[::-1, ::2]) == encode_mask(mask[::-1, ::2].copy())


LABEL_MAPS = {
    "one class everywhere": np.full((5, 7), 3, np.uint16),
    "1x1": np.zeros((1, 1), np.uint16),
    "stripes": np.repeat(np.arange(6, dtype=np.uint16), 5)[None].repeat(4, axis=0),
    "speckle": np.random.default_rng(1).integers(0, 9, (31, 47), np.uint16),
    "high positions": np.random.default_rng(2).choice(np.array([0, 255, 256, 65535], np.uint16), (20, 30)),
    "blocks beyond 65,536 bytes": np.kron(np.array([[1, 2], [2, 0]], np.uint16), np.ones((200, 150), np.uint16)),
    "portrait": np.random.default_rng(3).integers(0, 3, (64, 9), np.uint16),
}


@pytest.mark.parametrize("label_map", LABEL_MAPS.values(), ids=LABEL_MAPS)
def test_a_label_map_gives_each_class_its_mask(label_map: NDArray[np.uint16]) -> None:
    classes = [*np.unique(label_map).tolist(), 4, 12345]
    codes = encode_label_map(label_map, classes)
    assert list(codes) == list(dict.fromkeys(classes))
    for wanted, code in codes.items():
        assert code == encode_mask(label_map == wanted), f"class {wanted}"


def test_no_class_wanted_gives_nothing() -> None:
    assert encode_label_map(LABEL_MAPS["speckle"], []) == {}


def test_codes_are_plain_integers() -> None:
    codes = [encode_mask(ring(9, 9)), encode_label_map(LABEL_MAPS["stripes"], [1])[1]]
    assert all(type(number) is int and 0 <= number <= 255 for code in codes for number in code)


@settings(max_examples=60)
@given(arrays(np.uint8, st.integers(1, 30).map(lambda pixels: pixels * 4), elements=st.sampled_from([0, 0, 255, 90])))
def test_reads_single_words_as_the_sdk_does(rgba: NDArray[np.uint8]) -> None:
    # Bytes that are not four alike are what a browser writes where it has drawn soft edges.
    code = encode_rle(rgba)
    pixels = rgba.size // 4
    np.testing.assert_array_equal(decode_mask(code, (1, pixels))[0], decode_rle(code).reshape(pixels, 4)[:, 3])


def literal_code(words: list[int], promised: int) -> list[int]:
    """Two pixels as thi.ng writes bytes without runs: one token beginning with 0, 4 bits of length."""
    bits = f"{8:032b}" + "00111" + "0010001101111111" + "0" + "01" + f"{promised - 1:04b}"
    bits += "".join(f"{word:08b}" for word in words)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def test_reads_a_stretch_of_literal_words() -> None:
    code = literal_code([1, 2, 3, 4, 5, 6, 7, 8], promised=8)
    np.testing.assert_array_equal(decode_mask(code, (1, 2)), [[4, 8]])
    assert decode_rle(code).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_last_token_that_promises_more_than_is_needed_is_cut() -> None:
    np.testing.assert_array_equal(decode_mask(literal_code([9] * 8, promised=16), (1, 2)), [[9, 9]])


def test_what_follows_is_ignored() -> None:
    np.testing.assert_array_equal(decode_mask([*BY_HAND, 1, 2, 3], (1, 3)), [[0, 255, 255]])


def test_takes_bytes_and_arrays_too() -> None:
    for code in (bytes(BY_HAND), np.array(BY_HAND, np.uint8), tuple(BY_HAND)):
        np.testing.assert_array_equal(decode_mask(code, (1, 3)), [[0, 255, 255]])


DAMAGED: dict[str, tuple[object, tuple[int, int], str]] = {
    "empty": ([], (1, 3), "header"),
    "header only": (BY_HAND[:7], (1, 3), "ends after 0 of 12"),
    "cut in the second run": (BY_HAND[:9], (1, 3), "ends after 4 of 12"),
    "another size": (BY_HAND, (3, 3), "expected a brush mask of 3 x 3"),
    "number too large": ([*BY_HAND[:-1], 256], (1, 3), "0 to 255"),
    "negative number": ([-1, *BY_HAND[1:]], (1, 3), "0 to 255"),
    "text in it": (["a", *BY_HAND], (1, 3), "0 to 255"),
    "text": ("abc", (1, 3), "0 to 255"),
    "a number": (12, (1, 3), "0 to 255"),
    "nothing": (None, (1, 3), "0 to 255"),
    "other word size": ([*BY_HAND[:4], 0b01111001, *BY_HAND[5:]], (1, 3), "words of 8 bits"),
}


@pytest.mark.parametrize(("code", "size_hw", "message"), DAMAGED.values(), ids=DAMAGED)
def test_says_what_is_damaged(code: object, size_hw: tuple[int, int], message: str) -> None:
    with pytest.raises(RleError, match=message):
        decode_mask(code, size_hw)  # type: ignore[arg-type]


@settings(max_examples=200)
@given(st.lists(st.integers(0, 255), max_size=60), st.booleans())
def test_any_bytes_are_read_or_refused(numbers: list[int], right_size: bool) -> None:
    code = [0, 0, 0, 48, *numbers] if right_size else numbers
    try:
        mask = decode_mask(code, (3, 4))
    except RleError:
        return
    assert mask.shape == (3, 4)
    assert mask.dtype == np.uint8


WRONG_ARRAYS: dict[str, tuple[NDArray[np.generic], str]] = {
    "three dimensions": (np.zeros((2, 2, 1), np.uint8), "H, W"),
    "no pixel": (np.zeros((0, 4), np.uint8), "H, W"),
    "float": (np.zeros((2, 2), np.float32), "uint8"),
    "beyond 32 bits": (np.broadcast_to(np.uint8(0), (1 << 15, 1 << 15)), "2\\*\\*30"),
}


@pytest.mark.parametrize(("array", "message"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_refuses_what_is_no_mask(array: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        encode_mask(array)


def test_refuses_what_is_no_label_map() -> None:
    with pytest.raises(ShapeError, match="uint16"):
        encode_label_map(np.zeros((2, 2), int), [0])
    with pytest.raises(ShapeError, match="H, W"):
        encode_label_map(np.zeros((4,), np.uint16), [0])
