"""`clipdiy bench`: what it reports makes sense. How fast anything is decides nothing here."""

import json

import pytest
from command_line import TINY_OPTIONS

OPTIONS = (*TINY_OPTIONS, "--repeats", 1, "--size", "64x48")


def test_table_json_and_plot(clipdiy_command, tmp_path):
    ran = clipdiy_command(
        "bench",
        *OPTIONS,
        "--classes",
        3,
        "--batches",
        "1,3",
        "--json",
        tmp_path / "r.json",
        "--plot",
        tmp_path / "r.png",
    )
    assert ran.code == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert all(taken > 0 for taken in report["stages_ms"].values())
    assert [batch["photos"] for batch in report["batches"]] == [1, 3]
    assert report["fast_paths"]["text tower"] == "tokens that count"
    assert report["peak_memory_mb"] > 10
    assert report["floor"]["work_gflop"] == pytest.approx(1.8, rel=0.01)
    floor = report["floor"]
    assert floor["floor_ms"] == pytest.approx(floor["work_gflop"] / floor["matmul_gflops"] * 1e3)
    assert set(floor["shares"]) == {"CLIP's image tower", "FOUND"}
    assert {"bfloat16", "onnxruntime", "openvino", "openvino-int8"} <= {one["name"] for one in report["choices"]}
    for name in (*report["stages_ms"], "the products alone", "as it ran", "estimated", "onnxruntime"):
        assert name in ran.out
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_the_other_method_is_taken_apart_in_its_own_parts(clipdiy_command, tmp_path):
    ran = clipdiy_command(
        "bench",
        *("--preset", "starter", "--method", "clip-dinoiser", "--device", "cpu", "--dtype", "float32"),
        *("--repeats", 1, "--size", "64x48", "--classes", 2, "--batches", "1,2", "--json", tmp_path / "r.json"),
    )
    assert ran.code == 0, ran.err
    report = json.loads((tmp_path / "r.json").read_text())
    networks = "CLIP's image tower and heads"
    assert {networks, "correlations and pooling", "label map and scores", "text, new"} < set(report["stages_ms"])
    assert report["core"] == "starter, 1 x 48 x 64, whole"
    assert [batch["photos"] for batch in report["batches"]] == [1, 2]
    assert set(report["floor"]["shares"]) == {networks}
    assert report["fast_paths"]["image towers"] == "torch.float32"


@pytest.mark.parametrize("arguments", [("--size", "640"), ("--size", "0x5"), ("--batches", "0"), ("--batches", "a,b")])
def test_arguments_that_make_no_sense(clipdiy_command, arguments):
    ran = clipdiy_command("bench", *OPTIONS, *arguments)
    assert ran.code == 2
    assert arguments[1] in ran.err


def test_missing_weights_are_one_message(clipdiy_command, tmp_path):
    ran = clipdiy_command("bench", "--weights-dir", tmp_path)
    assert ran.code == 2
    assert "clipdiy weights fetch" in ran.err


def test_compare_runs_the_others(clipdiy_command, tmp_path, monkeypatch):
    """What they are is tested beside this; here, that they run and are said."""
    monkeypatch.setattr("clipdiy.cli.choices.RUNTIMES", {})
    ran = clipdiy_command("bench", *OPTIONS, "--batches", "1", "--compare", "--json", tmp_path / "r.json")
    assert ran.code == 0
    choices = json.loads((tmp_path / "r.json").read_text())["choices"]
    assert [(one["name"], one["how"]) for one in choices] == [
        ("bfloat16", "measured, in turns"),
        ("paper-fast", "measured, in turns"),
    ]
    assert all(one["gain"] > 0 for one in choices)
    assert "measured, in turns" in ran.out
