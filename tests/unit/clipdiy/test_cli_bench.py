"""`clipdiy bench`: what it reports makes sense. How fast anything is decides nothing here."""

import json
import sys

import pytest
import torch
from tiny import GOLDEN

from clipdiy.build import build_segmenter
from clipdiy.cli import main
from clipdiy.config import CoreConfig, ObjectnessConfig
from clipdiy.photo import Photo
from clipdiy.profile import segmenter_gflop

CLIP, FOUND = (f"local-dir:{GOLDEN / name}" for name in ("tiny_clip", "tiny_found"))
TINY = ("--clip", CLIP, "--found", FOUND, "--device", "cpu", "--repeats", "1", "--size", "64x48")


@pytest.fixture
def bench(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["clipdiy", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr()

    return run


def test_table_json_and_plot(bench, tmp_path):
    code, said = bench(
        *TINY, "--classes", 3, "--batches", "1,3", "--json", tmp_path / "r.json", "--plot", tmp_path / "r.png"
    )
    assert code == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert all(taken > 0 for taken in report["stages_ms"].values())
    assert [batch["photos"] for batch in report["batches"]] == [1, 3]
    assert report["fast_paths"]["text tower"] == "tokens that count"
    assert report["peak_memory_mb"] > 10
    assert report["floor"]["work_gflop"] == pytest.approx(1.8, rel=0.01)
    for name in report["stages_ms"]:
        assert name in said.out
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [("--size", "640"), ("--size", "0x5"), ("--batches", "0"), ("--batches", "a,b")])
def test_arguments_that_make_no_sense(bench, arguments):
    code, said = bench(*TINY, *arguments)
    assert code == 2
    assert arguments[1] in said.err


def test_missing_weights_are_one_message(bench, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    code, said = bench("--weights-dir", tmp_path)
    assert code == 2
    assert "clipdiy weights fetch" in said.err


def test_work_by_hand():
    config = CoreConfig(clip=CLIP, found=FOUND, device="cpu", objectness=ObjectnessConfig(method="none"))
    segmenter = build_segmenter(config, warm_up=False)
    photo = Photo.from_array(torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())
    # 59 crops of 50 tokens, 64 wide, 2 layers: 4 + 8 products of 64 x 64 a token, attention, patches, projection.
    tokens, width = 50, 64
    layer = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width
    crop = 2 * layer + 2 * 49 * 32 * 32 * 3 * width + 2 * width * 32
    assert segmenter_gflop(segmenter, photo) == pytest.approx(59 * crop / 1e9, rel=0.01)
