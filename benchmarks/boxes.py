"""Boxes that somebody draws: what does encoding them quickly cost in quality, and what does it save?

    python -m benchmarks.boxes [--scenes N] [--seed N]

Scenes with the starter weights. A box is drawn around one object, or around two at once, a tenth larger; asked for is
the object's noun (of two objects, the first one's) among 20 others. The IoU of the mask with the object inside the box:
for the service's own pyramid of crops, and for the one that pieces are encoded with
(`clipdiy.method.Method.for_pieces`).
"""

import statistics
import time
from itertools import pairwise

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.timing import machine
from clipdiy.build import build_segmenter
from clipdiy.config import Pamr, preset
from clipdiy.photo import Photo
from clipdiy.starter.scenes import NOUNS, compose_scene
from clipdiy.vocabulary import make_vocabulary

SIZE_HW = (480, 640)
MARGIN = 0.1
LEAST_PX = 1500


def box_of(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return rows and columns of a mask with a margin."""
    sides = []
    for axis, size in zip((1, 0), mask.shape, strict=True):
        at = np.flatnonzero(mask.any(axis=axis))
        margin = round(MARGIN * (at[-1] - at[0] + 1))
        sides.append(slice(max(int(at[0]) - margin, 0), min(int(at[-1]) + margin + 1, size)))
    return sides[0], sides[1]


def main(
    scenes: int = typer.Option(60, help="How many scenes."),
    seed: int = typer.Option(60_000, help="The first scene's."),
) -> None:
    """Measure, and print a table."""
    whole = build_segmenter(preset("starter", device="cpu", pamr=Pamr()))
    ways = {"overlapping, 59 crops": whole, "side by side, 21 crops": whole.for_pieces()}
    ious: dict[tuple[str, str], list[float]] = {}
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(seed, seed + scenes):
        scene = compose_scene(number, size_hw=SIZE_HW, n_objects=(2, 4))
        numbers = [int(n) for n in np.unique(scene.labels)[1:] if (scene.labels == n).sum() >= LEAST_PX]
        asked = [("one object", [n]) for n in numbers] + [("two objects", [*pair]) for pair in pairwise(numbers)]
        for kind, chosen in asked:
            window = box_of(np.isin(scene.labels, chosen))
            noun = NOUNS[chosen[0] - 1]
            vocabulary = make_vocabulary([noun, *[other for other in NOUNS if other != noun][:20]])
            truth = scene.labels[window] == chosen[0]
            photo = Photo.from_array(np.ascontiguousarray(scene.image[window]))
            for way, segmenter in ways.items():
                begun = time.perf_counter()
                [features] = segmenter.encode([photo])
                seconds.setdefault((kind, way), []).append(time.perf_counter() - begun)
                mask = segmenter.segment(features, vocabulary).label_map == 1
                ious.setdefault((kind, way), []).append(float((mask & truth).sum() / (mask | truth).sum()))
    table = Table("box around", "crops", "boxes", "mean IoU", "median IoU", "below 0.5", "encoding, median")
    for (kind, way), values in ious.items():
        low = sum(value < 0.5 for value in values) / len(values)
        table.add_row(
            *(kind, way, str(len(values)), f"{statistics.mean(values):.3f}", f"{statistics.median(values):.3f}"),
            *(f"{low:.1%}", f"{statistics.median(seconds[kind, way]) * 1000:.0f} ms"),
        )
    console = Console(width=120)
    console.print(table)
    console.print(machine())


if __name__ == "__main__":
    typer.run(main)
