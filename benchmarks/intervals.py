"""Do 95 % intervals hold what they should in 95 of 100 cases? Three ways to make them, on small sets of scenes.

    python -m benchmarks.intervals [--evaluated DIR] [--subsets N]

Needs the records that `python -m benchmarks.evaluation --out DIR` left. The three sets of 60 scenes are one population;
subsets of it are drawn, each gives a figure and its interval, and it is counted how many intervals hold the mean of all
figures. A subset is a part of the population, so that figures differ a little less than those of fresh scenes would.
"""

import argparse
from pathlib import Path

import numpy as np

from clipdiy.evaluate.bootstrap import interval_around
from clipdiy.evaluate.record import Record

CLASSES = 49
SIZES = (24, 45)
REPLICATES = 400
SETS = {"one object": "single/scenes-{}-60-single", "2 to 4 objects": "ablation/scenes-{}-60"}
WAYS = ("classes as drawn", "classes of the whole set, undrawn ones as they were", "all weighed, none undrawn")


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluated", type=Path, default=Path("clipdiy-out/evaluation"))
    parser.add_argument("--subsets", type=int, default=300)
    arguments = parser.parse_args()
    print(f"| scenes | figure | {' | '.join(WAYS)} |\n|---|---|{'---:|' * len(WAYS)}")
    for title, place in SETS.items():
        population = read([arguments.evaluated / place.format(seed) / "records.jsonl" for seed in (1, 2, 3)])
        for size in SIZES:
            for name, keys in (("CLIP-DIY", ["clip-diy"]), ("w/o multi-scale, to it", ["no-multi-scale", "clip-diy"])):
                cells = coverage([population[key] for key in keys], size, arguments.subsets)
                print(f"| {size} of {title} | {name} | {' | '.join(cells)} |")


def read(paths: list[Path]) -> dict[str, np.ndarray]:
    """Return by variant (pictures, 2, C): hits and unions."""
    found: dict[str, list[np.ndarray]] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:  # the first says of what they are
            for key, outcome in Record.from_line(line, CLASSES).outcomes.items():
                counts = outcome.confusion
                hits = np.diag(counts)
                found.setdefault(key, []).append(np.stack([hits, counts.sum(axis=0) + counts.sum(axis=1) - hits]))
    return {key: np.stack(pictures).astype(float) for key, pictures in found.items()}


def mean_iou(sums: np.ndarray, undrawn: np.ndarray | None = None) -> np.ndarray:
    """Return the mean IoU of (..., 2, C) sums over the classes they have; those they lack keep `undrawn`."""
    hits, unions = sums[..., 0, :], sums[..., 1, :]
    iou = np.where(unions > 0, hits / np.where(unions > 0, unions, 1), np.nan if undrawn is None else undrawn)
    return np.nanmean(iou, axis=-1)


def coverage(systems: list[np.ndarray], size: int, subsets: int) -> list[str]:
    """Say for each way how many intervals hold the mean figure, and how wide they are."""
    rng = np.random.default_rng(0)
    drawn = [rng.choice(len(systems[0]), size, replace=False) for _ in range(subsets)]
    figures = np.array([difference([mean_iou(system[some].sum(axis=0)) for system in systems]) for some in drawn])
    held, widths = np.zeros(len(WAYS)), np.zeros(len(WAYS))
    for some, figure in zip(drawn, figures, strict=True):
        times = rng.multinomial(size, [1 / size] * size, size=REPLICATES).astype(float)
        weights = rng.exponential(size=(REPLICATES, size))
        for way, draws in enumerate((times, times, weights)):
            values = []
            for system in systems:
                whole = system[some].sum(axis=0)
                own = np.where(whole[1] > 0, whole[0] / np.maximum(whole[1], 1), np.nan)
                sums = np.einsum("rn,nsc->rsc", draws, system[some])
                values.append(mean_iou(sums, None if way == 0 else own))
            low, high = interval_around(figure, difference(values))
            held[way] += low <= figures.mean() <= high
            widths[way] += high - low
    return [f"{h / subsets:.0%}, {100 * w / subsets:.1f} wide" for h, w in zip(held, widths, strict=True)]


def difference(values: list) -> np.ndarray:
    """Return the first, or the first less the second."""
    return values[0] if len(values) == 1 else values[0] - values[1]


if __name__ == "__main__":
    main()
