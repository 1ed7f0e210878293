"""JSON for Label Studio's import."""

import json

import pytest
from data_sets import annotation, box, prediction, project_of_five, region, source, task

from backend.export.exporting import export_project
from backend.export.labelstudio import LabelStudioWriter
from backend.export.source import ReadTask


def exported(tasks, out, **wanted):
    export_project(source(tasks, **wanted), "labelstudio", out)
    return [one for path in sorted(out.iterdir()) for one in json.loads(path.read_text())]


def test_what_counts_of_each_task(tmp_path):
    tasks = project_of_five()
    found = exported(tasks, tmp_path / "set")
    assert [one["data"] for one in found] == [one["data"] for one in tasks]
    for number in (0, 1, 4):
        [sent] = tasks[number]["annotations"]
        assert found[number]["annotations"] == [{"result": sent["result"]}]
        assert "predictions" not in found[number]
    assert found[2] == {"data": tasks[2]["data"]}
    [sent] = tasks[3]["predictions"]
    assert found[3]["predictions"] == [{"result": sent["result"], "score": 0.9, "model_version": "v1"}]
    assert "annotations" not in found[3]


def test_more_of_a_task(tmp_path):
    full = annotation(region(box(0, 0, 4, 4)), ground_truth=True, lead_time=3.5, unique_id="x", completed_by=2)
    both = {**task(1, annotations=[full], predictions=[prediction()]), "meta": {"shot": 3}}
    [one] = exported([both], tmp_path / "set")
    assert one["meta"] == {"shot": 3}
    assert one["annotations"] == [{"result": full["result"], "ground_truth": True, "lead_time": 3.5}]
    assert "predictions" not in one


def test_no_picture_is_fetched(tmp_path):
    assert len(exported(project_of_five(), tmp_path / "set", files={"a": b""})) == 5


@pytest.mark.parametrize("count", [0, 1, 7])
def test_files_have_an_end(tmp_path, count):
    writer = LabelStudioWriter(tmp_path, most_bytes=60)
    tasks = [ReadTask(i, {"data": {"image": f"a{i}"}}, None) for i in range(count)]
    for one in tasks:
        writer.add(one)
    writer.finish()
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == [f"tasks-{i:03d}.json" for i in range(1, max(1, -(-count // 2)) + 1)]
    assert all(path.stat().st_size < 70 for path in files)
    found = [one for path in files for one in json.loads(path.read_text())]
    assert found == [{"data": {"image": f"a{i}"}} for i in range(count)]


@pytest.mark.parametrize("most_bytes", [60, 10**6])
def test_no_project_gets_too_much(tmp_path, most_bytes):
    writer = LabelStudioWriter(tmp_path, most_bytes, most_tasks=3)
    for i in range(7):
        writer.add(ReadTask(i, {"data": {"image": f"a{i}"}}, None))
    writer.finish()
    for folder, expected in (("", [0, 1, 2]), ("project-2", [3, 4, 5]), ("project-3", [6])):
        files = sorted((tmp_path / folder).glob("*.json"))
        assert files[0].name == "tasks-001.json"
        found = [one["data"]["image"] for path in files for one in json.loads(path.read_text())]
        assert found == [f"a{i}" for i in expected]
