"""What every data set gives: a list of pictures, each with the class of every pixel."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin

from clipdiy.errors import DatasetError, ImageError
from clipdiy.photo import Photo, decode_photo
from clipdiy.vocabulary import BACKGROUND

IGNORE = 255  # pixels of this value count nowhere
Background = Literal["refined", "plain", "none"]
MOST_CLASSES = IGNORE  # positions 0..254, background included
MAX_PHOTO_PX = 400_000_000
NAMED_IN_ERROR = 3  # how many missing files a message names


@dataclass(frozen=True)
class Sample:
    """One picture and the truth about it.

    Attributes:
        photo: The picture.
        truth: (H, W) uint8 at the picture's own size: the position of the class, 0 = background, `IGNORE` = unknown.
            Where the set has no background, 0 is nowhere.
    """

    photo: Photo
    truth: NDArray[np.uint8]


class Dataset(Protocol):
    """Pictures with truth, read one at a time: nothing here grows with their number but the list of names.

    Attributes:
        name: Of its kind, as it is written before the colon: `voc`, `coco`, `folder`, ...
        title: What a table is headed with.
        classes: Class names without the background, in the order of their positions 1, 2, ...
        background: What a pixel is that has none of the classes. `plain` and `refined`: background, a class that
            competes and counts like the others; `refined`: the classes are objects, and CLIP-DINOiser's published
            figures refine the background. `none`: there is no such class; every pixel has one of the classes, or counts
            nowhere.
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
    def background(self) -> Background:
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

    def photo_name(self, image_id: str) -> str:
        """Return the name of a picture's file without its ending."""

    def files(self) -> Iterable[Path]:
        """Return every file that a figure depends on, but the list of names and classes."""

    def read(self, image_id: str) -> Sample:
        """Read one picture and its truth.

        Raises:
            DatasetError: If the truth does not fit the picture or the classes.
            ImageError: If the picture is damaged.
        """


def counted_classes(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of all that is counted: the background first, unless the set has none, then the classes.

    These are the rows of a confusion matrix. A set without a background is counted without position 0.
    """
    return dataset.classes if dataset.background == "none" else (BACKGROUND, *dataset.classes)


def fingerprint(dataset: Dataset) -> str:
    """Return 16 hexadecimal digits that change with the classes, the list of pictures, or a byte of any file."""
    digest = hashlib.sha256(json.dumps([dataset.name, dataset.classes, dataset.image_ids]).encode())
    for path in dataset.files():
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def read_photo(path: Path, size_hw: tuple[int, int], *, turned: bool = True) -> Photo:
    """Decode a picture whole, as its truth lies over it.

    Cameras store photos lying and note how to turn them (EXIF). Whether a truth was drawn over the stored or the turned
    picture is written nowhere; where the two differ in size, its own size tells.

    Args:
        path: The file.
        size_hw: Height and width of the truth.
        turned: Whether a picture may be turned at all.

    Raises:
        DatasetError: If the truth's size does not tell whether the picture is to be turned.
        ImageError: If the file is no picture, or damaged.
    """
    try:
        with path.open("rb") as file:
            photo = decode_photo(file, max_px=MAX_PHOTO_PX)
    except ImageError as err:
        raise ImageError(f"{path}: {err}") from err
    back = _turn_back(path)
    if back is None:
        return photo
    stored = Photo.from_array(np.array(Image.fromarray(photo.pixels).transpose(back)))
    if not turned:
        return stored
    if stored.size_hw == photo.size_hw == size_hw:
        raise DatasetError(
            f"{path} is to be turned by its EXIF orientation, and its truth does not tell whether it was drawn over "
            "the turned picture or the stored one: turn the pixels as the truth lies, and remove the tag"
        )
    return stored if stored.size_hw == size_hw else photo


_TURNS_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def _turn_back(path: Path) -> Image.Transpose | None:
    """Return what undoes the turn that `decode_photo` made; it looks at the EXIF of JPEG and PNG only."""
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(b"\xff\xd8\xff"):
            info = JpegImagePlugin.JpegImageFile(file).info
        elif start.startswith(b"\x89PNG\r\n\x1a\n"):
            info = PngImagePlugin.PngImageFile(file).info
        else:
            return None
        exif = Image.Exif()
        try:
            exif.load(info.get("exif", b""))
            return _TURNS_BACK.get(exif.get(ExifTags.Base.Orientation, 1))
        except Exception:  # noqa: BLE001 - whatever is wrong with it, decode_photo did not turn by it either
            return None


def read_indexed(path: Path) -> NDArray[np.uint8]:
    """Read an indexed PNG: a pixel's value, not its colour, is the position of its class.

    Args:
        path: The file, of Pillow's mode P or L.

    Raises:
        DatasetError: If it is no such picture.
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
    return values.astype(np.uint8, copy=False)


def read_truth(path: Path, classes: int) -> NDArray[np.uint8]:
    """Read a truth.

    Args:
        path: The file.
        classes: Number of classes with the background.

    Raises:
        DatasetError: If it is no indexed picture, or holds a value that is neither a class nor `IGNORE`.
    """
    labels = read_indexed(path)
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
