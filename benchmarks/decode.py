"""How much faster is a large JPEG read at the size that is looked at, and do the networks see the same?

    python -m benchmarks.decode [--repeats N] [--size WxH] [--preset starter] [--keep-short PX]

A composed scene brought to the size of a photo, with noise as a sensor's, turned by its EXIF orientation. The plain way
opens all of its pixels; ours decodes at a fraction of them in the frequency domain and antialiases the rest. Both are
then encoded, and the smallest cosine of a crop's embedding and the cosine of the objectness are printed.
"""

import argparse

import numpy as np
import torch
from PIL import Image

from benchmarks.asking import jpeg
from benchmarks.timing import CLOCKS, add_options, extra_memory_mb, machine, medians_ms
from clipdiy.build import build_segmenter
from clipdiy.config import Pamr, preset
from clipdiy.features import ImageFeatures
from clipdiy.photo import decode_photo
from clipdiy.starter.scenes import compose_scene

NOISE = 6.0
ORIENTATION, TURNED = 0x0112, 6


def photo_file(size_wh: tuple[int, int], *, progressive: bool) -> bytes:
    """Return a noisy JPEG of a size, with an orientation."""
    width, height = size_wh
    scene = compose_scene(7, size_hw=(round(1000 * height / width), 1000)).image
    large = Image.fromarray(scene).resize(size_wh, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, NOISE, (height, width, 3)).astype(np.float32)
    noisy = np.clip(np.asarray(large, np.float32) + noise, 0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED
    return jpeg(noisy, quality=90, progressive=progressive, exif=exif)


def smallest_cosine(plain: ImageFeatures, ours: ImageFeatures) -> float:
    """Return the smallest cosine of a crop's embedding."""
    pairs = zip(plain.crop_embeddings, ours.crop_embeddings, strict=True)
    return min(float(torch.cosine_similarity(a.float(), b.float(), dim=-1).min()) for a, b in pairs)


def objectness_cosine(plain: ImageFeatures, ours: ImageFeatures) -> float:
    """Return the cosine of the two objectness maps as probabilities."""
    maps = [features.objectness.grid.float().sigmoid().flatten() for features in (plain, ours) if features.objectness]
    return float(torch.cosine_similarity(maps[0], maps[1], dim=0))


def main() -> None:
    """Run the benchmark and print its lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=9)
    parser.add_argument("--size", default="4000x3000")
    parser.add_argument("--preset", default="starter")
    parser.add_argument("--keep-short", type=int, help="shorter side that is kept, instead of the segmenter's own")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    segmenter = build_segmenter(preset(options.preset, device="cpu", dtype="float32", pamr=Pamr()))
    sizes = {"keep_px": segmenter.keep_long_px, "keep_short_px": options.keep_short or segmenter.keep_short_px}
    print(
        f"{machine()}, {options.clock} clock, {width} x {height}, kept {sizes['keep_px']} px, "
        f"short {sizes['keep_short_px']}"
    )
    for name in ("baseline", "progressive"):
        data = photo_file((width, height), progressive=name == "progressive")
        ways = {
            "plain": lambda data=data: decode_photo(data, max_px=10**9),
            "ours": lambda data=data: decode_photo(data, max_px=10**9, **sizes),
        }
        ours_mb = extra_memory_mb(ways["ours"])
        plain_mb = extra_memory_mb(ways["plain"])
        ms = medians_ms(ways, options.repeats, clock=CLOCKS[options.clock])
        plain, ours = (segmenter.encode([way()])[0] for way in ways.values())
        print(
            f"{name} JPEG, {len(data) / 1e6:.1f} MB: plain {ms['plain']:.0f} ms, {plain_mb:.0f} MB | ours "
            f"{ms['ours']:.0f} ms, {ours_mb:.0f} MB | {ms['plain'] / ms['ours']:.1f}x | smallest cosine of a crop "
            f"{smallest_cosine(plain, ours):.5f}, objectness {objectness_cosine(plain, ours):.5f}"
        )


if __name__ == "__main__":
    main()
