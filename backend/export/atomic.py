"""How does a data set appear under its name? Whole, or not at all: written beside it, and renamed at the end."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.errors import ExportError

PARTIAL = ".partial"


@contextmanager
def whole_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Make a folder that gets its name when the block is left without an error.

    A process that is killed leaves a hidden folder beside it, whose name ends in `PARTIAL`; it may be deleted.

    Args:
        out: Its name.
        overwrite: What has the name already is replaced at the end; else only an empty folder may have it.

    Yields:
        Where to write.

    Raises:
        ExportError: If something has the name, or something cannot be written.
    """
    out = out.absolute()
    if not overwrite:
        _refuse(out)
    elif out.exists() and not out.is_dir():
        raise ExportError(f"{out} is no folder")
    beside = out.parent / f".{out.name}-{uuid.uuid4().hex[:8]}{PARTIAL}"
    try:
        # With the rights that any folder gets: temporary ones would be for their owner only.
        beside.mkdir(parents=True)
    except OSError as err:
        raise ExportError(f"cannot make a folder in {out.parent}: {err.strerror or err}") from err
    try:
        yield beside
        _give_name(beside, out, overwrite=overwrite)
    except OSError as err:
        raise ExportError(f"cannot write {out}: {err.strerror or err}") from err
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _give_name(beside: Path, out: Path, *, overwrite: bool) -> None:
    old = beside.with_name(f"{beside.name}-old")
    if overwrite and out.exists():
        os.rename(out, old)
    else:
        # Somebody may have come first.
        _refuse(out)
    try:
        os.rename(beside, out)
    except OSError:
        if old.exists():
            os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _refuse(out: Path) -> None:
    """Raise if a name is taken; an empty folder, which a rename replaces, is not in the way.

    Raises:
        ExportError: If it is.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} is there already: choose another name, or replace it with --overwrite")
