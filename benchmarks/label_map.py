"""The label map at a photo's own size: time, memory and exactness against upsampling every class map whole.

    python -m benchmarks.label_map [--size WxH] [--classes 5,21,81,171] [--repeats N] [--clock wall|cpu]

Two kinds of similarities: `clip-like`, as CLIP gives them (each class has its own level, all classes rise and fall
together from crop to crop, and what is left over is small), and `random`, where every class is as likely anywhere as
any other, which no network gives and which is the hardest case. The naive way holds every class at full size: it is run
once and over strips of rows, so that it fits into memory; its own peak is stated as what it would be whole.
"""

import argparse
import statistics

import torch
import torch.nn.functional as F

from benchmarks.timing import CLOCKS, add_options, extra_memory_mb, machine
from clipdiy.label_maps import full_label_map
from clipdiy.objectness.found import ObjectnessMap

SIDES = (1, 3, 7)


def similarities(kind: str, classes: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Return per scale (C, h, w) cosines."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    if kind == "random":
        return tuple(0.2 + 0.05 * noise(classes, side, side) for side in SIDES)
    level, scene = 0.015 * noise(classes, 1, 1), 0.02 * noise(classes, 1, 1)
    return tuple(
        0.2 + level + scene + 0.02 * noise(1, side, side) + 0.012 * noise(classes, side, side) for side in SIDES
    )


@torch.inference_mode()
def naive_rows(
    grids: tuple[torch.Tensor, ...], objectness: ObjectnessMap, size_hw: tuple[int, int], rows: slice
) -> torch.Tensor:
    """Return Eq. 3 for some rows, (C, rows, W), by the operations that would be used for the whole."""
    height, width = size_hw
    maps = None
    for grid in grids:
        wide = F.interpolate(grid[None], (height, grid.shape[2]), mode="bilinear", align_corners=False)[:, :, rows]
        one = F.interpolate(wide, (wide.shape[2], width), mode="bilinear", align_corners=False)[0]
        maps = one if maps is None else maps.add_(one)
    maps = maps.div_(len(grids))
    tall = F.interpolate(objectness.grid.float()[None, None], size_hw, mode="bilinear", align_corners=False)
    likely = tall[0, 0, rows].sigmoid()
    maps[1:] *= likely
    maps[0] *= 1 - likely
    return maps


def naive(grids: tuple[torch.Tensor, ...], objectness: ObjectnessMap, size_hw: tuple[int, int]) -> torch.Tensor:
    """Return the label map, (H, W), by argmax over every class map at full size."""
    step = 250
    parts = [
        naive_rows(grids, objectness, size_hw, slice(top, min(top + step, size_hw[0]))).argmax(dim=0).short()
        for top in range(0, size_hw[0], step)
    ]
    return torch.cat(parts)


def main() -> None:
    """Run the benchmark and print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="4000x3000")
    parser.add_argument("--classes", default="5,21,81,171")
    add_options(parser)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    size_hw = (height, width)
    clock = CLOCKS[options.clock]
    print(f"{machine()}, {options.clock} clock\n{options.size}")
    for kind in ("clip-like", "random"):
        for classes in map(int, options.classes.split(",")):
            grids = similarities(kind, classes, seed=classes)
            logits = F.interpolate(
                torch.randn(1, 1, 5, 7, generator=torch.Generator().manual_seed(1)) * 4, (60, 80), mode="bicubic"
            )[0, 0]
            objectness = ObjectnessMap(logits, True, (60.0, 80.0))
            full_label_map(grids, objectness, size_hw)
            times = []
            for _ in range(options.repeats):
                start = clock()
                labels = full_label_map(grids, objectness, size_hw)
                times.append(clock() - start)
            del labels
            memory = extra_memory_mb(lambda: full_label_map(grids, objectness, size_hw))  # noqa: B023, called at once
            start = clock()
            expected = naive(grids, objectness, size_hw)
            slow = clock() - start
            same = float((full_label_map(grids, objectness, size_hw) == expected).float().mean())
            taken = statistics.median(times)
            whole_mb = classes * height * width * 4 / 1e6
            seen = len(expected.unique())
            print(
                f"{kind:<9} {classes:>4} classes, {seen:>3} in the map: {taken:6.3f} s, {memory:3.0f} MB"
                f" | naive in strips {slow:6.2f} s ({slow / taken:4.0f}x), whole {whole_mb:5.0f} MB a scale"
                f" | equal on {same:9.5%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
