"""Optional runtimes, with the tiny golden networks: as near to float32 as they promise, or an error."""

import builtins
import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import TINY

from clipdiy import build
from clipdiy.build import build_segmenter
from clipdiy.config import CoreConfig, ObjectnessConfig
from clipdiy.errors import ConfigError, RuntimeCheckError
from clipdiy.photo import Photo
from clipdiy.processor import Processor
from clipdiy.runtimes import handover
from clipdiy.runtimes.onnxruntime import OnnxRuntime
from clipdiy.runtimes.openvino import OpenVino
from clipdiy.runtimes.samples import CROPS_PER_SCENE, sample_crops, sample_images
from clipdiy.vocabulary import make_vocabulary

CONFIG = replace(TINY, objectness=ObjectnessConfig())
RUNTIMES = ["onnxruntime", "openvino", "openvino-int8"]
EXACT = replace(CONFIG, dtype="float32")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _a_processor_that_gains():
    """Whatever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "read_processor", lambda: Processor("x86_64", frozenset({"avx512_vnni", "avx512_bf16"})))
        yield


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def exact():
    return build_segmenter(EXACT, warm_up=False)


@pytest.fixture(scope="module", params=RUNTIMES)
def made(request, cache_dir):
    config = replace(CONFIG, runtime=request.param)
    return config, build_segmenter(config, cache_dir=cache_dir, warm_up=False)


def photo(seed, height, width):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    rows, cols = np.arange(height) * 6 // height, np.arange(width) * 6 // width
    return Photo.from_array(np.ascontiguousarray(coarse[rows][:, cols]))


@pytest.mark.parametrize("size_hw", [(100, 140), (61, 43), (1, 1)], ids=str)
def test_features_are_near_those_of_float32(made, exact, size_hw):
    _, segmenter = made
    got, wanted = (one.encode([photo(0, *size_hw)])[0] for one in (segmenter, exact))
    for a, b in zip(got.crop_embeddings, wanted.crop_embeddings, strict=True):
        assert F.cosine_similarity(a.float(), b.float(), dim=-1).min() > 0.95
    a, b = got.objectness.grid.float().flatten(), wanted.objectness.grid.float().flatten()
    assert a.shape == b.shape
    if len(a) > 1:  # one logit alone has nothing to be near in proportion to
        assert (a - b).abs().mean() < 0.2 * b.abs().mean()
    segmenter.segment(got, make_vocabulary(["cat"]))


def test_batches_and_threads_do_not_mix_up_results(made):
    _, segmenter = made
    photos = [photo(seed, 40 + seed, 60) for seed in range(4)]
    alone = [segmenter.encode([one])[0].crop_embeddings[1] for one in photos]
    for one, features in zip(alone, segmenter.encode(photos), strict=True):
        assert F.cosine_similarity(one.float(), features.crop_embeddings[1].float(), dim=-1).min() > 0.99
    with ThreadPoolExecutor(4) as pool:
        for one, features in zip(alone * 3, pool.map(lambda p: segmenter.encode([p])[0], photos * 3), strict=True):
            torch.testing.assert_close(one, features.crop_embeddings[1], atol=2e-2, rtol=0)


def test_another_core(made, exact):
    _, segmenter = made
    assert segmenter.encoder_identity != exact.encoder_identity
    assert segmenter.identity != exact.identity


def test_converted_once(made, cache_dir, monkeypatch):
    config, segmenter = made

    def again(*_):
        raise AssertionError("converted again")

    monkeypatch.setattr(handover, "_convert", again)
    loaded = build_segmenter(config, cache_dir=cache_dir, warm_up=False)
    assert loaded.identity == segmenter.identity


def test_damaged_files_are_made_again(made, tmp_path):
    config, _ = made
    if config.runtime != "openvino":  # the same code for all
        return
    build_segmenter(config, cache_dir=tmp_path, warm_up=False)
    [file] = tmp_path.rglob("clip.bin")
    data = file.read_bytes()
    file.write_bytes(data[:-4] + b"oops")
    build_segmenter(config, cache_dir=tmp_path, warm_up=False)
    assert file.read_bytes() == data
    assert not list(tmp_path.rglob("*.part"))


def test_nothing_is_left_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    segmenter = build_segmenter(replace(CONFIG, runtime="openvino"))
    assert list(tmp_path.iterdir()) == []
    segmenter.encode([photo(0, 20, 20)])


def test_what_computes_something_else_is_refused(cache_dir, monkeypatch):
    monkeypatch.setattr(OnnxRuntime, "least_cosine", 1.01)
    with pytest.raises(RuntimeCheckError, match=r"smallest cosine of clip.*expected at least 1\.01"):
        build_segmenter(replace(CONFIG, runtime="onnxruntime"), cache_dir=cache_dir)


def test_nonsense_is_refused(cache_dir, monkeypatch):
    load = OnnxRuntime.load

    def broken(self, path):
        run = load(self, path)
        return lambda *inputs: run(*inputs) * float("nan")

    monkeypatch.setattr(OnnxRuntime, "load", broken)
    with pytest.raises(RuntimeCheckError):
        build_segmenter(replace(CONFIG, runtime="onnxruntime"), cache_dir=cache_dir)


@pytest.mark.parametrize(
    ("runtime", "package"),
    [("onnxruntime", "onnxruntime"), ("onnxruntime", "onnx"), ("openvino", "openvino"), ("openvino-int8", "nncf")],
)
def test_not_installed(runtime, package, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **named):
        if name == package:
            raise ImportError(f"No module named {package!r}")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=rf"{package}.*pip install .*\[{runtime.partition('-')[0]}\]"):
        handover.make_runtime(runtime)


def test_nothing_is_reported_to_anybody():
    OpenVino(int8=True)
    assert sys.modules["openvino_telemetry"] is None
    import nncf.telemetry.wrapper

    assert "Mock" in type(nncf.telemetry.wrapper.telemetry).__name__


def test_runtimes_that_do_not_exist_or_fit():
    with pytest.raises(ConfigError, match="openvino-int8"):
        CoreConfig(runtime="tensorrt")
    with pytest.raises(ConfigError, match="arithmetic of its own"):
        CoreConfig(runtime="openvino", dtype="bfloat16")


AVX2 = Processor("x86_64", frozenset({"avx2", "fma3"}))


def test_int8_that_gains_nothing_is_float32(cache_dir, exact, monkeypatch, caplog):
    monkeypatch.setattr(build, "read_processor", lambda: AVX2)
    segmenter = build_segmenter(replace(CONFIG, runtime="openvino-int8"), cache_dir=cache_dir, warm_up=False)
    assert segmenter.encoder_identity == exact.encoder_identity, "the same features, kept under the same name"
    assert segmenter.config.runtime == "torch"
    [said] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "openvino-int8 gains nothing over float32 on this processor" in said
    assert "VNNI" in said
    assert "float32 in torch runs instead" in said


@pytest.mark.parametrize(
    ("runtime", "flags", "device", "long_px", "kept"),
    [
        pytest.param("openvino-int8", {"avx2"}, "cpu", 640, False, id="nothing gained"),
        pytest.param("openvino-int8", {"avx2", "avx_vnni"}, "cpu", 640, True, id="AVX-VNNI"),
        pytest.param("openvino-int8", {"avx512_vnni"}, "cpu", 640, True, id="VNNI"),
        pytest.param("openvino-int8", {"avx2"}, "cuda", 640, True, id="not on the CPU"),
        pytest.param("openvino-int8", {"avx2"}, "cpu", 448, False, id="nor with less for FOUND to see"),
        pytest.param("onnxruntime", {"avx2"}, "cpu", 640, False, id="too little gained"),
        pytest.param("onnxruntime", {"avx2"}, "cpu", 448, True, id="enough with less for FOUND to see"),
        pytest.param("onnxruntime", {"amx_int8"}, "cpu", 640, True, id="AMX"),
        pytest.param("openvino", {"avx2"}, "cpu", 640, True, id="not of 8 bits"),
        pytest.param("torch", {"avx2"}, "cpu", 640, True, id="no runtime"),
    ],
)
def test_which_runtimes_need_instructions_for_8_bits(runtime, flags, device, long_px, kept, monkeypatch):
    monkeypatch.setattr(build, "read_processor", lambda: Processor("x86_64", frozenset(flags)))
    asked = replace(CONFIG, runtime=runtime, objectness=ObjectnessConfig(long_px=long_px))
    chosen = build.with_worthwhile_runtime(asked, torch.device(device))
    assert chosen == (asked if kept else replace(asked, runtime="torch", dtype="float32"))


@pytest.mark.parametrize(("flags", "hint"), [({"avx2"}, "f32"), ({"avx512_bf16"}, "bf16")], ids=["AVX2", "BF16"])
def test_openvino_is_asked_for_what_the_processor_has(flags, hint, monkeypatch, tmp_path):
    asked = {}

    class Core:
        def compile_model(self, path, device, options):
            asked.update(options)

    monkeypatch.setattr("clipdiy.runtimes.openvino.read_processor", lambda: Processor("x86_64", frozenset(flags)))
    runtime = OpenVino(int8=False)
    runtime._library = SimpleNamespace(Core=Core)
    runtime.load(tmp_path)
    assert asked["INFERENCE_PRECISION_HINT"] == hint


class SignalStack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's structure")
def test_openvino_gives_no_thread_a_stack_for_signals_that_goes_with_the_model(cache_dir):
    """Where the model has been dropped, the next signal would be written into what is no memory any more."""

    def stack():
        now = SignalStack()
        assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now)) == 0
        return now.address, now.flags, now.size

    before = stack()
    segmenter = build_segmenter(replace(CONFIG, runtime="openvino"), cache_dir=cache_dir)
    assert segmenter.encode([photo(0, 20, 20)])
    assert stack() == before


def test_without_objectness(cache_dir):
    config = replace(CONFIG, runtime="onnxruntime", objectness=ObjectnessConfig(method="none"))
    assert build_segmenter(config, cache_dir=cache_dir).encode([photo(0, 9, 9)])[0].objectness is None


def test_samples_are_varied_and_the_same_every_time():
    crops = sample_crops(1, 32)
    assert crops.shape == (CROPS_PER_SCENE, 3, 32, 32)
    assert torch.equal(crops, sample_crops(1, 32))
    assert not torch.equal(crops, sample_crops(2, 32))
    assert len(torch.unique(crops.flatten(1), dim=0)) == CROPS_PER_SCENE
    assert sample_images(1, 64, 8).shape == (1, 3, 64, 64)
