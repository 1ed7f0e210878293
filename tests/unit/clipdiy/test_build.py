"""Loading: the right files into the right networks, or an error. Never a stand-in."""

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import GOLDEN

from clipdiy.build import build_segmenter, choose_device, choose_dtype, load_clip, locate_clip
from clipdiy.config import CoreConfig, ObjectnessConfig, preset
from clipdiy.errors import ConfigError, WeightsError
from clipdiy.objectness.loading import DINO_VITS8_SHAPE, load_found, locate_found, make_vit
from clipdiy.photo import Photo
from clipdiy.segmenter import Segmenter
from clipdiy.vocabulary import make_vocabulary
from clipdiy.weights import FOUND_HEAD_SHA256, sha256_of

FOUND_HEAD = GOLDEN / "found_head" / "decoder_weights.pt"
CPU = torch.device("cpu")

# An architecture of our own: OpenCLIP's smallest is some hundred megabytes.
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
TAG = {
    "url": "",
    "hf_hub": "owner/tiny-model/",
    "mean": (0.4, 0.5, 0.6),
    "std": (0.2, 0.3, 0.4),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def dino_state(width=384, depth=12):
    """Random weights with the keys and shapes of DINO's published ViT-S/8, written down, not taken from a network."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 785, width),
        "patch_embed.proj.weight": (width, 3, 8, 8),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(depth):
        for name, shape in (
            ("norm1.weight", (width,)),
            ("norm1.bias", (width,)),
            ("attn.qkv.weight", (3 * width, width)),
            ("attn.qkv.bias", (3 * width,)),
            ("attn.proj.weight", (width, width)),
            ("attn.proj.bias", (width,)),
            ("norm2.weight", (width,)),
            ("norm2.bias", (width,)),
            ("mlp.fc1.weight", (4 * width, width)),
            ("mlp.fc1.bias", (4 * width,)),
            ("mlp.fc2.weight", (width, 4 * width)),
            ("mlp.fc2.bias", (width,)),
        ):
            shapes[f"blocks.{i}.{name}"] = shape
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.02 for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory):
    """A folder as `clipdiy weights fetch` leaves it, with random weights in the published formats."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "architecture").mkdir()
    (folder / "architecture" / "Tiny-ViT.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "architecture")
    torch.manual_seed(0)
    network = open_clip.create_model("Tiny-ViT")
    (folder / "tiny-model").mkdir()
    save_file(network.state_dict(), folder / "tiny-model" / "open_clip_model.safetensors")
    (folder / "found").mkdir()
    torch.save(dino_state(), folder / "found" / "dino_deitsmall8_300ep_pretrain.pth")
    shutil.copy(FOUND_HEAD, folder / "found" / "decoder_weights.pt")
    return folder


@pytest.fixture(autouse=True)
def tiny_tag(monkeypatch):
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Tiny-ViT", {"random": TAG})


@pytest.fixture
def broken(weights_dir, tmp_path):
    """The same folder, to break something in; large files are links."""
    for path in weights_dir.glob("[ft]*/*"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).symlink_to(path)

    def put(name):
        (tmp_path / name).unlink()
        return tmp_path / name

    return tmp_path, put


CONFIG = CoreConfig(clip="Tiny-ViT:random", device="cpu")


def test_published_formats_load_and_run(weights_dir):
    segmenter = build_segmenter(CONFIG, weights_dir=weights_dir)
    photo = Photo.from_array(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    segmentation = segmenter.segment(segmenter.encode([photo])[0], make_vocabulary(["cat", "dog"]))
    assert segmentation.size_hw == (40, 60)


def test_clip_is_the_one_in_the_file(weights_dir):
    path = weights_dir / "tiny-model" / "open_clip_model.safetensors"
    clip = load_clip(locate_clip(CONFIG.clip, weights_dir), replace(CONFIG, dtype="float32"), CPU)
    crops = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    network = open_clip.create_model("Tiny-ViT").eval()
    network.load_state_dict(load_file(path))
    mean, std = (torch.tensor(TAG[key])[:, None, None] for key in ("mean", "std"))
    with torch.inference_mode():
        images = network.encode_image((crops.float() / 255 - mean) / std, normalize=True)
        texts = network.encode_text(open_clip.get_tokenizer("Tiny-ViT")(["a photo of a cat"]), normalize=True)
    torch.testing.assert_close(clip.embed_crops(crops), images)
    torch.testing.assert_close(clip.embed_texts(["a photo of a cat"]), texts)


@pytest.mark.parametrize("warm_up", [True, False])
def test_one_picture_is_run_before_it_serves(weights_dir, monkeypatch, warm_up):
    """What is slow the first time, or broken, is so at the start."""
    run = []
    monkeypatch.setattr(Segmenter, "segment", lambda _self, features, *_: run.append(features.size_hw))
    build_segmenter(CLIP_ONLY, weights_dir=weights_dir, warm_up=warm_up)
    assert len(run) == warm_up


def test_clip_in_the_older_format(weights_dir, broken):
    folder, put = broken
    state = load_file(weights_dir / "tiny-model" / "open_clip_model.safetensors")
    torch.save(state, put("tiny-model/open_clip_model.safetensors").with_name("open_clip_pytorch_model.bin"))
    build_segmenter(CLIP_ONLY, weights_dir=folder, warm_up=False)


def test_found_is_the_one_in_the_files(weights_dir):
    found = load_found(locate_found("dino-vits8", weights_dir))
    for name, value in dino_state().items():
        torch.testing.assert_close(found.backbone.state_dict()[name], value)
    head = torch.load(FOUND_HEAD, map_location="cpu", weights_only=True)["decoder"]
    assert head["weight"].shape == (1, 384, 1, 1)
    torch.testing.assert_close(found.head.weight, head["weight"])
    torch.testing.assert_close(found.head.bias, head["bias"])
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_dino_and_timm_agree_on_every_name():
    ours = {name: tuple(value.shape) for name, value in make_vit(DINO_VITS8_SHAPE).state_dict().items()}
    assert ours == {name: tuple(value.shape) for name, value in dino_state().items()}


def test_published_head_is_the_pinned_one():
    assert sha256_of(FOUND_HEAD) == FOUND_HEAD_SHA256


def test_identity_follows_the_weights_and_what_is_computed(tmp_path):
    def identity(**changes):
        return build_segmenter(replace(local(), **changes), warm_up=False).identity

    shutil.copytree(GOLDEN / "tiny_found", tmp_path / "found")
    head = torch.load(tmp_path / "found" / "decoder_weights.pt", weights_only=True)
    head["decoder"]["bias"] += 1
    torch.save(head, tmp_path / "found" / "decoder_weights.pt")
    others = [
        identity(found=f"local-dir:{tmp_path / 'found'}"),
        identity(dtype="bfloat16"),
        identity(label_map="square"),
    ]
    first = identity()
    assert first == identity()
    assert len({first, *others}) == 4


def test_without_objectness_found_is_not_needed(weights_dir, broken):
    folder, _ = broken
    shutil.rmtree(folder / "found")
    config = replace(CONFIG, objectness=ObjectnessConfig("none"))
    assert build_segmenter(config, weights_dir=folder).device == CPU


# What must not load


def local(clip="tiny_clip", found="tiny_found", root=GOLDEN):
    return CoreConfig(clip=f"local-dir:{root / clip}", found=f"local-dir:{root / found}", device="cpu")


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("tiny_clip", "open_clip_model.safetensors"),
        ("tiny_clip", "open_clip_config.json"),
        ("tiny_found", "vit.json"),
        ("tiny_found", "vit.safetensors"),
        ("tiny_found", "decoder_weights.pt"),
    ],
)
def test_a_folder_that_lacks_a_file(tmp_path, folder, file):
    for name in ("tiny_clip", "tiny_found"):
        shutil.copytree(GOLDEN / name, tmp_path / name)
    build_segmenter(local(root=tmp_path), warm_up=False)
    (tmp_path / folder / file).unlink()
    with pytest.raises(WeightsError, match=file):
        build_segmenter(local(root=tmp_path))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match="nowhere"):
        build_segmenter(local(clip=str(tmp_path / "nowhere")))


def test_missing_files_of_a_preset(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(WeightsError, match="dino_deitsmall8_300ep_pretrain"):
        build_segmenter(preset("paper", device="cpu"), weights_dir=tmp_path)


def test_the_other_dino_checkpoint_does_not_count(broken):
    folder, put = broken
    put("found/dino_deitsmall8_300ep_pretrain.pth").with_name("dino_deitsmall8_pretrain.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match="300ep"):
        build_segmenter(CONFIG, weights_dir=folder)


@pytest.mark.parametrize("name", ["Tiny-ViT:other", "ViT-B-32:nope", "Nothing:openai", "ViT-B-32"])
def test_names_that_do_not_exist(tmp_path, name):
    with pytest.raises(ConfigError, match=name.partition(":")[2] or name):
        build_segmenter(CoreConfig(clip=name, device="cpu"), weights_dir=tmp_path)


class Harmful:
    def __reduce__(self):
        return (print, ("a weight file was executed",))


CLIP_FILE, DINO_FILE = "tiny-model/open_clip_model.safetensors", "found/dino_deitsmall8_300ep_pretrain.pth"
CLIP_ONLY = replace(CONFIG, objectness=ObjectnessConfig("none"))


def load_dino(folder):
    return load_found(locate_found("dino-vits8", folder))


@pytest.mark.parametrize("file", [CLIP_FILE, DINO_FILE])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\0" * 1000], ids=["empty", "page", "zeros"])
def test_a_file_that_is_something_else(broken, file, content):
    folder, put = broken
    put(file).write_bytes(content)
    with pytest.raises(WeightsError, match="cannot load"):
        build_segmenter(CONFIG, weights_dir=folder)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("file", ["tiny-model/open_clip_pytorch_model.bin", DINO_FILE])
def test_a_file_that_would_run_code(broken, file, capsys):
    folder, put = broken
    put(DINO_FILE if file == DINO_FILE else CLIP_FILE)
    for write in (lambda path: path.write_bytes(pickle.dumps(Harmful())), lambda path: torch.save([Harmful()], path)):
        write(folder / file)
        with pytest.raises(WeightsError, match="nothing else is ever unpickled"):
            build_segmenter(CONFIG, weights_dir=folder)
    assert "executed" not in capsys.readouterr().out


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(lambda: dino_state(depth=11), id="a block too few"),
        pytest.param(lambda: dino_state(width=192), id="another width"),
        pytest.param(lambda: without(dino_state(), "cls_token"), id="no CLS token"),
        pytest.param(lambda: {**dino_state(), "head.weight": torch.zeros(2, 384)}, id="more than a backbone"),
        pytest.param(lambda: {"teacher": dino_state()}, id="a training checkpoint"),
        pytest.param(lambda: [1, 2], id="a list"),
    ],
)
def test_dino_weights_of_another_shape(broken, state):
    folder, put = broken
    torch.save(state(), put(DINO_FILE))
    with pytest.raises(WeightsError, match="cannot load FOUND"):
        load_dino(folder)


def test_clip_weights_of_another_architecture(broken):
    folder, put = broken
    shutil.copy(GOLDEN / "tiny_clip" / "open_clip_model.safetensors", put(CLIP_FILE))
    with pytest.raises(WeightsError, match="cannot load CLIP 'Tiny-ViT:random'"):
        build_segmenter(CLIP_ONLY, weights_dir=folder)


def test_clip_weights_that_lack_something(broken, weights_dir):
    folder, put = broken
    save_file(without(load_file(weights_dir / CLIP_FILE), "text_projection"), put(CLIP_FILE))
    with pytest.raises(WeightsError, match="text_projection"):
        build_segmenter(CLIP_ONLY, weights_dir=folder)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"decoder": {"weight": torch.zeros(1, 96, 1, 1), "bias": torch.zeros(1)}}, id="another width"),
        pytest.param({"weight": torch.zeros(1, 384, 1, 1)}, id="no decoder"),
        pytest.param({"decoder": None}, id="nothing"),
    ],
)
def test_heads_of_another_shape(tmp_path, content):
    shutil.copytree(GOLDEN / "tiny_found", tmp_path / "found")
    torch.save(content, tmp_path / "found" / "decoder_weights.pt")
    with pytest.raises(WeightsError, match="cannot load FOUND"):
        build_segmenter(replace(local(), found=f"local-dir:{tmp_path / 'found'}"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"embed_dim": 96}', '{"depht": 3}'])
def test_a_shape_file_that_makes_no_sense(tmp_path, text):
    shutil.copytree(GOLDEN / "tiny_found", tmp_path / "found")
    (tmp_path / "found" / "vit.json").write_text(text)
    with pytest.raises(WeightsError, match="cannot load FOUND"):
        build_segmenter(replace(local(), found=f"local-dir:{tmp_path / 'found'}"))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model_cfg": {"embed_dim": 16}}'])
def test_a_clip_config_that_makes_no_sense(tmp_path, text):
    shutil.copytree(GOLDEN / "tiny_clip", tmp_path / "clip")
    (tmp_path / "clip" / "open_clip_config.json").write_text(text)
    with pytest.raises(WeightsError, match="cannot load CLIP"):
        build_segmenter(replace(local(), clip=f"local-dir:{tmp_path / 'clip'}"))


# Devices


def test_devices_that_do_not_exist(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    for name, message in (("cuda", "no usable CUDA"), ("cuda:3", "no usable CUDA"), ("gpu", "auto, cpu, cuda")):
        with pytest.raises(ConfigError, match=message):
            choose_device(name)


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        pytest.param({"dtype": "auto"}, torch.bfloat16, id="measured"),
        pytest.param({"dtype": "float32"}, torch.float32, id="what is named"),
        pytest.param({"dtype": "auto", "runtime": "onnxruntime"}, torch.float32, id="torch does not compute"),
    ],
)
def test_auto_dtype_is_measured_on_a_cpu_where_torch_computes(weights_dir, monkeypatch, changes, dtype):
    monkeypatch.setattr("clipdiy.build.cpu_dtype", lambda tower: torch.bfloat16)
    clip = load_clip(locate_clip(CONFIG.clip, weights_dir), replace(CONFIG, **changes), CPU)
    assert clip.dtype is dtype


def test_auto_dtype_is_half_on_a_gpu_only():
    assert choose_dtype("auto", CPU) is torch.float32
    assert choose_dtype("auto", torch.device("cuda", 0)) is torch.float16
    assert choose_dtype("bfloat16", CPU) is torch.bfloat16
