"""What do the starter's pictures look like, and where exactly is what in them?

Composes scenes of one to a few drawn objects on procedural backgrounds, with exact masks from the
drawings' alpha channel. Training, tests, the demo and the benchmark share it. Deterministic: the
same seed, size and sprites give the same pixels.

A closed world, said plainly: the drawings come from the same sets that the starter weights were
trained on. An "unseen scene" is a new composition (other background, place, size, turn, colour)
from a seed that training never used; it is not an unseen art style and not a photo.
Seeds at or above `TRAINING_SEEDS_FROM` belong to training; everything else is free to use.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipdiy.weights import STARTER_DIR

NOUNS: tuple[str, ...] = (
    "dog", "cat", "horse", "cow", "pig", "sheep", "rabbit", "elephant", "lion", "bird",
    "penguin", "fish", "butterfly", "turtle", "snake", "apple", "banana", "strawberry",
    "pineapple", "carrot", "pizza", "hamburger", "cake", "bread", "car", "bus", "truck",
    "bicycle", "train", "airplane", "boat", "rocket", "house", "chair", "sofa", "clock",
    "book", "laptop", "umbrella", "cup", "bottle", "scissors", "guitar", "balloon", "shoe",
    "tree", "cactus", "sunflower",
)  # fmt: skip

TRAINING_SEEDS_FROM = 1_000_000_000

# Longest side of an object as a share of the picture's shorter side, by number of objects.
_SHARE_BY_COUNT = {1: (0.42, 0.85), 2: (0.36, 0.60), 3: (0.32, 0.50), 4: (0.30, 0.44)}


@dataclass(frozen=True)
class Sprites:
    """Drawings with transparency, by noun.

    Attributes:
        by_noun: noun -> drawings, each (H, W, 4) uint8 RGBA, straight alpha, trimmed.
    """

    by_noun: Mapping[str, tuple[NDArray[np.uint8], ...]]


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8; 0 is background, i + 1 is `NOUNS[i]`. A pixel belongs to the topmost
            object that covers at least half of it.
        nouns: The nouns that are visible in `labels`, in the order of `NOUNS`.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    nouns: tuple[str, ...]


def load_sprites(path: Path | None = None) -> Sprites:
    """Read sprites from a zip of WebP files named `noun/number.webp`.

    Args:
        path: The zip; the bundled one when None.

    Returns:
        Sprites for every noun in the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds no sprite.
    """
    source = STARTER_DIR / "sprites.zip" if path is None else path
    if not source.is_file():
        raise FileNotFoundError(f"expected sprites at {source}, found no file: run `make starter`")
    by_noun: dict[str, list[NDArray[np.uint8]]] = {}
    with zipfile.ZipFile(source) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".webp"):
                rgba = np.array(Image.open(io.BytesIO(archive.read(name))).convert("RGBA"))
                by_noun.setdefault(name.split("/")[0], []).append(rgba)
    if not by_noun:
        raise ValueError(f"expected noun/number.webp entries in {source}, found none")
    return Sprites({noun: tuple(found) for noun, found in by_noun.items()})


def compose_scene(
    seed: int,
    *,
    size_hw: tuple[int, int] = (256, 256),
    n_objects: tuple[int, int] = (1, 4),
    sprites: Sprites | None = None,
) -> Scene:
    """Compose one scene.

    Args:
        seed: Any non-negative integer. See the module docstring for the training range.
        size_hw: Height and width of the picture in pixels, any positive size.
        n_objects: Fewest and most objects, both included. When there is no room left, fewer
            are placed, but at least one.
        sprites: Drawings to use; the bundled ones when None.

    Returns:
        The picture with its exact labels.

    Raises:
        ValueError: If a size or the number of objects is not positive.
    """
    height, width = size_hw
    if height < 1 or width < 1:
        raise ValueError(f"expected size_hw of at least 1x1, got {size_hw}")
    fewest, most = n_objects
    if not 1 <= fewest <= most:
        raise ValueError(f"expected 1 <= fewest <= most objects, got {n_objects}")
    drawings = load_sprites() if sprites is None else sprites
    rng = np.random.default_rng(seed)
    image = paint_background(rng, size_hw)
    labels = np.zeros(size_hw, np.uint8)
    place_objects(rng, image, labels, n_objects, drawings)
    present = set(np.unique(labels).tolist())
    return Scene(image, labels, tuple(n for i, n in enumerate(NOUNS) if i + 1 in present))


def place_objects(
    rng: np.random.Generator,
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    n_objects: tuple[int, int],
    sprites: Sprites,
) -> None:
    """Paste some objects beside each other into a picture and its labels, in place.

    Args:
        rng: Source of everything.
        image: (H, W, 3) uint8 RGB, changed.
        labels: (H, W) uint8, changed.
        n_objects: Fewest and most objects, both included.
        sprites: Drawings to use.
    """
    height, width = labels.shape
    boxes: list[tuple[float, float, float]] = []
    count = int(rng.integers(n_objects[0], n_objects[1] + 1))
    low, high = _SHARE_BY_COUNT.get(count, (0.5 / count**0.5, 0.84 / count**0.5))
    nouns = sorted(sprites.by_noun, key=NOUNS.index)
    for _ in range(count):
        noun = nouns[int(rng.integers(len(nouns)))]
        choices = sprites.by_noun[noun]
        sprite = choices[int(rng.integers(len(choices)))]
        side = float(rng.uniform(low, high)) * min(height, width)
        place = _find_place(rng, (height, width), side / 2, boxes)
        if place is None:
            continue
        boxes.append((*place, side / 2))
        paste(image, labels, sprite, NOUNS.index(noun) + 1, rng, place, side)


def paste(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    sprite: NDArray[np.uint8],
    label: int,
    rng: np.random.Generator,
    center_xy: tuple[float, float],
    side: float,
) -> None:
    """Paint one turned, flipped, recoloured drawing into a picture and its labels, in place.

    Args:
        image: (H, W, 3) uint8 RGB, changed.
        labels: (H, W) uint8, changed where the drawing covers at least half a pixel.
        sprite: (h, w, 4) uint8 RGBA, straight alpha.
        label: What to write into `labels`.
        rng: Source of turn, flip, stretch and colour.
        center_xy: Where the drawing's centre comes to lie, in pixels.
        side: Length of the drawing's longer side in pixels.
    """
    height, width = labels.shape
    drawing = _premultiply(sprite)
    scale = side / max(drawing.shape[:2])
    # Halve first: a linear warp alone would alias when it shrinks by more than two.
    while scale < 0.5 and min(drawing.shape[:2]) > 8:
        half = (drawing.shape[1] // 2, drawing.shape[0] // 2)
        drawing = cv2.resize(drawing, half, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
        scale = side / max(drawing.shape[:2])
    angle = float(np.clip(rng.normal(0.0, 12.0), -30.0, 30.0))
    stretch = float(np.exp(rng.uniform(-0.12, 0.12)))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    gain = (1.0 + rng.uniform(-0.1, 0.1, 3)) * (1.0 + rng.uniform(-0.12, 0.12))
    lift = rng.uniform(-10.0, 10.0)
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([flip * scale * stretch, scale / stretch])
    half_wh = np.array([drawing.shape[1], drawing.shape[0]]) / 2.0
    reach = np.abs(turn) @ half_wh
    x0, y0 = (int(np.floor(c - r)) - 1 for c, r in zip(center_xy, reach, strict=True))
    x1, y1 = (int(np.ceil(c + r)) + 1 for c, r in zip(center_xy, reach, strict=True))
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    if x0 >= x1 or y0 >= y1:
        return
    # Pixel centres lie at half-integers: -0.5 turns coordinates into OpenCV's indices.
    shift = np.array(center_xy) - np.array([x0, y0]) - turn @ (half_wh - 0.5) - 0.5
    matrix = np.concatenate([turn, shift[:, None]], axis=1)
    cut = cv2.warpAffine(
        drawing,
        matrix,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_CUBIC if scale > 1.0 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0, 0),
    )
    alpha = np.clip(cut[..., 3:], 0.0, 1.0)
    colour = np.clip(cut[..., :3] * gain.astype(np.float32) + np.float32(lift) * alpha, 0, 255 * alpha)
    window = image[y0:y1, x0:x1]
    window[:] = np.rint(window * (1.0 - alpha) + colour).astype(np.uint8)
    labels[y0:y1, x0:x1][alpha[..., 0] >= 0.5] = label


def paint_background(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A procedural background without any object, (H, W, 3) uint8 RGB."""
    painters = (_gradient, _clouds, _stripes, _checks, _blobs, _clutter)
    image = painters[int(rng.choice(len(painters), p=_PAINTER_ODDS))](rng, size_hw)
    if rng.random() < 0.35:  # a second pattern shines through, or fills the lower part
        other = painters[int(rng.choice(len(painters), p=_PAINTER_ODDS))](rng, size_hw)
        if rng.random() < 0.5:
            image = image * 0.6 + other * 0.4
        else:
            horizon = int(size_hw[0] * rng.uniform(0.35, 0.8))
            image = np.concatenate([image[:horizon], other[horizon:]])
    # The grain of paper or of a photo; its size follows the picture's, so that a large picture looks the same reduced.
    height, width = size_hw
    fine = min(1.0, 256 / min(size_hw))
    noise = rng.standard_normal((max(1, round(height * fine)), max(1, round(width * fine))), dtype=np.float32)
    grain = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    image = image + np.float32(rng.uniform(1.0, 6.0)) * grain
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


_PAINTER_ODDS = (0.2, 0.22, 0.12, 0.1, 0.16, 0.2)


def _find_place(
    rng: np.random.Generator,
    size_hw: tuple[int, int],
    radius: float,
    taken: list[tuple[float, float, float]],
) -> tuple[float, float] | None:
    height, width = size_hw
    margin = radius * 0.85
    for _ in range(40):
        x = float(rng.uniform(min(margin, width / 2), max(width - margin, width / 2)))
        y = float(rng.uniform(min(margin, height / 2), max(height - margin, height / 2)))
        if all(max(abs(x - a), abs(y - b)) > radius + r for a, b, r in taken):
            return x, y
    return (width / 2, height / 2) if not taken else None


def _colours(rng: np.random.Generator, count: int, spread: float = 1.0) -> NDArray[np.float32]:
    """`count` muted colours that differ mostly in brightness, (count, 3) float32 in 0..255.

    Muted, because the drawings are colourful: that is how a small model can learn to tell the two apart.
    """
    base = rng.uniform(60, 200) + rng.uniform(-24, 24, 3)
    shades = rng.normal(0, 30 * spread, (count, 1)) + rng.normal(0, 9 * spread, (count, 3))
    return np.clip(base + shades, 0, 255).astype(np.float32)


def _grid(size_hw: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coordinates y and x of the pixels, each (H, W) float32, in units of the shorter side."""
    unit = float(min(size_hw))
    ys, xs = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float32)
    return ys / unit, xs / unit


def _gradient(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    ys, xs = _grid(size_hw)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = xs * np.float32(np.cos(angle)) + ys * np.float32(np.sin(angle))
    if rng.random() < 0.3:
        ramp = np.hypot(xs - np.float32(rng.random()), ys - np.float32(rng.random()))
    ramp = (ramp - ramp.min()) / max(float(np.ptp(ramp)), 1e-6)
    first, second = _colours(rng, 2, 1.2)
    out: NDArray[np.float32] = first + ramp[..., None] * (second - first)
    return out


def _noise(rng: np.random.Generator, size_hw: tuple[int, int], cells: int) -> NDArray[np.float32]:
    """Smooth noise, (H, W) float32 with mean about 0 and deviation about 1."""
    coarse = rng.standard_normal((cells + 2, cells + 2)).astype(np.float32)
    smooth: NDArray[np.float32] = np.asarray(
        cv2.resize(coarse, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_CUBIC), np.float32
    )
    return smooth


def _clouds(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    cells = int(rng.integers(2, 12))
    field = _noise(rng, size_hw, cells) + 0.5 * _noise(rng, size_hw, cells * 2)
    if rng.random() < 0.5:
        field = field + 0.4 * _noise(rng, size_hw, cells * 5)
    first, second = _colours(rng, 2)
    out: NDArray[np.float32] = first + (np.tanh(field)[..., None] * 0.5 + 0.5) * (second - first)
    return out


def _stripes(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    ys, xs = _grid(size_hw)
    angle = rng.uniform(0, np.pi)
    along = xs * np.float32(np.cos(angle)) + ys * np.float32(np.sin(angle))
    wave = np.sin(along * np.float32(2 * np.pi * rng.uniform(2, 16)))
    sharpness = np.float32(rng.choice([1.0, 12.0]))
    first, second = _colours(rng, 2, 0.7)
    out: NDArray[np.float32] = first + (np.tanh(wave * sharpness)[..., None] * 0.5 + 0.5) * (second - first)
    return out


def _checks(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    ys, xs = _grid(size_hw)
    cells = rng.uniform(3, 14)
    odd = (np.floor(xs * cells) + np.floor(ys * cells)) % 2
    first, second = _colours(rng, 2, 0.6)
    out: NDArray[np.float32] = first + odd[..., None].astype(np.float32) * (second - first)
    return out


def _blobs(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    field = _noise(rng, size_hw, int(rng.integers(3, 9)))
    colours = _colours(rng, 4, 0.7)
    edges = np.sort(rng.uniform(-1.2, 1.2, 3))
    return _defocus(colours[np.digitize(field, edges)], rng)


def _clutter(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Many plain shapes of all sizes, out of focus: what the foreground model has to learn to ignore."""
    height, width = size_hw
    image = np.ascontiguousarray(_gradient(rng, size_hw).astype(np.float32))
    unit = min(size_hw)
    for colour in _colours(rng, int(rng.integers(8, 36)), 0.7):
        paint = tuple(float(c) for c in colour)
        x, y = int(rng.integers(width)), int(rng.integers(height))
        size = max(1, int(unit * rng.uniform(0.02, 0.16)))
        kind = int(rng.integers(4))
        if kind == 0:
            cv2.circle(image, (x, y), size, paint, -1, cv2.LINE_AA)
        elif kind == 1:
            box = ((float(x), float(y)), (2.0 * size, size * float(rng.uniform(0.4, 2))), float(rng.uniform(0, 90)))
            cv2.fillConvexPoly(image, np.rint(cv2.boxPoints(box)).astype(np.int32), paint)
        elif kind == 2:
            corners = (rng.uniform(-1, 1, (3, 2)) * size * 1.5 + (x, y)).astype(np.int32)
            cv2.fillConvexPoly(image, corners, paint)
        else:
            dx, dy = (rng.uniform(-4, 4, 2) * size).astype(int)
            cv2.line(image, (x, y), (x + int(dx), y + int(dy)), paint, max(1, size // 3))
    return _defocus(image, rng)


def _defocus(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Blur by 1 to 2.4 % of the shorter side, so that edges in the surroundings differ from those of objects."""
    sigma = min(image.shape[:2]) * float(rng.uniform(0.010, 0.024))
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def _premultiply(rgba: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 4) uint8 straight alpha -> float32, colours 0..255 times alpha, alpha 0..1."""
    out = rgba.astype(np.float32)
    out[..., 3] *= np.float32(1 / 255)
    out[..., :3] *= out[..., 3:]
    return out
