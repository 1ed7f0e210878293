"""Networks to measure with: the shapes of the published ones, random numbers in them.

Speed and memory do not depend on the weights, so nothing has to be fetched before anything can be measured. What a
network says with random weights means nothing; where a benchmark prints how many pixels of a label map change, it says
what the classes were.
"""

import json
import logging
import shutil
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

from clipdiy.config import CoreConfig
from clipdiy.objectness.loading import DINO_VITS8_SHAPE, make_vit
from clipdiy.segmenter import Segmenter
from clipdiy.weights import LOCAL_DIR
from tests.oracles.reference import Reference

logger = logging.getLogger(__name__)

DEFAULT_DIR = Path("build") / "random-weights"


def random_weights(architecture: str = "ViT-B-32", folder: Path = DEFAULT_DIR) -> dict[str, str]:
    """Write random weights of an OpenCLIP architecture and of DINO ViT-S/8, once; return what names them.

    Args:
        architecture: As OpenCLIP calls it.
        folder: Where they are kept for the next run (ViT-B/32: 605 MB).

    Returns:
        `clip` and `found` for `CoreConfig`.
    """
    clip, found = folder / architecture, folder / "dino-vits8"
    if not clip.is_dir():
        logger.warning("writing random weights of %s into %s, once", architecture, clip)
        torch.manual_seed(0)
        network = open_clip.create_model(architecture)
        part = _emptied(clip)
        preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
        settings = {"model_cfg": open_clip.get_model_config(architecture), "preprocess_cfg": preprocess}
        (part / "open_clip_config.json").write_text(json.dumps(settings))
        save_file(network.state_dict(), part / "open_clip_model.safetensors")
        part.rename(clip)
    if not found.is_dir():
        torch.manual_seed(1)
        part = _emptied(found)
        backbone = make_vit(DINO_VITS8_SHAPE)
        (part / "vit.json").write_text(json.dumps(DINO_VITS8_SHAPE))
        save_file(backbone.state_dict(), part / "vit.safetensors")
        head = nn.Conv2d(int(DINO_VITS8_SHAPE["embed_dim"]), 1, 1)
        torch.save({"decoder": head.state_dict()}, part / "decoder_weights.pt")
        part.rename(found)
    return {"clip": f"{LOCAL_DIR}{clip}", "found": f"{LOCAL_DIR}{found}"}


def random_config(architecture: str = "ViT-B-32", **changes: object) -> CoreConfig:
    """Return the `paper` configuration of an architecture, with random weights."""
    return CoreConfig(**{**random_weights(architecture), **changes})


def reference_of(segmenter: Segmenter) -> Reference:
    """Return the plain reading with a segmenter's own networks, which must be in float32 on the CPU."""
    clip, found = segmenter.clip, segmenter._objectness_network
    if found is None or clip.dtype is not torch.float32 or clip.device.type != "cpu":
        raise ValueError("the reference needs both networks in float32 on the CPU")
    mean, std = ((values.flatten() / 255).tolist() for values in (clip._mean, clip._std))
    return Reference(
        clip.network, clip._tokenizer, clip.input_px, mean, std, found.backbone, found.head, segmenter.config
    )


def _emptied(folder: Path) -> Path:
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part
