"""Parquet with a picture and its mask in each row, as the `datasets` library loads it.

Both are columns of files in the rows themselves; the mask's pixel values are the classes' numbers. Rows are written in
pieces, so that what is in memory does not grow with the data set.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from backend.export.pictures import ExportedPicture
from backend.export.split import SPLITS
from backend.export.writing import DataSet, PictureWriter, class_map_png, write_file, write_json

MOST_BYTES = 300_000_000
"""Of the pictures and masks of one file."""
GROUP_BYTES = 10_000_000
"""Of a row group, which is what is in memory: here, and of readers that want one picture."""

_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_COLUMNS: tuple[tuple[str, pa.DataType, dict[str, Any]], ...] = (
    ("image", _FILE, {"_type": "Image"}),
    ("mask", _FILE, {"_type": "Image"}),
    ("name", pa.string(), {"dtype": "string", "_type": "Value"}),
    ("image_id", pa.int64(), {"dtype": "int64", "_type": "Value"}),
    ("task", pa.int64(), {"dtype": "int64", "_type": "Value"}),
    ("source", pa.string(), {"dtype": "string", "_type": "Value"}),
    ("score", pa.float64(), {"dtype": "float64", "_type": "Value"}),
)


class _Shards:
    """The rows of one split: a few in memory, the rest in files."""

    def __init__(self, folder: Path, split: str, most_bytes: int) -> None:
        features = {name: feature for name, _, feature in _COLUMNS}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        self._schema = pa.schema([(name, kind) for name, kind, _ in _COLUMNS], metadata=metadata)
        self._folder, self._split, self._most_bytes = folder, split, most_bytes
        self._rows: list[dict[str, Any]] = []
        self._group_bytes = self._file_bytes = 0
        self._writer: Any = None
        self.files: list[Path] = []

    def add(self, row: dict[str, Any]) -> None:
        size = sum(len(row[name]["bytes"]) for name in ("image", "mask") if row[name])
        if self._file_bytes and self._file_bytes + size > self._most_bytes:
            self.close()
        elif self._group_bytes and self._group_bytes + size > GROUP_BYTES:
            self._write_group()
        self._rows.append(row)
        self._group_bytes += size
        self._file_bytes += size

    def close(self) -> None:
        """End the file that is open, if one is."""
        if self._rows:
            self._write_group()
        if self._writer is not None:
            self._writer.close()
        self._writer, self._file_bytes = None, 0

    def _write_group(self) -> None:
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self.files.append(self._folder / f"{self._split}-{len(self.files):05d}.parquet")
            # Pictures are compressed already, and a dictionary of them would only be searched in vain.
            self._writer = pq.ParquetWriter(self.files[-1], self._schema, compression="NONE", use_dictionary=False)
        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows, self._group_bytes = [], 0


class HfWriter(PictureWriter):
    """Writes `data/SPLIT-NUMBER-of-COUNT.parquet`, a card (`README.md`) that names them, and `id2label.json`."""

    def __init__(self, folder: Path, data_set: DataSet, most_bytes: int = MOST_BYTES) -> None:
        """See `PictureWriter`; a file ends before it has more bytes than `most_bytes`."""
        super().__init__(folder, data_set)
        self._shards = {split: _Shards(folder / "data", split, most_bytes) for split in SPLITS}

    def add(self, picture: ExportedPicture) -> None:
        """Keep a picture until there are enough for a row group."""
        mask = None
        if picture.label_map is not None:
            mask = {"bytes": class_map_png(picture.label_map, self.data_set), "path": f"{picture.name}.png"}
        self._shards[picture.split].add(
            {
                "image": {"bytes": picture.file.data, "path": picture.file_name},
                "mask": mask,
                "name": picture.name,
                "image_id": picture.image_id,
                "task": picture.task,
                "source": picture.origin,
                "score": picture.score,
            }
        )

    def finish(self) -> None:
        """Write what is left, and name the files by how many there are."""
        found = []
        for split, shards in self._shards.items():
            shards.close()
            for path in shards.files:
                path.rename(path.with_name(f"{path.stem}-of-{len(shards.files):05d}.parquet"))
            if shards.files:
                found.append({"split": split, "path": f"data/{split}-*"})
        classes = self.data_set.classes
        labels = {str(number): name for number, name in enumerate(("background", *classes.names))}
        write_json(self.folder / "id2label.json", labels)
        card = {
            "task_categories": ["image-segmentation"],
            "configs": [{"config_name": "default", "data_files": found}] if found else [],
        }
        text = (
            f"---\n{json.dumps(card)}\n---\n\n# {' '.join(self.data_set.title.split())}\n\n"
            "`mask` holds the number of each pixel's class (`id2label.json`): 0 is the background, "
            f"{self.data_set.ignored} is to be ignored. In the split `unlabelled` it is missing.\n"
        )
        write_file(self.folder / "README.md", text.encode())
