"""From a configuration to a segmenter with loaded weights, on its device, warmed up."""

import hashlib
import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from clipdiy.clip import ClipEncoder
from clipdiy.config import CoreConfig, preset
from clipdiy.errors import ConfigError, WeightsError
from clipdiy.objectness.found import FoundModel
from clipdiy.photo import Photo
from clipdiy.precision import cpu_dtype
from clipdiy.segmenter import Segmenter
from clipdiy.text_cache import TextCache
from clipdiy.vocabulary import Vocabulary, make_vocabulary
from clipdiy.weights import (
    LOCAL_DIR,
    STARTER,
    STARTER_DIR,
    clip_tag_config,
    default_weights_dir,
    require,
    sha256_of,
    split_clip_name,
)

CPU_CROP_BATCH = 16  # measured: larger ones change little and cost memory
CUDA_CROP_BATCH = 512

# What a weight file that is damaged, of another model or no weight file at all makes the loaders raise.
NOT_LOADABLE = (
    RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, SafetensorError,
    pickle.UnpicklingError,
)  # fmt: skip

# DINO ViT-S/8
DINO_VITS8_SHAPE: dict[str, Any] = {
    "img_size": 224,
    "patch_size": 8,
    "embed_dim": 384,
    "depth": 12,
    "num_heads": 6,
    "mlp_ratio": 4,
    "qkv_bias": True,
    "layer_norm_eps": 1e-6,
}


def build_segmenter(
    config: str | CoreConfig = "paper",
    *,
    weights_dir: Path | None = None,
    cache_dir: Path | None = None,
    warm_up: bool = True,
) -> Segmenter:
    """Find, check and load the weights, and run one small picture through them.

    Args:
        config: A preset's name, or a configuration.
        weights_dir: Where downloaded weights lie; the user's cache folder by default.
        cache_dir: Where text embeddings and what was converted for another runtime are kept for the next start; without
            it they are forgotten with the process.
        warm_up: Run one picture, so that the first real one is not slower than the others and broken weights show now.

    Raises:
        ConfigError: If the configuration names something that does not exist (preset, device, model).
        WeightsError: If weights are missing, damaged, or do not fit the model. No stand-in is ever used.
        RuntimeCheckError: If an optional runtime does not compute what torch does.
    """
    if isinstance(config, str):
        config = preset(config)
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    files = require(config, weights_dir or default_weights_dir())
    paths = {name: weight.path for name, weight in files.items()}
    digests = {name: weight.sha256 for name, weight in files.items()}
    clip_path = next((path for name, path in paths.items() if not name.startswith("found/")), None)
    clip = load_clip(config, clip_path, device, dtype, digests, cache_dir)
    if config.dtype == "auto" and config.runtime == "torch" and device.type == "cpu":
        clip.cast(cpu_dtype(clip.network.visual))
    if config.compiled:
        clip.compile()
    found = None
    if config.objectness.method != "none":
        found = load_found(config.found, paths, digests).to(device=device, dtype=clip.dtype)
    weights_id = digest_of(digests)
    if config.runtime != "torch":
        if device.type != "cpu":
            raise ConfigError(f"runtime {config.runtime!r} runs on the CPU only, and the device is {device}")
        from clipdiy.runtimes.handover import run_towers_in

        folder = cache_dir / "runtimes" if cache_dir else None
        run_towers_in(config.runtime, clip, found, folder=folder, weights_id=weights_id)
    segmenter = Segmenter(
        config, clip, found, name=config.clip, weights_id=weights_id, find_doubts=_starter_doubts(config)
    )
    if warm_up:
        _warm_up(segmenter)
    return segmenter


def choose_device(name: str) -> torch.device:
    """Turn a configured device into one that exists.

    Raises:
        ConfigError: If CUDA was asked for and is not there, or there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as err:
        raise ConfigError(f"no such device: {name!r}; use auto, cpu, cuda or cuda:N") from err
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} was asked for, but this machine has no usable CUDA; use cpu or auto")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn a configured dtype into torch's.

    `auto` is float16 on CUDA, and float32 on the CPU: what the weights are loaded in, before `cpu_dtype` decides.
    """
    if name == "auto":
        name = "float16" if device.type == "cuda" else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def load_clip(
    config: CoreConfig,
    path: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    digests: dict[str, str],
    cache_dir: Path | None = None,
) -> ClipEncoder:
    """Load both towers: the image tower in `dtype`, the text tower in float32.

    Args:
        config: Names the model.
        path: Its weight file, where it is not a folder or bundled.
        device: Where to put it.
        dtype: What the image tower computes in.
        digests: The digest of what was loaded is added here, if it is not there yet.
        cache_dir: Where text embeddings are kept, in a folder of these weights' own.

    Raises:
        WeightsError: If a folder lacks a file, or the weights do not fit the architecture.
    """
    preprocess: dict[str, Any] = {}
    try:
        if path is None:
            folder = STARTER_DIR / "clip" if config.clip == STARTER else Path(config.clip.removeprefix(LOCAL_DIR))
            weights = _one_of(folder, ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"))
            settings = _one_of(folder, ("open_clip_config.json",))
            digests["clip"], digests["clip-config"] = sha256_of(weights), sha256_of(settings)
            name = f"{LOCAL_DIR}{folder}"
            network = open_clip.create_model(name, require_pretrained=True)
        else:
            name, _ = split_clip_name(config.clip)
            preprocess = clip_tag_config(config.clip)
            network = open_clip.create_model(
                name,
                pretrained=str(path),
                force_quick_gelu=bool(preprocess.get("quick_gelu", False)),
                require_pretrained=True,
            )
        tokenizer = open_clip.get_tokenizer(name)
    except NOT_LOADABLE as err:
        raise WeightsError(
            f"cannot load CLIP {config.clip!r}: {_reason(err)}. The weights must belong to the architecture, and a "
            "model with a tokenizer of its own needs that in the Hugging Face cache"
        ) from err
    network.eval().requires_grad_(False)
    network.to(device)
    network.visual.to(dtype)
    shape = network.visual.preprocess_cfg
    size = network.visual.image_size
    input_px = int(size[0] if isinstance(size, (tuple, list)) else size)
    clip_digests = {file: digest for file, digest in digests.items() if not file.startswith("found/")}
    text_cache = TextCache(cache_dir / "texts", digest_of([name, clip_digests])) if cache_dir else None
    return ClipEncoder(
        network,
        tokenizer,
        input_px=input_px,
        mean=preprocess.get("mean") or shape["mean"],
        std=preprocess.get("std") or shape["std"],
        device=device,
        dtype=dtype,
        crop_batch=config.crop_batch or (CUDA_CROP_BATCH if device.type == "cuda" else CPU_CROP_BATCH),
        text_cache=text_cache,
    )


def load_found(name: str, paths: dict[str, Path], digests: dict[str, str]) -> FoundModel:
    """Load FOUND's backbone and head, in float32 on the CPU.

    The backbone is DINO's `dino_deitsmall8_300ep_pretrain`, on which the head was trained; timm's own
    `vit_small_patch8_224.dino` is another checkpoint. Its keys match timm's module.

    Args:
        name: `dino-vits8`, `starter`, or `local-dir:FOLDER`.
        paths: Weight files by name, for `dino-vits8`.
        digests: The digests of what was loaded from a folder are added here.

    Raises:
        WeightsError: If a folder lacks a file, or the weights do not fit.
    """
    folder = STARTER_DIR / "found" if name == STARTER else Path(name.removeprefix(LOCAL_DIR))
    try:
        if name == STARTER or name.startswith(LOCAL_DIR):
            shape_file, backbone_file, head_file = (
                _one_of(folder, (file,)) for file in ("vit.json", "vit.safetensors", "decoder_weights.pt")
            )
            for file in (shape_file, backbone_file, head_file):
                digests[f"found/{file.name}"] = sha256_of(file)
            shape = json.loads(shape_file.read_text())
            state = load_file(backbone_file)
        else:
            shape = DINO_VITS8_SHAPE
            state = torch.load(paths["found/dino_deitsmall8_300ep_pretrain.pth"], map_location="cpu", weights_only=True)
            head_file = paths["found/decoder_weights.pt"]
        with torch.device("meta"):  # no time for random numbers that are overwritten at once
            backbone = make_vit(shape)
        backbone.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
        head = nn.Conv2d(int(shape["embed_dim"]), 1, 1)
        head.load_state_dict(torch.load(head_file, map_location="cpu", weights_only=True)["decoder"])
    except NOT_LOADABLE as err:
        raise WeightsError(f"cannot load FOUND {name!r}: {_reason(err)}") from err
    model = FoundModel(backbone, head)
    model.eval().requires_grad_(False)
    return model


def make_vit(shape: dict[str, Any]) -> VisionTransformer:
    """Make an empty timm ViT from its constructor's arguments, with the layer norm's epsilon beside them."""
    arguments = dict(shape)
    epsilon = float(arguments.pop("layer_norm_eps", 1e-6))
    return VisionTransformer(**arguments, num_classes=0, norm_layer=partial(nn.LayerNorm, eps=epsilon))


def digest_of(parts: object) -> str:
    """Return 64 hexadecimal digits that change with anything in `parts`."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _reason(err: Exception) -> str:
    if isinstance(err, pickle.UnpicklingError):
        # torch's own message proposes to execute what the file holds.
        return "the file holds something else than tensors, and nothing else is ever unpickled"
    return str(err) or type(err).__name__


def _one_of(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder} must hold {' or '.join(names)}, and does not")


def _starter_doubts(config: CoreConfig) -> Callable[[Vocabulary], tuple[str, ...]] | None:
    """Return what finds words that the closed-world starter weights never saw; other weights have no such list."""
    if config.clip != STARTER:
        return None
    from clipdiy.starter.vocabulary import unknown_words

    def find_doubts(vocabulary: Vocabulary) -> tuple[str, ...]:
        return tuple(
            f"the starter weights never saw the words of {label.name!r}, so it will land on some other class: they "
            "are a closed world of everyday nouns (`clipdiy weights list` names them); use the preset `paper` for "
            "any other word"
            for label in vocabulary.labels[1:]
            if unknown_words(label.prompts)
        )

    return find_doubts


def _warm_up(segmenter: Segmenter) -> None:
    grey = Photo.from_array(np.full((64, 64, 3), 128, np.uint8))
    segmenter.segment(segmenter.encode([grey])[0], make_vocabulary(["object"]))
