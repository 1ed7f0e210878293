"""From files to FOUND: which files its backbone and head are, and the network made of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from clipdiy.errors import WeightsError
from clipdiy.loading import NOT_LOADABLE, file_in, reason_of
from clipdiy.objectness.found import FoundNetwork
from clipdiy.weights import FOUND_BACKBONE, FOUND_HEAD, LOCAL_DIR, STARTER, STARTER_DIR, require, sha256_of

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


@dataclass(frozen=True)
class FoundFiles:
    """The files that one FOUND is made of.

    Attributes:
        backbone: The ViT's tensors: a safetensors file, or one of torch's own.
        head: The 1x1 convolution's tensors, a file of torch's own.
        shape: JSON with the ViT's sizes, or `None` for DINO's ViT-S/8.
        digests: SHA-256 of every file, by a name that does not depend on where it lies.
    """

    backbone: Path
    head: Path
    shape: Path | None
    digests: Mapping[str, str]


def locate_found(name: str, weights_dir: Path) -> FoundFiles:
    """Find FOUND's files and read them once for their digests.

    Args:
        name: `dino-vits8`, `starter`, or `local-dir:FOLDER`.
        weights_dir: Where downloaded weights lie.

    Raises:
        WeightsError: If a file is missing or is not what it must be.
    """
    if name == STARTER or name.startswith(LOCAL_DIR):
        folder = STARTER_DIR / "found" if name == STARTER else Path(name.removeprefix(LOCAL_DIR))
        shape, backbone, head = (
            file_in(folder, file) for file in ("vit.json", "vit.safetensors", "decoder_weights.pt")
        )
        digests = {f"found/{file.name}": sha256_of(file) for file in (shape, backbone, head)}
        return FoundFiles(backbone, head, shape, digests)
    located = require((FOUND_BACKBONE, FOUND_HEAD), weights_dir)
    digests = {file.name: weight.sha256 for file, weight in located.items()}
    return FoundFiles(located[FOUND_BACKBONE].path, located[FOUND_HEAD].path, None, digests)


def load_found(files: FoundFiles) -> FoundNetwork:
    """Load FOUND's backbone and head, in float32 on the CPU.

    The backbone is DINO's `dino_deitsmall8_300ep_pretrain`, on which the head was trained; timm's own
    `vit_small_patch8_224.dino` is another checkpoint. Its keys match timm's module.

    Raises:
        WeightsError: If the weights do not fit.
    """
    try:
        shape = DINO_VITS8_SHAPE if files.shape is None else json.loads(files.shape.read_text())
        if files.backbone.suffix == ".safetensors":
            state = load_file(files.backbone)
        else:
            state = torch.load(files.backbone, map_location="cpu", weights_only=True)
        with torch.device("meta"):  # no time for random numbers that are overwritten at once
            backbone = make_vit(shape)
        backbone.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
        head = nn.Conv2d(int(shape["embed_dim"]), 1, 1)
        head.load_state_dict(torch.load(files.head, map_location="cpu", weights_only=True)["decoder"])
    except NOT_LOADABLE as err:
        raise WeightsError(f"cannot load FOUND from {files.backbone.parent}: {reason_of(err)}") from err
    network = FoundNetwork(backbone, head)
    network.eval().requires_grad_(False)
    return network


def make_vit(shape: Mapping[str, Any]) -> VisionTransformer:
    """Make an empty timm ViT from its constructor's arguments, with the layer norm's epsilon beside them."""
    arguments = dict(shape)
    epsilon = float(arguments.pop("layer_norm_eps", 1e-6))
    return VisionTransformer(**arguments, num_classes=0, norm_layer=partial(nn.LayerNorm, eps=epsilon))
