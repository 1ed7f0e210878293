"""`clipdiy-ls export` against a Label Studio that answers by HTTP."""

import json
import re

import numpy as np
import pytest
from command_line import ROOT as REPOSITORY
from command_line import Ran, in_process
from data_sets import CONFIG, annotation, box, encoded, pixels, region
from fake_label_studio import LEGACY_TOKEN, FakeLabelStudio
from pictures import data_uri
from PIL import Image

from backend.export.formats import FORMATS
from backend.export.voc import ROOT
from backend.ls.app import main


@pytest.fixture(scope="module")
def label_studio():
    with FakeLabelStudio() as fake:
        yield fake


@pytest.fixture
def project(label_studio):
    """Three tasks: an annotation, a prediction, nothing."""
    number = label_studio.add_project(CONFIG)
    tasks = [label_studio.add_task(number, {"image": data_uri(encoded(pixels(i)))}) for i in range(3)]
    one = annotation(region(box(0, 0, 9, 9), "Dog"), region(box(20, 20, 30, 30), "Unsure", 1))
    label_studio.projects[number].tasks[tasks[0]]["annotations"] = [one]
    made = label_studio.add_prediction(tasks[1], "v1")
    label_studio.predictions[made].update(result=[region(box(3, 3, 8, 8))], score=0.6)
    return number, tasks


@pytest.fixture
def export(label_studio, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("CLIPDIY_DATA_DIR", str(tmp_path / "data"))
    for name in ("CLIPDIY_LABEL_STUDIO_URL", "CLIPDIY_LABEL_STUDIO_TOKEN", "CLIPDIY_ANNOTATORS"):
        monkeypatch.delenv(name, raising=False)

    return in_process(main, capsys, "export", "--url", label_studio.url, "--token", LEGACY_TOKEN)


def test_a_project_becomes_a_data_set(export, project, tmp_path):
    number, tasks = project
    ran = export("--project", number, "--format", "voc", "--out", tmp_path / "set", "--val", 0, "--ignore", "Unsure")
    assert ran == Ran(
        0,
        f"3 pictures in {tmp_path / 'set'}\n  for: train 2, unlabelled 1\n"
        "  masks by: annotation 1, nobody 1, prediction 1\n",
        "",
    )
    with Image.open(tmp_path / "set" / ROOT / f"SegmentationClass/{tasks[0]:06d}.png") as image:
        found = np.asarray(image)
    assert (found == 2 * box(0, 0, 9, 9) + 255 * box(20, 20, 30, 30)).all()


def test_for_scripts_and_with_every_option(export, project, tmp_path):
    number, _ = project
    ran = export(
        *("--project", number, "--format", "masks", "--out", tmp_path / "set", "--json", "--source", "predictions"),
        *("--min-score", 0.55, "--model-version", "v1", "--annotators", "majority", "--control", "brush", "--val", 1),
    )
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {
        "out": str(tmp_path / "set"),
        "format": "masks",
        "count": 3,
        "splits": {"unlabelled": 2, "val": 1},
        "origins": {"nobody": 2, "prediction": 1},
        "problems": [],
    }


@pytest.mark.parametrize(("option", "value"), [("--min-score", 0.65), ("--model-version", "v2")])
def test_predictions_that_do_not_count(export, project, tmp_path, option, value):
    ran = export("--project", project[0], "--format", "yolo", "--out", tmp_path / "set", option, value)
    assert "masks by: annotation 1, nobody 2" in ran.out


def test_tasks_to_import_again(export, project, tmp_path):
    ran = export("--project", project[0], "--format", "labelstudio", "--out", tmp_path / "set")
    assert ran.out == f"3 tasks in {tmp_path / 'set'}\n  masks by: annotation 1, nobody 1, prediction 1\n"


def test_what_could_not_be_read_is_said_and_the_rest_is_written(export, project, label_studio, tmp_path):
    number, _ = project
    for i in range(22):
        label_studio.add_task(number, {"image": f"data:image/png;base64,{i}"})
    ran = export("--project", number, "--format", "hf", "--out", tmp_path / "set")
    assert ran.code == 1
    assert ran.out.startswith("3 pictures")
    lines = ran.err.splitlines()
    assert len(lines) == 21
    assert "the picture is left out" in lines[0]
    assert lines[-1] == "and 2 more"


def test_nothing_is_replaced_unless_asked_for(export, project, tmp_path):
    number, _ = project
    (tmp_path / "set").mkdir()
    (tmp_path / "set/mine").touch()
    given = ("--project", number, "--format", "masks", "--out", tmp_path / "set")
    ran = export(*given)
    assert ran.code == 2
    assert "there already" in ran.err
    assert export(*given, "--overwrite").code == 0
    assert not (tmp_path / "set/mine").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--format", "png"), "there is no format 'png'; there are: voc, coco, yolo, masks, hf, labelstudio"),
        (("--format", "voc", "--source", "both of"), "--source takes annotations, predictions, both; got 'both of'"),
        (("--format", "voc", "--annotators", "x"), "--annotators takes latest, majority; got 'x'"),
        (("--format", "voc", "--control", "x"), "no control that draws is called x; there are: brush"),
        (("--format", "voc", "--ignore", "x"), "no label is called x"),
        (("--format", "voc", "--val", "2"), "--val"),
    ],
)
def test_what_makes_no_sense(export, project, tmp_path, given, said):
    ran = export("--project", project[0], "--out", tmp_path / "set", *given)
    assert ran.code == 2
    assert said in ran.err
    assert not (tmp_path / "set").exists()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_the_annotators_that_are_set_count(export, project, label_studio, tmp_path, monkeypatch):
    number, tasks = project
    masks = [box(0, 0, 9, 9), box(0, 0, 9, 9), box(20, 20, 30, 30)]
    several = [annotation(region(mask), number=i, completed_by=i) for i, mask in enumerate(masks)]
    label_studio.projects[number].tasks[tasks[0]]["annotations"] = several
    monkeypatch.setenv("CLIPDIY_ANNOTATORS", "majority")
    export("--project", number, "--format", "masks", "--out", tmp_path / "set", "--val", 0)
    with Image.open(tmp_path / f"set/masks/train/001-Cat/{tasks[0]:06d}.png") as image:
        assert (np.asarray(image) == 255 * box(0, 0, 9, 9)).all()


def test_pictures_that_label_studio_has_come_from_its_private_address(export, label_studio, tmp_path):
    """It does not serve files, so the refusal is its own, and not that of the rules for strangers' addresses."""
    number = label_studio.add_project(CONFIG, [{"image": "/data/upload/1/a.png"}])
    ran = export("--project", number, "--format", "voc", "--out", tmp_path / "set")
    assert ran.code == 1
    assert ("GET", "/data/upload/1/a.png") in label_studio.requests


def test_the_page_names_every_option_and_format(export):
    page = (REPOSITORY / "docs/export.md").read_text(encoding="utf-8")
    options = set(re.findall(r"(?<= )--[a-z][a-z-]+", export("--help").out)) - {"--help"}
    shared = {"--project", "--url", "--token"}
    assert set(re.findall(r"^\| `(--[a-z-]+)", page, re.MULTILINE)) == options - shared
    assert shared < options
    table = page.partition("## Formats")[2].partition("\n\n`labelstudio`")[0]
    assert tuple(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == FORMATS
