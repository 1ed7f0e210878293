"""A photo as the core takes it: its pixels, and the size it really has. And how it is read out of a file's bytes.

`decode_photo` sees what a browser shows, because that is what masks will be laid over: the first frame, turned as the
EXIF orientation says, transparency on white. Where browsers and Pillow differ, it follows Chromium: an orientation in a
WebP file or in XMP is not applied (measured: Chromium 156 turns JPEG and PNG, not WebP, and by EXIF only). AVIF says
itself how it is turned, outside of EXIF.
"""

import bisect
import io
import math
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from clipdiy.errors import ImageError, ShapeError

MAX_SCANS = 100
"""Of a JPEG, unless told. Each goes over the whole picture again; progressive ones have about ten."""
MAX_SEGMENTS = 10_000
"""Of a JPEG. 64 kB each: even its largest colour profile has 255."""

Window = tuple[slice, slice]
"""Rows and columns of a picture."""


@dataclass(frozen=True)
class Photo:
    """One picture, turned upright.

    Attributes:
        pixels: (h, w, 3) uint8, RGB. May be smaller than the original: see `Segmenter.keep_long_px`.
        size_hw: Height and width of the original in pixels, after its EXIF orientation. The label map has this size.
    """

    pixels: NDArray[np.uint8]
    size_hw: tuple[int, int]

    @classmethod
    def from_array(cls, pixels: NDArray[np.uint8]) -> "Photo":
        """Take an array at its own size.

        Args:
            pixels: (H, W, 3) uint8, RGB.

        Raises:
            ShapeError: If the shape or dtype is another one, or a side is 0.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise ShapeError(
                f"a photo is (H, W, 3) uint8 with H, W >= 1, got shape {pixels.shape} and dtype {pixels.dtype}"
            )
        height, width, _ = pixels.shape
        return cls(pixels, (height, width))

    @classmethod
    def from_image(cls, image: Image.Image) -> "Photo":
        """Take one of Pillow's images at its own size, as a browser would show it.

        Turned as its EXIF orientation says if it was read from a JPEG or PNG file; transparency on white; 16 bits
        scaled to 8.

        Args:
            image: Of any mode that `decode_photo` takes. Not changed, but loaded.

        Raises:
            ImageError: If it cannot be decoded, or has another mode.
        """
        try:
            return cls.from_array(_upright(image, _orientation(image.format, image)))
        except ImageError:
            raise
        except Exception as err:
            raise ImageError(f"the image cannot be decoded, its file is damaged or cut off: {err}") from err


class ImageTooLargeError(ImageError):
    """The file's header announces more pixels than allowed. Nothing was decoded."""


class ImageScansError(ImageError):
    """The JPEG has more scans than allowed. Nothing was decoded."""


class ImageTooSlowError(ImageError):
    """The file takes longer to decode than allowed. Perhaps it was made for that; perhaps the machine is busy."""


def decode_photo(
    data: bytes | BinaryIO,
    *,
    max_px: int,
    keep_px: int | None = None,
    keep_short_px: int = 0,
    window: Window | None = None,
    max_scans: int = MAX_SCANS,
    timeout_s: float = math.inf,
    admit: Callable[[int], AbstractContextManager[None]] = lambda _px: nullcontext(),
) -> Photo:
    """Decode a picture file.

    JPEG (also MPO), PNG, WebP, AVIF, GIF, BMP and TIFF with 8 or 16 bits, nothing else, whatever else Pillow can open.
    Grey, palette and CMYK become RGB, 16 bits are scaled to 8 (not clipped), transparency is laid on white.

    With `keep_px`, a large JPEG is decoded at 1/2, 1/4 or 1/8 in the frequency domain, at no less than twice the size
    kept, and then, as every picture is, reduced with a bicubic filter that antialiases. Of the filters that one stays
    closest to reducing the whole picture (mean difference 0.12 of 255 for 12 megapixels to 640 and on to 256; 0.25 with
    a bilinear filter, 0.27 with a box).

    Args:
        data: The file's bytes, or a binary file.
        max_px: Most pixels (height x width) the picture may have. Read from the header, before anything is decoded.
        keep_px: Longer side that is needed, in pixels; `None` keeps all.
        keep_short_px: The shorter side is not reduced below this, so that a panorama keeps its rows.
        window: Only these rows and columns are wanted, in pixels of the upright picture: a photo of its own.
        max_scans: Most scans that a JPEG may have. Counted before anything is decoded.
        timeout_s: How long decoding may take. Looked at between the pieces in which Pillow reads a file: in a JPEG at
            each scan at the latest; never in WebP, AVIF and most TIFF files, which it reads in one piece.
        admit: Called with the number of pixels that are about to be decoded, and held while they are: how much is
            decoded at the same time is for the caller to say. What it raises goes through.

    Returns:
        The photo; `size_hw` is its natural size also where fewer pixels are kept.

    Raises:
        ImageTooLargeError: If it has more than `max_px` pixels.
        ImageScansError: If it is a JPEG of more than `max_scans` scans.
        ImageTooSlowError: If it takes longer than `timeout_s`.
        ImageError: If it is none of these formats, damaged, cut off, or a JPEG of more than `MAX_SEGMENTS` segments.
    """
    file = _TimedFile(data if isinstance(data, bytes) else data.read())
    name, image = _open(file, max_scans)
    width, height = image.size
    if width * height > max_px:
        raise ImageTooLargeError(
            f"expected at most {max_px:,} pixels, the {name} has {width} x {height} = {width * height:,}: make the "
            "picture smaller or raise the limit"
        )
    kept = (width, height) if keep_px is None or window is not None else _fit(width, height, keep_px, keep_short_px)
    if kept != (width, height):
        image.draft(None, (2 * kept[0], 2 * kept[1]))
    with admit(image.size[0] * image.size[1]):
        file.until = time.monotonic() + timeout_s
        try:
            picture, is_sideways = _decode(name, image, kept)
            pixels = np.array(picture if window is None else picture.crop(_box_of(window)))
        except ImageError:
            raise
        except _OutOfTimeError as err:
            raise ImageTooSlowError(f"the {name} takes longer than {timeout_s:g} s to decode") from err
        # What Pillow raises on hostile bytes (OSError, ValueError, SyntaxError, struct.error, ...) means the same.
        except Exception as err:
            raise ImageError(f"the {name} cannot be decoded, it is damaged or cut off: {err}") from err
    if window is not None:
        return Photo.from_array(pixels)
    return Photo(pixels, (width, height) if is_sideways else (height, width))


def _decode(name: str, image: ImageFile.ImageFile, kept: tuple[int, int]) -> tuple[Image.Image, bool]:
    """Decode what is opened, reduced to `kept` (width, height) and upright; say whether it lay on its side."""
    orientation = _orientation(name, image)
    picture = _to_8_bits(image)
    if picture.size != kept:
        picture = _reduced(picture, kept)
    picture = _on_white(picture)
    if orientation is not None:
        picture = picture.transpose(orientation)
    return picture, orientation in _SIDEWAYS


def _box_of(window: Window) -> tuple[int, int, int, int]:
    rows, cols = window
    return cols.start, rows.start, cols.stop, rows.stop


class _OutOfTimeError(Exception):
    """Raised out of a file that is read for too long. No OSError, which Pillow takes for a damaged file."""


class _TimedFile(io.BytesIO):
    """A file in memory that can be read until a point in time, and not past the next of some places at once."""

    until = math.inf
    stops: Sequence[int] = ()

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self.until:
            raise _OutOfTimeError
        if size is None or size < 0:
            return super().read()
        at = self.tell()
        place = bisect.bisect_right(self.stops, at)
        return super().read(size if place == len(self.stops) else min(size, self.stops[place] - at))


class _Tiff(TiffImagePlugin.TiffImageFile):
    """TIFF without Pillow's own warning about many pixels, which comes after our own check and has another limit."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size).im
        super().load_prepare()


# By hand, not by Image.open: that warns above a limit of its own, warns about files it does not know, and what it
# can open grows with every plug-in that somebody imports. An MPO is a JPEG followed by others.
_FORMATS: tuple[tuple[str, tuple[bytes, ...], Callable[[BinaryIO], ImageFile.ImageFile]], ...] = (
    ("JPEG", (b"\xff\xd8\xff",), JpegImagePlugin.JpegImageFile),
    ("PNG", (b"\x89PNG\r\n\x1a\n",), PngImagePlugin.PngImageFile),
    ("WebP", (b"RIFF",), WebPImagePlugin.WebPImageFile),
    ("GIF", (b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    ("BMP", (b"BM",), BmpImagePlugin.BmpImageFile),
    ("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _Tiff),
    ("AVIF", (), AvifImagePlugin.AvifImageFile),
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd8])")  # those with a length behind them, and the end
_START_OF_SCAN, _END_OF_IMAGE = b"\xda", b"\xd9"

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))


def _open(file: _TimedFile, max_scans: int) -> tuple[str, ImageFile.ImageFile]:
    """Read a file's header; return the name of its format with it."""
    start = file.read(64)
    file.seek(0)
    for name, magics, opener in _FORMATS:
        if start.startswith(magics) or (name == "AVIF" and _brands(start) & _AVIF_BRANDS):
            if name == "JPEG":
                # Each read of Pillow's ends before the next scan, so that the time is looked at between them.
                file.stops = _scans(file.getvalue(), max_scans)[1:]
            try:
                return name, opener(file)
            except Exception as err:
                raise ImageError(f"the {name} cannot be opened, its header is damaged or cut off: {err}") from err
    raise ImageError(f"expected a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF picture, got {_guess(start)}")


def _scans(jpeg: bytes, max_scans: int) -> list[int]:
    """Return where the scans of a JPEG begin (the first picture of the file, not thumbnails in its segments).

    Raises:
        ImageScansError: If there are more than `max_scans`.
        ImageError: If there are more than `MAX_SEGMENTS` segments.
    """
    scans: list[int] = []
    at = 2
    for _ in range(MAX_SEGMENTS):
        # Between segments, fill bytes; after a scan, its data, in which every 255 is followed by 0 or a restart.
        marker = _MARKER.search(jpeg, at)
        if marker is None or marker[1] == _END_OF_IMAGE:
            return scans
        if marker[1] == _START_OF_SCAN:
            if len(scans) == max_scans:
                raise ImageScansError(
                    f"expected a JPEG of at most {max_scans} scans, got more, which takes long: save it anew or raise "
                    "the limit"
                )
            scans.append(marker.start())
        at = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big")
    raise ImageError(f"expected a JPEG of at most {MAX_SEGMENTS:,} segments, got more: save it anew")


def _brands(start: bytes) -> set[bytes]:
    """Return the brands that a file of boxes (ISO base media) says it is; nothing, if it is none."""
    if start[4:8] != b"ftyp":
        return set()
    names = start[8 : int.from_bytes(start[:4], "big")]
    return {names[at : at + 4] for at in range(0, len(names), 4)}


def _guess(start: bytes) -> str:
    """Say what a file seems to be that is no picture."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "nothing (0 bytes)"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page (HTML): perhaps an error or a login page"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "an SVG drawing, which has no pixels: save it as a PNG"
    if text.startswith(b"<?xml"):
        return "XML, perhaps an SVG drawing: save it as a PNG"
    if text.startswith((b"{", b"[")):
        return "JSON: perhaps an error message"
    if _brands(start) & _HEIC_BRANDS:
        return "a HEIC photo (of an iPhone), which browsers do not show either: save it as a JPEG"
    if _brands(start):
        return "a video"
    if start.startswith(b"%PDF"):
        return "a PDF"
    return "something else"


def _orientation(name: str | None, image: Image.Image) -> Image.Transpose | None:
    """Return how a picture has to be turned; a TIFF turns itself when it is loaded, in size from the start."""
    if name not in ("JPEG", "MPO", "PNG", "AVIF"):
        return None
    # Not image.getexif(): that also believes XMP, which browsers do not. In an AVIF Pillow has written here how the
    # file itself (irot, imir) says it is turned, which is what browsers look at.
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return _TURNS.get(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - whatever is wrong with it
        # Damaged EXIF is no reason to refuse a picture that every browser shows, upright.
        return None


def _fit(width: int, height: int, longer: int, shorter: int) -> tuple[int, int]:
    """Reduce width and height in proportion as far as neither side falls below what is needed of it; at least 1."""
    scale = min(1.0, max(longer / max(width, height), shorter / min(width, height)))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _upright(image: Image.Image, orientation: Image.Transpose | None) -> NDArray[np.uint8]:
    """Return an image's pixels, (h, w, 3) uint8."""
    picture = _on_white(_to_8_bits(image))
    return np.array(picture if orientation is None else picture.transpose(orientation))


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Load a picture and bring it to L, RGB or RGBA."""
    image.load()
    if image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        raise ImageError(f"expected 8 or 16 bits a sample without sign, got Pillow's mode {image.mode}: convert it")
    if image.mode == "La":
        return image.convert("LA").convert("RGBA")
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return _in_colour(image)


def _in_colour(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy what is RGB already


def _reduced(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Reduce a picture of 8 bits to (width, height) with a bicubic filter that antialiases."""
    if picture.mode == "RGBA":  # Pillow weighs a colour by how much of it is to be seen
        return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return Image.fromarray(resize_pixels(np.array(_in_colour(picture)), (size[1], size[0])))


def resize_pixels(pixels: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Do what Pillow's bicubic filter does, to 1 of 255 and much faster: torch has it for these numbers.

    Args:
        pixels: (H, W, 3) uint8.
        size_hw: The new height and width.

    Returns:
        (h, w, 3) uint8.
    """
    import torch  # not for whoever only looks into files

    from clipdiy.crops import resize_uint8

    # A batch of one before its axes are moved: else torch does not see that colours lie side by side, and sorts them.
    image = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))[None].permute(0, 3, 1, 2)
    small = resize_uint8(image, size_hw, "bicubic").permute(0, 2, 3, 1)
    return np.ascontiguousarray(small.numpy()[0])


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Scale grey samples of 16 bits (in TIFF also 12) to 8: white stays white."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    (bits,) = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))
    white = (1 << bits) - 1
    # x 255 / white, rounded, in integers.
    grey = (np.asarray(image).astype(np.uint32) * 255 + white // 2) // white
    white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return Image.fromarray((255 - grey if white_is_zero else grey).astype(np.uint8))


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return _in_colour(picture)
    ground = Image.new("RGB", picture.size, "white")
    ground.paste(picture, mask=picture.getchannel("A"))
    return ground
