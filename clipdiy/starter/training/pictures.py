"""Which pictures and crops do the two starter models train on?

Everything is composed on the fly from a seed at or above `TRAINING_SEEDS_FROM`, so that a step
number alone says what its batch holds: a cut-off run resumes with the batches it missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipdiy.starter.scenes import (
    NOUNS,
    TRAINING_SEEDS_FROM,
    Scene,
    Sprites,
    compose_scene,
    paint_background,
)


@dataclass(frozen=True)
class CropBatch:
    """Crops as CLIP sees them.

    Attributes:
        crops: (B, S, S, 3) uint8 RGB.
        targets: (B, 1 + len(NOUNS)) float32, rows sum to 1; column 0 is background. A crop with
            several objects shares its target by visible area.
    """

    crops: NDArray[np.uint8]
    targets: NDArray[np.float32]


def shrink_sprites(sprites: Sprites, longest_px: int) -> Sprites:
    """Smaller copies of drawings (alpha-weighted), for fast composition of small pictures."""
    small: dict[str, tuple[NDArray[np.uint8], ...]] = {}
    for noun, drawings in sprites.by_noun.items():
        shrunk = []
        for rgba in drawings:
            image = Image.fromarray(rgba)
            image.thumbnail((longest_px, longest_px), Image.Resampling.BOX)
            shrunk.append(np.array(image))
        small[noun] = tuple(shrunk)
    return Sprites(small)


def foreground_batch(
    step: int, batch: int, size_hw: tuple[int, int], sprites: Sprites
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pictures with the share of each pixel that lies on an object.

    Args:
        step: Which batch.
        batch: How many pictures, B.
        size_hw: Their size in pixels.
        sprites: Drawings to compose with.

    Returns:
        (B, H, W, 3) uint8 RGB and (B, H, W) float32 in [0, 1].
    """
    images = np.empty((batch, *size_hw, 3), np.uint8)
    masks = np.empty((batch, *size_hw), np.float32)
    for i in range(batch):
        seed = TRAINING_SEEDS_FROM + step * batch + i
        rng = np.random.default_rng([seed, 1])
        shape = size_hw
        if rng.random() < 0.3:  # a picture of another shape, squashed as the product squashes its own
            longer = float(np.exp(rng.uniform(0.1, 0.6)))
            side = int(rng.integers(2))
            shape = (
                int(size_hw[0] * (longer if side == 0 else 1)),
                int(size_hw[1] * (longer if side == 1 else 1)),
            )
        if rng.random() < 0.03:
            scene = Scene(paint_background(rng, shape), np.zeros(shape, np.uint8), ())
        else:
            most = 4 if rng.random() < 0.85 else 7
            scene = compose_scene(seed, size_hw=shape, n_objects=(1, most), sprites=sprites)
        image = _resize(scene.image, size_hw)
        mask = cv2.resize((scene.labels > 0).astype(np.float32), (size_hw[1], size_hw[0]), interpolation=cv2.INTER_AREA)
        images[i], masks[i] = _spoil(image, rng), np.clip(mask, 0.0, 1.0)
    return images, masks


class CropSource:
    """Crops of scenes as CLIP-DIY cuts them, and of single objects.

    Composing a scene costs more than a step of training on its crops. So scenes stay in a pool for a while: every step
    adds a few and drops as many, and the crops of a batch come from all of them.
    """

    def __init__(self, sprites: Sprites, size_px: int) -> None:
        """Start with empty pools.

        Args:
            sprites: Drawings to compose with.
            size_px: Side of the crops, S.
        """
        self._size_px = size_px
        self._scenes = _Pool(shrink_sprites(sprites, 192), fresh=3, kept=64, seed=0)
        self._singles = _Pool(shrink_sprites(sprites, 96), fresh=8, kept=96, seed=1 << 40, single_px=size_px)

    def batch(self, step: int, batch: int, *, hard: float) -> CropBatch:
        """Cut the crops of one step.

        Args:
            step: Which batch.
            batch: How many crops, B.
            hard: Share of the batch cut from scenes, in [0, 1]; the rest shows one object each.

        Returns:
            The batch; the same for the same step, wherever a run was resumed.
        """
        rng = np.random.default_rng([TRAINING_SEEDS_FROM, step, 2])
        scenes, singles = self._scenes.at(step), self._singles.at(step)
        crops: list[NDArray[np.uint8]] = []
        targets: list[NDArray[np.float32]] = []
        while len(crops) < batch:
            if len(crops) < int(batch * hard):
                scene, near_yx = scenes[int(rng.integers(len(scenes)))]
                box = _box(scene, near_yx, rng)
            else:
                scene, _ = singles[int(rng.integers(len(singles)))]
                height, width = scene.labels.shape
                box = _object_box(scene, rng) if rng.random() < 0.8 else (0, 0, width, height)
            target = _target(scene.labels, box)
            if target is not None:
                crops.append(_cut(scene.image, box, self._size_px, rng))
                targets.append(target)
        return CropBatch(np.stack(crops), np.stack(targets))


_Box = tuple[int, int, int, int]
_Seen = tuple[Scene, NDArray[np.int64]]


class _Pool:
    """The scenes that a step draws from, with some places (K, 2) yx on their objects."""

    def __init__(self, sprites: Sprites, *, fresh: int, kept: int, seed: int, single_px: int | None = None) -> None:
        self._sprites, self._fresh, self._kept = sprites, fresh, kept
        self._seed, self._single_px = TRAINING_SEEDS_FROM + seed, single_px
        self._seen: dict[int, _Seen] = {}

    def at(self, step: int) -> list[_Seen]:
        end = self._fresh * step + self._kept
        wanted = range(end - self._kept, end)
        self._seen = {i: self._seen[i] if i in self._seen else self._compose(i) for i in wanted}
        return list(self._seen.values())

    def _compose(self, number: int) -> _Seen:
        rng = np.random.default_rng([self._seed, number, 5])
        if self._single_px is None:
            scene = compose_scene(self._seed + number, sprites=self._sprites)
        else:
            side = int(rng.integers(self._single_px, 2 * self._single_px + 1))
            scene = compose_scene(self._seed + number, size_hw=(side, side), n_objects=(1, 1), sprites=self._sprites)
        places = np.argwhere(scene.labels)
        if len(places) > 500:
            places = places[rng.integers(len(places), size=500)]
        return scene, places


def _box(scene: Scene, near_yx: NDArray[np.int64], rng: np.random.Generator) -> _Box:
    """A box (x0, y0, x1, y1) of about the size of one of the three scales, most often near an object."""
    height, width = scene.labels.shape
    kind = rng.random()
    if kind < 0.1:
        return (0, 0, width, height)
    low, high = (92, 180) if kind < 0.4 else (44, 92)
    side = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    aspect = float(np.exp(rng.uniform(-0.2, 0.2)))
    w, h = min(width, int(side * aspect)), min(height, int(side / aspect))
    x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
    if len(near_yx) and rng.random() < 0.6:
        y, x = near_yx[int(rng.integers(len(near_yx)))] + rng.normal(0, side / 5, 2)
    x0 = int(np.clip(x - w / 2, 0, width - w))
    y0 = int(np.clip(y - h / 2, 0, height - h))
    return (x0, y0, x0 + w, y0 + h)


def _object_box(scene: Scene, rng: np.random.Generator) -> _Box:
    """A box around everything in the scene, with a margin of -15 to 60 % of its size."""
    height, width = scene.labels.shape
    ys, xs = np.nonzero(scene.labels)
    if not len(xs):
        return (0, 0, width, height)
    w, h = np.ptp(xs) + 1, np.ptp(ys) + 1
    if rng.random() < 0.7:  # squares keep the proportions, the others squash
        w = h = max(w, h)
    w, h = np.array([w, h]) * (1 + rng.uniform(-0.15, 0.6)) / 2
    x, y = (xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2
    x, y = x + rng.normal(0, w / 8), y + rng.normal(0, h / 8)
    x0, y0 = int(max(0, x - w)), int(max(0, y - h))
    return (x0, y0, int(min(width, max(x + w, x0 + 8))), int(min(height, max(y + h, y0 + 8))))


def _target(labels: NDArray[np.uint8], box: _Box) -> NDArray[np.float32] | None:
    """Return how a crop is to be classified, or `None` if even a person would hesitate."""
    x0, y0, x1, y1 = box
    counts = np.bincount(labels[y0:y1, x0:x1].ravel(), minlength=len(NOUNS) + 1)
    covered = 1.0 - counts[0] / counts.sum()
    target = np.zeros(len(NOUNS) + 1, np.float32)
    if covered < 0.015:
        target[0] = 1.0
        return target
    if covered < 0.07:
        return None
    counts[0] = 0
    target += counts / counts.sum()
    return target


def _cut(image: NDArray[np.uint8], box: _Box, size_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = box
    crop = _resize(np.ascontiguousarray(image[y0:y1, x0:x1]), (size_px, size_px))
    if rng.random() < 0.1:
        crop = np.ascontiguousarray(crop[:, ::-1])
    return crop


def _resize(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Antialiased bicubic on uint8, as the product resizes its crops."""
    if image.shape[:2] == size_hw:
        return image
    resized = Image.fromarray(image).resize((size_hw[1], size_hw[0]), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _spoil(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Compress some of the pictures as JPEG, for its artefacts."""
    if rng.random() > 0.15:
        return image
    quality = int(rng.integers(50, 96))
    _, buffer = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    spoiled: NDArray[np.uint8] = np.asarray(cv2.imdecode(buffer, cv2.IMREAD_COLOR), np.uint8)
    return spoiled
