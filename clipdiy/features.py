"""Everything a picture costs to encode, free of any vocabulary, and its bytes."""

import json
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipdiy.errors import FeaturesError
from clipdiy.objectness.found import ObjectnessMap

MAGIC = b"CDIYF\x01"  # the last byte is the version of the layout
_PREFIX = struct.Struct("<6sII")  # magic, length of the header, CRC-32 of all that follows


@dataclass(frozen=True)
class ImageFeatures:
    """What `Segmenter.encode` makes of one photo; any vocabulary can be asked of it later.

    Attributes:
        crop_embeddings: Per scale (h, w, D) float16 unit vectors, coarsest scale first.
        objectness: Objectness of the photo, or `None` where the configuration uses none.
        size_hw: The photo's own height and width in pixels.
        made_by: Identity of the core that made them (`Segmenter.encoder_identity`); features of another core are
            refused.
    """

    crop_embeddings: tuple[Tensor, ...]
    objectness: ObjectnessMap | None
    size_hw: tuple[int, int]
    made_by: str

    def to_bytes(self) -> bytes:
        """Pack into bytes: a prefix with a checksum, a JSON header, and the arrays as little-endian float16.

        About 62 kB for ViT-B/32 with a 256-pixel objectness. Holds no code: safe to read from anywhere.
        """
        arrays = [embeddings.cpu().numpy().astype("<f2") for embeddings in self.crop_embeddings]
        header: dict[str, object] = {
            "made_by": self.made_by,
            "size_hw": self.size_hw,
            "crops": [array.shape for array in arrays],
        }
        if self.objectness is not None:
            grid = self.objectness.grid.cpu().numpy().astype("<f2")
            header["objectness"] = grid.shape
            header["is_logit"] = self.objectness.is_logit
            header["extent_hw"] = self.objectness.extent_hw
            arrays.append(grid)
        text = json.dumps(header).encode()
        body = text + b"".join(array.tobytes() for array in arrays)
        return _PREFIX.pack(MAGIC, len(text), zlib.crc32(body)) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> "ImageFeatures":
        """Unpack what `to_bytes` made.

        Raises:
            FeaturesError: If the bytes are cut off, changed, or of another version.
        """
        try:
            magic, header_length, checksum = _PREFIX.unpack_from(data)
            if magic != MAGIC:
                raise FeaturesError(f"not image features of this version: starts with {magic!r}, expected {MAGIC!r}")
            body = memoryview(data)[_PREFIX.size :]
            if zlib.crc32(body) != checksum:
                raise FeaturesError("image features are damaged: the checksum differs; encode the image again")
            header = json.loads(bytes(body[:header_length]))
            values = np.frombuffer(body[header_length:], dtype="<f2")
            shapes = [tuple(shape) for shape in header["crops"]]
            if "objectness" in header:
                shapes.append(tuple(header["objectness"]))
            arrays = _split(values, shapes)
            objectness = None
            if "objectness" in header:
                rows, cols = header["extent_hw"]
                objectness = ObjectnessMap(torch.from_numpy(arrays.pop()), bool(header["is_logit"]), (rows, cols))
            height, width = header["size_hw"]
            crops = tuple(torch.from_numpy(array) for array in arrays)
            return cls(crops, objectness, (int(height), int(width)), str(header["made_by"]))
        except (struct.error, ValueError, KeyError, TypeError) as err:
            if isinstance(err, FeaturesError):
                raise
            raise FeaturesError(f"image features cannot be read ({err}); encode the image again") from err


def _split(values: NDArray[np.float16], shapes: list[tuple[int, ...]]) -> list[NDArray[np.float16]]:
    """Cut a flat array into arrays of the given shapes, which must use it up exactly."""
    counts = [int(np.prod(shape)) for shape in shapes]
    if sum(counts) != len(values):
        raise FeaturesError(f"image features hold {len(values)} numbers, their header says {sum(counts)}")
    ends = np.cumsum(counts)
    return [
        values[end - count : end].reshape(shape).copy() for end, count, shape in zip(ends, counts, shapes, strict=True)
    ]
