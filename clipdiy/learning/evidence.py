"""What does a corrected picture say: which class covers how much of each cell, and what did CLIP see there?

Everything is read on a grid of CELLS x CELLS cells over the picture, whatever its size. Crops overlap and are coarse (7
to a side at the finest), so nothing is lost that the embeddings hold. Of a method's features no more is known here than
`Evidence` says.

Shares are read by commands that only count them (`clipdiy-ls quality`), so torch is imported where it is needed: it
takes longer than they do.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from clipdiy.errors import FeaturesError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor

    from clipdiy.objectness.found import ObjectnessMap

CELLS = 32  # to a side
WHOLE = 255  # a share of 1, in the one byte that is kept of it
STRIP_PX = 1_000_000  # pixels of a mask held as floats at once
_PREFIX = struct.Struct("<4sBII")  # magic, layout, number of classes, CRC-32 of what follows
_MAGIC = b"CDSH"
_LAYOUT = 1


@dataclass(frozen=True)
class ClassShares:
    """How much of every cell of a picture each class covers: what is kept of a corrected mask, 1 to 3 kB packed.

    Attributes:
        positions: Ascending positions in a vocabulary, 0 for the background; classes that cover nothing are left out.
        shares: (len(positions), CELLS, CELLS) uint8, 255 for a whole cell. What they leave of a cell is unknown: it
            belongs to a class that the vocabulary no longer has, and nothing is learned from it.
    """

    positions: tuple[int, ...]
    shares: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.shares.shape != (len(self.positions), CELLS, CELLS) or self.shares.dtype != np.uint8:
            raise ShapeError(
                f"shares of {len(self.positions)} classes are ({len(self.positions)}, {CELLS}, {CELLS}) uint8, got "
                f"{self.shares.shape} {self.shares.dtype}"
            )
        if list(self.positions) != sorted(set(self.positions)) or (self.positions and self.positions[0] < 0):
            raise ShapeError(f"positions ascend from 0, each once, got {self.positions}")

    def of(self, position: int) -> NDArray[np.uint8]:
        """Return (CELLS, CELLS) uint8: the shares of one class, 0 where it is not."""
        if position not in self.positions:
            return np.zeros((CELLS, CELLS), np.uint8)
        found: NDArray[np.uint8] = self.shares[self.positions.index(position)]
        return found

    def moved(self, positions: Mapping[int, int]) -> ClassShares:
        """Return the same shares for another vocabulary.

        Args:
            positions: Old position to new position, no new one twice; a class that is not named becomes unknown.
        """
        pairs = sorted((positions[old], i) for i, old in enumerate(self.positions) if old in positions)
        return ClassShares(tuple(new for new, _ in pairs), self.shares[[i for _, i in pairs]])

    def to_bytes(self) -> bytes:
        """Pack, with a checksum. Holds no code: safe to read from anywhere."""
        positions = np.array(self.positions, "<u4").tobytes()
        body = zlib.compress(positions + self.shares.tobytes(), 6)
        return _PREFIX.pack(_MAGIC, _LAYOUT, len(self.positions), zlib.crc32(body)) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> ClassShares:
        """Unpack what `to_bytes` made.

        Raises:
            FeaturesError: If the bytes are cut off, changed, or of another version.
        """
        try:
            magic, layout, count, checksum = _PREFIX.unpack_from(data)
            body = data[_PREFIX.size :]
            if (magic, layout) != (_MAGIC, _LAYOUT):
                raise FeaturesError(f"not class shares of this version: {magic!r} {layout}")
            if zlib.crc32(body) != checksum:
                raise FeaturesError("class shares are damaged: the checksum differs; read the annotation again")
            expected = count * (4 + CELLS * CELLS)
            # Bounded: a few bytes of zeros could stand for gigabytes.
            raw = zlib.decompressobj().decompress(body, expected + 1)
            if len(raw) != expected:
                raise FeaturesError(f"shares of {count} classes have {expected} bytes, got at least {len(raw)}")
            positions = np.frombuffer(raw, "<u4", count)
            shares = np.frombuffer(raw, np.uint8, offset=4 * count).reshape(count, CELLS, CELLS)
            return cls(tuple(positions.tolist()), shares)
        except (struct.error, zlib.error, ShapeError) as err:
            raise FeaturesError(f"class shares cannot be read ({err}); read the annotation again") from err


class Evidence(Protocol):
    """What is learned from of a picture's features, whatever the method; `MethodEntry.evidence` gives it."""

    @property
    def crop_embeddings(self) -> tuple[Tensor, ...]:
        """Per grid over the whole picture (h, w, D) float16 unit vectors in the space of the texts.

        Of crops, or of patches; the mean over the grids is what the method sees at a place.
        """

    @property
    def objectness(self) -> ObjectnessMap | None:
        """What the method takes for an object; `None` where it has no opinion."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """The picture's own height and width in pixels."""

    @property
    def made_by(self) -> str:
        """`Method.encoder_identity` of what made the features."""


@dataclass(frozen=True)
class CorrectedPicture:
    """A picture that somebody corrected.

    Attributes:
        identity: Names the picture for good, best by a digest of its content. Cells are drawn, folds dealt and pictures
            put in order by it, so that nothing depends on when or in which order pictures came.
        features: Evidence of what `encode` made of it.
        shares: What the person left, by position in the vocabulary that is learned for.
    """

    identity: str
    features: Evidence
    shares: ClassShares


def area_means(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average a mask over each cell of the grid, exactly: a pixel on a border counts in both cells by its parts.

    Args:
        mask: (H, W) bool, any size of at least one pixel, also smaller than the grid.

    Returns:
        (CELLS, CELLS) float64 in [0, 1].

    Raises:
        ShapeError: If it has other than two axes, or no pixel.
    """
    if mask.ndim != 2 or mask.size == 0:
        raise ShapeError(f"a mask is (H, W) with at least one pixel, got {mask.shape}")
    height, width = mask.shape
    down, across = _overlap(height), _overlap(width).T
    step = max(1, STRIP_PX // width)
    total = np.zeros((CELLS, CELLS))
    for top in range(0, height, step):
        total += down[:, top : top + step] @ (mask[top : top + step].astype(np.float64) @ across)
    return total.clip(0, 1)


def class_shares(label_map: NDArray[np.integer]) -> ClassShares:
    """Read shares off a label map.

    Args:
        label_map: (H, W) integers, positions in the vocabulary, 0 for the background; negative where it is unknown.

    Returns:
        The classes that cover at least 1/510 of some cell.
    """
    return shares_of_masks({int(c): label_map == c for c in np.unique(label_map) if c >= 0})


def shares_of_masks(masks: Mapping[int, NDArray[np.bool_]]) -> ClassShares:
    """Read shares off masks of single classes, each (H, W) bool, by position; masks may overlap.

    Where they do, a cell's shares are scaled so that they sum to 1: half of the doubt for each.
    """
    positions = sorted(masks)
    means = np.stack([area_means(masks[c]) for c in positions]) if positions else np.zeros((0, CELLS, CELLS))
    means /= np.maximum(means.sum(axis=0), 1)
    shares = np.rint(means * WHOLE).astype(np.uint8)
    kept = np.flatnonzero(shares.reshape(len(shares), CELLS * CELLS).any(axis=1))
    return ClassShares(tuple(positions[i] for i in kept), shares[kept])


@dataclass(frozen=True)
class CellEmbeddings:
    """x(p): Eq. 2 applied to embeddings instead of cosines, held as what it is made of.

    Any product with a text is the text's class map: <x(p), t> is what Eq. 2 gives for t at the centre of cell p.

    Attributes:
        pooling: (CELLS * CELLS, N) float32, what each of the N crops counts in each cell; rows sum to 1. Shared by all
            pictures of one grid of crops.
        crops: (N, D) float16 unit vectors, all scales below each other.
        axes: Of a single grid: what each of its rows and of its columns counts in each row and column of cells,
            (CELLS, rows) and (CELLS, columns) float32; `pooling` is their Kronecker product.
    """

    pooling: NDArray[np.float32]
    crops: NDArray[np.float16]
    axes: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def at(self, cells: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return x(p) of the chosen cells, (len(cells), D) float32; not unit vectors."""
        pooled: NDArray[np.float32] = self.pooling[cells] @ self.crops.astype(np.float32)
        return pooled

    def dot(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return <x(p), w> of every cell, (CELLS * CELLS, K) float32, for (D, K) float32 weights."""
        of_crops = self.crops.astype(np.float32) @ weights
        mapped: NDArray[np.float32]
        if self.axes is None:
            mapped = self.pooling @ of_crops
            return mapped
        # Rows, then columns: of 16 x 16 patches a tenth of the multiplications.
        down, across = self.axes
        by_row = (down @ of_crops.reshape(down.shape[1], -1)).reshape(CELLS, across.shape[1], -1)
        mapped = np.matmul(across, by_row).reshape(CELLS * CELLS, -1)
        return mapped


def cell_embeddings(features: Evidence) -> CellEmbeddings:
    """Lay a picture's crop embeddings over the grid of cells."""
    crops = [scale.flatten(0, 1).numpy() for scale in features.crop_embeddings]
    grids = tuple((int(scale.shape[0]), int(scale.shape[1])) for scale in features.crop_embeddings)
    axes = _axes(*grids[0]) if len(grids) == 1 else None
    return CellEmbeddings(_pooling(grids), np.concatenate(crops).astype(np.float16, copy=False), axes)


def cell_objectness(features: Evidence) -> NDArray[np.float32] | None:
    """Read objectness at the centre of every cell, (CELLS * CELLS,) float32 in [0, 1]; `None` if there is none."""
    if features.objectness is None:
        return None
    from clipdiy.guide import ObjectnessField

    read: NDArray[np.float32] = ObjectnessField(features.objectness, (CELLS, CELLS)).rows(0, CELLS).flatten().numpy()
    return read


def drawing_order(identity: str) -> NDArray[np.float64]:
    """Give every cell of a picture its arrival time in a race, (CELLS * CELLS,) float64, exponentially distributed.

    Divided by weights, the k earliest are k cells drawn without replacement in proportion to the weights (Efraimidis
    and Spirakis, 2006). One race serves all classes, so that what is drawn of one does not depend on the others.

    Args:
        identity: Names the picture; the same name gives the same times, on any machine.
    """
    digest = hashlib.sha256(identity.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "little")).standard_exponential(CELLS * CELLS)


def draw_cells(times: NDArray[np.float64], weights: NDArray[np.integer], count: int) -> NDArray[np.intp]:
    """Draw at most `count` cells in proportion to weights.

    Args:
        times: From `drawing_order`.
        weights: (CELLS * CELLS,), at least 0; a cell of weight 0 is never drawn.
        count: How many, if there are as many.

    Returns:
        Ascending indices of cells.
    """
    candidates = np.flatnonzero(weights)
    arrival = times[candidates] / weights[candidates]
    return np.sort(candidates[np.argsort(arrival, kind="stable")[:count]])


def in_order(pictures: Sequence[CorrectedPicture]) -> list[CorrectedPicture]:
    """Put pictures in the order of a hash of their identities, so that the order they came in does not matter.

    Raises:
        ShapeError: If two have one identity.
    """
    ordered = sorted(pictures, key=lambda picture: hashlib.sha256(picture.identity.encode()).digest())
    identities = {picture.identity for picture in ordered}
    if len(identities) != len(ordered):
        raise ShapeError("two corrected pictures have the same identity: give each picture once")
    return ordered


@lru_cache(maxsize=8)
def _pooling(grids: tuple[tuple[int, int], ...]) -> NDArray[np.float32]:
    """Write bilinear reading of all scales' grids at the cells' centres as one matrix."""
    import torch

    from clipdiy.aggregate import bilinear_matrix

    parts = [torch.kron(bilinear_matrix(CELLS, rows), bilinear_matrix(CELLS, cols)) for rows, cols in grids]
    pooling: NDArray[np.float32] = (torch.cat(parts, dim=1) / len(grids)).numpy()
    pooling.flags.writeable = False
    return pooling


@lru_cache(maxsize=8)
def _axes(rows: int, cols: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Write bilinear reading of one grid at the cells' centres as one matrix for each axis."""
    from clipdiy.aggregate import bilinear_matrix

    down, across = (bilinear_matrix(CELLS, side).numpy() for side in (rows, cols))
    down.flags.writeable = across.flags.writeable = False
    return down, across


def _overlap(size: int) -> NDArray[np.float64]:
    """Return (CELLS, size) float64: the share that each pixel along an axis has in each cell; rows sum to 1."""
    edges = np.arange(CELLS + 1) * (size / CELLS)
    pixels = np.arange(size)
    inside = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap: NDArray[np.float64] = inside.clip(0) / (size / CELLS)
    return overlap
