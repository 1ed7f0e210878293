"""Text embeddings on disk: a prompt is embedded once for all processes that use the same text tower.

One folder for each text tower, and in it one file for each time that there were new prompts. Files are never changed: a
process writes its own, whole or not at all, and reads what others wrote. A file that is damaged or of another version
is ignored. Nothing in a file is ever executed.

    CDIYT 01 | length of the header | CRC-32 of all that follows | header, JSON {"prompts": [...], "numbers": D}
    | (prompts x D) little-endian float32
"""

import contextlib
import json
import logging
import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)

MAGIC = b"CDIYT\x01"  # the last byte is the version of the layout
ENDING = ".texts"
MOST_FILES = 64  # then they are merged into one
MOST_BYTES = 256_000_000  # about 120,000 prompts; then the oldest files are dropped
_PREFIX = struct.Struct("<6sII")


class TextCache:
    """Text embeddings of one encoder in one folder. Safe to use from several processes; not from several threads."""

    def __init__(self, folder: Path, encoder_id: str) -> None:
        """Take a folder. Nothing is read or made yet.

        Args:
            folder: Where the folders of all encoders lie.
            encoder_id: Digest that changes with the text tower's weights; letters and digits.
        """
        self._folder = folder / encoder_id
        self._seen: set[str] = set()

    def unread(self) -> dict[str, Tensor]:
        """Read every file that was not read yet: prompts with their (D,) float32 embeddings."""
        fresh: dict[str, Tensor] = {}
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder) if entry.name.endswith(ENDING))
        except OSError:  # not there yet
            return {}
        for name in names:
            if name not in self._seen:
                self._seen.add(name)
                fresh.update(self._read(name))
        return fresh

    def put(self, embeddings: Mapping[str, Tensor]) -> None:
        """Keep embeddings. If the folder cannot be written to, that is logged and they are not kept."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            sizes = self._sizes()
            while sum(sizes.values()) > MOST_BYTES:
                oldest = next(iter(sizes))
                del sizes[oldest]
                self._remove(oldest)
            together: dict[str, Tensor] = {}
            if len(sizes) >= MOST_FILES:
                for name in sizes:
                    together.update(self._read(name))
            self._write({**together, **embeddings})
            for name in sizes if together else ():
                self._remove(name)
        except OSError as err:
            logger.warning("text embeddings are not kept in %s: %s", self._folder, err)

    def _sizes(self) -> dict[str, int]:
        """Return the files that are there with their bytes, the oldest first."""
        found = []
        for file in self._folder.glob(f"*{ENDING}"):
            with contextlib.suppress(FileNotFoundError):  # another process has just merged it with others
                status = file.stat()
                found.append((status.st_mtime, file.name, status.st_size))
        return {name: size for _, name, size in sorted(found)}

    def _remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)  # another process may have been quicker

    def _write(self, embeddings: Mapping[str, Tensor]) -> None:
        values = torch.stack(list(embeddings.values())).float().cpu().numpy().astype("<f4")
        header = json.dumps({"prompts": list(embeddings), "numbers": values.shape[1]}).encode()
        body = header + values.tobytes()
        handle, part = tempfile.mkstemp(prefix="new-", suffix=".part", dir=self._folder)
        try:
            with open(handle, "wb") as file:
                file.write(_PREFIX.pack(MAGIC, len(header), zlib.crc32(body)) + body)
            name = f"{zlib.crc32(header):08x}-{Path(part).stem[4:]}{ENDING}"
            os.replace(part, self._folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        self._seen.add(name)

    def _read(self, name: str) -> dict[str, Tensor]:
        try:
            data = (self._folder / name).read_bytes()
            magic, length, checksum = _PREFIX.unpack_from(data)
            body = data[_PREFIX.size :]
            if magic != MAGIC or zlib.crc32(body) != checksum:
                raise ValueError("damaged, or of another version")
            header = json.loads(body[:length])
            values = np.frombuffer(body[length:], "<f4").reshape(len(header["prompts"]), int(header["numbers"]))
        except FileNotFoundError:  # another process has just merged it with others
            return {}
        except (OSError, ValueError, KeyError, TypeError, struct.error) as err:
            logger.warning("text embeddings in %s are not used: %s", self._folder / name, err)
            return {}
        return dict(zip(header["prompts"], torch.from_numpy(values.copy()), strict=True))
