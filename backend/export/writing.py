"""What every format is written by, and what they share: class maps as PNG, JSON that is as long as the data set."""

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.export.classes import IGNORED, Classes
from backend.export.pictures import ExportedPicture
from clipdiy.draw import palette

BYTE_CLASSES = 254
"""Most classes of a map with 8 bits: 0 is the background, 255 ignored."""
BYTE_IGNORED = 255
IGNORED_COLOUR = (224, 224, 192)
"""As in PASCAL VOC."""


@dataclass(frozen=True)
class DataSet:
    """What all pictures of a data set have in common.

    Attributes:
        title: The project's.
        classes: With their numbers.
    """

    title: str
    classes: Classes

    @property
    def ignored(self) -> int:
        """The number that stands for `IGNORED` in its class maps."""
        return BYTE_IGNORED if len(self.classes.names) <= BYTE_CLASSES else IGNORED


class PictureWriter(ABC):
    """Writes pictures in one format, as they come."""

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        """Begin.

        Args:
            folder: Where everything goes; it is there, and empty.
            data_set: What is written.

        Raises:
            ExportError: If the format has no room for it.
        """
        self.folder = folder
        self.data_set = data_set

    @abstractmethod
    def add(self, picture: ExportedPicture) -> None:
        """Write a picture."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is about all pictures."""


def class_map_png(label_map: NDArray[np.uint16], data_set: DataSet) -> bytes:
    """Encode a label map as PNG whose pixel values are the classes' numbers.

    Args:
        label_map: (H, W) uint16, with `IGNORED`.
        data_set: Says how many classes there are.

    Returns:
        Up to `BYTE_CLASSES` classes: 8 bits, indexed, with a colour for each class. Else: grey, 16 bits.
    """
    if data_set.ignored == IGNORED:
        return encode_png(Image.fromarray(label_map))
    values = np.where(label_map == IGNORED, np.uint16(BYTE_IGNORED), label_map).astype(np.uint8)
    image = Image.fromarray(values)
    image.putpalette(palette_of(data_set).tobytes())
    return encode_png(image)


def palette_of(data_set: DataSet) -> NDArray[np.uint8]:
    """Return the colours of an indexed class map, (256, 3) uint8; black where there is no class."""
    colours = np.zeros((256, 3), np.uint8)
    count = len(data_set.classes.names) + 1
    colours[:count] = palette(count)
    colours[BYTE_IGNORED] = IGNORED_COLOUR
    return colours


def encode_png(image: Image.Image) -> bytes:
    """Encode quickly: masks are nearly all runs."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def append_json(path: Path, objects: Iterable[Any]) -> None:
    """Add objects to a file that holds one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for one in objects:
            file.write(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n")


def write_json(path: Path, value: Any) -> None:
    """Write a small file for people too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def copy_as_list(lines: Path, target: BinaryIO) -> None:
    """Write a file of one object a line as one JSON list, without holding it in memory; no file is no object."""
    target.write(b"[")
    if lines.exists():
        with lines.open("rb") as file:
            for number, line in enumerate(file):
                target.write((b",\n" if number else b"\n") + line.rstrip(b"\n"))
    target.write(b"]")
