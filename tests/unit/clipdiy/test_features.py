import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from clipdiy.errors import FeaturesError
from clipdiy.features import PICTURE_BITS, PICTURE_QUALITY, ImageFeatures, pack_picture, picture_bytes, unpack_picture
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.photo import Photo


def make(objectness=True):
    crops = tuple(torch.randn(side, side, 512).half() for side in (1, 3, 7))
    grid = ObjectnessMap(torch.randn(32, 32).half(), True, (32.0, 31.5)) if objectness else None
    return ImageFeatures(crops, grid, (480, 640), "core-1")


@pytest.mark.parametrize("objectness", [True, False])
def test_round_trip(objectness):
    features = make(objectness)
    back = ImageFeatures.from_bytes(features.to_bytes())
    assert back.size_hw == (480, 640)
    assert back.made_by == "core-1"
    for ours, theirs in zip(features.crop_embeddings, back.crop_embeddings, strict=True):
        assert torch.equal(ours, theirs)
    if objectness:
        assert torch.equal(features.objectness.grid, back.objectness.grid)
        assert back.objectness.extent_hw == (32.0, 31.5)
        assert back.objectness.is_logit
    else:
        assert back.objectness is None


def test_size_is_as_promised():
    assert len(make().to_bytes()) < 64_000


def test_every_cut_and_changed_byte_is_noticed():
    data = make().to_bytes()
    for length in (0, 1, 13, 20, 200, len(data) - 1):
        with pytest.raises(FeaturesError):
            ImageFeatures.from_bytes(data[:length])
    for place in (0, 5, 6, 10, 15, 100, len(data) - 1):
        damaged = bytearray(data)
        damaged[place] ^= 0x40
        with pytest.raises(FeaturesError):
            ImageFeatures.from_bytes(bytes(damaged))


@pytest.mark.parametrize(
    "header", [b"{}", b"[]", b"not json", b'{"made_by":"x","size_hw":[1,1],"crops":[[-1,4]]}'], ids=repr
)
def test_a_right_checksum_over_a_wrong_header(header):
    data = struct.pack("<6sII", b"CDIYF\x01", len(header), zlib.crc32(header)) + header
    with pytest.raises(FeaturesError):
        ImageFeatures.from_bytes(data)


def test_a_packed_picture_is_the_jpeg_that_pillow_writes():
    """Features that are kept already, and those of another version, hold the same pictures."""
    photo = Photo.from_array(np.random.default_rng(5).integers(0, 256, (61, 90, 3), np.uint8))
    file = io.BytesIO()
    Image.fromarray(photo.pixels).save(file, "JPEG", quality=PICTURE_QUALITY, subsampling=0)
    assert pack_picture(photo, 90) == file.getvalue()


@pytest.mark.parametrize(("size_hw", "long_px", "small_hw"), [((61, 90), 45, (30, 45)), ((300, 2), 30, (30, 1))])
def test_a_large_picture_is_reduced_before_it_is_packed(size_hw, long_px, small_hw):
    pixels = np.random.default_rng(6).integers(0, 256, (*size_hw, 3), np.uint8)
    pixels.flags.writeable = False
    packed = unpack_picture(pack_picture(Photo.from_array(pixels), long_px))
    file = io.BytesIO()
    small = Image.fromarray(pixels).resize(small_hw[::-1], Image.Resampling.BICUBIC)
    small.save(file, "JPEG", quality=PICTURE_QUALITY, subsampling=0)
    assert packed.shape == (3, *small_hw)
    assert (packed.int() - unpack_picture(file.getvalue()).int()).abs().float().mean() < 1


SHAPES = {
    "reduced": ((60, 90), 45, (30, 45)),
    "reduced, high": ((90, 60), 45, (45, 30)),
    "as large as it may be": ((30, 45), 45, (30, 45)),
    "never enlarged": ((7, 20), 45, (7, 20)),
    "a little smaller already": ((7, 40), 45, (7, 40)),
    "a little too large": ((30, 46), 45, (29, 45)),
    "narrower than a pixel": ((1, 200), 20, (1, 20)),
}


@pytest.mark.parametrize(("size_hw", "long_px", "kept_hw"), SHAPES.values(), ids=SHAPES)
def test_a_packed_picture_comes_back(size_hw: tuple[int, int], long_px: int, kept_hw: tuple[int, int]) -> None:
    rows, cols = np.mgrid[: size_hw[0], : size_hw[1]]
    smooth = np.stack([cols, rows, rows + cols], axis=2).astype(np.uint8)
    back = unpack_picture(pack_picture(Photo.from_array(smooth), long_px))
    assert (back.shape, back.dtype) == ((3, *kept_hw), torch.uint8)
    small = np.asarray(Image.fromarray(smooth).resize((kept_hw[1], kept_hw[0]), Image.Resampling.BICUBIC))
    assert np.abs(back.permute(1, 2, 0).numpy().astype(int) - small).max() <= 8


def test_the_bytes_of_a_picture_are_estimated_from_what_is_kept_of_it() -> None:
    kept = 480 * 640 * PICTURE_BITS / 8
    assert picture_bytes((480, 640), 640) == kept
    assert picture_bytes((640, 480), 1000) == kept, "it is not enlarged"
    assert picture_bytes((1920, 2560), 640) == kept
    noise = Photo.from_array(np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8))
    flat = Photo.from_array(np.zeros((480, 640, 3), np.uint8))
    assert len(pack_picture(flat, 640)) < kept < len(pack_picture(noise, 640))
