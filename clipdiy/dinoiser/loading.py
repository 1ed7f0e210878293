"""The heads of CLIP-DINOiser, from a file to a module."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from clipdiy.dinoiser.config import PUBLISHED
from clipdiy.dinoiser.heads import DinoiserHeads
from clipdiy.dinoiser.needs import HEADS
from clipdiy.errors import WeightsError
from clipdiy.loading import NOT_LOADABLE, file_in, reason_of
from clipdiy.weights import LOCAL_DIR, STARTER, STARTER_DIR, require, sha256_of

STARTER_FOLDER = STARTER_DIR / "dinoiser"


@dataclass(frozen=True)
class HeadsFile:
    """The file that the two heads are in.

    Attributes:
        path: Where it lies.
        digests: Its SHA-256, by a name that does not depend on where it lies.
    """

    path: Path
    digests: Mapping[str, str]


def locate_heads(name: str, weights_dir: Path) -> HeadsFile:
    """Find the heads' file and read it once for its digest.

    Args:
        name: `published`, `starter` or `local-dir:FOLDER`.
        weights_dir: Where downloaded weights lie.

    Raises:
        WeightsError: If it is missing or is not what it must be.
    """
    if name == PUBLISHED:
        [(file, weight)] = require([HEADS], weights_dir).items()
        return HeadsFile(weight.path, {file.name: weight.sha256})
    folder = STARTER_FOLDER if name == STARTER else Path(name.removeprefix(LOCAL_DIR))
    path = file_in(folder, "heads.safetensors", "last.pt")
    return HeadsFile(path, {"dinoiser-heads": sha256_of(path)})


def load_heads(path: Path) -> DinoiserHeads:
    """Load the two heads, in float32 on the CPU.

    What else is in the file is left alone: published checkpoints hold the number of the epoch, and may hold more.

    Args:
        path: A published checkpoint (`{"model_state_dict": ...}`, `.pt`), or a safetensors file of the four tensors.

    Raises:
        WeightsError: If a tensor is missing, or has a shape that no such head has.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)["model_state_dict"]
        directions, width = state["obj_proj.weight"].shape[:2]
        heads = DinoiserHeads(width, directions)
        heads.load_state_dict({name: state[name].float() for name in heads.state_dict()})
    except NOT_LOADABLE as err:
        raise WeightsError(f"cannot load CLIP-DINOiser's heads from {path}: {reason_of(err)}") from err
    return heads.eval().requires_grad_(False)
