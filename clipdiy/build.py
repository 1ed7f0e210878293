"""From a configuration to CLIP-DIY with loaded weights, on its device, warmed up."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from clipdiy.clip import ClipEncoder
from clipdiy.config import FAST_PRESET, CoreConfig, preset, with_faster_objectness
from clipdiy.errors import ConfigError, WeightsError
from clipdiy.loading import NOT_LOADABLE, digest_of, file_in, reason_of
from clipdiy.needs import clip_diy_files
from clipdiy.objectness.found import FoundNetwork
from clipdiy.objectness.source import LoadedObjectness, objectness_named
from clipdiy.others.choice import Chooser
from clipdiy.patches import with_patch_products
from clipdiy.photo import Photo
from clipdiy.precision import cpu_dtype
from clipdiy.processor import read_processor
from clipdiy.segmenter import Segmenter
from clipdiy.text_cache import TextCache
from clipdiy.vocabulary import Vocabulary, make_vocabulary
from clipdiy.weights import (
    LOCAL_DIR,
    STARTER,
    STARTER_DIR,
    clip_files,
    clip_tag_config,
    default_weights_dir,
    fetch_command,
    require,
    require_present,
    sha256_of,
    split_clip_name,
)

logger = logging.getLogger(__name__)

CPU_CROP_BATCH = 16  # measured: larger ones change little and cost memory
CUDA_CROP_BATCH = 512


@dataclass(frozen=True)
class ClipFiles:
    """The files that one CLIP is made of.

    Attributes:
        name: What a person calls it, as in `CoreConfig.clip`.
        open_clip_name: What OpenCLIP calls its architecture and tokenizer: a name of its own, or `local-dir:FOLDER`.
        weights: The weight file, or `None` where it lies in that folder.
        preprocess: OpenCLIP's entry for the tag (mean, std, quick_gelu); empty where the folder says it.
        digests: SHA-256 of every file, by a name that does not depend on where it lies.
    """

    name: str
    open_clip_name: str
    weights: Path | None
    preprocess: Mapping[str, Any]
    digests: Mapping[str, str]


def build_segmenter(
    config: str | CoreConfig = "paper",
    *,
    weights_dir: Path | None = None,
    cache_dir: Path | None = None,
    warm_up: bool = True,
) -> Segmenter:
    """Find, check and load the weights of CLIP-DIY, and run one small picture through them.

    `clipdiy.method.build_method` does the same for whichever method a configuration names.

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
    if config.method != "clip-diy":
        raise ConfigError(f"this builds clip-diy, and the configuration names {config.method!r}: use build_method")
    if weights_dir is None:
        weights_dir = default_weights_dir()
    device = choose_device(config.device)
    config = with_worthwhile_runtime(config, device)
    source = objectness_named(config.objectness.method)
    require_present(clip_diy_files(config), weights_dir, fetch_command(config))  # all that is missing, in one message
    files = locate_clip(config.clip, weights_dir)
    clip = load_clip(files, config, device, cache_dir)
    objectness = None if source.load is None else source.load(config, weights_dir, device, clip.dtype)
    weights_id = digest_of({**files.digests, **(objectness.digests if objectness else {})})
    if config.runtime != "torch":
        folder = cache_dir / "runtimes" if cache_dir else None
        clip, objectness = _in_runtime(config, clip, objectness, folder, weights_id)
    segmenter = Segmenter(
        config,
        clip,
        objectness.network if objectness else None,
        name=config.clip,
        weights_id=weights_id,
        find_doubts=starter_doubts(config),
        chooser=Chooser(
            clip.embed_texts, clip.embed_vocabulary, names=starter_others(config), templates=(config.prompt_template,)
        ),
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


def needs_int8(config: CoreConfig) -> bool:
    """Whether a configuration's runtime is worth its less exact masks only with instructions for products of 8 bits.

    By `benchmarks/int8.py`, where AVX2 is all there is: `openvino-int8` is as fast as float32, and `onnxruntime` 1.4
    times as fast with FOUND at 640 pixels, most of whose time is attention and stays in float32, but 1.6 times at the
    448 of `paper-fast`. Below 1.5 it is not worth it.
    """
    if config.runtime == "onnxruntime":
        return with_faster_objectness(config) is not None
    return config.runtime == "openvino-int8"


def with_worthwhile_runtime(config: CoreConfig, device: torch.device) -> CoreConfig:
    """Return the configuration, with float32 in torch in place of a runtime that gains little on this processor.

    A warning says what is done and why.

    Args:
        config: As it was asked for.
        device: Where the networks are to run; on any but the CPU there is no runtime to choose.
    """
    if device.type != "cpu" or not needs_int8(config) or not read_processor().lacks_int8:
        return config
    little = "less than 1.5 times float32" if config.runtime == "onnxruntime" else "nothing over float32"
    # A preset of CLIP-DIY: of no use to whoever chose another method.
    instead = f". What gains here: the preset {FAST_PRESET}, with onnxruntime or without"
    logger.warning(
        "runtime %s gains %s on this processor, which has no instructions for products of 8 bits (VNNI, AMX): float32 "
        "in torch runs instead%s",
        config.runtime,
        little,
        instead if config.method == "clip-diy" else "",
    )
    return replace(config, runtime="torch", dtype="float32")


def locate_clip(name: str, weights_dir: Path) -> ClipFiles:
    """Find CLIP's files and read them once for their digests.

    Args:
        name: As in `CoreConfig.clip`.
        weights_dir: Where downloaded weights lie.

    Raises:
        WeightsError: If a file is missing or is not what it must be.
        ConfigError: If OpenCLIP knows no such model or tag.
    """
    if name == STARTER or name.startswith(LOCAL_DIR):
        folder = STARTER_DIR / "clip" if name == STARTER else Path(name.removeprefix(LOCAL_DIR))
        weights = file_in(folder, "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        settings = file_in(folder, "open_clip_config.json")
        digests = {"clip": sha256_of(weights), "clip-config": sha256_of(settings)}
        return ClipFiles(name, f"{LOCAL_DIR}{folder}", None, {}, digests)
    [(file, weight)] = require(clip_files(name), weights_dir).items()
    architecture, _ = split_clip_name(name)
    return ClipFiles(name, architecture, weight.path, clip_tag_config(name), {file.name: weight.sha256})


def require_compiler(device: torch.device) -> None:
    """Look for the compiler that torch translates its kernels with: better said here than in the first request.

    Raises:
        ConfigError: If there is none.
    """
    # On a GPU, Triton compiles only what launches a kernel, and that is C.
    chosen, usual = ("CXX", ("g++", "clang++")) if device.type == "cpu" else ("CC", ("gcc", "clang", "cc"))
    candidates = [os.environ[chosen]] if os.environ.get(chosen) else usual
    if not any(shutil.which(name) for name in candidates):
        raise ConfigError(
            f"compiling the image tower needs a compiler, and there is no {' or '.join(candidates)} here: install one "
            f"(Debian's package g++), name one in {chosen}, or leave CLIPDIY_COMPILE at false"
        )


def load_clip(files: ClipFiles, config: CoreConfig, device: torch.device, cache_dir: Path | None = None) -> ClipEncoder:
    """Load both towers: the image tower in the configured dtype, the text tower in float32.

    Args:
        files: Where the weights are.
        config: Dtype, batch size, and whether torch is to compile the image tower.
        device: Where to put it.
        cache_dir: Where text embeddings are kept, in a folder of these weights' own.

    Raises:
        WeightsError: If the weights do not fit the architecture.
        ConfigError: If torch is to compile, and there is no compiler.
    """
    try:
        if files.weights is None:
            network = open_clip.create_model(files.open_clip_name, require_pretrained=True)
        else:
            network = open_clip.create_model(
                files.open_clip_name,
                pretrained=str(files.weights),
                force_quick_gelu=bool(files.preprocess.get("quick_gelu", False)),
                require_pretrained=True,
            )
        tokenizer = open_clip.get_tokenizer(files.open_clip_name)
    except NOT_LOADABLE as err:
        raise WeightsError(
            f"cannot load CLIP {files.name!r}: {reason_of(err)}. The weights must belong to the architecture, and a "
            "model with a tokenizer of its own needs that in the Hugging Face cache"
        ) from err
    network.eval().requires_grad_(False)
    network.to(device)
    dtype = choose_dtype(config.dtype, device)
    if config.dtype == "auto" and config.runtime == "torch" and device.type == "cpu":
        dtype = cpu_dtype(network.visual)
    network.visual.to(dtype)
    if device.type == "cuda":
        with_patch_products(network.visual)
    arithmetic = str(dtype)
    if config.compiled:
        require_compiler(device)
        # The first batch of each size takes long, the others are a single launch.
        network.visual.compile(mode="reduce-overhead", dynamic=False)
        arithmetic += ", compiled"
    shape = network.visual.preprocess_cfg
    size = network.visual.image_size
    input_px = int(size[0] if isinstance(size, (tuple, list)) else size)
    texts_id = digest_of([files.open_clip_name, dict(files.digests)])
    return ClipEncoder(
        network,
        tokenizer,
        input_px=input_px,
        mean=files.preprocess.get("mean") or shape["mean"],
        std=files.preprocess.get("std") or shape["std"],
        device=device,
        dtype=dtype,
        crop_batch=config.crop_batch or (CUDA_CROP_BATCH if device.type == "cuda" else CPU_CROP_BATCH),
        text_cache=TextCache(cache_dir / "texts", texts_id) if cache_dir else None,
        arithmetic=arithmetic,
    )


def _in_runtime(
    config: CoreConfig, clip: ClipEncoder, objectness: LoadedObjectness | None, folder: Path | None, weights_id: str
) -> tuple[ClipEncoder, LoadedObjectness | None]:
    """Hand the image towers over to the configured runtime. A network that is not FOUND stays with torch."""
    if clip.device.type != "cpu":
        raise ConfigError(f"runtime {config.runtime!r} runs on the CPU only, and the device is {clip.device}")
    from clipdiy.runtimes.handover import executed_by_runtime

    network = objectness.network if objectness and isinstance(objectness.network, FoundNetwork) else None
    clip, found = executed_by_runtime(config.runtime, clip, network, folder=folder, weights_id=weights_id)
    return clip, LoadedObjectness(found, objectness.digests) if objectness and found else objectness


def starter_doubts(config: CoreConfig) -> Callable[[Vocabulary], tuple[str, ...]] | None:
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


def starter_others(config: CoreConfig) -> tuple[str, ...] | None:
    """Return the nouns that the closed-world starter weights know; other weights are asked for the whole list."""
    if config.clip != STARTER:
        return None
    from clipdiy.starter.vocabulary import OTHERS

    return OTHERS


def _warm_up(segmenter: Segmenter) -> None:
    grey = Photo.from_array(np.full((64, 64, 3), 128, np.uint8))
    segmenter.segment(segmenter.encode([grey])[0], make_vocabulary(["object"]))
