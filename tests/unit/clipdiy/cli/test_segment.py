"""`clipdiy segment`: what it writes, what it says, how it ends."""

import json
import re

import numpy as np
import pytest
from command_line import TINY_OPTIONS as TINY
from command_line import real_process
from PIL import Image

from clipdiy.config import CleanUp, Pamr, preset
from clipdiy.errors import ConfigError
from clipdiy.weights import STARTER_DIR


@pytest.fixture
def photos(tmp_path):
    """Two photos of one name, and three files that are none."""
    rng = np.random.default_rng(0)
    for name, size_hw in (("a/one.png", (40, 61)), ("b/one.jpg", (64, 48))):
        path = tmp_path / name
        path.parent.mkdir()
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        small.resize(size_hw[::-1]).save(path)
    whole = (tmp_path / "b" / "one.jpg").read_bytes()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad" / "page.png").write_text("<html>")
    (tmp_path / "bad" / "empty.gif").write_bytes(b"")
    return tmp_path


def test_segment_writes_label_map_overlay_report_and_explanation(clipdiy_command, photos):
    out = photos / "out"
    ran = clipdiy_command(
        "segment",
        photos / "a",
        "--labels",
        'cat, "bread, sliced", pet=dog|hamster',
        *TINY,
        "--explain",
        "--out",
        out,
    )
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in out.iterdir()) == [
        "one.explain.png",
        "one.json",
        "one.labels.png",
        "one.overlay.png",
    ]
    report = json.loads((out / "one.json").read_text())
    label_map = np.asarray(Image.open(out / "one.labels.png"))
    assert label_map.shape == (report["height"], report["width"]) == (40, 61)
    assert [label["name"] for label in report["labels"]] == ["background", "cat", "bread, sliced", "pet"]
    assert report["labels"][3]["prompts"] == ["a photo of a dog", "a photo of a hamster"]
    areas = [(label_map == label["value"]).mean() for label in report["labels"]]
    np.testing.assert_allclose([label["area"] for label in report["labels"]], areas, atol=1e-6)
    assert all(0 <= label["score"] <= 1 for label in report["labels"])
    assert 0 <= report["score"] <= 1
    assert report["photo"] == str(photos / "a" / "one.png")
    assert report["model"]["clip"] == TINY[1]
    assert len(report["model"]["identity"]) == 16
    colour = Image.open(out / "one.labels.png").convert("RGB").getpixel((0, 0))
    assert "#" + bytes(colour).hex() == report["labels"][label_map[0, 0]]["colour"]
    assert str(out / "one.overlay.png") in ran.out


def test_the_other_method_is_named_and_explains_itself(clipdiy_command, photos):
    out = photos / "out"
    arguments = ("--preset", "starter", "--method", "clip-dinoiser", "--device", "cpu", "--explain", "--out", out)
    ran = clipdiy_command("segment", photos / "a", "--labels", "cat, xylophone", *arguments)
    assert ran.code == 0, ran.err
    assert "never saw the words of 'xylophone'" in ran.err
    report = json.loads((out / "one.json").read_text())
    model = {name: report["model"][name] for name in ("clip", "heads", "way", "long_px")}
    assert model == {"clip": "starter", "heads": "starter", "way": "whole", "long_px": 256}
    label_map = np.asarray(Image.open(out / "one.labels.png"))
    areas = [(label_map == label["value"]).mean() for label in report["labels"]]
    np.testing.assert_allclose([label["area"] for label in report["labels"]], areas, atol=1e-6)
    with Image.open(out / "one.explain.png") as panel:
        assert min(panel.size) > 200


def test_one_bad_photo_does_not_cost_another(clipdiy_command, photos):
    out = photos / "out"
    ran = clipdiy_command(
        "segment",
        photos / "a",
        photos / "b",
        photos / "bad",
        photos / "gone.png",
        "--labels",
        "cat",
        *TINY,
        "--out",
        out,
    )
    assert ran.code == 1
    assert sorted(path.name for path in out.glob("*.json")) == ["one-2.json", "one.json"]
    for name, reason in (
        ("cut.jpg", "cut off"),
        ("page.png", "HTML"),
        ("empty.gif", "0 bytes"),
        ("gone.png", "no such"),
    ):
        assert re.search(rf"{name}: .*{reason}", ran.err), ran.err
    assert "4 of 6 could not be used" in ran.err
    assert "Traceback" not in ran.err


def test_run_again_replaces_its_own_results_only(clipdiy_command, photos):
    for folder in ("a", "b", "a"):
        assert clipdiy_command("segment", photos / folder, "--labels", "cat", *TINY, "--out", photos / "out").code == 0
    written = {path.name: json.loads(path.read_text())["photo"] for path in (photos / "out").glob("*.json")}
    assert written == {"one.json": str(photos / "a" / "one.png"), "one-2.json": str(photos / "b" / "one.jpg")}


def test_exit_codes_of_the_real_process(photos):
    ran = real_process("segment", photos / "a", photos / "bad", "--labels", "cat", *TINY, "--out", photos / "out")
    assert ran.code == 1
    assert (photos / "out" / "one.overlay.png").is_file()
    assert "page.png" in ran.err
    assert "Traceback" not in ran.err


def test_missing_weights_are_one_message_and_exit_code_2(photos):
    ran = real_process(
        "segment",
        photos / "a",
        "--labels",
        "cat",
        "--out",
        photos / "out",
        CLIPDIY_WEIGHTS_DIR=photos / "w",
        HF_HOME=photos / "hub",
    )
    assert ran.code == 2
    assert ran.out == ""
    for part in (
        photos / "w" / "found" / "decoder_weights.pt",
        "https://huggingface.co/laion/",
        "clipdiy weights fetch",
    ):
        assert str(part) in ran.err
    assert "Traceback" not in ran.err
    assert not (photos / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--labels", "cat", "--preset", "fancy"], "there is no preset 'fancy'", id="preset"),
        pytest.param(["--labels", "cat", "--clip", "ViT-B-32:nope"], "knows no weights 'nope'", id="tag"),
        pytest.param(["--labels", "cat", "--clip", "ViT-B-32"], "ARCHITECTURE:TAG", id="no tag"),
        pytest.param(["--labels", "cat", "--clip", "local-dir:/nowhere"], "/nowhere", id="no such folder"),
        pytest.param(["--labels", "cat", "--dtype", "int4"], "float32, bfloat16 or float16", id="dtype"),
        pytest.param(["--labels", "cat", "--label-map", "round"], "'full' or 'square'", id="label map"),
        pytest.param(["--labels", "cat", "--min-area", "7"], "share of the picture", id="area"),
        pytest.param(["--labels", "cat", "--template", "photo"], "must hold {}", id="template"),
        pytest.param(["--labels", ","], "there is no label", id="no label"),
        pytest.param(["--labels", "background"], "at least one label", id="background alone"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_done(clipdiy_command, photos, arguments, message):
    ran = clipdiy_command("segment", photos / "a", *TINY, *arguments, "--out", photos / "out")
    assert ran.code == 2
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert not list((photos / "out").glob("*"))


def test_labels_must_be_given(clipdiy_command, photos):
    ran = clipdiy_command("segment", photos / "a")
    assert ran.code == 2
    assert "--labels" in ran.err


def test_results_folder_that_is_a_file(clipdiy_command, photos):
    (photos / "out").write_text("x")
    ran = clipdiy_command("segment", photos / "a", "--labels", "cat", *TINY, "--out", photos / "out")
    assert ran.code == 2
    assert "folder for the results" in ran.err


OPTIONS = {
    "none": ([], {"pamr": Pamr()}),
    "models": (
        ["--found", "dino-vits8", "--dtype", "bfloat16"],
        {"found": "dino-vits8", "dtype": "bfloat16", "pamr": Pamr()},
    ),
    "a runtime": (["--runtime", "openvino"], {"runtime": "openvino", "pamr": Pamr()}),
    "edges as they are": (["--no-refine"], {}),
    "the published way": (
        ["--label-map", "square", "--min-area", "0"],
        {"label_map": "square", "clean_up": CleanUp(0)},
    ),
    "words": (["--template", "a {}", "--no-refine"], {"prompt_template": "a {}"}),
}


@pytest.mark.parametrize(("options", "changes"), OPTIONS.values(), ids=OPTIONS)
def test_options_become_the_configuration(clipdiy_command, monkeypatch, photos, tmp_path, options, changes):
    built = []

    def build(config, *, cache_dir, **_):
        built.append((config, cache_dir))
        raise ConfigError("seen")

    monkeypatch.setattr("clipdiy.build.build_segmenter", build)
    monkeypatch.setattr("clipdiy.cli.segment.require_weights", lambda *_: None)
    common = ["--labels", "cat", "--preset", "starter", "--device", "cpu", "--out", tmp_path / "out"]
    assert clipdiy_command("segment", photos / "a", *common, *options).code == 2
    [(config, cache_dir)] = built
    assert config == preset("starter", device="cpu", **changes)
    assert (cache_dir is None) == (config.runtime == "torch"), "what is converted is kept for the next run"


@pytest.mark.skipif(not (STARTER_DIR / "clip").is_dir(), reason="the starter is not trained yet")
def test_unknown_words_draw_a_warning_with_the_starter(clipdiy_command, photos):
    ran = clipdiy_command(
        "segment", photos / "a", "--labels", "cat, xylophone", "--preset", "starter", "--out", photos / "out"
    )
    assert ran.code == 0
    assert "warning: the starter weights never saw the words of 'xylophone'" in ran.err
    assert "cat" not in re.findall(r"words of '(\w+)'", ran.err)


def test_stuff_by_words_is_said(clipdiy_command, photos):
    ran = clipdiy_command(
        "segment", photos / "a", "--labels", "cat, sky", "--stuff", "usual", *TINY, "--out", photos / "out"
    )
    assert ran.code == 0, ran.err
    assert "stuff, which needs no object: sky" in ran.err
    report = json.loads((photos / "out" / "one.json").read_text())
    assert [label["stuff"] for label in report["labels"]] == [False, False, True]
