import json
import struct
import zlib

import pytest
import torch

from clipdiy.dinoiser.features import DinoiserFeatures, FeatureTile
from clipdiy.dinoiser.windows import Window
from clipdiy.errors import FeaturesError


def tile(rows, cols, window, extent=None):
    return FeatureTile(
        torch.randn(rows, cols, 8).half(), torch.randn(rows, cols).half(), window, extent or (rows, cols)
    )


WHOLE = DinoiserFeatures((tile(3, 4, Window(0, 0, 45, 60), (2.8125, 3.75)),), None, (45, 60), "core-1")
WINDOWS = DinoiserFeatures(
    (tile(3, 3, Window(0, 0, 48, 48)), tile(3, 3, Window(0, 12, 48, 60))), (48, 60), (100, 130), "core-2", b"a JPEG"
)


PIXEL = DinoiserFeatures((tile(1, 1, Window(0, 0, 1, 1)),), None, (1, 1), "core-3")


@pytest.mark.parametrize("features", [WHOLE, WINDOWS, PIXEL], ids=["whole", "windows and a picture", "one cell"])
def test_round_trip(features):
    back = DinoiserFeatures.from_bytes(features.to_bytes())
    for ours, theirs in zip(features.tiles, back.tiles, strict=True):
        assert torch.equal(ours.pooled, theirs.pooled)
        assert torch.equal(ours.background, theirs.background)
        assert (ours.window, ours.extent_hw) == (theirs.window, theirs.extent_hw)
    for name in ("seen_hw", "size_hw", "made_by", "picture"):
        assert getattr(back, name) == getattr(features, name)


def test_size_is_as_promised():
    grids = FeatureTile(torch.zeros(28, 28, 512).half(), torch.zeros(28, 28).half(), Window(0, 0, 448, 448), (28, 28))
    assert len(DinoiserFeatures((grids,), None, (448, 448), "core").to_bytes()) < 810_000


def test_every_cut_and_changed_byte_is_noticed():
    data = WINDOWS.to_bytes()
    for length in (0, 1, 13, 20, 200, len(data) - 1):
        with pytest.raises(FeaturesError):
            DinoiserFeatures.from_bytes(data[:length])
    for place in (0, 5, 6, 10, 15, 100, len(data) - 1):
        damaged = bytearray(data)
        damaged[place] ^= 0x40
        with pytest.raises(FeaturesError):
            DinoiserFeatures.from_bytes(bytes(damaged))


GOOD = {"made_by": "x", "size_hw": [1, 1], "seen_hw": None}
ENTRY = {"shape": [1, 1, 1], "window": [0, 0, 1, 1], "extent_hw": [1, 1]}


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b"[]",
        b"not json",
        json.dumps({**GOOD, "tiles": []}).encode(),
        json.dumps({**GOOD, "tiles": [ENTRY]}).encode(),
        json.dumps({**GOOD, "tiles": [{**ENTRY, "shape": [0, 1, 1]}]}).encode(),
        json.dumps({**GOOD, "tiles": [{**ENTRY, "shape": [-1, -1, 1]}]}).encode(),
    ],
    ids=["empty", "list", "no json", "no tile", "no numbers", "nothing in it", "negative"],
)
def test_a_right_checksum_over_a_wrong_header(header):
    data = struct.pack("<6sII", b"CDINO\x01", len(header), zlib.crc32(header)) + header
    with pytest.raises(FeaturesError):
        DinoiserFeatures.from_bytes(data)
