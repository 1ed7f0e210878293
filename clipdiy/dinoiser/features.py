"""Everything a picture costs to encode, free of any vocabulary, and its bytes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipdiy.dinoiser.windows import Window
from clipdiy.errors import FeaturesError
from clipdiy.packing import pack, reading, unpack

MAGIC = b"CDINO\x01"  # the last byte is the version of the layout


@dataclass(frozen=True)
class FeatureTile:
    """What one pass of the network gave of a window.

    Attributes:
        pooled: (h, w, D) float16 unit vectors: pooled features, of which only the direction is ever used.
        background: (h, w) float16 logits, above 0 on the foreground.
        window: Which part of the seen picture it is.
        extent_hw: How many rows and columns of the grid the window covers; not whole numbers where the grid reaches
            into padding that is cut off.
    """

    pooled: Tensor
    background: Tensor
    window: Window
    extent_hw: tuple[float, float]


@dataclass(frozen=True)
class DinoiserFeatures:
    """What `Dinoiser.encode` makes of one photo; any vocabulary can be asked of it later.

    Attributes:
        tiles: A single one for the whole picture, or one for each window.
        seen_hw: Size of the picture that the windows were cut from, or `None` for a single tile that is all of it.
        size_hw: The photo's own height and width in pixels.
        made_by: Identity of the core that made them (`Dinoiser.encoder_identity`).
        picture: The photo, reduced, as a JPEG, where the configuration refines masks by its colours.
    """

    tiles: tuple[FeatureTile, ...]
    seen_hw: tuple[int, int] | None
    size_hw: tuple[int, int]
    made_by: str
    picture: bytes | None = None

    def to_bytes(self) -> bytes:
        """Pack into bytes: a prefix with a checksum, a JSON header, and the arrays as little-endian float16.

        About 0.8 MB for 448 x 448 pixels with ViT-B/16, 1.2 MB for 640 x 480. Holds no code: safe to read from
        anywhere.
        """
        header: dict[str, object] = {
            "made_by": self.made_by,
            "size_hw": self.size_hw,
            "seen_hw": self.seen_hw,
            "tiles": [
                {
                    "shape": tuple(tile.pooled.shape),
                    "window": (tile.window.top, tile.window.left, tile.window.bottom, tile.window.right),
                    "extent_hw": tile.extent_hw,
                }
                for tile in self.tiles
            ],
        }
        arrays = [part for tile in self.tiles for part in (tile.pooled, tile.background)]
        rest = b"".join(part.cpu().numpy().astype("<f2").tobytes() for part in arrays) + (self.picture or b"")
        return pack(MAGIC, header, rest)

    @classmethod
    def from_bytes(cls, data: bytes) -> "DinoiserFeatures":
        """Unpack what `to_bytes` made.

        Raises:
            FeaturesError: If the bytes are cut off, changed, or of another version.
        """
        with reading():
            header, rest = unpack(MAGIC, data)
            tiles = []
            for entry in header["tiles"]:
                rows, cols, numbers = (int(side) for side in entry["shape"])
                pooled, rest = _take(rest, (rows, cols, numbers))
                background, rest = _take(rest, (rows, cols))
                height, width = entry["extent_hw"]
                window = Window(*(int(side) for side in entry["window"]))
                tiles.append(FeatureTile(pooled, background, window, (float(height), float(width))))
            if not tiles:
                raise FeaturesError("image features hold no tile; encode the image again")
            seen_hw = None if header["seen_hw"] is None else _size(header["seen_hw"])
            made_by = str(header["made_by"])
            return cls(tuple(tiles), seen_hw, _size(header["size_hw"]), made_by, bytes(rest) or None)


def _take(data: memoryview, shape: tuple[int, ...]) -> tuple[Tensor, memoryview]:
    """Cut one array off the start of the bytes."""
    length = 2 * int(np.prod(shape))
    if min(shape) < 1 or length > len(data):
        raise FeaturesError(f"image features end before an array of shape {shape}")
    return torch.from_numpy(np.frombuffer(data[:length], "<f2").reshape(shape).copy()), data[length:]


def _size(value: list[int]) -> tuple[int, int]:
    height, width = value
    return int(height), int(width)
