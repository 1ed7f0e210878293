"""What all that load weights share: files in a folder, digests, and what a broken file looks like from here."""

import hashlib
import json
import pickle
from pathlib import Path

from safetensors import SafetensorError

from clipdiy.errors import WeightsError

# What a weight file that is damaged, of another model or no weight file at all makes the loaders raise.
NOT_LOADABLE = (
    RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, SafetensorError,
    pickle.UnpicklingError,
)  # fmt: skip


def file_in(folder: Path, *names: str) -> Path:
    """Return the first of some files that is in a folder.

    Raises:
        WeightsError: If none is.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder} must hold {' or '.join(names)}, and does not")


def reason_of(err: Exception) -> str:
    """Say in words why a file could not be loaded."""
    if isinstance(err, pickle.UnpicklingError):
        # torch's own message proposes to execute what the file holds.
        return "the file holds something else than tensors, and nothing else is ever unpickled"
    return str(err) or type(err).__name__


def digest_of(parts: object) -> str:
    """Return 64 hexadecimal digits that change with anything in `parts` (whatever JSON can write)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
