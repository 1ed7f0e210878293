"""The pictures that the end-to-end tests put into Label Studio: good ones with their truth, and broken ones."""

import base64
import io
import struct
import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipdiy.starter.scenes import Sprites, compose_scene, load_sprites

# What is asked for, in colours that the scenes hardly have: painted pixels are told from the picture by them.
LABEL_COLOURS = {
    "dog": "#ff00ff",
    "cat": "#00ff00",
    "elephant": "#00ffff",
    "butterfly": "#0000ff",
    "pizza": "#7fff00",
    "car": "#00ff7f",
    "rocket": "#ffff00",
    "sunflower": "#7f00ff",
}
ORIENTATION_TAG = 0x0112


@dataclass(frozen=True)
class Picture:
    """A scene and where its objects are.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        objects: (H, W) bool.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.bool_]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.objects.shape
        return height, width


def scene(
    seed: int,
    size_hw: tuple[int, int] = (240, 320),
    n_objects: tuple[int, int] = (1, 1),
    nouns: tuple[str, ...] = tuple(LABEL_COLOURS),
) -> Picture:
    """Compose a scene with objects of some nouns only."""
    made = compose_scene(seed, size_hw=size_hw, n_objects=n_objects, sprites=_sprites(nouns))
    return Picture(made.image, made.labels > 0)


@cache
def _sprites(nouns: tuple[str, ...]) -> Sprites:
    every = load_sprites()
    return Sprites({noun: every.by_noun[noun] for noun in nouns})


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode as PNG."""
    return _save(Image.fromarray(image), "PNG")


def jpeg(image: NDArray[np.uint8], *, orientation: int = 1) -> bytes:
    """Encode as JPEG whose pixels have to be turned as the EXIF orientation says to get the image back."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    quarter_turns = {1: 0, 6: 1}[orientation]
    return _save(Image.fromarray(np.rot90(image, quarter_turns)), "JPEG", quality=92, exif=exif)


def truncated_jpeg() -> bytes:
    """Return a JPEG that ends in the middle, as after a broken download."""
    whole = jpeg(scene(1).image)
    return whole[: len(whole) // 2]


def decompression_bomb(side_px: int = 20_000) -> bytes:
    """Return a valid one-bit PNG of a few kilobytes that unfolds to side_px squared pixels."""
    rows = zlib.compress(b"\0" * ((side_px // 8 + 1) * side_px), 9)
    header = struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def data_uri(content: bytes) -> str:
    """Put a PNG into a data URI."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def label_config(*labels: str) -> str:
    """Return a config with one brush control and these labels."""
    tags = "".join(f'<Label value="{label}" background="{LABEL_COLOURS.get(label, "#ff7f00")}"/>' for label in labels)
    image = '<Image name="img" value="$image" zoom="true"/>'
    return f'<View>{image}<BrushLabels name="brush" toName="img">{tags}</BrushLabels></View>'


def _save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
