"""How does the starter's foreground model learn to tell drawn objects from their surroundings?

The model has the shape of FOUND: a ViT, the keys of its last attention layer, one 1x1 convolution,
bilinear upsampling, sigmoid. Here the whole ViT is trained, from nothing, on composed scenes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from clipdiy.objectness.found import position_embedding
from clipdiy.starter.scenes import Sprites
from clipdiy.starter.training.pictures import foreground_batch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ForegroundPlan:
    """What is trained and for how long.

    Attributes:
        vit: Constructor arguments of timm's VisionTransformer, as written to `vit.json`.
        steps: Optimiser steps.
        batch: Pictures per step at 256x256; smaller pictures come in larger batches.
        learning_rate: Peak of the one-cycle schedule.
        seed: Of the initial weights.
    """

    vit: dict[str, Any]
    steps: int
    batch: int = 6
    learning_rate: float = 1.2e-3
    seed: int = 7


DEFAULT_VIT: dict[str, Any] = {
    "img_size": 256,
    "patch_size": 8,
    "embed_dim": 96,
    "depth": 4,
    "num_heads": 3,
    "mlp_ratio": 4,
    "qkv_bias": True,
    "layer_norm_eps": 1e-6,
}


class Foreground(nn.Module):
    """ViT keys -> 1x1 convolution: what `clipdiy.objectness.found` runs, with gradients."""

    def __init__(self, vit: dict[str, Any]) -> None:
        """Build with fresh weights.

        Args:
            vit: As in `ForegroundPlan.vit`.
        """
        super().__init__()
        arguments = dict(vit)
        norm = partial(nn.LayerNorm, eps=arguments.pop("layer_norm_eps"))
        self.vit = VisionTransformer(**arguments, num_classes=0, norm_layer=norm)
        self.head = nn.Conv2d(arguments["embed_dim"], 1, kernel_size=1)
        nn.init.constant_(self.head.bias, -1.0)  # type: ignore[arg-type]
        with torch.no_grad():  # a known geometry is half of the way to a learned one
            side = arguments["img_size"] // arguments["patch_size"]
            self.vit.pos_embed[:, 1:] = 0.1 * _sine_positions(side, arguments["embed_dim"])

    def forward(self, images: Tensor) -> Tensor:
        """Foreground logits per patch.

        Args:
            images: (B, 3, H, W) float32, normalised as ImageNet, H and W multiples of the patch.

        Returns:
            (B, 1, H / patch, W / patch) float32, logits.
        """
        patch = self.vit.patch_embed.patch_size[0]
        h, w = images.shape[2] // patch, images.shape[3] // patch
        patches = self.vit.patch_embed.proj(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.vit.cls_token.expand(len(images), -1, -1), patches], dim=1)
        x = x + position_embedding(self.vit.pos_embed, h, w)
        for block in self.vit.blocks[:-1]:
            x = block(x)
        last = self.vit.blocks[-1]
        width = x.shape[-1]
        keys = F.linear(
            last.norm1(x),
            last.attn.qkv.weight[width : 2 * width],
            last.attn.qkv.bias[width : 2 * width],
        )
        grid = keys[:, 1:].transpose(1, 2).reshape(len(x), width, h, w)
        logits: Tensor = self.head(grid)
        return logits.float()


def to_input(images: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 RGB -> (B, 3, H, W) float32 normalised as ImageNet."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (pixels - mean[:, None, None]) / std[:, None, None]


def foreground_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean cross-entropy plus soft Dice of the whole batch.

    The logits are upsampled first and go through the sigmoid after that, as FOUND does it: so a
    patch can say where inside it the edge runs.

    Args:
        logits: (B, 1, h, w) float32, at patch resolution.
        truth: (B, H, W) float32 in [0, 1], at full resolution.
    """
    full = F.interpolate(logits, truth.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    entropy = F.binary_cross_entropy_with_logits(full, truth)
    probability = full.sigmoid()
    dice = 1 - 2 * (probability * truth).sum() / (probability.sum() + truth.sum() + 1)
    return entropy + dice


def train_foreground(
    plan: ForegroundPlan,
    sprites: Sprites,
    checkpoint: Path,
    out: Path,
    report: Callable[[str], None],
    *,
    stop_after: int | None = None,
) -> Foreground:
    """Train, resume or just load the finished foreground model.

    Args:
        plan: What to train; a checkpoint of another plan is refused.
        sprites: Drawings to compose with.
        checkpoint: Where the state of the run is kept between starts.
        out: Folder for `vit.json`, `vit.safetensors`, `decoder_weights.pt`, written along the way.
        report: Called with a line of progress every few seconds.
        stop_after: Stop at this step (for trying things out).

    Returns:
        The averaged model in evaluation mode.

    Raises:
        ValueError: If the checkpoint was made by another plan.
    """
    torch.manual_seed(plan.seed)
    model = Foreground(plan.vit)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    trained = cast(Foreground, average.module)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.02, betas=(0.9, 0.98))
    start = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        if state["plan"] != json.dumps(asdict(plan)):
            raise ValueError(f"{checkpoint} was made by another plan: remove it to start again")
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    last = plan.steps if stop_after is None else min(plan.steps, stop_after)
    began, shown, running = time.monotonic(), time.monotonic(), None
    for step in range(start, last):
        progress = step / plan.steps
        rate = plan.learning_rate * min(1.0, (step + 1) / 150) * (1 - progress) ** 0.8
        for group in optimiser.param_groups:
            group["lr"] = rate
        size_hw, batch = _size(step, progress, plan.batch)
        images, masks = foreground_batch(step, batch, size_hw, sprites)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(to_input(images))
        loss = foreground_loss(logits, torch.from_numpy(masks))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(model)
        running = loss.item() if running is None else 0.97 * running + 0.03 * loss.item()
        now = time.monotonic()
        if now - shown > 10 or step + 1 == last:
            shown = now
            eta = (now - began) / (step + 1 - start) * (plan.steps - step - 1)
            report(f"foreground {step + 1}/{plan.steps}  loss {running:.4f}  left {eta / 60:.1f} min")
        if (step + 1) % 250 == 0 or step + 1 == last:
            save_foreground(trained, plan.vit, out)
            _save_atomically(
                {
                    "plan": json.dumps(asdict(plan)),
                    "step": step + 1,
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                },
                checkpoint,
            )
    save_foreground(trained, plan.vit, out)
    return trained.eval()


def save_foreground(model: Foreground, vit: dict[str, Any], out: Path) -> None:
    """Write the three files that the product's FOUND loader reads; matrices at half precision."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "vit.json").write_text(json.dumps(vit, indent=2) + "\n", "utf-8")
    weights = {k: v.detach().half().contiguous() for k, v in model.vit.state_dict().items()}
    save_file(weights, out / "vit.safetensors")
    head = {k: v.detach().float().clone() for k, v in model.head.state_dict().items()}
    torch.save({"decoder": head}, out / "decoder_weights.pt")


def load_foreground(folder: Path) -> Foreground:
    """Read what `save_foreground` wrote, at full precision, in evaluation mode."""
    from safetensors.torch import load_file

    model = Foreground(json.loads((folder / "vit.json").read_text("utf-8")))
    model.vit.load_state_dict(load_file(folder / "vit.safetensors"))
    head = torch.load(folder / "decoder_weights.pt", weights_only=True, map_location="cpu")
    model.head.load_state_dict(head["decoder"])
    return model.eval()


def _size(step: int, progress: float, batch: int) -> tuple[tuple[int, int], int]:
    """Small pictures first, then mostly 256 squares with other sizes and shapes in between."""
    rng = np.random.default_rng([step, 3])
    if progress < 0.3:
        side = (160, 192)[int(rng.integers(2))]
        size_hw = (side, side)
    elif rng.random() < 0.7:
        size_hw = (256, 256)
    else:
        size_hw = ((192, 192), (224, 224), (256, 192), (192, 256), (240, 320), (320, 240))[int(rng.integers(6))]
    return size_hw, max(3, round(batch * 65536 / (size_hw[0] * size_hw[1])))


def _sine_positions(side: int, width: int) -> Tensor:
    """2-D sine-cosine positions, (1, side * side, width) float32."""
    quarter = width // 4
    rates = 1.0 / 100.0 ** (torch.arange(quarter) / quarter)
    angles = torch.arange(side)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = waves[:, None].expand(side, side, 2 * quarter)
    cols = waves[None].expand(side, side, 2 * quarter)
    return torch.cat([rows, cols], dim=2).reshape(1, side * side, width)


def _save_atomically(state: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
