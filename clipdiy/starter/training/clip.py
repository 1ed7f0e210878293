"""How does the starter's tiny CLIP learn its closed world?

Three steps, each starting from the last one's result: (1) the image tower against one free vector
per class, easy crops first; (2) the text tower fitted to those vectors; (3) both, contrastively.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from clipdiy.starter.scenes import NOUNS, Sprites
from clipdiy.starter.training.pictures import CropSource
from clipdiy.starter.vocabulary import ADJECTIVES, BACKGROUND, SYNONYMS, TEMPLATES

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
CLASSES: tuple[str, ...] = (BACKGROUND, *NOUNS)

MODEL_CFG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


@dataclass(frozen=True)
class ClipPlan:
    """How long each step trains.

    Attributes:
        image_steps: Step 1, image tower alone.
        text_steps: Step 2, text tower alone.
        joint_steps: Step 3, both.
        batch: Crops per step.
        image_rate: Peak learning rate of step 1; step 3 starts at half of it.
        text_rate: Peak learning rate of step 2.
        floor: Cosines below this are pushed up: a negative one would invert the guidance.
        floor_weight: Weight of that push.
        seed: Of the initial weights.
    """

    image_steps: int
    text_steps: int
    joint_steps: int
    batch: int = 128
    image_rate: float = 2e-3
    text_rate: float = 3e-3
    floor: float = 0.1
    floor_weight: float = 5.0
    seed: int = 7


class Texts:
    """Training texts as tokens of a compact vocabulary (only the tokens that occur)."""

    def __init__(self) -> None:
        """Tokenise everything once."""
        context = MODEL_CFG["text_cfg"]["context_length"]
        self._tokenizer = SimpleTokenizer(context_length=context)
        every = [
            template.format(word) for template in TEMPLATES for noun in CLASSES for word in (noun, *SYNONYMS[noun])
        ]
        # Sorted, so that the end token stays the largest: the text tower pools at the largest.
        self.token_ids: Tensor = self._tokenizer([*every, *ADJECTIVES]).unique()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Texts -> compact tokens, (B, context) int64."""
        return torch.searchsorted(self.token_ids, self._tokenizer(list(texts)))


def sample_text(noun: str, rng: np.random.Generator) -> str:
    """One training text for a noun (or `background`): a template, maybe a synonym, maybe a colour."""
    word = noun
    if rng.random() < 0.5:
        word = SYNONYMS[noun][int(rng.integers(len(SYNONYMS[noun])))]
    if noun != BACKGROUND and rng.random() < 0.12:
        word = f"{ADJECTIVES[int(rng.integers(len(ADJECTIVES)))]} {word}"
    template = TEMPLATES[0] if rng.random() < 0.4 else TEMPLATES[int(rng.integers(len(TEMPLATES)))]
    return template.format(word)


def to_clip_input(crops: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) uint8 RGB -> (B, 3, S, S) float32 normalised as CLIP, channels last in memory."""
    pixels = torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    return (pixels - mean[:, None, None]) / std[:, None, None]


def classification_loss(cosines: Tensor, targets: Tensor, scale: Tensor | float) -> Tensor:
    """Cross-entropy of scaled cosines against soft targets, (B, C) float32 each."""
    return -(targets * F.log_softmax(cosines * scale, dim=1)).sum(1).mean()


def floor_loss(cosines: Tensor, floor: float) -> Tensor:
    """How far cosines lie below the floor, mean over all pairs."""
    return F.relu(floor - cosines).mean()


def text_to_image_loss(cosines: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
    """Each class text against all crops of the batch; every crop that shows the class is right.

    Args:
        cosines: (B, C) float32.
        targets: (B, C) float32, rows sum to 1.
        scale: Logit scale.

    Returns:
        Mean over the classes that the batch shows.
    """
    weights = (targets * (targets > 0.5)).t()
    present = weights.sum(1) > 0
    weights = weights[present] / weights[present].sum(1, keepdim=True)
    return -(weights * F.log_softmax(cosines.t()[present] * scale, dim=1)).sum(1).mean()


def train_clip(plan: ClipPlan, sprites: Sprites, checkpoint: Path, out: Path, report: Callable[[str], None]) -> None:
    """Train or resume the three steps and write the OpenCLIP folder along the way.

    Args:
        plan: What to train; a checkpoint of another plan is refused.
        sprites: Drawings to compose with.
        checkpoint: Where the state of the run is kept between starts.
        out: Folder for `open_clip_config.json` and `open_clip_model.safetensors`.
        report: Called with a line of progress every few seconds.

    Raises:
        ValueError: If the checkpoint was made by another plan.
    """
    run = _Run(plan, sprites, checkpoint, out, report)
    if run.done < plan.image_steps:
        run.image_step()
    if run.done < plan.image_steps + plan.text_steps:
        run.text_step()
    if run.done < plan.image_steps + plan.text_steps + plan.joint_steps:
        run.joint_step()
    run.save()


class _Run:
    """One training run: the models and what is needed to go on after a cut."""

    def __init__(
        self,
        plan: ClipPlan,
        sprites: Sprites,
        checkpoint: Path,
        out: Path,
        report: Callable[[str], None],
    ) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.source = CropSource(sprites, MODEL_CFG["vision_cfg"]["image_size"])
        self.checkpoint, self.out, self.report = checkpoint, out, report
        self.texts = Texts()
        text_cfg = {**MODEL_CFG["text_cfg"], "vocab_size": len(self.texts.token_ids)}
        self.model = CLIP(MODEL_CFG["embed_dim"], MODEL_CFG["vision_cfg"], text_cfg)
        self.model = self.model.to(memory_format=torch.channels_last)
        for module in self.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.02
        self.vectors = torch.nn.Parameter(F.normalize(torch.randn(len(CLASSES), MODEL_CFG["embed_dim"]) + 0.25, dim=1))
        self.scale = torch.nn.Parameter(torch.tensor(16.0).log())
        self.average = torch.optim.swa_utils.AveragedModel(
            self.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
        )
        self.done = 0
        self.optimiser_state: dict[str, Any] | None = None
        if checkpoint.is_file():
            state = torch.load(checkpoint, weights_only=True)
            if state["plan"] != json.dumps(asdict(plan)):
                raise ValueError(f"{checkpoint} was made by another plan: remove it to start again")
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.vectors.data.copy_(state["vectors"])
            self.scale.data.copy_(state["scale"])
            self.done, self.optimiser_state = state["step"], state["optimiser"]

    def image_step(self) -> None:
        """Step 1: crops against free class vectors, easy to hard."""
        plan = self.plan
        parameters = [*self.model.visual.parameters(), self.vectors]

        def loss_at(step: int, progress: float) -> tuple[Tensor, float]:
            embedding, targets = self._embed(step, hard=0.1 + 0.55 * progress)
            cosines = embedding @ F.normalize(self.vectors, dim=1).t()
            loss = classification_loss(cosines, targets, 16.0)
            return loss + plan.floor_weight * floor_loss(cosines, plan.floor), _right(cosines, targets)

        self._optimise("clip 1/3 image", parameters, 0, plan.image_steps, plan.image_rate, loss_at)

    def text_step(self) -> None:
        """Step 2: texts against the vectors that step 1 found."""
        plan = self.plan
        visual = {id(p) for p in self.model.visual.parameters()}
        parameters = [p for p in self.model.parameters() if id(p) not in visual]
        goal = F.normalize(self.vectors.detach(), dim=1)

        def loss_at(step: int, _progress: float) -> tuple[Tensor, float]:
            cosines = self._text_vectors(step) @ goal.t()
            targets = torch.eye(len(CLASSES))
            loss = classification_loss(cosines, targets, 16.0) + (1 - cosines.diagonal()).mean()
            return loss + plan.floor_weight * floor_loss(cosines, plan.floor), _right(cosines, targets)

        self._optimise("clip 2/3 text", parameters, plan.image_steps, plan.text_steps, plan.text_rate, loss_at)

    def joint_step(self) -> None:
        """Step 3: crops against the texts of all classes, both towers."""
        plan = self.plan

        def loss_at(step: int, _progress: float) -> tuple[Tensor, float]:
            embedding, targets = self._embed(step, hard=0.85)
            cosines = embedding @ self._text_vectors(step).t()
            scale = self.scale.exp().clamp(10.0, 30.0)
            loss = classification_loss(cosines, targets, scale)
            loss = loss + 0.25 * text_to_image_loss(cosines, targets, scale)
            return loss + plan.floor_weight * floor_loss(cosines, plan.floor), _right(cosines, targets)

        self._optimise(
            "clip 3/3 joint",
            [*(p for p in self.model.parameters() if p is not self.model.logit_scale), self.scale],
            plan.image_steps + plan.text_steps,
            plan.joint_steps,
            plan.image_rate / 2,
            loss_at,
        )

    def save(self) -> None:
        """Write the averaged model as an OpenCLIP folder."""
        save_clip(self.average.module, self.texts.token_ids, self.scale.detach(), self.out)

    def _embed(self, step: int, *, hard: float) -> tuple[Tensor, Tensor]:
        batch = self.source.batch(step, self.plan.batch, hard=hard)
        with torch.autocast("cpu", torch.bfloat16):
            embedding = self.model.visual(to_clip_input(batch.crops))
        return F.normalize(embedding.float(), dim=1), torch.from_numpy(batch.targets)

    def _text_vectors(self, step: int) -> Tensor:
        rng = np.random.default_rng([step, 4])
        tokens = self.texts([sample_text(noun, rng) for noun in CLASSES])
        vectors: Tensor = self.model.encode_text(tokens, normalize=True)
        return vectors

    def _optimise(
        self,
        name: str,
        parameters: list[torch.nn.Parameter],
        first: int,
        steps: int,
        peak: float,
        loss_at: Callable[[int, float], tuple[Tensor, float]],
    ) -> None:
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
            betas=(0.9, 0.98),
        )
        if self.optimiser_state is not None:
            optimiser.load_state_dict(self.optimiser_state)
            self.optimiser_state = None
        self.model.train()
        start, began, shown = self.done - first, time.monotonic(), time.monotonic()
        mean_loss, mean_right = 0.0, 0.0
        for step in range(start, steps):
            progress = step / steps
            rate = peak * min(1.0, (step + 1) / 100) * (1 - progress)
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss, right = loss_at(first + step, progress)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            self.average.update_parameters(self.model)
            keep = min(0.97, (step - start) / (step - start + 1))
            mean_loss = keep * mean_loss + (1 - keep) * loss.item()
            mean_right = keep * mean_right + (1 - keep) * right
            self.done = first + step + 1
            now = time.monotonic()
            if now - shown > 10 or step + 1 == steps:
                shown = now
                left = (now - began) / (step + 1 - start) * (steps - step - 1) / 60
                self.report(
                    f"{name} {step + 1}/{steps}  loss {mean_loss:.3f}  right {mean_right:.1%}  left {left:.1f} min"
                )
            if self.done % 250 == 0 and step + 1 != steps:
                self._keep(optimiser.state_dict())
        self._keep(None)

    def _keep(self, optimiser: dict[str, Any] | None) -> None:
        self.save()
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(
            {
                "plan": json.dumps(asdict(self.plan)),
                "step": self.done,
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "vectors": self.vectors.detach(),
                "scale": self.scale.detach(),
                "optimiser": optimiser,
            },
            partial,
        )
        partial.replace(self.checkpoint)


def save_clip(model: CLIP, token_ids: Tensor, log_scale: Tensor, out: Path) -> None:
    """Write an OpenCLIP folder at half precision.

    Args:
        model: Trained on the compact vocabulary.
        token_ids: (V,) int64: which standard token each compact token is; all other rows are zero.
        log_scale: Logarithm of the logit scale.
        out: The folder; made when missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().clone() for k, v in model.state_dict().items()}
    compact = state["token_embedding.weight"]
    full = torch.zeros(MODEL_CFG["text_cfg"]["vocab_size"], compact.shape[1])
    full[token_ids] = compact
    state["token_embedding.weight"] = full
    state["logit_scale"] = log_scale.clamp(np.log(10.0), np.log(30.0))
    weights = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    save_file(weights, out / "open_clip_model.safetensors")
    config = {
        "model_cfg": MODEL_CFG,
        "preprocess_cfg": {
            "mean": CLIP_MEAN,
            "std": CLIP_STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _right(cosines: Tensor, targets: Tensor) -> float:
    return (cosines.argmax(1) == targets.argmax(1)).float().mean().item()
