"""With which bytes does a picture go into a data set? As they are, where every reader then sees what people saw.

Masks are those of the picture as a browser shows it. Most readers of data sets do not turn pictures by their EXIF
orientation, and each treats transparency, CMYK and animations in its own way. So a JPEG or PNG that is upright and
plain is kept byte for byte, and every other picture is written anew as it was seen: a JPEG as JPEG, all others
without loss.
"""

import io
import struct
from dataclasses import dataclass
from typing import Literal

from PIL import ExifTags, Image

from clipdiy.photo import Photo

_QUALITY = 95
_PLAIN_MODES = ("RGB", "L")
_ENDINGS: dict[str | None, Literal["jpg", "png"]] = {"JPEG": "jpg", "PNG": "png"}


@dataclass(frozen=True)
class ImageFile:
    """A picture's file in a data set: upright, RGB or grey, 8 bits.

    Attributes:
        data: Its bytes.
        ending: Of its name.
    """

    data: bytes
    ending: Literal["jpg", "png"]

    def as_jpeg(self) -> bytes:
        """Return it as JPEG, for formats that have nothing else."""
        if self.ending == "jpg":
            return self.data
        with Image.open(io.BytesIO(self.data), formats=["PNG"]) as image:
            return _encode(image.convert("RGB"), "JPEG")


def image_file(data: bytes, photo: Photo) -> ImageFile:
    """Return a picture's file as it goes into a data set.

    Args:
        data: The file as it was fetched; it could be decoded.
        photo: What a browser shows of it, with all of its pixels.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            name, ending = image.format, _ENDINGS.get(image.format)
            if ending is not None and _is_plain(image):
                return ImageFile(data, ending)
    except (OSError, ValueError, SyntaxError, struct.error):
        # What follows the picture, such as its EXIF data, may be damaged.
        name = None
    shown = Image.fromarray(photo.pixels)
    if name in ("JPEG", "MPO"):
        return ImageFile(_encode(shown, "JPEG"), "jpg")
    return ImageFile(_encode(shown, "PNG"), "png")


def _is_plain(image: Image.Image) -> bool:
    return (
        image.mode in _PLAIN_MODES
        and "transparency" not in image.info
        and getattr(image, "n_frames", 1) == 1
        and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    )


def _encode(image: Image.Image, kind: Literal["JPEG", "PNG"]) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": _QUALITY, "subsampling": 0} if kind == "JPEG" else {}
    image.save(buffer, kind, **options)
    return buffer.getvalue()
