"""How features of any method are written as bytes: a prefix with a checksum, a JSON header, then whatever follows.

    magic, 6 bytes, the last of them the version | length of the header | CRC-32 of all that follows | header | rest

Holds no code, so bytes are safe to read from anywhere.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from clipdiy.errors import FeaturesError

_PREFIX = struct.Struct("<6sII")


def pack(magic: bytes, header: Mapping[str, object], rest: bytes) -> bytes:
    """Write a header and what follows it.

    Args:
        magic: 6 bytes that say whose they are, and in which version.
        header: What JSON can write.
        rest: Anything.
    """
    text = json.dumps(header).encode()
    body = text + rest
    return _PREFIX.pack(magic, len(text), zlib.crc32(body)) + body


def unpack(magic: bytes, data: bytes) -> tuple[Any, memoryview]:
    """Return the header, and a view of what follows it.

    Raises:
        FeaturesError: If the bytes are damaged or of another version; see also `reading`.
    """
    found, header_length, checksum = _PREFIX.unpack_from(data)
    if found != magic:
        raise FeaturesError(f"not image features of this version: starts with {found!r}, expected {magic!r}")
    body = memoryview(data)[_PREFIX.size :]
    if zlib.crc32(body) != checksum:
        raise FeaturesError("image features are damaged: the checksum differs; encode the image again")
    return json.loads(bytes(body[:header_length])), body[header_length:]


@contextmanager
def reading() -> Iterator[None]:
    """Turn whatever goes wrong with a header that is not what it should be into a `FeaturesError`."""
    try:
        yield
    except FeaturesError:
        raise
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as err:
        raise FeaturesError(f"image features cannot be read ({err}); encode the image again") from err
