"""Scenes whose surroundings have names: drawn skies, grass, walls, roads and water, with objects in front of them.

For measuring what labels for stuff are worth. The starter has never seen these surfaces, and its text tower knows no
word for them: what they are has to be learned from corrections, or shown to it. Colours are as muted as those of the
starter's other surroundings, because its objectness tells objects by that. Deterministic, as `clipdiy.starter.scenes`.
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from clipdiy.starter.scenes import NOUNS, Scene, Sprites, paint_background, place_objects

Colour = NDArray[np.float32]

UNNAMED = 0.2  # share of the upper and lower parts that are no stuff, but plain background


def compose_on_ground(
    seed: int,
    *,
    size_hw: tuple[int, int] = (256, 256),
    n_objects: tuple[int, int] = (1, 3),
    sprites: Sprites,
) -> Scene:
    """Compose a scene of two surfaces, one above the other, and objects.

    Args:
        seed: Any non-negative integer.
        size_hw: Height and width of the picture in pixels.
        n_objects: Fewest and most objects, both included.
        sprites: Drawings to use.

    Returns:
        The picture with its exact labels: 0 is background, i + 1 is `(*NOUNS, *STUFF)[i]`; and the names that are
        visible.
    """
    rng = np.random.default_rng([seed, 1])
    height = size_hw[0]
    image = paint_background(rng, size_hw)
    labels = np.zeros(size_hw, np.uint8)
    horizon = int(height * rng.uniform(0.3, 0.7))
    for rows, names in ((slice(0, horizon), ABOVE), (slice(horizon, height), BELOW)):
        name = names[int(rng.integers(len(names)))]
        surface = _SURFACES[name](rng, size_hw)
        if rng.random() >= UNNAMED:
            image[rows] = np.clip(np.rint(surface[rows]), 0, 255).astype(np.uint8)
            labels[rows] = len(NOUNS) + 1 + STUFF.index(name)
    place_objects(rng, image, labels, n_objects, sprites)
    every = (*NOUNS, *STUFF)
    present = np.unique(labels[labels > 0]).tolist()
    return Scene(image, labels, tuple(every[position - 1] for position in present))


def _smooth(rng: np.random.Generator, size_hw: tuple[int, int], cells_hw: tuple[float, float]) -> NDArray[np.float32]:
    """Smooth noise with about so many cells along each axis, (H, W) float32 with mean about 0 and deviation about 1."""
    rows, cols = (max(2, round(cells)) for cells in cells_hw)
    coarse = rng.standard_normal((rows, cols), dtype=np.float32)
    smooth: NDArray[np.float32] = np.asarray(
        cv2.resize(coarse, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_CUBIC), np.float32
    )
    return smooth


def _tint(rng: np.random.Generator, *rgb: float) -> Colour:
    """A colour near another one, (3,) float32."""
    return np.asarray(np.array(rgb) + rng.uniform(-14, 14, 3), np.float32)


def _sky(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    down = np.linspace(0, 1, size_hw[0], dtype=np.float32)[:, None, None]
    deep, pale = _tint(rng, 120, 150, 185), _tint(rng, 178, 192, 204)
    clouds = _smooth(rng, size_hw, (4, 6)) + 0.5 * _smooth(rng, size_hw, (10, 14)) - np.float32(rng.uniform(0, 1))
    share = np.clip(clouds, 0, 1)[..., None] * np.float32(0.7)
    clear = deep + down * (pale - deep)
    out: NDArray[np.float32] = clear * (1 - share) + _tint(rng, 216, 216, 218) * share
    return out


def _grass(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    blades = _smooth(rng, size_hw, (22, 110)) + 0.6 * _smooth(rng, size_hw, (9, 60))
    out: NDArray[np.float32] = _tint(rng, 98, 124, 74) + blades[..., None] * np.array([11, 14, 8], np.float32)
    return out


def _wall(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    unit = min(size_hw) / float(rng.uniform(9, 15))
    ys, xs = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float32)
    row = np.floor(ys / np.float32(unit)).astype(int)
    along = xs / np.float32(2 * unit) + np.float32(0.5) * (row % 2)
    column = np.floor(along).astype(int)
    shades = rng.normal(0, 9, (row.max() + 1, column.max() + 1)).astype(np.float32)
    bricks = _tint(rng, 156, 118, 102) + shades[row, column][..., None]
    seam = np.minimum(ys / np.float32(unit) % 1, along % 1 * 2) < 0.12
    out: NDArray[np.float32] = np.where(seam[..., None], _tint(rng, 184, 176, 168), bricks).astype(np.float32)
    return out


def _road(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    speckle = rng.standard_normal(size_hw, dtype=np.float32) * 7 + 5 * _smooth(rng, size_hw, (5, 5))
    out: NDArray[np.float32] = _tint(rng, 108, 107, 106) + speckle[..., None]
    return out


def _water(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    ys = np.linspace(0, 1, size_hw[0], dtype=np.float32)[:, None]
    phase = np.float32(2 * np.pi) * ys * np.float32(rng.uniform(10, 18)) + 1.4 * _smooth(rng, size_hw, (6, 5))
    ripples = np.sin(phase)[..., None] * np.float32(15)
    out: NDArray[np.float32] = _tint(rng, 84, 122, 134) + ripples
    return out


_SURFACES: Mapping[str, Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float32]]] = {
    "sky": _sky,
    "wall": _wall,
    "grass": _grass,
    "road": _road,
    "water": _water,
}
STUFF: tuple[str, ...] = tuple(_SURFACES)
ABOVE, BELOW = ("sky", "wall"), ("grass", "road", "water")
