"""Which pictures and crops do the two starter models train on?

Everything is composed on the fly from a seed at or above `TRAINING_SEEDS_FROM`, so that a step
number alone says what its batch holds: a cut-off run resumes with the batches it missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
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

    crops: np.ndarray
    targets: np.ndarray


def shrink_sprites(sprites: Sprites, longest_px: int) -> Sprites:
    """Smaller copies of drawings (alpha-weighted), for fast composition of small pictures."""
    small: dict[str, tuple[np.ndarray, ...]] = {}
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
) -> tuple[np.ndarray, np.ndarray]:
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
        squashed = rng.random() < 0.3
        if squashed:  # a picture of another shape, squashed as the product squashes its own
            longer = float(np.exp(rng.uniform(0.1, 0.6)))
            side = int(rng.integers(2))
            shape = (
                int(size_hw[0] * (longer if side == 0 else 1)),
                int(size_hw[1] * (longer if side == 1 else 1)),
            )
        if rng.random() < 0.03:
            image, mask = paint_background(rng, shape), np.zeros(shape, np.float32)
        else:
            most = 4 if rng.random() < 0.85 else 7
            scene = compose_scene(seed, size_hw=shape, n_objects=(1, most), sprites=sprites)
            image, mask = scene.image, (scene.labels > 0).astype(np.float32)
        if squashed:
            image = _resize(image, size_hw)
            mask = cv2.resize(mask, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_AREA)
        images[i], masks[i] = _spoil(image, rng), np.clip(mask, 0.0, 1.0)
    return images, masks


def crop_batch(
    step: int, batch: int, sprites: Sprites, small_sprites: Sprites, *, hard: float, size_px: int
) -> CropBatch:
    """Crops of scenes as CLIP-DIY cuts them, and of single objects.

    Args:
        step: Which batch.
        batch: How many crops, B.
        sprites: Drawings for the scenes, about 256 px.
        small_sprites: The same, small, for the single objects.
        hard: Share of the batch cut from scenes, in [0, 1]; the rest shows one object each.
        size_px: Side of the crops, S.

    Returns:
        The batch.
    """
    rng = np.random.default_rng([TRAINING_SEEDS_FROM, step, 2])
    crops: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    from_scenes = int(batch * hard)
    while len(crops) < from_scenes:
        seed = TRAINING_SEEDS_FROM + int(rng.integers(1 << 40))
        scene = compose_scene(seed, sprites=sprites)
        for box in _boxes(scene, rng):
            target = _target(scene.labels, box)
            if target is None or len(crops) >= from_scenes:
                continue
            crops.append(_cut(scene.image, box, size_px, rng))
            targets.append(target)
    while len(crops) < batch:
        seed = TRAINING_SEEDS_FROM + int(rng.integers(1 << 40))
        side = int(rng.integers(size_px, size_px * 2 + 1))
        scene = compose_scene(seed, size_hw=(side, side), n_objects=(1, 1), sprites=small_sprites)
        box = _object_box(scene, rng) if rng.random() < 0.7 else (0, 0, side, side)
        target = _target(scene.labels, box)
        if target is not None:
            crops.append(_cut(scene.image, box, size_px, rng))
            targets.append(target)
    return CropBatch(np.stack(crops), np.stack(targets))


_Box = tuple[int, int, int, int]


def _boxes(scene: Scene, rng: np.random.Generator) -> list[_Box]:
    """Ten boxes (x0, y0, x1, y1) of the sizes of the three scales, most of them near objects."""
    height, width = scene.labels.shape
    ys, xs = np.nonzero(scene.labels)
    boxes: list[_Box] = [(0, 0, width, height)]
    for low, high, count in ((92, 180, 3), (44, 92, 6)):
        for _ in range(count):
            side = float(np.exp(rng.uniform(np.log(low), np.log(high))))
            aspect = float(np.exp(rng.uniform(-0.2, 0.2)))
            w, h = min(width, int(side * aspect)), min(height, int(side / aspect))
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            if len(xs) and rng.random() < 0.75:
                at = int(rng.integers(len(xs)))
                x, y = xs[at] + rng.normal(0, side / 5), ys[at] + rng.normal(0, side / 5)
            x0 = int(np.clip(x - w / 2, 0, width - w))
            y0 = int(np.clip(y - h / 2, 0, height - h))
            boxes.append((x0, y0, x0 + w, y0 + h))
    return boxes


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


def _target(labels: np.ndarray, box: _Box) -> np.ndarray | None:
    """What a crop should be called, or None when even a person would hesitate."""
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


def _cut(image: np.ndarray, box: _Box, size_px: int, rng: np.random.Generator) -> np.ndarray:
    x0, y0, x1, y1 = box
    crop = _resize(np.ascontiguousarray(image[y0:y1, x0:x1]), (size_px, size_px))
    if rng.random() < 0.1:
        crop = np.ascontiguousarray(crop[:, ::-1])
    return crop


def _resize(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Antialiased bicubic on uint8, as the product resizes its crops."""
    if image.shape[:2] == size_hw:
        return image
    resized = Image.fromarray(image).resize((size_hw[1], size_hw[0]), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _spoil(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sometimes what a JPEG does to a picture."""
    if rng.random() > 0.15:
        return image
    quality = int(rng.integers(50, 96))
    _, buffer = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(buffer, cv2.IMREAD_COLOR)
