"""How Label Studio writes a brush mask: the rle-pack format of thi.ng, over RGBA bytes.

The mask's values are first repeated four times each (one byte for R, G, B and A; only A matters on screen), row by
row. The resulting bytes are cut into runs and written as one string of bits, most significant bit first:

    header    32 bits  number of bytes that come out (4 x height x width)
               5 bits  word size - 1                 always 00111: words of 8 bits
           4 x 4 bits  the four length sizes - 1     always 0010 0011 0111 1111: lengths of 3, 4, 8 or 16 bits
    token      1 bit   1: one word follows, to be repeated. 0: as many words follow as the length says
               2 bits  which of the four length sizes
               n bits  length - 1
               8 bits  the word (or words)

A run takes the smallest length size that holds it: up to 8, 16, 256 or 65,536 bytes. A longer one is cut into pieces of
65,536, and the rest is written with 16 bits too. At the end zeros fill the last byte; if there is nothing
to fill, Label Studio's SDK adds a whole zero byte, and so do we.

Worked by hand, a mask of one row and three pixels `[[0, 255, 255]]`: 12 bytes, a run of 4 zeros, a run of 8 times 255:

    00000000 00000000 00000000 00001100   12 bytes
    00111  0010 0011 0111 1111            words of 8 bits; lengths of 3, 4, 8, 16 bits
    1 00 011 00000000                     4 x 0
    1 00 111 11111111                     8 x 255
    0000000                               to the end of the byte: 53 + 14 + 14 = 81 bits, 7 zeros
    = 0 0 0 12 57 27 252 96 19 255 128    in bytes

Because every run is a multiple of four bytes, encoding never needs tokens that begin with 0. Masks painted by hand in
the browser have them (soft edges), so decoding understands both.

Only `write_brushes` knows what a control is. The tests compare the codec with the SDK's own.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.errors import RleError
from backend.labeling.controls import MaskControl
from backend.outputs.parts import largest_parts
from backend.outputs.shape import Shape
from clipdiy.errors import ShapeError

_CHANNELS = 4
_WORD_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)
_LONGEST_RUN = 1 << _LENGTH_BITS[-1]
_HEADER_BITS = 32 + 5 + 4 * len(_LENGTH_BITS)
_OPAQUE = 255


def write_brushes(label_map: NDArray[np.uint16], positions: Sequence[int], control: MaskControl) -> Iterator[Shape]:
    """Write one mask a class, or one for each of its largest parts; see `backend.outputs.shape.Writer`.

    At the picture's full size: the browser decodes it at the picture's natural size and looks at nothing else.
    """
    if control.max_parts is None:
        for position, rle in encode_label_map(label_map, positions).items():
            yield Shape(position, {"format": "rle", "rle": rle})
        return
    for position in positions:
        parts, left_out = largest_parts(label_map == position, control.max_parts)
        numbers = np.zeros(label_map.shape, np.uint16)
        for number, part in enumerate(parts, 1):
            numbers[part.window][part.mask] = number
        for number, rle in encode_label_map(numbers, range(1, len(parts) + 1)).items():
            yield Shape(position, {"format": "rle", "rle": rle}, number - 1, 0 if number > 1 else left_out)


def encode_mask(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> list[int]:
    """Encode one mask, byte for byte as `label_studio_sdk.converter.brush.mask2rle` does.

    Args:
        mask: (H, W). bool: True is painted (255). uint8: alpha, written as it is, so 1 means nearly invisible.

    Returns:
        The code as integers in 0..255, ready for JSON.

    Raises:
        ShapeError: If the mask is not two-dimensional, holds no pixel or 2**30 and more, or is of another dtype.
    """
    if mask.dtype not in (np.bool_, np.uint8):
        raise ShapeError(f"a mask is bool (painted or not) or uint8 (alpha 0..255), got {mask.dtype}")
    _check_size(mask.shape)
    starts, values = _runs(mask.ravel())
    lengths = np.diff(starts, append=mask.size)
    alpha = values.astype(np.uint64)
    return _pack(lengths, alpha * np.uint64(_OPAQUE) if mask.dtype == np.bool_ else alpha, mask.size)


def encode_label_map(label_map: NDArray[np.uint16], classes: Iterable[int]) -> dict[int, list[int]]:
    """Encode one mask per class, reading the label map only once.

    Equal to `{c: encode_mask(label_map == c) for c in classes}`: the runs of every class are those of the map that
    carry its number, and what lies between them.

    Args:
        label_map: (H, W) uint16, the class of every pixel.
        classes: The classes wanted. One that is nowhere in the map gets the code of an empty mask.

    Returns:
        Per class, the code as integers in 0..255, ready for JSON.

    Raises:
        ShapeError: If the map is not two-dimensional uint16, or holds no pixel or 2**30 and more.
    """
    if label_map.dtype != np.uint16:
        raise ShapeError(f"a label map is uint16, got {label_map.dtype}")
    _check_size(label_map.shape)
    starts, values = _runs(label_map.ravel())
    ends = np.append(starts[1:], label_map.size)
    # A stable sort of uint16 is a radix sort: each class's runs end up together, still in reading order.
    by_class = np.argsort(values, kind="stable")
    sorted_values = values[by_class]
    codes: dict[int, list[int]] = {}
    for wanted in classes:
        first, last = (int(np.searchsorted(sorted_values, wanted, side)) for side in ("left", "right"))
        mine = by_class[first:last]
        # 0 | start end | start end | ... | size: the borders between not painted and painted, by turns.
        borders = np.empty(2 * mine.size + 2, np.int64)
        borders[0], borders[-1] = 0, label_map.size
        borders[1:-1:2], borders[2:-1:2] = starts[mine], ends[mine]
        lengths = np.diff(borders)
        alpha = np.zeros(lengths.size, np.uint64)
        alpha[1::2] = _OPAQUE
        # Only the first and the last stretch can be empty: neighbouring runs of the map differ.
        used = lengths > 0
        codes[wanted] = _pack(lengths[used], alpha[used], label_map.size)
    return codes


def decode_mask(rle: Sequence[int] | bytes | NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode one mask, as the browser and the SDK's `decode_rle` do, and keep its alpha channel.

    Args:
        rle: Integers in 0..255. What follows after the last pixel is ignored.
        size_hw: Height and width the mask must have.

    Returns:
        (H, W) uint8, alpha from 0 (not painted) to 255; masks made by hand have values in between at their edges.

    Raises:
        RleError: If the code is damaged, ends early, or is not of this size.
    """
    data = _as_bytes(rle)
    height, width = size_hw
    if len(data) * 8 < _HEADER_BITS:
        raise RleError(f"a brush mask begins with {_HEADER_BITS} bits of header, got {len(data)} bytes in all")
    header = int.from_bytes(data[:7], "big") >> (56 - _HEADER_BITS)
    total = header >> 21
    word_bits = (header >> 16 & 31) + 1
    length_bits = [(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)]
    if total != height * width * _CHANNELS:
        raise RleError(f"expected a brush mask of {height} x {width} pixels, {height * width * 4} bytes, got {total}")
    if word_bits != _WORD_BITS:
        raise RleError(f"expected words of 8 bits in a brush mask, got {word_bits}")
    if total == 0:
        return np.zeros(size_hw, np.uint8)

    word_at, lengths, repeats = _tokens(data, length_bits, total)
    windows = _windows(data)
    ends = np.minimum(np.cumsum(lengths), total)
    begins = np.concatenate(([0], ends[:-1]))
    # Byte i of the output is an alpha byte if i % 4 == 3, so [begin, end) holds end // 4 - begin // 4 of them.
    alpha = np.repeat(_read_words(windows, word_at), ends // _CHANNELS - begins // _CHANNELS)
    several = np.flatnonzero(~repeats)
    pixels = ends[several] // _CHANNELS - begins[several] // _CHANNELS
    token = np.repeat(several, pixels)
    # The n-th alpha byte of each token: pixel n behind those that were done before it.
    pixel = np.arange(len(token)) - np.repeat(np.cumsum(pixels) - pixels, pixels) + begins[token] // _CHANNELS
    alpha[pixel] = _read_words(
        windows, word_at[token] + _WORD_BITS * (pixel * _CHANNELS + _CHANNELS - 1 - begins[token])
    )
    return alpha.reshape(size_hw)


def _check_size(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or 0 in shape or shape[0] * shape[1] >= 1 << 30:
        raise ShapeError(f"expected (H, W) with 1 to 2**30 - 1 pixels (the header has 32 bits for 4 H W), got {shape}")


def _runs(flat: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return where each run of equal values starts, and its value."""
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    return starts, flat[starts]


def _pack(lengths: NDArray[np.int64], values: NDArray[np.uint64], pixels: int) -> list[int]:
    """Write runs of `lengths` pixels (each at least 1) with `values` (0..255) as header, tokens and filling."""
    run_bytes = lengths * _CHANNELS
    pieces = -(-run_bytes // _LONGEST_RUN)
    if pieces.max() > 1:
        long = pieces > 1
        last = np.cumsum(pieces) - 1
        rest = run_bytes - (pieces - 1) * _LONGEST_RUN
        run_bytes = np.full(int(pieces.sum()), _LONGEST_RUN)
        run_bytes[last] = rest
        # The rest of a long run is written with 16 bits, however short it is.
        widest = np.repeat(long, pieces)
        values = np.repeat(values, pieces)
    else:
        widest = np.zeros(run_bytes.size, np.bool_)

    size_index = np.searchsorted([1 << bits for bits in _LENGTH_BITS[:-1]], run_bytes)
    size_index[widest] = len(_LENGTH_BITS) - 1
    length_bits = np.array(_LENGTH_BITS)[size_index]
    token_bits = 3 + length_bits + _WORD_BITS
    prefix = (4 | size_index).astype(np.uint64) << length_bits.astype(np.uint64)
    tokens = ((prefix | (run_bytes - 1).astype(np.uint64)) << np.uint64(_WORD_BITS)) | values

    sizes = 0
    for bits in _LENGTH_BITS:
        sizes = sizes << 4 | bits - 1
    header = (pixels * _CHANNELS) << 21 | (_WORD_BITS - 1) << 16 | sizes
    return _join_bits(
        np.concatenate((np.array([header], np.uint64), tokens)), np.concatenate(([_HEADER_BITS], token_bits))
    )


def _join_bits(codes: NDArray[np.uint64], widths: NDArray[np.int64]) -> list[int]:
    """Put codes of `widths` (1..64) bits one after the other, most significant bit first, filled up to whole bytes.

    Done 64 bits at a time: every code begins in one word and reaches at most into the next.
    """
    ends = np.cumsum(widths)
    total = int(ends[-1])
    at = ends - widths
    word = at >> 6
    # Positive: there is room after the code in its word. Negative: that many bits belong into the next word.
    room = 64 - (at & 63) - widths
    fits = room >= 0
    in_word = np.where(
        fits, codes << np.maximum(room, 0).astype(np.uint64), codes >> np.maximum(-room, 0).astype(np.uint64)
    )
    words = np.zeros((total >> 6) + 1, np.uint64)
    groups = np.flatnonzero(np.diff(word, prepend=-1))
    words[word[groups]] = np.bitwise_or.reduceat(in_word, groups)
    over = ~fits
    words[word[over] + 1] |= codes[over] << (64 + room[over]).astype(np.uint64)
    # total // 8 + 1, not rounded up: a code that ends on a byte gets a zero byte, as the SDK writes it.
    filled = words.astype(">u8").view(np.uint8)[: total // 8 + 1]
    result: list[int] = filled.tolist()
    return result


def _as_bytes(rle: Sequence[int] | bytes | NDArray[np.uint8]) -> bytes:
    if isinstance(rle, bytes):
        return rle
    if isinstance(rle, np.ndarray) and rle.dtype == np.uint8:
        return rle.tobytes()
    try:
        return bytes(list(rle))
    except (TypeError, ValueError) as err:
        raise RleError(f"a brush mask is a list of integers from 0 to 255: {err}") from err


def _windows(data: bytes) -> NDArray[np.uint64]:
    """Return, for every byte, the 24 bits that begin there (zeros after the end)."""
    padded = np.frombuffer(data + bytes(2), np.uint8).astype(np.uint64)
    return (padded[:-2] << np.uint64(16)) | (padded[1:-1] << np.uint64(8)) | padded[2:]


def _read_words(windows: NDArray[np.uint64], bit_at: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read the 8 bits at each bit position."""
    shift = (16 - (bit_at & 7)).astype(np.uint64)
    words: NDArray[np.uint8] = (windows[bit_at >> 3] >> shift).astype(np.uint8)
    return words


def _tokens(
    data: bytes, length_bits: Sequence[int], total: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Find the tokens: bit position of the (first) word, length in bytes, whether the word repeats.

    One token tells where the next begins, so this is the one loop that cannot be done for all at once.
    """
    bits = len(data) * 8
    word_at: list[int] = []
    lengths: list[int] = []
    repeats: list[bool] = []
    at, done = _HEADER_BITS, 0
    while done < total:
        # 7 bits into the byte + 3 of prefix + at most 16 of length: 26 bits, 4 bytes.
        window = int.from_bytes(data[at >> 3 : (at >> 3) + 4].ljust(4, b"\0"), "big") << (at & 7)
        size = length_bits[window >> 29 & 3]
        length = (window >> (29 - size) & ((1 << size) - 1)) + 1
        repeat = bool(window >> 31 & 1)
        first_word = at + 3 + size
        # The last token may promise more than is needed: what lies behind the last pixel need not be there.
        words = 1 if repeat else min(length, total - done)
        if first_word + _WORD_BITS * words > bits:
            raise RleError(f"the brush mask ends after {done} of {total} bytes")
        word_at.append(first_word)
        lengths.append(length)
        repeats.append(repeat)
        at = first_word + _WORD_BITS * (1 if repeat else length)
        done += length
    return np.array(word_at), np.array(lengths), np.array(repeats)
