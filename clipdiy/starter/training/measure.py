"""How good are the starter's two models on scenes they never saw?

For the training's own use (progress and the card): a plain restatement of CLIP-DIY on the training
code's objects. The product measures itself with its own code in `clipdiy.evaluate`; the tests hold
the bundled weights to their bars through that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from clipdiy.starter.scenes import NOUNS, Scene, Sprites, compose_scene
from clipdiy.starter.training.clip import CLASSES, to_clip_input
from clipdiy.starter.training.foreground import Foreground, load_foreground, to_input
from clipdiy.starter.vocabulary import TEMPLATES

SIDE_PX = 256
SCALES_PX = (256, 128, 64)
# Far from the seeds of training, which start at 1,000,000,000. The first were looked at while the generator was still
# being changed; the second were measured once, when everything was finished.
TUNING_SEEDS = range(1000, 1100)
FRESH_SEEDS = range(5000, 5100)


@dataclass(frozen=True)
class Measured:
    """Results on one seeded set of scenes, all in percent except `lowest_cosine`.

    Attributes:
        miou: Mean IoU over background and all nouns, own objectness, all scales.
        miou_without_objectness: The same without guidance.
        miou_largest_scale: The same with guidance but only the whole picture as a crop.
        miou_true_mask: The same with the true union mask as objectness: what a perfect
            foreground model would give.
        objectness_iou: IoU of objectness > 0.5 against the union mask, pooled over pixels.
        named_right: Share of single whole objects whose crop is named right.
        lowest_cosine: The lowest cosine between any crop and any class.
    """

    miou: float
    miou_without_objectness: float
    miou_largest_scale: float
    miou_true_mask: float
    objectness_iou: float
    named_right: float
    lowest_cosine: float


class Measurer:
    """Loads the written files the way the product does and measures them."""

    def __init__(self, folder: Path) -> None:
        """Load both models.

        Args:
            folder: Holds `clip/` and `found/`.
        """
        name = f"local-dir:{folder / 'clip'}"
        self._clip = open_clip.create_model(name).eval()
        tokens = open_clip.get_tokenizer(name)([TEMPLATES[0].format(c) for c in CLASSES])
        self._size_px: int = self._clip.visual.image_size
        if not isinstance(self._size_px, int):
            self._size_px = self._size_px[0]
        with torch.inference_mode():
            self._texts = self._clip.encode_text(tokens, normalize=True)
        self._foreground: Foreground = load_foreground(folder / "found")

    @torch.inference_mode()
    def __call__(self, sprites: Sprites, seeds: range, report: Callable[[str], None] | None = None) -> Measured:
        """Measure on the scenes of some seeds, and on three single objects per seed."""
        count = len(CLASSES)
        confusions = {k: np.zeros((count, count), np.int64) for k in ("own", "none", "256", "true")}
        joint = union = 0
        lowest, right = 1.0, 0
        for done, seed in enumerate(seeds):
            scene = compose_scene(seed, size_hw=(SIDE_PX, SIDE_PX), sprites=sprites)
            grids = [self._grid(scene.image, p) for p in SCALES_PX]
            lowest = min(lowest, *(g.min().item() for g in grids))
            maps = [_upsample(g) for g in grids]
            similarity = torch.stack(maps).mean(0)
            objectness = _upsample(self._foreground(to_input(scene.image[None]))[0])[0].sigmoid()
            truth = torch.from_numpy(scene.labels > 0)
            joint += int(((objectness > 0.5) & truth).sum())
            union += int(((objectness > 0.5) | truth).sum())
            for key, labels in (
                ("own", _guide(similarity, objectness)),
                ("none", similarity.argmax(0)),
                ("256", _guide(maps[0], objectness)),
                ("true", _guide(similarity, truth.float())),
            ):
                pairs = scene.labels.astype(np.int64) * count + labels.numpy()
                confusions[key] += np.bincount(pairs.ravel(), minlength=count**2).reshape(count, -1)
            right += self._named_right(seed, sprites)
            if report is not None and (done + 1) % 25 == 0:
                report(f"measured {done + 1}/{len(seeds)} scenes")
        return Measured(
            miou=mean_iou(confusions["own"]),
            miou_without_objectness=mean_iou(confusions["none"]),
            miou_largest_scale=mean_iou(confusions["256"]),
            miou_true_mask=mean_iou(confusions["true"]),
            objectness_iou=100 * joint / max(1, union),
            named_right=100 * right / (3 * len(seeds)),
            lowest_cosine=lowest,
        )

    def _cosines(self, crops: Tensor) -> Tensor:
        """(N, 3, P, P) uint8 -> (N, C) cosines."""
        if crops.shape[-1] != self._size_px:
            crops = F.interpolate(crops, (self._size_px, self._size_px), mode="bicubic", antialias=True)
        pixels = to_clip_input(crops.permute(0, 2, 3, 1).numpy())
        cosines: Tensor = self._clip.encode_image(pixels, normalize=True) @ self._texts.t()
        return cosines

    def _grid(self, image: NDArray[np.uint8], crop_px: int) -> Tensor:
        """Cosines of the half-overlapping crops of one scale, (C, h, w)."""
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        cut = pixels.unfold(1, crop_px, crop_px // 2).unfold(2, crop_px, crop_px // 2)
        h, w = cut.shape[1:3]
        crops = cut.permute(1, 2, 0, 3, 4).reshape(h * w, 3, crop_px, crop_px)
        return self._cosines(crops.contiguous()).t().reshape(-1, h, w)

    def _named_right(self, seed: int, sprites: Sprites) -> int:
        right = 0
        for i in range(3):
            scene = compose_scene(10 * seed + i, n_objects=(1, 1), sprites=sprites)
            crop = torch.from_numpy(object_crop(scene)).permute(2, 0, 1)[None]
            answer = CLASSES[int(self._cosines(crop.contiguous())[0, 1:].argmax()) + 1]
            right += answer == scene.nouns[0]
        return right


def object_crop(scene: Scene, margin: float = 0.1) -> NDArray[np.uint8]:
    """The square around everything in a scene plus a margin, cut at the border, (h, w, 3) uint8."""
    ys, xs = np.nonzero(scene.labels)
    half = (1 + 2 * margin) * max(np.ptp(xs) + 1, np.ptp(ys) + 1) / 2
    x, y = (xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2
    height, width = scene.labels.shape
    x0, x1 = int(max(0, x - half)), int(min(width, x + half + 1))
    y0, y1 = int(max(0, y - half)), int(min(height, y + half + 1))
    return scene.image[y0:y1, x0:x1]


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Mean IoU in percent over the classes that occur in truth or prediction.

    Args:
        confusion: (C, C) counts, truth in rows.
    """
    hit = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hit
    return float(100 * (hit[union > 0] / union[union > 0]).mean())


def _upsample(grid: Tensor) -> Tensor:
    """(C, h, w) -> (C, 256, 256), bilinear."""
    return F.interpolate(grid[None], (SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)[0]


def _guide(similarity: Tensor, objectness: Tensor) -> Tensor:
    """CLIP-DIY Eq. 3 and 4: labels (H, W) int64 from (C, H, W) cosines and (H, W) objectness."""
    weights = torch.cat([1 - objectness[None], objectness[None].expand(len(NOUNS), -1, -1)])
    return (similarity * weights).argmax(0)
