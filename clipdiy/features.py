"""What CLIP-DIY keeps of a photo, whatever the vocabulary, and how that is written as bytes."""

import io
import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipdiy.errors import FeaturesError
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.packing import pack, reading, unpack
from clipdiy.photo import Photo, resize_pixels

MAGIC = b"CDIYF\x01"  # the last byte is the version of the layout
PICTURE_QUALITY = 92
JPEG_SETTINGS = [
    *(cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]
PICTURE_BITS = 3  # a pixel of such a JPEG takes about that many


@dataclass(frozen=True)
class ImageFeatures:
    """What `Segmenter.encode` makes of one photo; any vocabulary can be asked of it later.

    Attributes:
        crop_embeddings: Per scale (h, w, D) float16 unit vectors, coarsest scale first.
        objectness: Objectness of the photo, or `None` where the configuration uses none.
        size_hw: The photo's own height and width in pixels.
        made_by: Identity of the core that made them (`Segmenter.encoder_identity`); features of another core are
            refused.
        picture: The photo, reduced, as a JPEG, where the configuration refines masks by its colours.
    """

    crop_embeddings: tuple[Tensor, ...]
    objectness: ObjectnessMap | None
    size_hw: tuple[int, int]
    made_by: str
    picture: bytes | None = None

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
        picture = self.picture or b""
        if picture:
            header["picture"] = len(picture)
        return pack(MAGIC, header, b"".join(array.tobytes() for array in arrays) + picture)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ImageFeatures":
        """Unpack what `to_bytes` made.

        Raises:
            FeaturesError: If the bytes are cut off, changed, or of another version.
        """
        with reading():
            header, body = unpack(MAGIC, data)
            picture_start = len(body) - int(header.get("picture", 0))
            values = np.frombuffer(body[:picture_start], dtype="<f2")
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
            picture = bytes(body[picture_start:]) or None
            return cls(crops, objectness, (int(height), int(width)), str(header["made_by"]), picture)


def pack_picture(photo: Photo, long_px: int) -> bytes:
    """Reduce a photo to a longer side of at most `long_px` and write it as a JPEG of high quality."""
    pixels = photo.pixels
    scale = long_px / max(pixels.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        pixels = resize_pixels(pixels, (height, width))
    # The bytes are Pillow's, but OpenCV lets other threads run meanwhile.
    written, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), JPEG_SETTINGS)
    assert written
    return data.tobytes()


def picture_bytes(size_hw: tuple[int, int], long_px: int) -> int:
    """Estimate how many bytes `pack_picture` gives for a photo of this size; pictures differ by a factor of two."""
    return round(math.prod(size_hw) * min(1.0, long_px / max(size_hw)) ** 2 * PICTURE_BITS / 8)


def unpack_picture(data: bytes) -> Tensor:
    """Read what `pack_picture` wrote: (3, h, w) uint8.

    Raises:
        FeaturesError: If it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            pixels = np.array(image.convert("RGB"))
    except OSError as err:
        raise FeaturesError(f"the picture in the features is damaged ({err}); encode the image again") from err
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def _split(values: NDArray[np.float16], shapes: list[tuple[int, ...]]) -> list[NDArray[np.float16]]:
    """Cut a flat array into arrays of the given shapes, which must use it up exactly."""
    counts = [int(np.prod(shape)) for shape in shapes]
    if sum(counts) != len(values):
        raise FeaturesError(f"image features hold {len(values)} numbers, their header says {sum(counts)}")
    ends = np.cumsum(counts)
    return [
        values[end - count : end].reshape(shape).copy() for end, count, shape in zip(ends, counts, shapes, strict=True)
    ]
