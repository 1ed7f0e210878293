"""A segmentation goes into a shard and comes out again, number for number."""

import io

import numpy as np
import pytest
from pyarrow import parquet

from backend.bulk.rows import SCHEMA, PackedMap, Row, from_batch, runs_of, to_table
from clipdiy.segmentation import Segmentation


def segmentation(label_map, classes=4):
    label_map = np.asarray(label_map, np.uint16)
    area = np.bincount(label_map.ravel(), minlength=classes) / max(1, label_map.size)
    score = np.where(area > 0, np.linspace(0.1, 0.7, classes), 0).astype(np.float32)
    return Segmentation(label_map, area, score, float(np.float64(1) / 3))


def same(one, other):
    assert one.label_map.dtype == other.label_map.dtype == np.uint16
    np.testing.assert_array_equal(one.label_map, other.label_map)
    assert one.area.dtype == other.area.dtype
    np.testing.assert_array_equal(one.area, other.area)
    assert one.score.dtype == other.score.dtype
    np.testing.assert_array_equal(one.score, other.score)
    assert one.image_score == other.image_score


def there_and_back(*rows):
    table = to_table(rows, "clip-diy-x", {"labels": "cat"})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    read = parquet.read_table(io.BytesIO(buffer.getvalue()))
    return read, [row for batch in read.to_batches() for row in from_batch(batch)]


@pytest.mark.parametrize(
    ("label_map", "values", "lengths"),
    [
        pytest.param([[1, 1], [1, 2]], [1, 2], [3, 1], id="a run goes on in the next row"),
        pytest.param([[0]], [0], [1], id="one pixel"),
        pytest.param([[3, 0, 3]], [3, 0, 3], [1, 1, 1], id="a row"),
        pytest.param([[0] * 5] * 3, [0], [15], id="nothing"),
        pytest.param([[1], [2], [2]], [1, 2], [1, 2], id="a column"),
        pytest.param(np.full((1, 2), 65535), [65535], [2], id="the largest class"),
    ],
)
def test_runs(label_map, values, lengths):
    found = runs_of(np.asarray(label_map, np.uint16))
    assert [part.tolist() for part in found] == [values, lengths]
    assert [part.dtype for part in found] == [np.uint16, np.uint32]
    np.testing.assert_array_equal(np.repeat(*found).reshape(np.shape(label_map)), label_map)


def test_rows_come_out_as_they_went_in():
    rng = np.random.default_rng(0)
    first = segmentation(rng.integers(0, 4, (13, 7)))
    second = segmentation(np.zeros((13, 7)), classes=2)
    row = Row(
        "s3://b/x.jpg",
        "ab12",
        0.25,
        maps=((("brush", "box"), PackedMap.of(first)), (("choices",), PackedMap.of(second))),
    )
    failed = Row("y.jpg", None, failure="not-found", message="it is not there")
    table, [back, other] = there_and_back(row, failed)
    assert table.schema.equals(SCHEMA)
    assert table.schema.metadata[b"labels"] == b"cat"
    assert set(table.column("version").to_pylist()) == {"clip-diy-x"}
    assert table.column("height").to_pylist() == [13, None]
    assert table.column("width").to_pylist() == [7, None]
    assert (back.source, back.digest, back.score, back.failure) == ("s3://b/x.jpg", "ab12", 0.25, None)
    same(back.segmentation_for("box"), first)
    same(back.segmentation_for("brush"), first)
    same(back.segmentation_for("choices"), second)
    with pytest.raises(KeyError):
        back.segmentation_for("another")
    assert other == failed


def test_a_label_map_can_be_read_without_us():
    label_map = np.arange(6, dtype=np.uint16).reshape(2, 3)
    table, _ = there_and_back(
        Row("x", "d", 0.5, maps=((("brush",), PackedMap.of(segmentation(label_map, classes=6))),))
    )
    row = table.to_pylist()[0]
    [found] = row["maps"]
    read = np.repeat(found["values"], found["lengths"]).reshape(row["height"], row["width"])
    np.testing.assert_array_equal(read, label_map)


def test_no_rows():
    table, rows = there_and_back()
    assert table.num_rows == 0
    assert rows == []


def test_what_is_kept_of_a_picture_is_small():
    """A shard's pictures are in memory together."""
    label_map = np.zeros((3000, 4000), np.uint16)
    label_map[1000:2000, 1000:2000] = 1
    packed = PackedMap.of(segmentation(label_map))
    arrays = [value for value in vars(packed).values() if isinstance(value, np.ndarray)]
    # The memory behind an array counts, which may be more than its own.
    held = sum((array if array.base is None else array.base).nbytes for array in arrays)
    assert held < 20_000 < label_map.nbytes
    same(packed.unpacked(), segmentation(label_map))
