"""A whole export, whatever the format."""

import json

import pytest
from data_sets import project_of_five, source, task

from backend.errors import ExportError
from backend.export.exporting import DESCRIPTION, MANIFEST, OVERLAPS, export_project
from backend.export.formats import FORMATS, LABEL_STUDIO, WRITERS


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_said_beside_every_format(tmp_path, name):
    out, seen = tmp_path / "set", []
    exported = export_project(source(project_of_five(), ignore=("Unsure",), val_share=0), name, out, done=seen.append)
    assert seen == [1, 2, 3, 4, 5]
    assert exported.count == 5
    assert exported.splits == {"train": 4, "unlabelled": 1}
    assert exported.origins == {"annotation": 3, "prediction": 1, "nobody": 1}
    assert json.loads((out / DESCRIPTION).read_text()) == {
        "title": "A project",
        "format": name,
        "classes": {"1": "Cat", "2": "Dog"},
        "background": 0,
        "ignored": 255,
        "overlaps": OVERLAPS,
        "pictures": {"train": 4, "unlabelled": 1},
        "masks_from": {"annotation": 3, "nobody": 1, "prediction": 1},
    }
    lines = [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]
    assert [line["task"] for line in lines] == [11, 12, 13, 14, 15]
    assert lines[3] == {
        "name": "000014-picture14",
        "image_id": 14,
        "task": 14,
        "page": None,
        "split": "train",
        "source": "prediction",
        "score": 0.9,
        "width": 50,
        "height": 36,
        "classes": [1, 2],
    }


def test_tasks_are_counted_too(tmp_path):
    seen = []
    exported = export_project(source(project_of_five()), LABEL_STUDIO, tmp_path / "set", done=seen.append)
    assert (exported.count, exported.origins["annotation"], seen[-1]) == (5, 3, 5)


@pytest.mark.parametrize("name", FORMATS)
def test_a_project_without_tasks(tmp_path, name):
    export_project(source([]), name, tmp_path / "set")
    assert [*(tmp_path / "set").iterdir()]


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_cut_leaves_nothing(tmp_path, name):
    def stop(count):
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_project(source(project_of_five()), name, tmp_path / "set", done=stop)
    assert [*tmp_path.iterdir()] == []


def test_an_unknown_format(tmp_path):
    with pytest.raises(ExportError, match=r"no format 'png'; there are: voc, .*labelstudio"):
        export_project(source([task(1)]), "png", tmp_path / "set")
