"""How the image towers are handed over to a runtime: converted once, loaded, and compared with torch."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipdiy.clip import ClipEncoder
from clipdiy.config import RuntimeName
from clipdiy.errors import RuntimeCheckError
from clipdiy.objectness.found import FoundNetwork, position_embedding
from clipdiy.runtimes.export import ClipImages, FoundNetworkBody, write_onnx
from clipdiy.runtimes.runtime import Engine, Inputs, Runtime
from clipdiy.runtimes.samples import sample_crops, sample_images

logger = logging.getLogger(__name__)

LAYOUT = 1  # raise it when the same weights would be exported or calibrated in another way
FOUND_SIDE_PX = 224
CHECK_SCENE = 1  # calibration never sees it


@dataclass(frozen=True)
class Tower:
    """One network to hand over.

    Attributes:
        name: Of its file.
        module: The part that is exported, in float32 on the CPU.
        inputs: Names of its inputs, each with the axes whose length may vary and their names.
        calibration: Inputs to calibrate with.
        check: Inputs to compare on.
        read: Takes what is to be compared out of its output: matrices, each with one vector a row.
    """

    name: str
    module: nn.Module
    inputs: dict[str, dict[int, str]]
    calibration: Sequence[Inputs]
    check: Inputs
    read: Callable[[Tensor], Sequence[Tensor]]


def executed_by_runtime(
    name: RuntimeName, clip: ClipEncoder, found: FoundNetwork | None, *, folder: Path | None, weights_id: str
) -> tuple[ClipEncoder, FoundNetwork | None]:
    """Return both networks with a runtime to execute their image towers.

    Args:
        name: Which; not `torch`.
        clip: In float32 on the CPU.
        found: FOUND in float32 on the CPU, or `None` where it is not used.
        folder: Where converted files are kept; without it they are made again at every start.
        weights_id: Changes with the weights.

    Raises:
        ConfigError: If the runtime is not installed. Names the extra.
        RuntimeCheckError: If its embeddings differ too much from torch's.
    """
    towers = [_clip_tower(clip)] + ([_found_tower(found)] if found is not None else [])
    engines = hand_over(name, towers, clip.input_px, folder=folder, weights_id=weights_id)
    return (
        clip.executed_by(engines["clip"], arithmetic_of(name)),
        None if found is None else found.executed_by(engines["found"]),
    )


def arithmetic_of(name: RuntimeName) -> str:
    """Return what a tower that a runtime executes computes in and with; see `ClipEncoder.arithmetic`."""
    return f"{name} {LAYOUT}"


def hand_over(
    name: RuntimeName, towers: Sequence[Tower], input_px: int, *, folder: Path | None, weights_id: str
) -> dict[str, Engine]:
    """Convert networks, once, load them and compare what they say with torch.

    Args:
        name: Which runtime; not `torch`.
        towers: The networks.
        input_px: Side of what CLIP's own sees.
        folder: Where converted files are kept; without it they are made again at every start.
        weights_id: Changes with the weights.

    Returns:
        What executes each, by the tower's name.

    Raises:
        ConfigError: If the runtime is not installed. Names the extra.
        RuntimeCheckError: If its outputs differ too much from torch's.
    """
    runtime = make_runtime(name)
    parts = [LAYOUT, name, runtime.version, weights_id, input_px, [tower.name for tower in towers]]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clipdiy-")))
        home = folder / f"{name}-{key}"
        if not _is_whole(home):
            start = time.perf_counter()
            _convert(runtime, towers, home)
            logger.info("converted for %s into %s in %.0f s, once", name, home, time.perf_counter() - start)
        engines = {tower.name: runtime.load(home / f"{tower.name}{runtime.ending}") for tower in towers}
    for tower in towers:
        cosine = smallest_cosine(tower, engines[tower.name])
        logger.info("%s: smallest cosine of %s to float32 is %.4f", name, tower.name, cosine)
        if not cosine >= runtime.least_cosine:
            raise RuntimeCheckError(
                f"runtime {name} does not compute what it should here: the smallest cosine of {tower.name}'s outputs "
                f"to float32 is {cosine:.4f}, expected at least {runtime.least_cosine}. Choose another, or torch"
            )
    return engines


def make_runtime(name: RuntimeName) -> Runtime:
    """Return a runtime by its name.

    Raises:
        ConfigError: If it is not installed. Names the extra.
    """
    if name == "onnxruntime":
        from clipdiy.runtimes.onnxruntime import OnnxRuntime

        return OnnxRuntime()
    from clipdiy.runtimes.openvino import OpenVino

    return OpenVino(int8=name == "openvino-int8")


@torch.inference_mode()
def smallest_cosine(tower: Tower, engine: Engine) -> float:
    """Return the smallest cosine between a row of the engine's output and the same row of torch's."""
    wanted = tower.read(tower.module(*tower.check))
    got = tower.read(engine(*tower.check))
    # Not Python's `min`, which passes over what is no number.
    return float(
        torch.stack([F.cosine_similarity(*pair, dim=-1).min() for pair in zip(wanted, got, strict=True)]).min()
    )


def _clip_tower(clip: ClipEncoder) -> Tower:
    def ready(scene: int) -> Tensor:
        return clip.normalise(sample_crops(scene, clip.input_px)).float()

    calibration = [(crop[None],) for scene in range(2, 6) for crop in ready(scene)]
    axes = {"images": {0: "n"}}
    return Tower("clip", ClipImages(clip.network), axes, calibration, (ready(CHECK_SCENE),), lambda output: [output])


def _found_tower(found: FoundNetwork) -> Tower:
    def ready(scene: int) -> Inputs:
        image = sample_images(scene, FOUND_SIDE_PX, found.patch_px)
        grid = image.shape[2] // found.patch_px, image.shape[3] // found.patch_px
        return image, position_embedding(found.backbone.pos_embed, *grid)

    axes = {"images": {2: "height", 3: "width"}, "positions": {1: "tokens"}}
    calibration = [ready(scene) for scene in range(2, 8)]

    def keys(qkv: Tensor) -> list[Tensor]:
        width = qkv.shape[2] // 3
        return [qkv[:, 1:, width : 2 * width].flatten(1)]

    return Tower("found", FoundNetworkBody(found), axes, calibration, ready(CHECK_SCENE), keys)


def _convert(runtime: Runtime, towers: Sequence[Tower], home: Path) -> None:
    """Convert all towers into a new folder, which is moved to its place once it is complete."""
    home.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{home.name}-", suffix=".part", dir=home.parent))
    try:
        for tower in towers:
            onnx = part / f"{tower.name}.plain"
            write_onnx(tower.module, tower.calibration[0], tower.inputs, onnx)
            runtime.convert(onnx, part / f"{tower.name}{runtime.ending}", tower.calibration)
            onnx.unlink()
        digests = {path.name: _digest(path) for path in sorted(part.iterdir())}
        (part / "files.json").write_text(json.dumps(digests))
        shutil.rmtree(home, ignore_errors=True)  # damaged, or there is none
        try:
            os.replace(part, home)
        except OSError:
            if not _is_whole(home):  # else another process was faster
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_whole(home: Path) -> bool:
    try:
        digests = json.loads((home / "files.json").read_text())
        return bool(digests) and all(_digest(home / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
