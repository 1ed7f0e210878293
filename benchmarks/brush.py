"""How fast are brush masks written and read, against Label Studio's own SDK?

    python -m benchmarks.brush [--repeats N]

Prints, for a label map of 20 classes with smooth edges, the median time of the SDK, of ours one mask at a time, and of
ours straight from the label map, run in turns; then reading back. Ratios travel to other machines, times do not.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from numpy.typing import NDArray

from backend.outputs.brush import decode_mask, encode_label_map, encode_mask

SIZES_HW = ((480, 640), (1080, 1920), (3000, 4000))
CLASSES = 20


def smooth_label_map(size_hw: tuple[int, int], classes: int, seed: int = 0) -> NDArray[np.uint16]:
    """Return (H, W) uint16 in 0..classes: blobs about a sixth of the picture wide, argmax of smooth noise."""
    rng = np.random.default_rng(seed)
    best, winner = np.full(size_hw, -np.inf, np.float32), np.zeros(size_hw, np.uint16)
    for position in range(classes + 1):
        noise = cv2.resize(rng.normal(size=(6, 8)).astype(np.float32), size_hw[::-1], interpolation=cv2.INTER_CUBIC)
        higher = noise > best
        best[higher], winner[higher] = noise[higher], position
    return winner


def medians_ms(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Run all ways in turns and return each one's median time in milliseconds."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            taken[name].append((time.perf_counter() - start) * 1000)
    return {name: statistics.median(times) for name, times in taken.items()}


def _each(encode: Callable[[NDArray[np.uint8]], list[int]], masks: list[NDArray[np.uint8]]) -> None:
    for mask in masks:
        encode(mask)


def main() -> None:
    """Run the benchmark and print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    classes = range(1, CLASSES + 1)
    for size_hw in SIZES_HW:
        label_map = smooth_label_map(size_hw, CLASSES)
        masks = [np.where(label_map == c, 255, 0).astype(np.uint8) for c in classes]
        codes = [encode_mask(mask) for mask in masks]
        if codes != [mask2rle(mask) for mask in masks] or codes != list(encode_label_map(label_map, classes).values()):
            raise SystemExit("the codes differ: fix that first")

        ms = medians_ms(
            {
                "sdk": partial(_each, mask2rle, masks),
                "mask": partial(_each, encode_mask, masks),
                "map": partial(encode_label_map, label_map, classes),
                "sdk reads": partial(decode_rle, codes[0]),
                "we read": partial(decode_mask, codes[0], size_hw),
            },
            repeats,
        )
        print(
            f"{size_hw[1]:>4} x {size_hw[0]:<4} {CLASSES} classes, {sum(map(len, codes)) / 1000:6.0f} kB:  "
            f"SDK {ms['sdk']:7.1f} ms | one mask at a time {ms['mask']:6.1f} ms ({ms['sdk'] / ms['mask']:.0f}x) | "
            f"from the label map {ms['map']:5.1f} ms ({ms['sdk'] / ms['map']:.0f}x) | "
            f"one mask read: SDK {ms['sdk reads']:6.1f} ms, ours {ms['we read']:5.1f} ms "
            f"({ms['sdk reads'] / ms['we read']:.0f}x)"
        )


if __name__ == "__main__":
    main()
