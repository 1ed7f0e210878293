"""Image features by what the image is, in memory and on disk: a picture is encoded once in its life.

The key is the SHA-256 of the image's file together with the identity of the core that encoded it, so that an image
that changed, or other weights, never meet old features. What is stored is that key (as a digest) and
`Features.to_bytes`: no code in it, a checksum over it. A file that is damaged, or that stands under another one's
name, is thrown away and the image encoded again.

Beside it, for every source: which content it gave last and by which version, so that an image that has not changed need
not even be downloaded (in memory only).

Several processes may share one folder: a file appears under its name only when it is whole.
"""

import hashlib
import logging
import os
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from backend.images.versions import Validator
from clipdiy.errors import FeaturesError
from clipdiy.method import Features, read_features
from clipdiy.recent import Recent

logger = logging.getLogger(__name__)

SUFFIX = ".features"
MAGIC = b"CDIYK\x01"  # the last byte is the version of the layout
KNOWN_SOURCES = 200_000
EVICT_TO = 0.9  # a full disk cache is brought down to this share, so that not every write has to clear up
_BETWEEN_COUNTS = 500  # writes after which the folder is counted again: other processes write too


@dataclass(frozen=True)
class KnownSource:
    """What a source gave last.

    Attributes:
        content: SHA-256 of the file, as hexadecimal digits.
        validator: To ask the source whether it still has that version.
    """

    content: str
    validator: Validator


class FeatureCache:
    """Keeps features within two limits. May be used by any number of threads."""

    def __init__(self, folder: Path | None, *, memory_bytes: int, disk_bytes: int) -> None:
        """Name the limits. Nothing is read or made before the first use.

        Args:
            folder: Where features are kept; `None` keeps them in memory only.
            memory_bytes: Most bytes of features in memory; 0 for none.
            disk_bytes: Most bytes in the folder; 0 for none.
        """
        self._folder = folder if disk_bytes > 0 else None
        self._disk_bytes = disk_bytes
        self._memory: Recent[str, bytes] = Recent(sys.maxsize, most_bytes=memory_bytes, size_of=len)
        self._sources: Recent[str, KnownSource] = Recent(KNOWN_SOURCES)
        self._disk_lock = threading.Lock()
        self._on_disk: int | None = None
        self._writes = 0
        self._said_full = False

    def source(self, key: str) -> KnownSource | None:
        """Return what is known of a source; see `backend.images.values.source_key`."""
        return self._sources.get(key)

    def remember_source(self, key: str, content: str, validator: Validator | None) -> None:
        """Keep what a source gave; nothing where it names no versions."""
        if validator is not None:
            self._sources.put(key, KnownSource(content, validator))

    def get(self, content: str, core: str) -> Features | None:
        """Return the features of an image, or `None`.

        Args:
            content: SHA-256 of the image's file.
            core: `Method.encoder_identity`.
        """
        key = f"{content}-{core}"
        data = self._memory.get(key)
        if data is None:
            data = self._read(key)
            if data is not None:
                self._memory.put(key, data)
        if data is None:
            return None
        try:
            features = read_features(_unwrapped(key, data))
        except FeaturesError as err:
            logger.warning("cached features were damaged and are thrown away: %s", err)
            self._drop(key)
            return None
        return features if features.made_by == core else None

    def put(self, content: str, core: str, features: Features) -> None:
        """Keep the features of an image. A disk that is full or read-only is reported once and done without."""
        key = f"{content}-{core}"
        data = _prefix(key) + features.to_bytes()
        self._memory.put(key, data)
        if self._folder is None:
            return
        try:
            self._write(key, data)
        except OSError as err:
            if not self._said_full:
                logger.warning("features cannot be kept on disk (%s): going on without", err.strerror or "error")
                self._said_full = True
        else:
            self._said_full = False

    def _drop(self, key: str) -> None:
        self._memory.pop(key)
        path = self._path(key)
        if path is not None:
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path | None:
        return None if self._folder is None else self._folder / key[:2] / (key + SUFFIX)

    def _read(self, key: str) -> bytes | None:
        path = self._path(key)
        if path is None:
            return None
        try:
            data = path.read_bytes()
            os.utime(path)  # the least recently used go first
        except OSError:
            return None
        return data

    def _write(self, key: str, data: bytes) -> None:
        path = self._path(key)
        assert path is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(unfinished, path)
        except OSError:
            Path(unfinished).unlink(missing_ok=True)
            raise
        with self._disk_lock:
            self._writes += 1
            if self._on_disk is None or self._writes >= _BETWEEN_COUNTS:
                self._on_disk = sum(size for _, size, _ in self._list())
                self._writes = 0
            else:
                self._on_disk += len(data)
            if self._on_disk > self._disk_bytes:
                self._on_disk = self._evict()

    def _list(self) -> list[tuple[float, int, Path]]:
        """Return time of last use, size and path of every file, unfinished ones of ended processes too."""
        assert self._folder is not None
        found = []
        for path in self._folder.glob("??/*"):
            try:
                facts = path.stat()
            except OSError:
                continue  # another process was quicker
            found.append((facts.st_mtime, facts.st_size, path))
        return found

    def _evict(self) -> int:
        """Remove what was not used for longest; return what is left."""
        files = sorted(self._list())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self._disk_bytes * EVICT_TO:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total


def content_of(data: bytes) -> str:
    """Return the key of an image's file: its SHA-256 as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _prefix(key: str) -> bytes:
    """Return what a file begins with: which image's features it holds, by which core."""
    return MAGIC + hashlib.sha256(key.encode()).digest()


def _unwrapped(key: str, data: bytes) -> bytes:
    """Take the features' bytes out of a file.

    Raises:
        FeaturesError: If they are not those of this key.
    """
    prefix = _prefix(key)
    if not data.startswith(MAGIC):
        raise FeaturesError("not cached features of this version")
    if not data.startswith(prefix):
        raise FeaturesError("these are the features of another image, or of another core")
    return data[len(prefix) :]
