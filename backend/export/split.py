"""Is a picture for training or for validation? By its content, so that it never depends on what else there is. Pure."""

import hashlib
from typing import Literal

Split = Literal["train", "val", "unlabelled"]
SPLITS: tuple[Split, ...] = ("train", "val", "unlabelled")
_DIGITS = 1 << 64


def split_of(data: bytes, val_share: float) -> Split:
    """Return where a picture goes.

    The same file goes to the same side in every export and in every project, so that a picture that is there twice is
    never trained on and measured on; a larger share for validation only moves pictures to it.

    Args:
        data: The picture's file, as it was fetched.
        val_share: In [0, 1].
    """
    number = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
    return "val" if number < val_share * _DIGITS else "train"
