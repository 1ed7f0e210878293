"""What does FOUND on a smaller picture save, and what does it cost? Preset `paper-fast` beside the exact one.

    python -m benchmarks.fast [--sets 1,2,3] [--count 60] [--single] [--sides 640,448,384]
    python -m benchmarks.fast --time [--repeats N] [--clock wall|cpu] [--size WxH]

Quality is that of the starter on composed scenes, whose FOUND sees a square of 256 instead of a photo's own size: for a
longer side of 448 it sees a square of 256 x 448 / 640, in whole patches. 48 nouns and the background are labels;
masks as published (argmax at 256) and as the service makes them (full size, cleaned up, edges refined); mIoU and
boundary IoU pooled over all sets, 95 % intervals by bootstrap over pictures, differences paired.

Time is that of DINO ViT-S/8's shape with random weights, float32 on the CPU, sides in turns.
"""

import argparse
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.networks import random_config
from benchmarks.timing import CLOCKS, add_options, machine, medians_ms
from clipdiy.build import build_segmenter
from clipdiy.config import FAST_OBJECTNESS_PX, CleanUp, ObjectnessConfig, Pamr, preset
from clipdiy.evaluate.bootstrap import Bootstrap, interval_around
from clipdiy.evaluate.boundary import boundary_overlap
from clipdiy.evaluate.confusion import confusion_matrix, divide, mean_over_classes
from clipdiy.evaluate.datasets.scenes import OBJECTS, SEED_STEP, SINGLE_OBJECT, SIZES_HW
from clipdiy.photo import Photo
from clipdiy.segmenter import Segmenter
from clipdiy.starter.scenes import NOUNS, compose_scene, load_sprites
from clipdiy.vocabulary import make_vocabulary

EXACT_PX = ObjectnessConfig().long_px
SIDES = f"{EXACT_PX},{FAST_OBJECTNESS_PX},384"
CLASSES = 1 + len(NOUNS)
WAYS = {
    "as published": {"label_map": "square", "clean_up": CleanUp(0), "pamr": None},
    "as the service": {"label_map": "full", "clean_up": CleanUp(), "pamr": Pamr()},
}


@dataclass
class Pooled:
    """Overlaps of one kind of region, picture by picture: of whole masks, or along their boundaries."""

    pictures: list[NDArray[np.int64]] = field(default_factory=list)

    def mean(self) -> float:
        """Return the mean IoU over the classes that are there, pooled over all pictures."""
        hits, unions = np.sum(self.pictures, axis=0).T
        return mean_over_classes(divide(hits, unions))

    def replicates(self) -> NDArray[np.float64]:
        """Return that of resampled pictures; the same pictures for every `Pooled` of as many."""
        bootstrap = Bootstrap(len(self.pictures), CLASSES)
        for overlaps in self.pictures:
            bootstrap.add_overlaps(overlaps)
        return bootstrap.mean_ious()


def starter_objectness(long_px: int) -> ObjectnessConfig:
    """Return what the starter's FOUND sees in place of 256 when a photo's is reduced to `long_px` instead of 640."""
    square = preset("starter").objectness.square_px
    assert square is not None
    return ObjectnessConfig(square_px=8 * round(square * long_px / EXACT_PX / 8))


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--sets", default="1,2,3")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--single", action="store_true", help="one object a scene")
    parser.add_argument("--sides", default=SIDES, help="longer sides that FOUND sees; the first is compared with")
    parser.add_argument("--time", action="store_true", help="tokens and time instead of quality")
    parser.add_argument("--size", default="640x480")
    options = parser.parse_args()
    sides = [int(side) for side in options.sides.split(",")]
    if options.time:
        print_times(sides, options)
        return
    starter = build_segmenter(preset("starter", device="cpu", dtype="float32"), warm_up=False)
    seeds = [
        (int(number) * SEED_STEP + i, SIZES_HW[i % len(SIZES_HW)])
        for number in options.sets.split(",")
        for i in range(options.count)
    ]
    objects = SINGLE_OBJECT if options.single else OBJECTS
    print(f"{len(seeds)} scenes of {'one object' if options.single else '2 to 4 objects'}, sets {options.sets}")
    print("| masks | longer side | mIoU | to the first | boundary IoU | to the first |\n|---|---|---:|---:|---:|---:|")
    for way, changes in WAYS.items():
        measured = measure(
            {
                side: starter.with_config(replace(starter.config, objectness=starter_objectness(side), **changes))
                for side in sides
            },
            seeds,
            objects,
        )
        for side, pair in measured.items():
            cells = [cell for one, first in zip(pair, measured[sides[0]], strict=True) for cell in cells_of(one, first)]
            print(f"| {way} | {side} | {' | '.join(cells)} |", flush=True)


def measure(
    segmenters: dict[int, Segmenter], seeds: list[tuple[int, tuple[int, int]]], objects: tuple[int, int]
) -> dict[int, tuple[Pooled, Pooled]]:
    """Segment every scene with FOUND at every size.

    Args:
        segmenters: By the longer side.
        seeds: Of the scenes, with their heights and widths.
        objects: Fewest and most in a scene.

    Returns:
        By the longer side: overlaps of whole masks, and along their boundaries.
    """
    sprites, vocabulary = load_sprites(), make_vocabulary(NOUNS)
    measured = {side: (Pooled(), Pooled()) for side in segmenters}
    for seed, size_hw in seeds:
        scene = compose_scene(seed, size_hw=size_hw, n_objects=objects, sprites=sprites)
        photo = Photo.from_array(scene.image)
        for side, segmenter in segmenters.items():
            labels = segmenter.segment(segmenter.encode([photo])[0], vocabulary).label_map
            counts = confusion_matrix(scene.labels, labels, CLASSES)
            hits = np.diag(counts)
            whole, boundary = measured[side]
            whole.pictures.append(np.stack([hits, counts.sum(axis=0) + counts.sum(axis=1) - hits], axis=1))
            boundary.pictures.append(boundary_overlap(scene.labels, labels, CLASSES))
    return measured


def cells_of(one: Pooled, first: Pooled) -> tuple[str, str]:
    """Write a figure with its interval, and its difference to another's with that of the pairs; percent."""
    figure, replicates = one.mean(), one.replicates()
    low, high = (100 * end for end in interval_around(figure, replicates))
    if one is first:
        return f"{100 * figure:.1f} ({low:.1f} to {high:.1f})", ""
    gap = figure - first.mean()
    worse, better = (100 * end for end in interval_around(gap, replicates - first.replicates()))
    return f"{100 * figure:.1f} ({low:.1f} to {high:.1f})", f"{100 * gap:+.1f} ({worse:+.1f} to {better:+.1f})"


@torch.inference_mode()
def print_times(sides: list[int], options: argparse.Namespace) -> None:
    """Print patches and time of FOUND for a photo at every longer side."""
    width, height = map(int, options.size.split("x"))
    photo = Photo.from_array(compose_scene(7, size_hw=(height, width)).image)
    base = build_segmenter(random_config(device="cpu", dtype="float32"), warm_up=False)
    segmenters = {
        side: base.with_config(replace(base.config, objectness=ObjectnessConfig(long_px=side))) for side in sides
    }
    found = medians_ms(
        {str(side): lambda one=one: one.objectness(photo, ["found"]) for side, one in segmenters.items()},
        options.repeats,
        clock=CLOCKS[options.clock],
    )
    whole = medians_ms(
        {str(side): lambda one=one: one.encode([photo]) for side, one in segmenters.items()},
        options.repeats,
        clock=CLOCKS[options.clock],
    )
    print(f"{machine()}, {options.clock} clock, {options.size}, {options.repeats} runs in turns")
    print("| longer side | patches | FOUND | | encoding a photo | |\n|---|---:|---:|---:|---:|---:|")
    for side, one in segmenters.items():
        network = one._objectness_network
        assert network is not None
        rows, cols = network.grid_hw((height, width), one.config.objectness)
        ms = found[str(side)], whole[str(side)]
        gain = found[str(sides[0])] / ms[0], whole[str(sides[0])] / ms[1]
        print(f"| {side} | {rows * cols} | {ms[0]:.0f} ms | {gain[0]:.2f}x | {ms[1]:.0f} ms | {gain[1]:.2f}x |")


if __name__ == "__main__":
    main()
