"""What other choices would gain: figures by hand, and an honest word where there is none."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from clipdiy.cli import choices as room
from clipdiy.cli.choices import Choice, compared, estimated, other_configs, why_not
from clipdiy.config import FAST_PRESET, CoreConfig, ObjectnessConfig, preset
from clipdiy.errors import RuntimeCheckError
from clipdiy.processor import Processor
from clipdiy.profile import Profile

PAPER = preset("paper", device="cpu")
ZEN4 = Processor("x86_64", frozenset({"avx2", "avx512_vnni", "avx512_bf16"}))
AVX2 = Processor("x86_64", frozenset({"avx2"}))
RUNTIMES, NOT_OPENVINO = ("onnxruntime", "openvino", "openvino-int8"), ("onnxruntime", "openvino-int8")
BOTH = "paper-fast, onnxruntime"
CLIP, FOUND = "CLIP's image tower", "FOUND"


def profile(dtype=torch.float32, runs=None, **changes):
    encoding = {name: (lambda name=name: runs.append(name)) if runs is not None else list for name in (CLIP, FOUND)}
    work, less = {CLIP: 500.0, FOUND: 600.0}, {FAST_PRESET: {FOUND: 200.0}}
    made = Profile(encoding, {}, (CLIP, FOUND), work, dtype, "", {}, less)
    return replace(made, **changes)


@pytest.fixture(autouse=True)
def _everything_is_installed(monkeypatch):
    monkeypatch.setattr(room, "find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("config", "dtype", "names"),
    [
        (PAPER, "torch.float32", ["bfloat16", FAST_PRESET, *RUNTIMES, BOTH]),
        (PAPER, "torch.bfloat16", ["float32", FAST_PRESET, *RUNTIMES, BOTH]),
        (replace(PAPER, runtime="openvino"), "torch.float32", ["torch", FAST_PRESET, *NOT_OPENVINO, BOTH]),
        (replace(PAPER, runtime="onnxruntime"), "torch.float32", ["torch", FAST_PRESET, "openvino", "openvino-int8"]),
        (preset("paper-fast"), "torch.float32", ["bfloat16", "onnxruntime", "openvino", "openvino-int8"]),
        (preset("starter", compiled=True), "torch.float32", ["bfloat16"]),
        (preset("dinoiser"), "torch.float32", ["bfloat16", *RUNTIMES]),
        (preset("dinoiser", runtime="openvino"), "torch.float32", ["torch", *NOT_OPENVINO]),
        (preset("starter", method="clip-dinoiser"), "torch.float32", ["bfloat16"]),
        (replace(PAPER, objectness=ObjectnessConfig("none"), compiled=True), "torch.float32", ["bfloat16"]),
    ],
    ids=[
        "float32",
        "bfloat16",
        "a runtime",
        "another",
        "fast already",
        "a square, compiled",
        "another method",
        "another method in a runtime",
        "another method on a ResNet",
        "no objectness",
    ],
)
def test_what_there_is_to_choose(config, dtype, names):
    assert list(other_configs(config, dtype)) == names


def test_only_what_is_named_differs():
    others = other_configs(PAPER, "torch.float32")
    assert others["bfloat16"] == replace(PAPER, dtype="bfloat16")
    assert others["paper-fast"] == preset("paper-fast", device="cpu")
    assert others["onnxruntime"] == replace(PAPER, runtime="onnxruntime")
    assert others[BOTH] == preset("paper-fast", device="cpu", runtime="onnxruntime")


def test_figures_without_running_anything():
    stages = {CLIP: 3000.0, FOUND: 6000.0, "all of encoding": 9100.0}
    rates = {"torch.float32": 100.0, "torch.bfloat16": 250.0}
    made = {one.name: one for one in estimated(PAPER, profile(), stages, rates, ZEN4)}
    assert made["bfloat16"] == Choice("bfloat16", 3600.0, 2.5, "estimated: by the rates of a large product")
    # A third of FOUND's work is a third of its time.
    assert made["paper-fast"].networks_ms == pytest.approx(5000)
    assert made["paper-fast"].gain == pytest.approx(1.8)
    assert made["paper-fast"].how.startswith("estimated")
    for name in (*RUNTIMES, BOTH):
        assert made[name] == Choice(name, None, None, "not measured: --compare does")


def test_a_network_without_work_is_no_division_by_nothing():
    work = {CLIP: 500.0, FOUND: 0.0}
    made = estimated(PAPER, profile(work_gflop=work), {CLIP: 10.0, FOUND: 5.0}, {}, ZEN4)
    assert next(one for one in made if one.name == FAST_PRESET).networks_ms == pytest.approx(15)


def test_why_a_runtime_is_not_tried(monkeypatch):
    others = other_configs(PAPER, "torch.float32")
    assert "no instructions for 8 bits" in why_not(others["openvino-int8"], AVX2)
    assert "less than 1.5 times" in why_not(others["onnxruntime"], AVX2)
    assert "no instructions for bfloat16" in why_not(others["openvino"], AVX2)
    assert "no instructions for bfloat16" in why_not(others["bfloat16"], AVX2)
    assert [why_not(others[name], AVX2) for name in (BOTH, FAST_PRESET)] == [None] * 2
    monkeypatch.setattr(room, "find_spec", lambda name: None if name == "nncf" else name)
    assert why_not(others["openvino-int8"], ZEN4) == "not installed: nncf"
    assert why_not(others["openvino"], ZEN4) is None


def test_choices_run_in_turns_with_what_was_measured():
    runs, built = [], []
    method = SimpleNamespace(config=PAPER, with_config=lambda config: SimpleNamespace(config=config))

    def build(config):
        built.append(config)
        if config.runtime == "onnxruntime":
            raise RuntimeCheckError("too far off")
        return SimpleNamespace(config=config)

    def in_turns(ways):
        runs.clear()
        for way in ways.values():
            way()
        assert runs == [CLIP, FOUND] * 2, "the networks of both, nothing else"
        return {"own": 900.0, "other": 300.0}

    def choices(processor):
        built.clear()
        return {one.name: one for one in compared(method, lambda one: profile(runs=runs), build, in_turns, processor)}

    assert choices(ZEN4)["bfloat16"] == Choice("bfloat16", 300.0, 3.0, "measured, in turns")
    assert ("bfloat16", "torch") in [(config.dtype, config.runtime) for config in built]
    made = choices(AVX2)
    assert made["paper-fast"].gain == 3.0
    assert made[BOTH].how == "does not run: too far off"
    assert made["onnxruntime"].gain is None
    assert made["openvino"].gain is None
    assert made["bfloat16"].gain is None, "would take minutes"
    assert [(config.dtype, config.runtime) for config in built] == [("auto", "onnxruntime")]


def test_libraries_are_quiet_only_meanwhile():
    room.logging.disable(room.logging.NOTSET)
    with room._quiet():
        assert room.logging.root.manager.disable == room.logging.WARNING
    assert room.logging.root.manager.disable == room.logging.NOTSET


def test_the_floor_by_hand():
    from clipdiy.cli.bench import _floor

    floor = _floor(profile(), {CLIP: 4000.0, FOUND: 6000.0, "all of encoding": 1.0}, rate=220.0)
    assert floor.floor_ms == pytest.approx(5000)
    assert (floor.work_gflop, floor.networks_ms, floor.share) == (1100, 10000, pytest.approx(0.5))
    assert floor.shares == {CLIP: pytest.approx(500 / 880), FOUND: pytest.approx(600 / 1320)}


def test_fast_is_offered_where_it_is_less():
    assert CoreConfig().objectness.long_px == 640
    assert "paper-fast" not in other_configs(replace(PAPER, objectness=ObjectnessConfig(long_px=448)), "torch.float32")
