"""The compiled image tower: torch is asked for the right thing, and the answers stay the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY

from clipdiy.build import build_segmenter, require_compiler
from clipdiy.config import CoreConfig, CropGrid
from clipdiy.errors import ConfigError
from clipdiy.photo import Photo

CONFIG = replace(TINY, grid=CropGrid(), dtype="float32")
PHOTOS = [Photo.from_array(np.random.default_rng(seed).integers(0, 255, (60, 80, 3), np.uint8)) for seed in range(2)]


@pytest.fixture
def compiled(monkeypatch):
    """A compiled segmenter; the tower is traced, but no C++ compiler is needed to run what was traced."""
    asked = []
    monkeypatch.setattr("clipdiy.build.shutil.which", lambda name: f"/usr/bin/{name}")
    compile_module = torch.nn.Module.compile

    def remember(module, **options):
        asked.append(options)
        compile_module(module, backend="eager", dynamic=options["dynamic"])

    monkeypatch.setattr(torch.nn.Module, "compile", remember)
    segmenter = build_segmenter(replace(CONFIG, compiled=True), warm_up=False)
    assert asked == [{"mode": "reduce-overhead", "dynamic": False}]
    yield segmenter
    torch._dynamo.reset()


def test_the_answers_are_the_same_and_known_by_another_name(compiled):
    plain = build_segmenter(CONFIG, warm_up=False)
    for count in (1, 2, 1):  # another size is compiled on its own, the first one is still known
        for ours, theirs in zip(compiled.encode(PHOTOS[:count]), plain.encode(PHOTOS[:count]), strict=True):
            for a, b in zip(ours.crop_embeddings, theirs.crop_embeddings, strict=True):
                torch.testing.assert_close(a, b, atol=1e-3, rtol=0)
    assert compiled.encoder_identity != plain.encoder_identity, "rounding may differ: features are not shared"


def test_what_one_batch_gave_is_not_written_over_by_the_next(monkeypatch):
    """A graph on a GPU answers into the same memory every time."""
    segmenter = build_segmenter(replace(CONFIG, crop_batch=8), warm_up=False)
    expected = segmenter.encode(PHOTOS[:1])[0]
    encode = segmenter.clip.network.encode_image
    memory: dict[int, torch.Tensor] = {}

    def like_a_graph(images):
        made = encode(images)
        place = memory.setdefault(len(images), torch.empty_like(made))
        return place.copy_(made)

    monkeypatch.setattr(segmenter.clip.network, "encode_image", like_a_graph)
    found = segmenter.encode(PHOTOS[:1])[0]
    for a, b in zip(found.crop_embeddings, expected.crop_embeddings, strict=True):
        torch.testing.assert_close(a, b)


def test_a_runtime_compiles_by_itself():
    with pytest.raises(ConfigError, match="compiles the image towers by itself"):
        CoreConfig(runtime="openvino", compiled=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; the same code runs on the CPU above")
def test_a_graph_on_a_gpu():
    config = replace(CONFIG, device="cuda", dtype="float32")
    compiled, plain = (build_segmenter(replace(config, compiled=it), warm_up=False) for it in (True, False))
    for count in (1, 2, 1):
        for ours, theirs in zip(compiled.encode(PHOTOS[:count]), plain.encode(PHOTOS[:count]), strict=True):
            for a, b in zip(ours.crop_embeddings, theirs.crop_embeddings, strict=True):
                torch.testing.assert_close(a, b, atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("device", "there", "environment", "says"),
    [
        ("cpu", [], {}, "no g\\+\\+ or clang\\+\\+"),
        ("cpu", ["gcc"], {}, "g\\+\\+"),
        ("cpu", ["clang++"], {}, None),
        ("cpu", ["g++"], {"CXX": "icpx"}, "no icpx"),
        ("cpu", ["icpx"], {"CXX": "icpx"}, None),
        ("cuda", [], {}, "no gcc or clang or cc"),
        ("cuda", ["gcc"], {}, None),
        ("cuda", ["gcc"], {"CC": "mine"}, "no mine"),
    ],
)
def test_a_compiler_that_is_not_there_is_said_at_the_start(monkeypatch, device, there, environment, says):
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("clipdiy.build.shutil.which", lambda name: name if name in there else None)
    if says is None:
        require_compiler(torch.device(device))
    else:
        with pytest.raises(ConfigError, match=says):
            require_compiler(torch.device(device))


def test_without_a_compiler_nothing_starts(monkeypatch):
    monkeypatch.setattr("clipdiy.build.shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match="CLIPDIY_COMPILE"):
        build_segmenter(replace(CONFIG, compiled=True), warm_up=False)
