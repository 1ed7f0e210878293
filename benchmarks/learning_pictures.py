"""What does the benchmark of learning look at: which pictures of which art, encoded once, and what is true of them?

A project is a seed: 16 nouns drawn from the starter's 48, pictures to correct and pictures to measure on, all composed
with nothing but these nouns. Arts:

- `known`: the starter's own drawings, in new compositions;
- `degraded`: the same pictures in grey, with little contrast, blurred and noisy;
- `unseen`: drawings the starter never saw (Twemoji, CC-BY-4.0, by Twitter and other contributors). They are not part of
  this repository; `python -m benchmarks.learning_pictures build/unseen.zip` fetches them with npm and renders them.
"""

import argparse
import io
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipdiy.method import Features, Method, read_features
from clipdiy.photo import Photo
from clipdiy.starter.scenes import NOUNS, Scene, Sprites, compose_scene, load_sprites
from clipdiy.starter.training.art import ICONS, save_sprites, trim

LABELS = 16
TO_CORRECT = 100
TO_MEASURE = 110
UNSEEN_PACKAGE, UNSEEN_VERSION = "@iconify-json/twemoji", "1.2.5"
# Far from the seeds of training, which start at 1,000,000,000, and from those that other benchmarks use.
FIRST_SEED = 70_000_000
SEEDS_PER_PROJECT = 1_000
MEASURED_FROM = 500
ARTS = ("known", "degraded", "unseen")


@dataclass(frozen=True)
class Picture:
    """One encoded picture and its truth.

    Attributes:
        identity: Names the picture, as a digest of its bytes would.
        features: What the method's `encode` made of it.
        truth: (H, W) uint8; 0 is background, i + 1 is the project's noun i.
    """

    identity: str
    features: Any
    truth: NDArray[np.uint8]


@dataclass(frozen=True)
class ArtSet:
    """Pictures of one art in one project.

    Attributes:
        nouns: The project's nouns, in the order of the truth's values.
        to_correct: Pictures whose truth may be learned from, in the order in which they are corrected.
        to_measure: Others.
    """

    nouns: tuple[str, ...]
    to_correct: tuple[Picture, ...]
    to_measure: tuple[Picture, ...]


def project_nouns(seed: int) -> tuple[str, ...]:
    """Draw the nouns of a project."""
    rng = np.random.default_rng([FIRST_SEED, seed])
    return tuple(NOUNS[i] for i in sorted(rng.choice(len(NOUNS), LABELS, replace=False)))


def degrade(image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Make a picture grey, flat, blurred and noisy: (H, W, 3) uint8 to the same."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(128 + (grey - 128) * 0.35, (0, 0), min(grey.shape) / 100)
    noisy = soft + np.random.default_rng(seed).normal(0, 10, soft.shape)
    return np.repeat(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def art_set(
    method: Method[Any],
    art: str,
    seed: int,
    *,
    unseen: Path | None = None,
    cache: Path | None = None,
    to_correct: int = TO_CORRECT,
    to_measure: int = TO_MEASURE,
) -> ArtSet:
    """Compose and encode the pictures of a project.

    Args:
        method: With the starter's weights.
        art: One of `ARTS`.
        seed: The project.
        unseen: Drawings for `unseen`, as `load_sprites` reads them.
        cache: A folder that keeps encoded pictures for the next run.
        to_correct: How many pictures there are to learn from.
        to_measure: How many to measure on.
    """
    drawings = load_sprites(unseen if art == "unseen" else None)
    nouns = project_nouns(seed)
    sprites = Sprites({noun: drawings.by_noun[noun] for noun in nouns if noun in drawings.by_noun})
    rank = np.zeros(len(NOUNS) + 1, np.uint8)
    for i, noun in enumerate(nouns):
        rank[NOUNS.index(noun) + 1] = i + 1

    def pictures(first: int, count: int) -> Iterator[Picture]:
        for number in range(first, first + count):
            scene_seed = FIRST_SEED + seed * SEEDS_PER_PROJECT + number
            scene = compose_scene(scene_seed, sprites=sprites)
            if art == "degraded":
                scene = Scene(degrade(scene.image, scene_seed), scene.labels, scene.nouns)
            identity = f"{art}-{scene_seed}"
            yield Picture(identity, _encode(method, scene.image, identity, cache), rank[scene.labels])

    return ArtSet(nouns, tuple(pictures(0, to_correct)), tuple(pictures(MEASURED_FROM, to_measure)))


def _encode(method: Method[Any], image: NDArray[np.uint8], identity: str, cache: Path | None) -> Features:
    kept = None if cache is None else cache / f"{identity}-{method.encoder_identity}.features"
    if kept is not None and kept.is_file():
        return read_features(kept.read_bytes())
    (features,) = method.encode([Photo.from_array(image)])
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(features.to_bytes())
    return features


def fetch_unseen(path: Path) -> None:
    """Fetch the unseen drawings with npm, render them (the `train` extra) and write them as sprites.

    Raises:
        RuntimeError: If npm is missing or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("expected `npm` on the path to fetch the drawings, found none: install Node.js")
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    package = f"{UNSEEN_PACKAGE}@{UNSEEN_VERSION}"
    command = [npm, "install", "--no-audit", "--no-fund", "--no-save", "--prefix", str(folder), package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"npm install failed with status {done.returncode}: {done.stderr[-800:]}")
    pack = json.loads((folder / "node_modules" / UNSEEN_PACKAGE / "icons.json").read_text("utf-8"))
    save_sprites(Sprites({noun: tuple(_drawings(pack, names)) for noun, names in ICONS.items()}), path)


def _drawings(pack: Mapping[str, Any], names: Iterable[str]) -> Iterator[NDArray[np.uint8]]:
    """Render the icons of the given names that a pack has, (h, w, 4) uint8 RGBA each."""
    import resvg_py  # the `train` extra

    for name in names:
        icon = pack["icons"].get(pack["aliases"].get(name, {}).get("parent", name))
        if icon is not None:
            side = pack.get("width", 16)
            svg = (
                '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="0 0 {side} {pack.get("height", side)}" width="256" height="256">{icon["body"]}</svg>'
            )
            png = bytes(resvg_py.svg_to_bytes(svg_string=svg))
            yield trim(np.array(Image.open(io.BytesIO(png)).convert("RGBA")))


def main() -> None:
    """Fetch the unseen art."""
    parser = argparse.ArgumentParser(description="Fetch and render the drawings of the unseen art.")
    parser.add_argument("path", type=Path, help="zip to write, best below build/")
    fetch_unseen(parser.parse_args().path)


if __name__ == "__main__":
    main()
