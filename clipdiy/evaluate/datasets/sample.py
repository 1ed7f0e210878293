"""What every data set gives: a list of pictures, each with the class of every pixel."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipdiy.errors import DatasetError
from clipdiy.photo import Photo, decode_photo

IGNORE = 255  # pixels of this value count nowhere
MOST_CLASSES = IGNORE  # positions 0..254, background included
MAX_PHOTO_PX = 400_000_000
NAMED_IN_ERROR = 3  # how many missing files a message names


@dataclass(frozen=True)
class Sample:
    """One picture and the truth about it.

    Attributes:
        photo: The picture.
        truth: (H, W) uint8 at the picture's own size: the position of the class, 0 = background, `IGNORE` = unknown.
    """

    photo: Photo
    truth: NDArray[np.uint8]


class Dataset(Protocol):
    """Pictures with truth, read one at a time: nothing here grows with their number but the list of names.

    Attributes:
        name: `voc`, `coco`, `folder` or `scenes`.
        title: What a table is headed with.
        classes: Class names without the background, in the order of their positions 1, 2, ...
        image_ids: One name per picture, in the order in which they are evaluated.
        published_count: How many pictures the whole set has, if there are published numbers for it; else `None`.
        left_out: How many of its pictures are not in `image_ids` because the protocol leaves them out.
    """

    @property
    def name(self) -> str:
        """See the class."""

    @property
    def title(self) -> str:
        """See the class."""

    @property
    def classes(self) -> tuple[str, ...]:
        """See the class."""

    @property
    def image_ids(self) -> tuple[str, ...]:
        """See the class."""

    @property
    def published_count(self) -> int | None:
        """See the class."""

    @property
    def left_out(self) -> int:
        """See the class."""

    def read(self, image_id: str) -> Sample:
        """Read one picture and its truth.

        Raises:
            DatasetError: If the truth does not fit the picture or the classes.
            ImageError: If the picture is damaged.
        """


def fingerprint(dataset: Dataset) -> str:
    """Return 16 hexadecimal digits that change with the classes or the list of pictures."""
    parts = json.dumps([dataset.name, dataset.classes, dataset.image_ids])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def read_photo(path: Path) -> Photo:
    """Decode a picture whole."""
    with path.open("rb") as file:
        return decode_photo(file, max_px=MAX_PHOTO_PX)


def read_truth(path: Path, classes: int) -> NDArray[np.uint8]:
    """Read an indexed PNG: a pixel's value, not its colour, is the position of its class.

    Args:
        path: The file, of Pillow's mode P or L.
        classes: Number of classes with the background.

    Raises:
        DatasetError: If it is no such picture, or holds a value that is neither a class nor `IGNORE`.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            values = np.array(image)
    except OSError as err:
        raise DatasetError(f"{path} cannot be read as a picture: {err}") from err
    if mode not in ("P", "L"):
        raise DatasetError(
            f"{path} must be an indexed (or grey 8-bit) PNG whose values are class positions, and is of mode {mode}"
        )
    labels = values.astype(np.uint8, copy=False)
    wrong = np.unique(labels[(labels >= classes) & (labels != IGNORE)])
    if len(wrong):
        raise DatasetError(
            f"{path} holds the values {wrong.tolist()}; expected 0..{classes - 1} for {classes} classes (0 is the "
            f"background), or {IGNORE} for pixels to be ignored"
        )
    return labels


def check_fit(path: Path, photo: Photo, truth: NDArray[np.uint8]) -> Sample:
    """Pair a picture with its truth.

    Raises:
        DatasetError: If their sizes differ.
    """
    if truth.shape != photo.size_hw:
        raise DatasetError(f"{path}: the picture is {photo.size_hw} (height, width), its truth {truth.shape}")
    return Sample(photo, truth)


def require_files(title: str, missing: list[Path], total: int, layout: str) -> None:
    """Stop if files are missing.

    Raises:
        DatasetError: Naming some of them, how many there are, and what is expected where.
    """
    if missing:
        names = ", ".join(str(path) for path in missing[:NAMED_IN_ERROR])
        more = f" and {len(missing) - NAMED_IN_ERROR} more" if len(missing) > NAMED_IN_ERROR else ""
        raise DatasetError(
            f"{title} is incomplete: {len(missing)} of {total} files are missing ({names}{more}). {layout}"
        )
