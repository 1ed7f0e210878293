"""Where the finished predictions of one request wait until all are there: in memory up to a limit, then in a file.

An answer holds everything that Label Studio asked for at once, and masks are heavy: a thousand pictures of 12
megapixels are several hundred megabytes. Written as JSON at once, by the thread that made it, a prediction is no longer
thousands of Python objects; and beyond the limit it is not in memory at all.
"""

import errno
import json
import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import orjson

logger = logging.getLogger(__name__)

PIECE_BYTES = 1_000_000


@dataclass(frozen=True)
class Ticket:
    """Where a prediction is kept.

    Attributes:
        length: How many bytes it has as JSON.
        data: The bytes, if they are in memory.
        at: Else where they begin in the file.
    """

    length: int
    data: bytes | None = None
    at: int = 0


class Spool:
    """The predictions of one request as JSON; safe from any thread. Close it when they have been sent."""

    def __init__(self, memory_bytes: int, folder: Path) -> None:
        """Make nothing yet.

        Args:
            memory_bytes: What may be in memory.
            folder: Where the file is made, if it comes to that; it has no name that others could see.
        """
        self._memory_left = memory_bytes
        self._folder = folder
        self._file: FileIO | None = None
        self._end = 0
        self._closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Forget the file; nothing can be kept any more."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()

    def keep(self, prediction: dict[str, Any]) -> Ticket:
        """Write one prediction down; the object may be forgotten.

        Where the disk is full the bytes stay in memory, and the log says so.
        """
        data = to_json(prediction)
        with self._lock:
            if self._closed:  # made after the deadline: nobody waits for it
                return Ticket(0, b"")
            if len(data) <= self._memory_left:
                self._memory_left -= len(data)
                return Ticket(len(data), data)
            try:
                return self._append(data)
            except OSError as err:
                logger.warning("an answer stays in memory, its file cannot be written: %s", err.strerror)
                return Ticket(len(data), data)

    def _append(self, data: bytes) -> Ticket:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Without a buffer: what could not be written must not be tried again on the next read.
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 - closed with this object
        self._file.seek(self._end)
        if self._file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        ticket = Ticket(len(data), at=self._end)
        self._end += len(data)
        return ticket

    def read(self, ticket: Ticket) -> Iterator[bytes]:
        """Return a prediction in pieces that are no burden."""
        if ticket.data is not None:
            yield ticket.data
            return
        assert self._file is not None, "tickets without data are made with the file"
        for start in range(0, ticket.length, PIECE_BYTES):
            with self._lock:
                self._file.seek(ticket.at + start)
                piece = self._file.read(min(PIECE_BYTES, ticket.length - start))
            yield piece


def write_answer(
    spool: Spool, results: Sequence[Ticket | list[Any]], model_version: str
) -> tuple[int, Iterator[bytes]]:
    """Write the answer to /predict from what was kept.

    Args:
        spool: Holds the predictions.
        results: One entry a task: the ticket of its prediction, or an empty list for one that has none.
        model_version: Of all of them.

    Returns:
        How many bytes there will be, and the bytes in pieces.
    """
    tail = b'],"model_version":' + to_json(model_version) + b"}\n"
    head = b'{"results":['
    length = len(head) + len(tail) + max(len(results) - 1, 0)
    length += sum(result.length if isinstance(result, Ticket) else len(b"[]") for result in results)

    def pieces() -> Iterator[bytes]:
        yield head
        for place, result in enumerate(results):
            if place:
                yield b","
            if isinstance(result, Ticket):
                yield from spool.read(result)
            else:
                yield b"[]"
        yield tail

    return length, pieces()


def to_json(value: object) -> bytes:
    """Write JSON as orjson does: much faster than the standard library for a mask's many numbers."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # What is no Unicode (half a surrogate pair in a label) is legal in JSON as an escape, and is given back as one.
        return json.dumps(value, separators=(",", ":")).encode()
