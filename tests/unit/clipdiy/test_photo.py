"""What is read out of a picture file, for every kind of file, and what is refused."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image

from clipdiy.errors import ImageError, ShapeError
from clipdiy.photo import ImageScansError, ImageTooLargeError, ImageTooSlowError, Photo, decode_photo

MAX_PX = 10_000_000
HEIGHT, WIDTH = 24, 37
QUADRANTS = {"red": (0, 0), "green": (0, 1), "blue": (1, 0), "white": (1, 1)}
RGB = {"red": (220, 20, 30), "green": (30, 200, 40), "blue": (20, 40, 210), "white": (250, 250, 250)}


def quarters(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """Red, green over blue, white: whatever is turned or swapped shows."""
    pixels = np.empty((height, width, 3), np.uint8)
    for name, (row, column) in QUADRANTS.items():
        rows = slice(0, height // 2) if row == 0 else slice(height // 2, None)
        columns = slice(0, width // 2) if column == 0 else slice(width // 2, None)
        pixels[rows, columns] = RGB[name]
    return Image.fromarray(pixels)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def layout(pixels: NDArray[np.uint8]) -> list[list[str]]:
    """Name the colour nearest to the middle of each quarter."""
    height, width, _ = pixels.shape
    rows, columns = (height // 4, height * 3 // 4), (width // 4, width * 3 // 4)

    def nearest(pixel: NDArray[np.uint8]) -> str:
        return min(RGB, key=lambda name: float(np.abs(pixel.astype(int) - RGB[name]).sum()))

    return [[nearest(pixels[row, column]) for column in columns] for row in rows]


UPRIGHT = [["red", "green"], ["blue", "white"]]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_16_bit_rgb(image: Image.Image) -> bytes:
    wide = np.asarray(image).astype(np.uint16) * 257
    return bytes(cv2.imencode(".png", wide[..., ::-1])[1])


def tiff_16_bit_rgb(image: Image.Image) -> bytes:
    wide = np.asarray(image).astype(np.uint16) * 257
    return bytes(cv2.imencode(".tiff", wide[..., ::-1])[1])


COLOUR_FILES: dict[str, tuple[bytes, int]] = {
    "JPEG": (saved(quarters(), "JPEG", quality=95), 12),
    "JPEG progressive": (saved(quarters(), "JPEG", quality=95, progressive=True), 12),
    "JPEG CMYK": (saved(quarters().convert("CMYK"), "JPEG", quality=95), 14),
    "MPO": (saved(quarters(), "MPO", quality=95, save_all=True, append_images=[Image.new("RGB", (9, 9))]), 12),
    "PNG": (saved(quarters(), "PNG"), 0),
    "PNG palette": (saved(quarters().quantize(16), "PNG"), 6),
    "PNG opaque RGBA": (saved(quarters().convert("RGBA"), "PNG"), 0),
    "PNG 16-bit RGB": (png_16_bit_rgb(quarters()), 1),
    "WebP lossless": (saved(quarters(), "WEBP", lossless=True), 0),
    "WebP lossy": (saved(quarters(), "WEBP", quality=95), 30),
    "GIF": (saved(quarters().quantize(16), "GIF"), 6),
    "GIF animated": (
        saved(quarters().quantize(16), "GIF", save_all=True, append_images=[Image.new("P", (WIDTH, HEIGHT))]),
        6,
    ),
    "AVIF": (saved(quarters(), "AVIF", quality=95), 30),
    "AVIF that says so in the second place": (
        saved(quarters(), "AVIF", quality=95).replace(b"ftypavif", b"ftypmif1", 1),
        30,
    ),
    "AVIF animated": (saved(quarters(), "AVIF", quality=95, save_all=True, append_images=[quarters()]), 30),
    "BMP": (saved(quarters(), "BMP"), 0),
    "BMP palette": (saved(quarters().quantize(16), "BMP"), 6),
    "TIFF": (saved(quarters(), "TIFF"), 0),
    "TIFF deflate": (saved(quarters(), "TIFF", compression="tiff_deflate"), 0),
    "TIFF LZW CMYK": (saved(quarters().convert("CMYK"), "TIFF", compression="tiff_lzw"), 1),
    "TIFF 16-bit RGB": (tiff_16_bit_rgb(quarters()), 1),
}


@pytest.mark.parametrize(("data", "tolerance"), COLOUR_FILES.values(), ids=COLOUR_FILES)
def test_colours_are_decoded_right(data: bytes, tolerance: int) -> None:
    photo = decode_photo(data, max_px=MAX_PX)
    assert photo.size_hw == (HEIGHT, WIDTH)
    assert photo.pixels.shape == (HEIGHT, WIDTH, 3)
    assert photo.pixels.dtype == np.uint8
    assert layout(photo.pixels) == UPRIGHT
    middle = photo.pixels[HEIGHT // 4, WIDTH // 4].astype(int)
    assert np.abs(middle - RGB["red"]).max() <= tolerance


def ramp(dtype: type[np.unsignedinteger[Any]], most: int) -> NDArray[Any]:
    return np.linspace(0, most, 256).round().astype(dtype).reshape(8, 32)


def png_grey_16() -> bytes:
    return saved(Image.fromarray(ramp(np.uint16, 65535)), "PNG")


def tiff_grey(wide: NDArray[np.uint16], *, order: str, bits: int = 16, photometric: int = 1) -> bytes:
    """Write a TIFF of grey samples by hand: both byte orders, white as 0, and more bits claimed than Pillow writes."""
    height, width = wide.shape
    body = wide.astype(order + "u2").tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8 + 2 + 12 * 8 + 4)]
    tags += [(277, 1), (279, len(body))]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    for tag, value in tags:
        kind, form = (4, "I") if value > 65535 or tag in (273, 279) else (3, "H2x")
        head += struct.pack(order + "HHI" + form, tag, kind, 1, value)
    return head + struct.pack(order + "I", 0) + body


GREY_FILES = {
    "PNG 8 bit": saved(Image.fromarray(ramp(np.uint8, 255)), "PNG"),
    "PNG 16 bit": png_grey_16(),
    "PNG grey with alpha": saved(Image.fromarray(ramp(np.uint8, 255)).convert("LA"), "PNG"),
    "TIFF 8 bit": saved(Image.fromarray(ramp(np.uint8, 255)), "TIFF"),
    "TIFF 16 bit little endian": tiff_grey(ramp(np.uint16, 65535), order="<"),
    "TIFF 16 bit big endian": tiff_grey(ramp(np.uint16, 65535), order=">"),
    "TIFF 16 bit, white is 0": tiff_grey(65535 - ramp(np.uint16, 65535), order="<", photometric=0),
}


@pytest.mark.parametrize("data", GREY_FILES.values(), ids=GREY_FILES)
def test_grey_is_scaled_not_clipped(data: bytes) -> None:
    photo = decode_photo(data, max_px=MAX_PX)
    expected = ramp(np.uint8, 255)[..., None].repeat(3, axis=2)
    np.testing.assert_allclose(photo.pixels.astype(int), expected, atol=1)
    assert photo.pixels[0, 0].tolist() == [0, 0, 0]
    assert photo.pixels[-1, -1].tolist() == [255, 255, 255]


def test_16_bits_are_rounded_to_the_nearest_of_8() -> None:
    wide = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    photo = decode_photo(tiff_grey(wide, order="<"), max_px=MAX_PX)
    np.testing.assert_array_equal(photo.pixels[..., 0], np.round(wide / 257))


def test_black_and_white_is_0_and_255() -> None:
    pixels = np.array([[True, False], [False, True]])
    photo = decode_photo(saved(Image.fromarray(pixels), "PNG"), max_px=MAX_PX)
    np.testing.assert_array_equal(photo.pixels[..., 0], pixels * 255)


def half_transparent(mode: str) -> Image.Image:
    """Left half opaque black, right half transparent black."""
    pixels = np.zeros((10, 20, 4), np.uint8)
    pixels[:, :10, 3] = 255
    return Image.fromarray(pixels).convert(mode)


def palette_with_transparency() -> Image.Image:
    image = Image.new("P", (20, 10), 0)
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.paste(1, (10, 0, 20, 10))
    return image


TRANSPARENT = {
    "PNG RGBA": saved(half_transparent("RGBA"), "PNG"),
    "PNG LA": saved(half_transparent("LA"), "PNG"),
    "PNG palette": saved(palette_with_transparency(), "PNG", transparency=1),
    "PNG palette with alpha per colour": saved(palette_with_transparency(), "PNG", transparency=b"\xff\x00"),
    "GIF": saved(palette_with_transparency(), "GIF", transparency=1),
    "WebP": saved(half_transparent("RGBA"), "WEBP", lossless=True, exact=True),
    "AVIF": saved(half_transparent("RGBA"), "AVIF", quality=100),
    "TIFF RGBA": saved(half_transparent("RGBA"), "TIFF"),
    "TIFF LA": saved(half_transparent("LA"), "TIFF"),
}


@pytest.mark.parametrize("keep_px", [None, 10], ids=["all", "reduced"])
@pytest.mark.parametrize("data", TRANSPARENT.values(), ids=TRANSPARENT)
def test_transparency_is_laid_on_white(data: bytes, keep_px: int | None) -> None:
    pixels = decode_photo(data, max_px=MAX_PX, keep_px=keep_px).pixels
    assert pixels[:, 0].max() == 0
    assert pixels[:, -1].min() == 255


def test_half_transparent_pixels_are_mixed() -> None:
    photo = decode_photo(saved(Image.new("RGBA", (3, 3), (0, 0, 0, 102)), "PNG"), max_px=MAX_PX)
    assert (photo.pixels == 153).all()


# What stands where after each EXIF orientation, from the definition of the tag.
ORIENTED = {
    1: UPRIGHT,
    2: [["green", "red"], ["white", "blue"]],
    3: [["white", "blue"], ["green", "red"]],
    4: [["blue", "white"], ["red", "green"]],
    5: [["red", "blue"], ["green", "white"]],
    6: [["blue", "red"], ["white", "green"]],
    7: [["white", "green"], ["blue", "red"]],
    8: [["green", "white"], ["red", "blue"]],
}


def with_orientation(orientation: int, kind: str, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return saved(quarters(*size_hw), kind, exif=exif)


@pytest.mark.parametrize("keep_px", [None, 20], ids=["all", "reduced"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "MPO", "AVIF"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_is_turned_as_exif_says(orientation: int, kind: str, keep_px: int | None) -> None:
    photo = decode_photo(with_orientation(orientation, kind), max_px=MAX_PX, keep_px=keep_px)
    assert photo.size_hw == ((WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH))
    kept = (20, 13) if orientation > 4 else (13, 20)
    assert photo.pixels.shape[:2] == (photo.size_hw if keep_px is None else kept)
    assert layout(photo.pixels) == ORIENTED[orientation]


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
NOT_TURNED = {
    "WebP": with_orientation(6, "WEBP"),
    "XMP": saved(quarters(), "JPEG", xmp=XMP),
    "orientation 0": with_orientation(0, "JPEG"),
    "orientation 9": with_orientation(9, "JPEG"),
    "damaged EXIF": saved(quarters(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nonsense"),
    "EXIF that is none": saved(quarters(), "JPEG", exif=b"Exif\0\0??"),
}


# Pillow says so as a warning; the picture is decoded all the same.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("data", NOT_TURNED.values(), ids=NOT_TURNED)
def test_is_not_turned_where_a_browser_does_not(data: bytes) -> None:
    photo = decode_photo(data, max_px=MAX_PX)
    assert photo.size_hw == (HEIGHT, WIDTH)
    assert layout(photo.pixels) == UPRIGHT


SIZES: dict[str, tuple[tuple[int, int], int, tuple[int, int]]] = {
    "landscape": ((300, 400), 100, (75, 100)),
    "portrait": ((400, 300), 100, (100, 75)),
    "odd": ((333, 501), 64, (43, 64)),
    "just above": ((64, 65), 64, (63, 64)),
    "equal": ((48, 64), 64, (48, 64)),
    "smaller": ((20, 30), 64, (20, 30)),
    "very flat": ((2, 900), 64, (1, 64)),
    "1x1": ((1, 1), 64, (1, 1)),
    "to one pixel": ((30, 40), 1, (1, 1)),
    "9 times": ((576, 600), 64, (61, 64)),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(("size_hw", "keep_px", "kept_hw"), SIZES.values(), ids=SIZES)
def test_keeps_no_more_than_is_needed(
    kind: str, size_hw: tuple[int, int], keep_px: int, kept_hw: tuple[int, int]
) -> None:
    photo = decode_photo(saved(quarters(*size_hw), kind), max_px=MAX_PX, keep_px=keep_px)
    assert photo.pixels.shape == (*kept_hw, 3)
    assert photo.size_hw == size_hw


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_reducing_antialiases(kind: str) -> None:
    # A checkerboard of single pixels must become flat grey, not stripes.
    fine = (np.indices((400, 600)).sum(axis=0) % 2 * 255).astype(np.uint8)
    photo = decode_photo(saved(Image.fromarray(fine), kind), max_px=MAX_PX, keep_px=100)
    assert np.abs(photo.pixels[5:-5, 5:-5].astype(int) - 127).max() <= 12


def test_reducing_a_jpeg_early_gives_the_same_picture() -> None:
    noise = np.random.default_rng(0).normal(size=(12, 16, 3)).astype(np.float32)
    smooth = cv2.resize(noise, (1600, 1200), interpolation=cv2.INTER_CUBIC)
    image = Image.fromarray((smooth * 40 + 128).clip(0, 255).astype(np.uint8))
    data = saved(image, "JPEG", quality=95)
    whole = Image.fromarray(decode_photo(data, max_px=MAX_PX).pixels).resize((200, 150), Image.Resampling.BICUBIC)
    early = decode_photo(data, max_px=MAX_PX, keep_px=200).pixels
    assert np.abs(early.astype(int) - np.asarray(whole)).mean() < 0.5


TOO_LARGE_KINDS = ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"]


@pytest.mark.parametrize("kind", TOO_LARGE_KINDS)
def test_too_many_pixels_are_refused_by_the_header(kind: str) -> None:
    data = saved(quarters(30, 40), kind)
    assert decode_photo(data, max_px=1200).size_hw == (30, 40)
    with pytest.raises(ImageTooLargeError, match=r"at most 1,199 pixels.*40 x 30 = 1,200"):
        decode_photo(data, max_px=1199)


def test_a_bomb_is_refused_without_being_decoded() -> None:
    # 65,500 x 65,500 pixels in 100 bytes: decoding would need 13 GB, or fail as cut off.
    header = struct.pack(">IIBBBBB", 65_500, 65_500, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 99))
    with pytest.raises(ImageTooLargeError, match="4,290,250,000"):
        decode_photo(data, max_px=100_000_000)


@pytest.mark.parametrize("kind", TOO_LARGE_KINDS)
def test_pillow_has_no_say_in_the_limit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Warnings are errors here: Pillow's own would show.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode_photo(saved(quarters(12, 12), kind), max_px=144).size_hw == (12, 12)


def cut(kind: str, share: float, **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    data = saved(Image.fromarray(noise), kind, **options)
    return data[: int(len(data) * share)]


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "nothing"),
    "HTML": (b"\n<!DOCTYPE html><html><body>404</body>", "web page"),
    "JSON": (b'{"detail": "Not found."}', "JSON"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG drawing, which has no pixels: save it as a PNG"),
    "SVG with a declaration": (b'<?xml version="1.0"?><svg/>', "SVG drawing, which has no pixels"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML, perhaps an SVG"),
    "a video": (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "a video"),
    "AVIF cut in half": (cut("AVIF", 0.5), "cut off"),
    "PDF": (b"%PDF-1.7", "PDF"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC photo .*save it as a JPEG"),
    "HEIC that says so in the second place": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC photo"),
    "ICO": (b"\0\0\1\0\1\0", "expected a JPEG"),
    "PPM, which Pillow could open": (saved(quarters(), "PPM"), "expected a JPEG"),
    "ICNS, which Pillow could open": (b"icns\0\0\0\x08", "expected a JPEG"),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt ", "WebP cannot be opened"),
    "JPEG of 3 bytes": (b"\xff\xd8\xff", "cannot be opened"),
    "PNG signature only": (b"\x89PNG\r\n\x1a\n", "cannot be opened"),
    "JPEG cut in half": (cut("JPEG", 0.5), "cut off"),
    "JPEG, the end missing": (cut("JPEG", 0.97), "cut off"),
    "PNG cut in half": (cut("PNG", 0.5), "cut off"),
    "WebP cut in half": (cut("WEBP", 0.5), "cut off"),
    "GIF cut in half": (cut("GIF", 0.5), "cut off"),
    "BMP cut in half": (cut("BMP", 0.5), "cut off"),
    "TIFF cut in half": (cut("TIFF", 0.5), "cut off"),
    "TIFF deflate cut in half": (cut("TIFF", 0.5, compression="tiff_deflate"), "cut off"),
    "TIFF of floats": (saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "8 or 16 bits"),
    "TIFF of 32 bits": (saved(Image.fromarray(np.zeros((4, 4), np.int32)), "TIFF"), "8 or 16 bits"),
}


@pytest.mark.parametrize("keep_px", [None, 16], ids=["all", "reduced"])
@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_says_what_is_no_picture(data: bytes, message: str, keep_px: int | None) -> None:
    with pytest.raises(ImageError, match=message):
        decode_photo(data, max_px=MAX_PX, keep_px=keep_px)


@settings(max_examples=100)
@given(
    st.sampled_from(TOO_LARGE_KINDS).map(lambda kind: saved(quarters(8, 8), kind)),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
)
def test_any_damage_is_read_or_refused(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    try:
        photo = decode_photo(bytes(damaged), max_px=1_000_000)
    except ImageError:
        return
    assert photo.pixels.shape == (*photo.size_hw, 3)


def progressive(scans: int, *, before_each: bytes = b"", **options: Any) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = saved(quarters(64, 64), "JPEG", progressive=True, **options)
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    last = before_each + data[starts[-1] : -2]
    return data[:-2] + last * (scans - len(starts)) + b"\xff\xd9"


HIDDEN = {
    "fill bytes": b"\xff" * 5,
    "a marker without length": b"\xff\x01",
    "a marker without length, and a comment": b"\xff\x01\xff\xfe\x00\x04ab",
    "a comment": b"\xff\xfe\x00\x04ab",
    "a restart": b"\xff\xd0",
}


@pytest.mark.parametrize("before_each", ["", *HIDDEN], ids=["", *HIDDEN])
def test_a_jpeg_of_many_scans_is_refused(before_each: str) -> None:
    hidden = HIDDEN.get(before_each, b"")
    with pytest.raises(ImageScansError, match=r"at most 100 scans.*raise the limit"):
        decode_photo(progressive(101, before_each=hidden), max_px=MAX_PX)


@pytest.mark.parametrize("keep_px", [None, 20], ids=["all", "reduced"])
def test_a_jpeg_of_a_hundred_scans_is_read(keep_px: int | None) -> None:
    assert layout(decode_photo(progressive(100), max_px=MAX_PX, keep_px=keep_px).pixels) == UPRIGHT


def test_how_many_scans_there_may_be_can_be_said() -> None:
    assert layout(decode_photo(progressive(101), max_px=MAX_PX, max_scans=101).pixels) == UPRIGHT
    with pytest.raises(ImageScansError, match="at most 19 scans"):
        decode_photo(progressive(20), max_px=MAX_PX, max_scans=19)


def test_what_only_looks_like_a_scan_is_none() -> None:
    scans = b"\xff\xda\x00\x02" * 1000
    data = saved(quarters(), "JPEG", comment=scans, exif=b"Exif\0\0" + scans)
    assert layout(decode_photo(data, max_px=MAX_PX).pixels) == UPRIGHT
    assert layout(decode_photo(data + b"\0\0" + scans, max_px=MAX_PX).pixels) == UPRIGHT, (
        "behind the end, as in motion photos"
    )


def test_a_jpeg_of_many_segments_is_refused() -> None:
    data = saved(quarters(), "JPEG")
    with pytest.raises(ImageError, match="at most 10,000 segments"):
        decode_photo(data[:2] + b"\xff\xfe\x00\x02" * 10_000 + data[2:], max_px=MAX_PX)
    assert decode_photo(data[:2] + b"\xff\xfe\x00\x02" * 9_900 + data[2:], max_px=MAX_PX).size_hw == (HEIGHT, WIDTH)


class Clock:
    """Goes on by one second with every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


# What each kind is read in, at the least: a JPEG scan by scan.
TIMED = {
    "JPEG, 50 scans": (progressive(50), 50),
    "PNG": (saved(quarters(), "PNG"), 2),
    "GIF": (saved(quarters(), "GIF"), 1),
}


@pytest.mark.parametrize(("data", "reads"), TIMED.values(), ids=TIMED)
def test_time_is_limited(data: bytes, reads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("clipdiy.photo.time.monotonic", clock)
    decode_photo(data, max_px=MAX_PX, timeout_s=1000)
    assert clock.now >= reads
    with pytest.raises(ImageTooSlowError, match=f"longer than {reads - 1} s to decode"):
        decode_photo(data, max_px=MAX_PX, timeout_s=reads - 1)


@pytest.mark.parametrize(
    ("kind", "keep_px", "decoded"),
    [
        pytest.param("PNG", 10, 800 * 640, id="PNG is decoded whole"),
        pytest.param("WEBP", 10, 800 * 640, id="WebP too"),
        pytest.param("JPEG", 10, 100 * 80, id="of a JPEG an eighth a side"),
        pytest.param("JPEG", 160, 400 * 320, id="of a JPEG half a side"),
        pytest.param("JPEG", None, 800 * 640, id="of a JPEG all"),
    ],
)
def test_what_is_decoded_is_admitted(kind: str, keep_px: int | None, decoded: int) -> None:
    asked: list[object] = []

    @contextlib.contextmanager
    def admit(px: int) -> Iterator[None]:
        asked.append(px)
        yield
        asked.append("end")

    decode_photo(saved(quarters(640, 800), kind), max_px=MAX_PX, keep_px=keep_px, admit=admit)
    assert asked == [decoded, "end"]


def test_what_is_not_admitted_is_not_decoded() -> None:
    def admit(px: int) -> contextlib.AbstractContextManager[None]:
        raise InterruptedError("full")

    with pytest.raises(InterruptedError, match="full"):
        decode_photo(saved(quarters(), "PNG"), max_px=MAX_PX, admit=admit)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_window_is_a_photo_of_its_own(orientation: int) -> None:
    data = with_orientation(orientation, "PNG", (40, 60))
    whole = decode_photo(data, max_px=MAX_PX).pixels
    window = slice(3, 30), slice(5, 39)
    photo = decode_photo(data, max_px=MAX_PX, keep_px=8, window=window)
    assert photo.size_hw == (27, 34)
    np.testing.assert_array_equal(photo.pixels, whole[window])


def test_a_file_is_as_good_as_bytes() -> None:
    data = saved(quarters(), "PNG")
    np.testing.assert_array_equal(
        decode_photo(io.BytesIO(data), max_px=MAX_PX).pixels, decode_photo(data, max_px=MAX_PX).pixels
    )


ARRAYS: dict[str, tuple[Callable[[], NDArray[Any]], str]] = {
    "grey": (lambda: np.zeros((4, 4), np.uint8), "shape"),
    "four channels": (lambda: np.zeros((4, 4, 4), np.uint8), "shape"),
    "float": (lambda: np.zeros((4, 4, 3), np.float32), "float32"),
    "no pixel": (lambda: np.zeros((0, 4, 3), np.uint8), "shape"),
}


@pytest.mark.parametrize(("make", "message"), ARRAYS.values(), ids=ARRAYS)
def test_an_array_that_is_no_photo_is_refused(make: Callable[[], NDArray[Any]], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Photo.from_array(make())


def test_an_array_keeps_its_own_size() -> None:
    pixels = np.zeros((5, 7, 3), np.uint8)
    photo = Photo.from_array(pixels)
    assert photo.size_hw == (5, 7)
    assert photo.pixels is pixels


@pytest.mark.parametrize(
    ("size_hw", "kept_hw"),
    [
        pytest.param((40, 400), (32, 320), id="panorama: the shorter side counts"),
        pytest.param((400, 40), (320, 32), id="the same upright"),
        pytest.param((300, 400), (75, 100), id="usual: the longer side counts"),
        pytest.param((20, 30), (20, 30), id="small already"),
        pytest.param((30, 200), (30, 200), id="too narrow to be reduced"),
    ],
)
def test_neither_side_falls_below_what_is_needed(size_hw: tuple[int, int], kept_hw: tuple[int, int]) -> None:
    photo = decode_photo(saved(quarters(*size_hw), "PNG"), max_px=MAX_PX, keep_px=100, keep_short_px=32)
    assert photo.pixels.shape[:2] == kept_hw
    assert photo.size_hw == size_hw


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_of_pillow_is_what_its_file_would_be(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = saved(quarters(), kind, exif=exif.tobytes())
    with Image.open(io.BytesIO(data)) as image:
        ours = Photo.from_image(image)
    theirs = decode_photo(data, max_px=10**6)
    assert ours.size_hw == theirs.size_hw
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        pytest.param(Image.new("L", (2, 3), 7), [7, 7, 7], id="grey"),
        pytest.param(Image.new("RGBA", (2, 3), (0, 0, 255, 0)), [255, 255, 255], id="transparent"),
        pytest.param(Image.new("P", (2, 3), 0), [0, 0, 0], id="palette"),
        pytest.param(Image.new("I;16", (2, 3), 65535), [255, 255, 255], id="16 bits"),
        pytest.param(Image.new("CMYK", (2, 3), (0, 255, 255, 0)), [255, 0, 0], id="CMYK"),
    ],
)
def test_an_image_made_in_memory(image: Image.Image, pixel: list[int]) -> None:
    photo = Photo.from_image(image)
    assert photo.size_hw == (3, 2)
    assert photo.pixels[2, 1].tolist() == pixel


def test_an_image_that_cannot_be_taken_is_refused() -> None:
    with pytest.raises(ImageError, match="mode F"):
        Photo.from_image(Image.new("F", (2, 2)))
    with (
        Image.open(io.BytesIO(saved(quarters(), "PNG")[:-40])) as cut_off,
        pytest.raises(ImageError, match="cannot be decoded"),
    ):
        Photo.from_image(cut_off)
