"""Which pictures stand for which noun, and how are they fetched and rendered?

Needs `npm` on the path and the `train` extra (`resvg-py`).

Only art under Apache-2.0 and MIT is used. Sets under CC-BY are left out on purpose, so that the
weights and the sprites can be shipped with notices alone. Read the authors' own licence before
adding a set: Firefox OS Emoji is labelled Apache-2.0 in its package, but only its code is; the
drawings are CC-BY-4.0.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipdiy.starter.scenes import NOUNS, Sprites


@dataclass(frozen=True)
class Style:
    """One set of drawings.

    Attributes:
        package: Name of the npm package that carries the drawings as Iconify JSON.
        version: The exact version trained on.
        author: Who drew them.
        licence: SPDX identifier.
        source: Where the author publishes them.
    """

    package: str
    version: str
    author: str
    licence: str
    source: str


STYLES: tuple[Style, ...] = (
    Style(
        "@iconify-json/noto",
        "1.2.9",
        "Google Inc",
        "Apache-2.0",
        "https://github.com/googlefonts/noto-emoji",
    ),
    Style(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "Microsoft Corporation",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Style(
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "Microsoft Corporation",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Style(
        "@iconify-json/noto-v1",
        "1.2.5",
        "Google Inc",
        "Apache-2.0",
        "https://github.com/googlefonts/noto-emoji",
    ),
)

# Drawings per noun. The first name that a style has is the one that is bundled; the others only
# widen the training. Drawings of two nouns at once (a fish on a rod, a cup with a bottle) are out.
ICONS: Mapping[str, tuple[str, ...]] = {
    "dog": ("dog", "dog-face", "guide-dog"),
    "cat": ("cat", "cat-face", "black-cat"),
    "horse": ("horse", "horse-face"),
    "cow": ("cow", "cow-face"),
    "pig": ("pig", "pig-face"),
    "sheep": ("ewe", "ram"),
    "rabbit": ("rabbit", "rabbit-face"),
    "elephant": ("elephant",),
    "lion": ("lion", "lion-face"),
    "bird": ("bird", "black-bird", "blackbird"),
    "penguin": ("penguin",),
    "fish": ("fish", "tropical-fish"),
    "butterfly": ("butterfly",),
    "turtle": ("turtle",),
    "snake": ("snake",),
    "apple": ("red-apple", "green-apple"),
    "banana": ("banana",),
    "strawberry": ("strawberry",),
    "pineapple": ("pineapple",),
    "carrot": ("carrot",),
    "pizza": ("pizza",),
    "hamburger": ("hamburger",),
    "cake": ("birthday-cake", "shortcake"),
    "bread": ("bread", "baguette-bread"),
    "car": ("automobile", "oncoming-automobile", "sport-utility-vehicle"),
    "bus": ("bus", "oncoming-bus"),
    "truck": ("delivery-truck", "articulated-lorry"),
    "bicycle": ("bicycle",),
    "train": ("locomotive", "train"),
    "airplane": ("airplane", "small-airplane"),
    "boat": ("sailboat", "speedboat"),
    "rocket": ("rocket",),
    "house": ("house", "house-with-garden"),
    "chair": ("chair",),
    "sofa": ("couch-and-lamp",),
    "clock": ("alarm-clock", "mantelpiece-clock"),
    "book": ("closed-book", "blue-book", "green-book", "orange-book", "open-book"),
    "laptop": ("laptop", "laptop-computer"),
    "umbrella": ("umbrella", "umbrella-with-rain-drops"),
    "cup": ("hot-beverage", "teacup-without-handle"),
    "bottle": ("bottle-with-popping-cork", "baby-bottle", "lotion-bottle"),
    "scissors": ("scissors",),
    "guitar": ("guitar",),
    "balloon": ("balloon",),
    "shoe": ("running-shoe", "mans-shoe"),
    "tree": ("deciduous-tree", "evergreen-tree", "palm-tree"),
    "cactus": ("cactus",),
    "sunflower": ("sunflower",),
}  # fmt: skip


def fetch_art(folder: Path, report: Callable[[str], None] = print) -> None:
    """Install the icon packages of `STYLES` into `folder/node_modules` with npm.

    Does nothing for packages that are already there.

    Args:
        folder: An existing folder, best one that git ignores.
        report: Called with one line per thing done.

    Raises:
        RuntimeError: If npm is missing or fails; the message says what to do.
    """
    missing = [
        f"{s.package}@{s.version}" for s in STYLES if not (folder / "node_modules" / s.package / "icons.json").is_file()
    ]
    if not missing:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("expected `npm` on the path to fetch the art, found none: install Node.js")
    report(f"art: npm install {' '.join(missing)}")
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--no-save", "--prefix", str(folder), *missing],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"npm install failed with status {done.returncode}: {done.stderr[-800:]}")


def render_art(folder: Path, size_px: int = 256) -> dict[str, dict[str, list[NDArray[np.uint8]]]]:
    """Render every drawing of `ICONS` in every style that has it.

    Args:
        folder: Where `fetch_art` installed the packages.
        size_px: Side of the rendered squares before trimming.

    Returns:
        style package -> noun -> drawings, each (H, W, 4) uint8 RGBA with straight alpha, trimmed
        to its visible pixels, longest side at most `size_px`. Nouns a style lacks are left out.
    """
    import resvg_py  # the `train` extra: not needed to run the product

    art: dict[str, dict[str, list[NDArray[np.uint8]]]] = {}
    for style in STYLES:
        pack = json.loads((folder / "node_modules" / style.package / "icons.json").read_text("utf-8"))
        art[style.package] = {}
        for noun in NOUNS:
            drawings: list[NDArray[np.uint8]] = []
            seen: set[str] = set()
            for name in ICONS[noun]:
                icon = _resolve(pack, name)
                if icon is None or icon["body"] in seen:
                    continue
                seen.add(icon["body"])
                png = resvg_py.svg_to_bytes(svg_string=_svg(pack, icon, size_px))
                rgba = np.array(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))
                drawings.append(trim(rgba))
            if drawings:
                art[style.package][noun] = drawings
    return art


def trim(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut a drawing to the box of its visible pixels (alpha above 8), (H, W, 4) uint8 RGBA."""
    rows, cols = np.nonzero(rgba[..., 3] > 8)
    cut: NDArray[np.uint8] = np.ascontiguousarray(rgba[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1])
    return cut


def all_sprites(art: Mapping[str, Mapping[str, list[NDArray[np.uint8]]]]) -> Sprites:
    """All drawings of all styles, to train on."""
    return Sprites({noun: tuple(d for style in art.values() for d in style.get(noun, [])) for noun in NOUNS})


def bundled_sprites(art: Mapping[str, Mapping[str, list[NDArray[np.uint8]]]], per_noun: int = 3) -> Sprites:
    """The small subset that is shipped: the first drawing of the first `per_noun` styles."""
    return Sprites(
        {noun: tuple(style[noun][0] for style in art.values() if noun in style)[:per_noun] for noun in NOUNS}
    )


def save_sprites(sprites: Sprites, path: Path, *, quality: int = 80) -> None:
    """Write sprites as `clipdiy.starter.scenes.load_sprites` reads them; byte-identical for identical sprites."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for noun, drawings in sprites.by_noun.items():
            for number, rgba in enumerate(drawings):
                buffer = io.BytesIO()
                Image.fromarray(rgba).save(buffer, "WEBP", quality=quality, alpha_quality=90, method=6)
                entry = zipfile.ZipInfo(f"{noun}/{number}.webp", (2020, 1, 1, 0, 0, 0))
                archive.writestr(entry, buffer.getvalue())


def _resolve(pack: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    icons, aliases = pack["icons"], pack.get("aliases", {})
    for _ in range(4):
        if name in icons:
            icon: Mapping[str, Any] = icons[name]
            return icon
        if name not in aliases:
            return None
        name = aliases[name]["parent"]
    return None


def _svg(pack: Mapping[str, Any], icon: Mapping[str, Any], size_px: int) -> str:
    width = icon.get("width", pack.get("width", 16))
    height = icon.get("height", pack.get("height", 16))
    left, top = icon.get("left", 0), icon.get("top", 0)
    scale = size_px / max(width, height)
    # `currentColor` marks a drawing without its own colour: make it dark rather than invisible.
    body = re.sub("currentColor", "#333", icon["body"])
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" '
        f'width="{round(width * scale)}" height="{round(height * scale)}">{body}</svg>'
    )
