"""Runtimes for the second method, with the tiny golden network: as near to float32 as they promise, or an error."""

import pytest
import torch
import torch.nn.functional as F
from dinoiser_tiny import CONFIG, PHOTO, changed, load_dinoiser
from tiny import VOCABULARY

from clipdiy import build
from clipdiy.config import preset
from clipdiy.dinoiser.config import Windows
from clipdiy.errors import ConfigError, RuntimeCheckError
from clipdiy.method import build_method
from clipdiy.processor import Processor
from clipdiy.runtimes import handover
from clipdiy.runtimes.onnxruntime import OnnxRuntime

RUNTIMES = ["onnxruntime", "openvino", "openvino-int8"]
VNNI, AVX2 = (Processor("x86_64", frozenset(flags)) for flags in ({"avx512_vnni", "avx512_bf16"}, {"avx2"}))

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _a_processor_that_gains():
    """Whatever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "read_processor", lambda: VNNI)
        yield


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=RUNTIMES)
def made(request, cache_dir):
    config = changed(CONFIG, runtime=request.param, dtype="auto")
    return config, build_method(config, cache_dir=cache_dir, warm_up=False)


def windows_of(config):
    return changed(config, way="windows", windows=Windows(short_px=None, window_px=160, stride_px=80))


def near(method, exact):
    for ours, theirs in zip(method.encode([PHOTO])[0].tiles, exact.encode([PHOTO])[0].tiles, strict=True):
        assert F.cosine_similarity(ours.pooled.float(), theirs.pooled.float(), dim=-1).min() > 0.98
        assert (ours.background - theirs.background).float().abs().mean() < 0.1 * theirs.background.float().abs().mean()
    answer, wanted = (one.segment(one.encode([PHOTO])[0], VOCABULARY).label_map for one in (method, exact))
    assert (answer == wanted).mean() > 0.9


def test_features_are_near_those_of_float32(made):
    near(made[1], load_dinoiser())


def test_so_are_those_of_windows_of_another_size(cache_dir):
    method = build_method(changed(CONFIG, runtime="onnxruntime", dtype="auto"), cache_dir=cache_dir, warm_up=False)
    near(*(one.with_config(windows_of(one.config)) for one in (method, load_dinoiser())))


def test_another_core_whatever_the_configuration_is(made):
    _, method = made
    exact = load_dinoiser()
    assert method.encoder_identity != exact.encoder_identity
    other = method.with_config(windows_of(method.config))
    assert other.encoder_identity != exact.with_config(windows_of(exact.config)).encoder_identity


def test_converted_once(made, cache_dir, monkeypatch):
    config, method = made

    def again(*_):
        raise AssertionError("converted again")

    monkeypatch.setattr(handover, "_convert", again)
    assert build_method(config, cache_dir=cache_dir, warm_up=False).identity == method.identity


@pytest.mark.parametrize("part", ["features in the text space", "what the heads read"])
def test_nonsense_in_either_output_is_refused(cache_dir, monkeypatch, part):
    load = OnnxRuntime.load

    def broken(self, path):
        run = load(self, path)

        def spoil(*inputs):
            output = run(*inputs).clone()
            width = load_dinoiser()._tower.width
            if part == "what the heads read":
                output[:, :, :width] = float("nan")
            else:
                output[:, :, width:] *= -1
            return output

        return spoil

    monkeypatch.setattr(OnnxRuntime, "load", broken)
    with pytest.raises(RuntimeCheckError, match="smallest cosine of patches's outputs"):
        build_method(changed(CONFIG, runtime="onnxruntime", dtype="auto"), cache_dir=cache_dir)


def test_a_resnet_is_left_to_torch():
    with pytest.raises(ConfigError, match="executes the ViTs of clip-dinoiser"):
        build_method(preset("starter", method="clip-dinoiser", runtime="onnxruntime"), warm_up=False)


def test_on_the_cpu_only(monkeypatch):
    monkeypatch.setattr("clipdiy.dinoiser.build.choose_device", lambda _name: torch.device("meta"))
    monkeypatch.setattr("clipdiy.dinoiser.build.load_clip", lambda *_: None)
    with pytest.raises(ConfigError, match="runs on the CPU only, and the device is meta"):
        build_method(changed(CONFIG, runtime="openvino", dtype="auto"), warm_up=False)


def test_int8_that_gains_nothing_is_float32(monkeypatch, caplog):
    monkeypatch.setattr(build, "read_processor", lambda: AVX2)
    method = build_method(changed(CONFIG, runtime="openvino-int8", dtype="auto"), warm_up=False)
    assert method.encoder_identity == load_dinoiser().encoder_identity
    assert "float32 in torch runs instead" in caplog.text
    assert "paper-fast" not in caplog.text, "which is a preset of the other method"
