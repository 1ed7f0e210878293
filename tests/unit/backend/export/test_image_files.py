"""Bytes of pictures: as they are where that is what people saw, else as they saw it."""

import io

import numpy as np
import pytest
from data_sets import encoded, pixels
from PIL import Image

from backend.export import image_files as module
from backend.export.image_files import image_file
from clipdiy.photo import decode_photo

ORIENTATION = 0x0112


def turned(kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(pixels(), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


def made(data):
    return image_file(data, decode_photo(data, max_px=10**6))


def shown(data):
    return decode_photo(data, max_px=10**6).pixels


def read(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


RGB = Image.fromarray(pixels())
RGBA = RGB.copy()
RGBA.putalpha(100)
CMYK = RGB.convert("CMYK")


@pytest.mark.parametrize(
    ("data", "ending"),
    [
        (encoded(RGB, "PNG"), "png"),
        (encoded(RGB, "JPEG"), "jpg"),
        (encoded(RGB.convert("L"), "PNG"), "png"),
        (encoded(RGB.convert("L"), "JPEG", progressive=True), "jpg"),
        (turned("JPEG", 1), "jpg"),
    ],
    ids=["png", "jpeg", "grey png", "grey jpeg", "upright jpeg"],
)
def test_plain_files_stay_as_they_are(data, ending):
    file = made(data)
    assert file.data == data
    assert file.ending == ending


@pytest.mark.parametrize(
    ("data", "ending"),
    [
        (turned("JPEG", 6), "jpg"),
        (turned("PNG", 6), "png"),
        (encoded(RGBA, "PNG"), "png"),
        (encoded(RGB.convert("P"), "PNG", transparency=0), "png"),
        (encoded(RGB, "PNG", transparency=tuple(pixels()[0, 0].tolist())), "png"),
        (encoded(RGB, "MPO", save_all=True, append_images=[RGB], quality=95), "jpg"),
        (encoded(RGB, "GIF"), "png"),
        (encoded(RGB, "WEBP", lossless=True), "png"),
        (encoded(RGB, "TIFF"), "png"),
        (encoded(Image.fromarray(pixels()[..., 0].astype(np.uint16) * 257), "PNG"), "png"),
        (encoded(RGB, "PNG", save_all=True, append_images=[RGB.rotate(180)]), "png"),
        (encoded(CMYK, "JPEG"), "jpg"),
    ],
    ids=[
        "turned jpeg",
        "turned png",
        "transparent",
        "palette",
        "one colour clear",
        "mpo",
        "gif",
        "webp",
        "tiff",
        "16 bits",
        "animated",
        "cmyk",
    ],
)
def test_others_are_written_as_a_browser_shows_them(data, ending):
    file = made(data)
    assert file.ending == ending
    difference = np.abs(read(file.data).astype(int) - shown(data))
    assert difference.max() <= (0 if ending == "png" else 6)
    with Image.open(io.BytesIO(file.data)) as image:
        assert image.format == {"png": "PNG", "jpg": "JPEG"}[ending]
        assert image.mode == "RGB"
        assert getattr(image, "n_frames", 1) == 1
        assert "transparency" not in image.info
        assert image.getexif().get(ORIENTATION, 1) == 1


def test_a_file_that_shows_its_picture_but_nothing_else(monkeypatch):
    def damaged(image):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(module, "_is_plain", damaged)
    file = made(encoded(RGB, "JPEG"))
    assert file.ending == "png"
    assert (read(file.data) == shown(encoded(RGB, "JPEG"))).all()


def test_as_jpeg():
    jpeg = encoded(RGB, "JPEG")
    assert made(jpeg).as_jpeg() == jpeg
    other = made(encoded(RGB, "PNG")).as_jpeg()
    assert other[:2] == b"\xff\xd8"
    assert np.abs(read(other).astype(int) - pixels()).max() <= 6
    grey = made(encoded(RGB.convert("L"), "PNG")).as_jpeg()
    assert read(grey).shape == pixels().shape
