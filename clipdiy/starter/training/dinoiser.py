"""How do the starter's two heads for CLIP-DINOiser learn which patches belong together, and which are background?

As in the paper, from other networks and without a label: correlations of another network's values (there DINO, here the
backbone of the starter's foreground model), and that model's mask (there FOUND). CLIP is frozen: its ResNet is read
patch by patch (`clipdiy.dinoiser.tower`). No mask of the composed scenes is ever looked at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from clipdiy.dinoiser.heads import DinoiserHeads
from clipdiy.dinoiser.tower import patch_tower
from clipdiy.objectness.found import position_embedding
from clipdiy.starter.scenes import TRAINING_SEEDS_FROM, Sprites, compose_scene
from clipdiy.starter.training.clip import to_clip_input
from clipdiy.starter.training.foreground import Foreground, to_input
from clipdiy.starter.training.pictures import shrink_sprites

# Chosen on training scenes: most pairs of patches on one drawing are told to belong together, few of those on two,
# hardly any of a drawing and the background; at 0.5 too many of the last two are.
CORRELATED = 0.7
VALUES_OF_BLOCK = 1  # of the foreground model's four: the later ones only know that something is an object


@dataclass(frozen=True)
class HeadsPlan:
    """What is trained and for how long.

    Attributes:
        directions: Channels that correlations are taken over.
        steps: Optimiser steps.
        batch: Scenes of 256x256 a step.
        rate: Peak learning rate of `obj_proj`.
        background_rate: Peak learning rate of `bkg_decoder`.
        seed: Of the initial weights.
    """

    directions: int = 64
    steps: int = 200
    batch: int = 6
    rate: float = 2e-3
    background_rate: float = 0.1
    seed: int = 7


def train_heads(
    plan: HeadsPlan,
    visual: nn.Module,
    foreground: Foreground,
    sprites: Sprites,
    checkpoint: Path,
    out: Path,
    report: Callable[[str], None],
) -> DinoiserHeads:
    """Train, resume or just load the heads, and write `heads.safetensors` along the way.

    Args:
        plan: What to train; a checkpoint of another plan is refused.
        visual: Image tower of the starter's finished CLIP, in evaluation mode.
        foreground: The starter's finished foreground model: the teacher.
        sprites: Drawings to compose with.
        checkpoint: Where the state of the run is kept between starts.
        out: The folder; made when missing.
        report: Called with a line of progress every few seconds.

    Returns:
        The averaged heads.

    Raises:
        ValueError: If the checkpoint was made by another plan.
    """
    torch.manual_seed(plan.seed)
    tower, small = patch_tower(visual), shrink_sprites(sprites, 256)
    heads = DinoiserHeads(tower.width, plan.directions)
    average = torch.optim.swa_utils.AveragedModel(heads, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    # What the background's head reads has unit length, so that its weights have a long way to go.
    groups = [
        {"params": heads.obj_proj.parameters(), "peak": plan.rate},
        {"params": heads.bkg_decoder.parameters(), "peak": plan.background_rate},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.02, betas=(0.9, 0.98))
    start = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        if state["plan"] != json.dumps(asdict(plan)):
            raise ValueError(f"{checkpoint} was made by another plan: remove it to start again")
        heads.load_state_dict(state["heads"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    trained = average.module
    assert isinstance(trained, DinoiserHeads)
    began, shown, running = time.monotonic(), time.monotonic(), None
    for step in range(start, plan.steps):
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * min(1.0, (step + 1) / 50) * (1 - step / plan.steps)
        images = _scenes(step, plan.batch, small)
        with torch.no_grad():
            read = tower(to_clip_input(images.transpose(0, 2, 3, 1))).intermediate
        loss = heads_loss(heads, read, *teach(foreground, images, (read.shape[2], read.shape[3])))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        average.update_parameters(heads)
        running = loss.item() if running is None else 0.97 * running + 0.03 * loss.item()
        now = time.monotonic()
        if now - shown > 10 or step + 1 == plan.steps:
            shown = now
            left = (now - began) / (step + 1 - start) * (plan.steps - step - 1) / 60
            report(f"heads {step + 1}/{plan.steps}  loss {running:.4f}  left {left:.1f} min")
        if (step + 1) % 100 == 0 or step + 1 == plan.steps:
            _keep(
                {
                    "plan": json.dumps(asdict(plan)),
                    "step": step + 1,
                    "heads": heads.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                },
                checkpoint,
            )
    save_heads(trained, out)
    return trained.eval()


def heads_loss(heads: DinoiserHeads, intermediate: Tensor, together: Tensor, foreground: Tensor) -> Tensor:
    """Mean cross-entropy of both heads.

    Args:
        heads: What is trained.
        intermediate: (B, width, h, w) float32, what they read.
        together: (B, h * w, h * w) float32, 1 where two patches belong together, else 0.
        foreground: (B, h, w) float32, 1 on the foreground, else 0.
    """
    unit = heads.directions(intermediate).flatten(2)
    # A negative correlation is as good as none, and a patch belongs to itself whatever is learned.
    cosines = (unit.transpose(1, 2) @ unit).clamp(1e-4, 1 - 1e-4)
    logits = heads.background_logits(intermediate)
    return F.binary_cross_entropy(cosines, together) + F.binary_cross_entropy_with_logits(logits, foreground)


@torch.no_grad()
def teach(model: Foreground, images: np.ndarray[Any, Any], grid_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Ask the foreground model which patches belong together, and which are foreground.

    Args:
        model: The teacher.
        images: (B, 3, H, W) uint8.
        grid_hw: Rows and columns of patches.

    Returns:
        As `heads_loss` takes them.
    """
    pixels = to_input(images.transpose(0, 2, 3, 1))
    vit = model.vit
    patches = vit.patch_embed.proj(pixels)
    rows, cols = patches.shape[2:]
    tokens = torch.cat([vit.cls_token.expand(len(pixels), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    tokens = tokens + position_embedding(vit.pos_embed, rows, cols)
    for block in vit.blocks[:VALUES_OF_BLOCK]:
        tokens = block(tokens)
    read = vit.blocks[VALUES_OF_BLOCK]
    values = read.attn.qkv(read.norm1(tokens))[:, 1:].chunk(3, dim=2)[2]
    values = values.transpose(1, 2).reshape(len(pixels), -1, rows, cols)
    unit = F.normalize(F.adaptive_avg_pool2d(values, grid_hw).flatten(2), dim=1)
    likely = F.adaptive_avg_pool2d(model(pixels).sigmoid(), grid_hw)[:, 0]
    return (unit.transpose(1, 2) @ unit > CORRELATED).float(), (likely > 0.5).float()


def save_heads(heads: DinoiserHeads, out: Path) -> None:
    """Write `heads.safetensors` at half precision, as the product's loader reads it."""
    out.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().half().contiguous() for name, value in heads.state_dict().items()}
    save_file(state, out / "heads.safetensors")


def _scenes(step: int, batch: int, sprites: Sprites) -> np.ndarray[Any, Any]:
    """Return (B, 3, 256, 256) uint8; the same for the same step, wherever a run was resumed."""
    pictures = []
    for i in range(batch):
        seed = TRAINING_SEEDS_FROM + (1 << 41) + step * batch + i
        most = 4 if np.random.default_rng([seed, 6]).random() < 0.8 else 7
        pictures.append(compose_scene(seed, n_objects=(1, most), sprites=sprites).image)
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))


def _keep(state: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
