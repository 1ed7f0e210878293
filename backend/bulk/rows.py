"""What a shard holds of a picture, and how a segmentation comes out of it again, number for number.

One row a picture: which it is, its classes pixel by pixel as runs, scores, and why there is nothing where that is so.
Plain columns that any reader of Parquet can use: `numpy.repeat(values, lengths).reshape(height, width)` is a label map.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipdiy.segmentation import Segmentation

MAP = pa.struct(
    [
        # Controls of the config that ask for the same share one.
        pa.field("controls", pa.list_(pa.string())),
        pa.field("score", pa.float64()),
        pa.field("values", pa.list_(pa.uint16())),
        pa.field("lengths", pa.list_(pa.uint32())),
        pa.field("class_area", pa.list_(pa.float64())),
        pa.field("class_score", pa.list_(pa.float32())),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("digest", pa.string()),
        pa.field("version", pa.string(), nullable=False),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("score", pa.float64()),
        pa.field("failure", pa.string()),
        pa.field("message", pa.string()),
        pa.field("maps", pa.list_(MAP)),
    ]
)


@dataclass(frozen=True)
class PackedMap:
    """A segmentation as it stands in a shard: a label map of twelve megapixels is 24 MB, its runs some kilobytes.

    Attributes:
        values: (R,) uint16: a class for each run, row by row from the top; a run may go on in the next row.
        lengths: (R,) uint32, in pixels.
        size_hw: Height and width in pixels.
        area: (C,) float64; see `Segmentation`.
        score: (C,) float32; see `Segmentation`.
        image_score: See `Segmentation`.
    """

    values: NDArray[np.uint16]
    lengths: NDArray[np.uint32]
    size_hw: tuple[int, int]
    area: NDArray[np.float64]
    score: NDArray[np.float32]
    image_score: float

    @classmethod
    def of(cls, segmentation: Segmentation) -> "PackedMap":
        """Pack a segmentation."""
        values, lengths = runs_of(segmentation.label_map)
        one = segmentation
        return cls(values, lengths, one.size_hw, one.area, one.score, one.image_score)

    def unpacked(self) -> Segmentation:
        """Return the segmentation, number for number."""
        flat = np.repeat(self.values, self.lengths)
        return Segmentation(flat.reshape(self.size_hw), self.area, self.score, self.image_score)


@dataclass(frozen=True)
class Row:
    """What became of one picture.

    Attributes:
        source: Its name.
        digest: SHA-256 of its file; `None` if that could not be read.
        score: Mean over its segmentations of `Segmentation.image_score`; `None` if it failed.
        failure: Why there is no segmentation: a word; see `backend.errors.TaskFailure`.
        message: What may be shown of that.
        maps: A segmentation for each question, with the controls that ask it, by `from_name`.
    """

    source: str
    digest: str | None = None
    score: float | None = None
    failure: str | None = None
    message: str | None = None
    maps: tuple[tuple[tuple[str, ...], PackedMap], ...] = ()

    def segmentation_for(self, control: str) -> Segmentation:
        """Return the segmentation that a control asked for.

        Raises:
            KeyError: If there is none.
        """
        for controls, packed in self.maps:
            if control in controls:
                return packed.unpacked()
        raise KeyError(control)

    def fields(self, version: str) -> dict[str, Any]:
        """Return it as columns."""
        size_hw = self.maps[0][1].size_hw if self.maps else (None, None)
        return {
            "source": self.source,
            "digest": self.digest,
            "version": version,
            "height": size_hw[0],
            "width": size_hw[1],
            "score": self.score,
            "failure": self.failure,
            "message": self.message,
            "maps": [_map_fields(controls, packed) for controls, packed in self.maps],
        }


def to_table(rows: Iterable[Row], version: str, metadata: Mapping[str, str]) -> pa.Table:
    """Return rows as a table.

    Args:
        rows: In order.
        version: Under which Label Studio would store predictions of them.
        metadata: What else a reader may want to know; in the schema's metadata.
    """
    described = SCHEMA.with_metadata({key.encode(): text.encode() for key, text in metadata.items()})
    return pa.Table.from_pylist([row.fields(version) for row in rows], schema=described)


def from_batch(batch: pa.RecordBatch) -> Iterator[Row]:
    """Yield the rows of a part of a table."""
    for fields in batch.to_pylist():
        size_hw = fields["height"], fields["width"]
        maps = tuple((tuple(one["controls"]), _packed(one, size_hw)) for one in fields["maps"] or ())
        taken = {name: fields[name] for name in ("source", "digest", "score", "failure", "message")}
        yield Row(**taken, maps=maps)


def runs_of(label_map: NDArray[np.uint16]) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """Return a label map as runs.

    Args:
        label_map: (H, W).

    Returns:
        Values and lengths, row by row from the top; a run may go on in the next row. `[[1, 1], [1, 2]]` is `[1, 2]` and
        `[3, 1]`.
    """
    flat = label_map.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1)) if flat.size else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, flat.size)).astype(np.uint32)
    return flat[starts].astype(np.uint16), lengths


def _map_fields(controls: Sequence[str], packed: PackedMap) -> dict[str, Any]:
    return {
        "controls": [*controls],
        "score": packed.image_score,
        "values": packed.values,
        "lengths": packed.lengths,
        "class_area": packed.area,
        "class_score": packed.score,
    }


def _packed(fields: Mapping[str, Any], size_hw: tuple[int, int]) -> PackedMap:
    return PackedMap(
        np.array(fields["values"], np.uint16),
        np.array(fields["lengths"], np.uint32),
        size_hw,
        np.array(fields["class_area"], np.float64),
        np.array(fields["class_score"], np.float32),
        float(fields["score"]),
    )
