"""How cost grows with classes, megapixels and photos.

    python -m benchmarks.growth [--repeats N] [--clock wall|cpu] [--plot FILE]

Encoding does not see the classes, and sees every photo at the same few sizes; so what grows is the label map (refined
and cleaned up as the service does) with its brush codes. Photos one after the other are timed with the starter's
weights up to `--photos`, and extrapolated from there to 1,000 if those are fewer. Each line ends with the law that
fits: a + b x, by least squares of relative errors.
"""

import argparse
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from backend.outputs.brush import encode_label_map
from benchmarks.label_map import similarities
from benchmarks.timing import CLOCKS, add_options, machine, medians_ms
from clipdiy.build import build_segmenter
from clipdiy.clean_up import clean_up, count_pixels
from clipdiy.config import CleanUp, Pamr, preset
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.pamr import refined_label_map
from clipdiy.photo import Photo
from clipdiy.starter.scenes import compose_scene
from clipdiy.vocabulary import make_vocabulary

CLASSES = (1, 3, 10, 30, 100, 300, 1000)
MEGAPIXELS = (0.1, 0.3, 1.0, 3.0, 12.0, 24.0)
MOST_PHOTOS = 1000
LOGIT_SCALE = 100.0


@cache
def picture() -> torch.Tensor:
    """Return what the masks are refined by."""
    return torch.from_numpy(compose_scene(0, size_hw=(240, 320)).image.transpose(2, 0, 1).copy())


def answer(grids: tuple[torch.Tensor, ...], objectness: ObjectnessMap, size_hw: tuple[int, int]) -> int:
    """Make a label map and the brush codes of its classes, as a request about a known photo does."""
    refined = refined_label_map(grids, objectness, picture(), size_hw, LOGIT_SCALE, Pamr())
    labels = clean_up(refined.numpy().view(np.uint16), CleanUp().min_area * size_hw[0] * size_hw[1])
    present = np.flatnonzero(count_pixels(labels, len(grids[0])))
    return len(encode_label_map(labels, [int(c) for c in present if c]))


def law(counts: list[float], taken: list[float]) -> tuple[float, float]:
    """Return a and b of a + b x, weighted so that small and large x count alike."""
    x, y = np.array(counts), np.array(taken)
    a, b = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones(len(y)), rcond=None)[0]
    return float(a), float(b)


def main() -> None:
    """Run the benchmark, print its lines and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=3)
    parser.add_argument("--photos", type=int, default=30, help="photos that are timed; more are extrapolated")
    parser.add_argument("--plot", type=Path, help="needs the extra eval")
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    objectness = ObjectnessMap(torch.randn(60, 80, generator=torch.Generator().manual_seed(0)) * 2, True, (60.0, 80.0))
    lines: dict[str, tuple[list[float], list[float]]] = {}

    ways = {str(c): partial(answer, similarities("clip-like", c + 1, 0), objectness, (480, 640)) for c in CLASSES}
    taken = medians_ms(ways, options.repeats, clock=clock)
    lines["classes, 640x480"] = [float(c) for c in CLASSES], list(taken.values())

    grids = similarities("clip-like", 21, 0)
    sizes = [(round((mp * 1e6 * 3 / 4) ** 0.5), round((mp * 1e6 * 4 / 3) ** 0.5)) for mp in MEGAPIXELS]
    ways = {str(size): partial(answer, grids, objectness, size) for size in sizes}
    lines["megapixels, 20 classes"] = list(MEGAPIXELS), list(medians_ms(ways, options.repeats, clock=clock).values())

    segmenter = build_segmenter(preset("starter", pamr=Pamr()))
    vocabulary = make_vocabulary(["cat", "dog", "house"])
    photos = [Photo.from_array(compose_scene(seed, size_hw=(480, 640)).image) for seed in range(options.photos)]
    counts, times = [], []
    start = clock()
    for done, photo in enumerate(photos, start=1):
        segmentation = segmenter.segment(segmenter.encode([photo])[0], vocabulary)
        encode_label_map(segmentation.label_map, segmentation.present)
        counts.append(float(done))
        times.append((clock() - start) * 1e3)
    lines["photos of 640x480, starter weights"] = counts, times

    print(f"{machine()}, {options.clock} clock")
    for name, (x, y) in lines.items():
        a, b = law(x, y)
        shown = [i for i in range(len(x)) if len(x) < 10 or i + 1 in (1, 3, 10, 30, 100, 300, 1000)]
        print(f"{name}: " + ", ".join(f"{x[i]:g}: {y[i]:.0f} ms" for i in shown))
        print(f"    about {a:.1f} ms + {b:.3g} ms each")
        if name.startswith("photos") and options.photos < MOST_PHOTOS:
            print(f"    extrapolated to {MOST_PHOTOS}: {(a + b * MOST_PHOTOS) / 1e3:.0f} s")
    if options.plot:
        _draw(lines, options.plot, f"{machine()}, {options.clock} clock")


def _draw(lines: dict[str, tuple[list[float], list[float]]], path: Path, title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (name, (x, y)) in zip(figure.subplots(1, 3), lines.items(), strict=True):
        a, b = law(x, y)
        axes.plot(x, y, "o", markersize=4, label="measured")
        reach = np.geomspace(min(x), max(*x, MOST_PHOTOS if name.startswith("photos") else 0), 100)
        axes.plot(reach, a + b * reach, "-", label=f"{a:.1f} + {b:.3g} x (beyond the dots: extrapolated)", alpha=0.6)
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel="ms")
        axes.set_ylim(min(y) / 5, max(y) * 3)
        axes.legend(fontsize=7, loc="upper left")
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
