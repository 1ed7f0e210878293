"""A local file of Label Studio, read from a folder that the operator named and nowhere else."""

import os
import posixpath
import stat
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from backend.errors import TaskError
from backend.images.versions import Fetched, Validator


def read_local_file(
    path: str, roots: Iterable[Path], *, max_bytes: int, known: Validator | None = None
) -> Fetched | None:
    """Read a local file of Label Studio, unless it still is the version that is known.

    Args:
        path: `/data/local-files/?d=...`.
        roots: Folders to look in, in this order.
        max_bytes: Largest file that is taken.
        known: Version that the same path gave before.

    Returns:
        The file; `None` if no folder has it.

    Raises:
        TaskError: `refused` if the path leads out of its folder, `too-large`.
    """
    values = parse_qs(urlsplit(path).query, keep_blank_values=True).get("d") or [""]
    wanted = values[-1].replace("\\", "/")
    if ".." in wanted.split("/") or "\0" in wanted:
        raise TaskError("refused", "a local file's path may not lead out of its folder (..)")
    relative = posixpath.normpath(wanted).lstrip("/")
    for root in roots:
        content = _read_below(root, relative, max_bytes, known)
        if content is not None:
            return content
    return None


def _read_below(root: Path, relative: str, max_bytes: int, known: Validator | None) -> Fetched | None:
    """Read a file if it lies below a folder, after all links are followed."""
    try:
        real_root = root.resolve(strict=True)
        real = (real_root / relative).resolve(strict=True)
        if not real.is_relative_to(real_root):
            return None
        # Not blocking, so that a named pipe cannot hold us; no link in place of what was just resolved.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                return None
            version = Validator(f"{facts.st_dev}-{facts.st_ino}-{facts.st_size}-{facts.st_mtime_ns}")
            if version == known:
                return Fetched(None, known)
            content = file.read(max_bytes + 1)
    except (OSError, RuntimeError):
        return None
    if len(content) > max_bytes:
        raise TaskError("too-large", f"expected at most {max_bytes:,} bytes, the local file has more")
    return Fetched(content, version)
