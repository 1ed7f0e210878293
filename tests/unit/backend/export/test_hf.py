"""Parquet, as the `datasets` library loads it."""

import io
import json

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from data_sets import encoded, maps_of_five, pixels, project_of_five, source
from PIL import Image

from backend.export import hf as module
from backend.export.exporting import export_project
from backend.export.hf import HfWriter
from backend.export.writing import DataSet


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "set"
    export_project(source(project_of_five(), ignore=("Unsure",), val_share=0), "hf", out)
    return out


@pytest.fixture
def loaded(out, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()
    return datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))


def test_as_datasets_loads_it(loaded):
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 4, "unlabelled": 1}
    assert isinstance(loaded["train"].features["image"], datasets.Image)
    assert isinstance(loaded["train"].features["mask"], datasets.Image)
    for row, (number, label_map) in zip(loaded["train"], maps_of_five().items(), strict=True):
        assert row["task"] == row["image_id"] == number
        assert row["name"] == f"0000{number}-picture{number}"
        assert (np.asarray(row["image"]) == pixels(number)).all()
        assert (np.asarray(row["mask"]) == np.where(label_map == 65_535, 255, label_map)).all()
    assert loaded["train"]["source"] == ["annotation", "annotation", "prediction", "annotation"]
    assert loaded["train"]["score"] == [None, None, 0.9, None]
    [row] = loaded["unlabelled"]
    assert row["mask"] is None
    assert (np.asarray(row["image"]) == pixels(13)).all()


def test_files_and_names(out):
    assert sorted(path.name for path in (out / "data").iterdir()) == [
        "train-00000-of-00001.parquet",
        "unlabelled-00000-of-00001.parquet",
    ]
    assert json.loads((out / "id2label.json").read_text()) == {"0": "background", "1": "Cat", "2": "Dog"}
    head = (out / "README.md").read_text().split("---\n")[1]
    assert json.loads(head)["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train-*"},
        {"split": "unlabelled", "path": "data/unlabelled-*"},
    ]


def test_the_bytes_of_a_picture_are_its_file(out):
    rows = pq.read_table(out / "data/train-00000-of-00001.parquet").to_pylist()
    assert rows[0]["image"] == {"bytes": encoded(pixels(11)), "path": "000011-picture11.png"}
    with Image.open(io.BytesIO(rows[0]["mask"]["bytes"])) as mask:
        assert mask.mode == "P"


@pytest.mark.parametrize(("most_bytes", "files"), [(3, 4), (10**9, 1)])
@pytest.mark.parametrize(("group_bytes", "groups"), [(3, 4), (10**9, 1)])
def test_neither_a_file_nor_a_group_of_rows_is_too_large(tmp_path, monkeypatch, most_bytes, files, group_bytes, groups):
    monkeypatch.setattr(module, "GROUP_BYTES", group_bytes)
    made = source(project_of_five(), val_share=0)
    writer = HfWriter(tmp_path, DataSet("t", made.classes), most_bytes=most_bytes)
    for picture in made.pictures():
        writer.add(picture)
    writer.finish()
    found = sorted((tmp_path / "data").glob("train-*"))
    assert [path.name for path in found] == [f"train-{i:05d}-of-{files:05d}.parquet" for i in range(files)]
    names = [row["name"][:6] for path in found for row in pq.read_table(path, columns=["name"]).to_pylist()]
    assert names == ["000011", "000012", "000014", "000015"]
    assert sum(pq.read_metadata(path).num_row_groups for path in found) == max(files, groups)
