"""Label maps of other programs: counted as ours are, refused by name, and beside the paper's cited figures."""

import json
import shutil

import numpy as np
import pytest
from miniature import TINY, blocks, square_polygon, write_coco, write_indexed, write_voc
from PIL import Image
from typer.testing import CliRunner

from clipdiy.cli import app
from clipdiy.errors import ClipDiyError, ConfigError, DatasetError
from clipdiy.evaluate.cited import TABLE_1, cited_for
from clipdiy.evaluate.datasets.coco import open_coco
from clipdiy.evaluate.datasets.voc import open_folder
from clipdiy.evaluate.predictions import Predictions

CLASSES = ("cat", "dog", "sofa")
SIZES = [(60, 80), (80, 50), (64, 64)]
MODELS = ("--preset", "starter", "--clip", TINY.clip, "--found", TINY.found, "--device", "cpu", "--dtype", "float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "set"
    write_voc(root, [blocks(i, *size, 4) for i, size in enumerate(SIZES)], ending="png")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


@pytest.fixture
def answers(folder, tmp_path):
    """A folder of label maps that are right but for one picture, which is all background."""
    place = tmp_path / "answers"
    place.mkdir()
    dataset = open_folder(folder)
    for image_id in dataset.image_ids:
        truth = dataset.read(image_id).truth
        write_indexed(place / f"{image_id}.png", np.where(truth == 255, 0, truth) * (image_id != "b"))
    return place


def run(command, *arguments):
    result = CliRunner().invoke(app, [command, *map(str, arguments)])
    if isinstance(result.exception, ClipDiyError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def figures(out):
    return json.loads((out / "results.json").read_text())["variants"]


@pytest.mark.parametrize("way", ["square", "full"])
def test_what_segment_writes_counts_as_evaluate_counts(folder, tmp_path, way):
    written, out = tmp_path / "written", tmp_path / "out"
    square = ("--label-map", "square", "--min-area", 0) if way == "square" else ()
    run(
        "segment",
        "--others",
        "none",
        folder / "JPEGImages",
        "--labels",
        ", ".join(CLASSES),
        "--no-refine",
        "--out",
        written,
        *square,
        *MODELS,
    )
    arguments = ("--variants", "clip-diy", "--predictions", f"ours={written}", "--out", out, *MODELS)
    run("evaluate", f"folder:{folder}", *arguments, *(["--full"] if way == "full" else []))
    rows = figures(out)
    ours, again = rows["clip-diy"], rows["predictions:ours"]
    assert 0 < ours["miou"] < 100
    for name in ("miou", "miou_interval_95", "pixel_accuracy", "boundary_miou", "class_iou"):
        assert again[name] == ours[name]
    assert again["difference_to_first"] == [0, 0, 0]


def test_predictions_alone_need_no_weights(folder, answers, tmp_path, monkeypatch):
    monkeypatch.setattr("clipdiy.evaluate.evaluator.build_segmenter", None)
    truth = tmp_path / "truth"
    shutil.copytree(answers, truth)
    dataset = open_folder(folder)
    right = dataset.read("b").truth
    write_indexed(truth / "b.png", np.where(right == 255, 0, right))
    output = run(
        "evaluate", f"folder:{folder}", "--predictions", f"TCL + PAMR={truth}", "--predictions", f"mine={answers}",
        "--out", tmp_path / "out", "--figures", 1,
    )  # fmt: skip
    rows = figures(tmp_path / "out")
    assert list(rows) == ["predictions:TCL + PAMR", "predictions:mine"]
    assert rows["predictions:TCL + PAMR"]["miou"] == 100
    assert rows["predictions:mine"]["miou"] < 90
    assert rows["predictions:TCL + PAMR"]["published_miou"] == {"voc": 55.0, "coco": 31.6}
    assert "55.0" in output
    assert len(list((tmp_path / "out" / "figures").glob("worst-*.png"))) == 1


def test_edited_predictions_are_not_continued(folder, answers, tmp_path):
    arguments = (f"folder:{folder}", "--predictions", f"mine={answers}", "--out", tmp_path / "out")
    run("evaluate", *arguments)
    run("evaluate", *arguments, "--resume")
    write_indexed(answers / "a.png", np.zeros(SIZES[0]))
    with pytest.raises(ConfigError, match="another evaluation"):
        run("evaluate", *arguments, "--resume")


def test_missing_label_maps_are_counted_and_named_before_anything_is_evaluated(folder, answers, tmp_path):
    (answers / "a.png").unlink()
    (answers / "c.png").unlink()
    arguments = (f"folder:{folder}", "--predictions", f"mine={answers}", "--out", tmp_path / "out")
    with pytest.raises(DatasetError, match=r"of mine are incomplete: 2 of 3 .*\(a\.png, c\.png\)\. Expected is"):
        run("evaluate", *arguments)
    (answers / "b.png").rename(answers / "a.png")
    with pytest.raises(DatasetError, match=r"answers.a\.png is \(80, 50\), its picture \(60, 80\)"):
        run("evaluate", *arguments, "--limit", 1)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image.new("P", (80, 59)), r"a\.png is \(59, 80\), its picture \(60, 80\)"),
        (Image.new("L", (80, 60), 4), r"a\.png holds the values \[4\]; expected 0\.\.3"),
        (Image.new("L", (80, 60), 255), r"holds the values \[255\].*no pixels to be ignored"),
        (Image.new("RGB", (80, 60)), "must be an indexed"),
    ],
    ids=["size", "unknown class", "ignored", "colours"],
)
def test_label_maps_that_cannot_be_right_are_refused(folder, tmp_path, image, said):
    image.save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=said):
        Predictions("x", tmp_path).read(open_folder(folder), "a", (60, 80))


def test_a_file_that_is_no_picture_is_named(folder, tmp_path):
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(DatasetError, match=r"a\.png cannot be read"):
        Predictions("x", tmp_path).read(open_folder(folder), "a", (60, 80))


@pytest.mark.parametrize("name", ["000000000007.png", "000000000007.labels.png", "7.png"])
def test_coco_pictures_are_found_by_file_or_id(tmp_path, name):
    cat = {"image_id": 7, "category_id": 17, "segmentation": square_polygon(0, 0, 3, 2)}
    dataset = open_coco(write_coco(tmp_path / "coco", {7: (4, 6)}, [cat]))
    write_indexed(tmp_path / name, np.full((4, 6), 2))
    predictions = Predictions("x", tmp_path)
    predictions.require(dataset, dataset.image_ids)
    assert (predictions.read(dataset, "7", (4, 6)) == 2).all()


@pytest.mark.parametrize("text", ["TCL", "=x", "TCL=", "TCL=/no/such/folder"])
def test_what_cannot_be_meant_is_refused(text):
    with pytest.raises(ConfigError):
        Predictions.parse(text)


def test_two_systems_of_one_name_are_refused(folder, answers):
    with pytest.raises(ConfigError, match="one name"):
        run("evaluate", f"folder:{folder}", "--predictions", f"x={answers}", "--predictions", f"x={answers}")


def test_table_1_is_cited_as_the_paper_has_it():
    assert [(c.name, c.backbone, c.published.get("voc"), c.published.get("coco"), c.from_tcl) for c in TABLE_1] == [
        ("ReCo", "ViT-L/14", 25.1, 15.7, True),
        ("ViL-Seg", "ViT-B/16", 37.3, None, False),
        ("MaskCLIP+", "ResNet101", 38.8, 20.6, True),
        ("CLIPpy", "ViT-B/16", 52.2, 32.0, False),
        ("GroupViT", "ViT-S/16", 52.3, None, False),
        ("ViewCo", "ViT-S/16", 52.4, 23.5, False),
        ("SegCLIP", "ViT-B/16", 52.6, 26.5, False),
        ("OVSegmentor", "ViT-B/16", 53.8, 25.1, False),
        ("TCL + PAMR", "ViT-B/16", 55.0, 31.6, False),
        ("CLIP-DIY", "ViT-B/16", 59.0, 30.4, False),
        ("CLIP-DIY", "ViT-B/32", 59.9, 31.0, False),
    ]


@pytest.mark.parametrize(
    ("name", "voc"),
    [("groupvit", 52.3), ("TCL+PAMR", 55.0), ("TCL", None), ("CLIP-DIY", None), ("mine", None)],
)
def test_predictions_named_as_in_the_paper_stand_beside_its_figure(name, voc):
    assert cited_for(name).get("voc") == voc


def test_the_command_prints_cited_systems_and_marks_them(folder, answers, tmp_path):
    output = run(
        "evaluate", f"folder:{folder}", "--table", "1", "--predictions", f"GroupViT={answers}", "--no-boundary",
        "--limit", 1, "--out", tmp_path / "out", *MODELS,
    )  # fmt: skip
    lines = [line.split() for line in output.splitlines() if "cited: " in line]
    assert len(lines) == 11
    assert ["cited:", "MaskCLIP+,", "ResNet101", "†", "38.8"] in lines
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(content["variants"]) == ["clip-diy", "predictions:GroupViT"]
    assert len(content["cited"]) == 11
    assert content["cited"][0] == {
        "name": "ReCo", "backbone": "ViT-L/14", "published_miou": {"voc": 25.1, "coco": 15.7}, "from_tcl": True,
    }  # fmt: skip
