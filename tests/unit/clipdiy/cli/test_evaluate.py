"""`clipdiy evaluate`, with the tiny networks."""

import csv
import json

import pytest
from miniature import FIVE_CLASSES, TINY, write_five
from typer.testing import CliRunner

from clipdiy.cli import app
from clipdiy.errors import ConfigError
from clipdiy.evaluate.variants import VARIANTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_five(tmp_path_factory.mktemp("data") / "voc")


def command(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)


def test_the_command_writes_tables_records_and_figures(folder, tmp_path):
    arguments = (
        f"folder:{folder}", "--preset", "starter", "--clip", TINY.clip, "--found", TINY.found, "--table", "2",
        "--out", tmp_path, "--limit", 3, "--figures", 2, "--device", "cpu",
    )  # fmt: skip
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    assert "w/o multi-scale" in result.output
    assert "59.9" in result.output
    assert "cited: " not in result.output
    content = json.loads((tmp_path / "results.json").read_text())
    assert (content["protocol"], content["way"]) == ("clean", "published")
    assert content["dataset"]["pictures"] == 3
    full = content["variants"]["clip-diy"]
    low, high = full["miou_interval_95"]
    assert 0 <= low <= high <= 100
    assert full["published_miou"] == {"voc": 59.9, "coco": 31.0}
    assert set(full["class_iou"]) == {"background", *FIVE_CLASSES}
    assert content["variants"]["no-objectness"]["difference_to_first"][0] == pytest.approx(
        content["variants"]["no-objectness"]["miou"] - full["miou"], abs=1e-3
    )
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [row["variant"] for row in rows] == ["clip-diy", "no-multi-scale", "no-objectness"]
    assert float(rows[0]["miou"]) == pytest.approx(full["miou"], abs=1e-3)
    classes = csv.DictReader((tmp_path / "classes.csv").read_text().splitlines())
    assert [row["class"] for row in classes] == ["background", *FIVE_CLASSES]
    figures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert figures == ["confusion.png", f"worst-01-{content['worst'][0]}.png", f"worst-02-{content['worst'][1]}.png"]
    resumed = command(*arguments, "--resume", "--limit", 4)
    assert resumed.exit_code == 0
    assert json.loads((tmp_path / "results.json").read_text())["dataset"]["pictures"] == 4


def test_both_methods_stand_side_by_side(folder, tmp_path):
    result = command(
        f"folder:{folder}", "--preset", "starter", "--table", "methods", "--protocol", "mmseg", "--limit", 1,
        "--no-boundary", "--device", "cpu", "--out", tmp_path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "CLIP-DINOiser" in result.output
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["protocol"] == "mmseg"
    assert list(content["variants"]) == ["clip-diy", "dinoiser"]
    assert content["variants"]["dinoiser"]["published_miou"] == {}, "no figure that was not read in the paper"
    methods = {key: one["method"] for key, one in content["configurations"].items()}
    assert methods == {"clip-diy": "clip-diy", "dinoiser": "clip-dinoiser"}


def test_the_row_of_cutler_is_left_out_without_masks(folder, tmp_path):
    arguments = (
        f"folder:{folder}", "--preset", "starter", "--clip", TINY.clip, "--found", TINY.found, "--out", tmp_path,
        "--limit", 1, "--no-boundary",
    )  # fmt: skip
    result = command(*arguments, "--table", "4")
    assert "--instances FILE" in result.output
    assert list(json.loads((tmp_path / "results.json").read_text())["variants"]) == ["found", "found-bkg"]
    with pytest.raises(ConfigError, match="--instances FILE"):
        command(*arguments, "--variants", "cutler")


def test_variants_can_be_listed():
    result = command("scenes:0", "--variants", "list")
    assert all(key in result.output for key in VARIANTS)
