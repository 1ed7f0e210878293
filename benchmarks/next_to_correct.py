"""Which pictures should a person correct next? Three orders, and the mIoU that each number of corrections reaches.

    python -m benchmarks.next_to_correct [--seeds S,S] [--tasks NAME,NAME] [--counts N,N] [--unseen ZIP] [--cache DIR]

The projects and tasks are those of `benchmarks.learning`, with what competes (`--others` there). From 100 pictures they
are chosen, in rounds: `--counts` says after how many corrections it is learned and measured, and the next ones are
chosen with what was learned.

- `random`: as they come.
- `lowest`: those whose predictions score lowest, as the data manager sorts them.
- `informative`: uncertain and unlike each other: the farthest from what is chosen already (by the cosine of their mean
  embeddings, times one minus their score), one after the other.

Prints mIoU of 110 other pictures, means over seeds and tasks, and how often an order is better than `random` by more
than the spread of `random` itself (three shuffles).
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning import SEEDS, TASKS, corrected, make_task, miou
from benchmarks.learning_pictures import Picture, art_set
from clipdiy.build import build_segmenter
from clipdiy.config import SegmentOptions, preset
from clipdiy.learning.evidence import cell_embeddings
from clipdiy.learning.learn import learn
from clipdiy.learning.learned import Learned
from clipdiy.segmenter import Segmenter
from clipdiy.vocabulary import Vocabulary, make_vocabulary

COUNTS = (5, 10, 15, 25)
SHUFFLES = 3

Choose = Callable[[Sequence[int], Sequence[int], NDArray[np.float64], int], list[int]]


def lowest(left: Sequence[int], _chosen: Sequence[int], scores: NDArray[np.float64], count: int) -> list[int]:
    """Choose those with the lowest scores."""
    return sorted(left, key=lambda i: scores[i])[:count]


def shuffled(seed: int) -> Choose:
    """Choose in a random order."""
    order = np.random.default_rng(seed).permutation(10_000)

    def choose(left: Sequence[int], _chosen: Sequence[int], _scores: NDArray[np.float64], count: int) -> list[int]:
        return sorted(left, key=lambda i: order[i])[:count]

    return choose


def informative(vectors: NDArray[np.float64]) -> Choose:
    """Choose uncertain pictures that are unlike each other and what is chosen already."""

    def choose(left: Sequence[int], chosen: Sequence[int], scores: NDArray[np.float64], count: int) -> list[int]:
        taken: list[int] = []
        rest = list(left)
        for _ in range(min(count, len(rest))):
            known = [*chosen, *taken]
            away = 1 - (vectors[rest] @ vectors[known].T).max(axis=1) if known else np.ones(len(rest))
            best = rest[int((away * (1 - scores[rest])).argmax())]
            taken.append(best)
            rest.remove(best)
        return taken

    return choose


def mean_vectors(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    """Return a unit vector a picture: the mean of its cells' embeddings, less what all pictures have in common."""
    means = np.stack([cell_embeddings(p.features).at(np.arange(1024)).mean(axis=0) for p in pictures]).astype(
        np.float64
    )
    means -= means.mean(axis=0)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def run(
    segmenter: Segmenter,
    vocabulary: Vocabulary,
    task: object,
    to_correct: Sequence[Picture],
    to_measure: Sequence[Picture],
    choose: Choose,
    counts: Sequence[int],
) -> list[float]:
    """Correct in an order, and measure after each round."""
    texts = segmenter.clip.embed_vocabulary(vocabulary).cpu().numpy()
    given = {"logit_scale": segmenter.clip.logit_scale, "encoder": segmenter.encoder_identity}
    fit: Learned = learn([], vocabulary, texts, **given)
    chosen: list[int] = []
    reached = []
    for count in counts:
        options = SegmentOptions(learned=fit)
        scores = np.array([segmenter.segment(p.features, vocabulary, options).image_score for p in to_correct])
        left = [i for i in range(len(to_correct)) if i not in chosen]
        chosen += choose(left, chosen, scores, count - len(chosen))
        fit = learn(corrected([to_correct[i] for i in chosen], task), vocabulary, texts, **given)
        reached.append(miou(segmenter, vocabulary, task, to_measure, fit))
    return reached


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--tasks", default="meaningless,unseen,unseen-half")
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)))
    parser.add_argument("--unseen", type=Path)
    parser.add_argument("--cache", type=Path)
    chosen = parser.parse_args()
    counts = tuple(map(int, chosen.counts.split(",")))
    segmenter = build_segmenter(preset("starter", dtype="float32", device="cpu"))
    every: dict[str, list[list[float]]] = {}
    better = dict.fromkeys(("lowest", "informative"), 0)
    worse = dict.fromkeys(("lowest", "informative"), 0)
    cases = 0
    for seed in map(int, chosen.seeds.split(",")):
        for name in chosen.tasks.split(","):
            art, kind = TASKS[name]
            pictures = art_set(segmenter, art, seed, unseen=chosen.unseen, cache=chosen.cache)
            task = make_task(pictures.nouns, kind)
            vocabulary = make_vocabulary(task.labels)
            vocabulary = vocabulary.with_others(segmenter.choose_others(vocabulary).competing)

            def of(choose: Choose, pictures=pictures, task=task, vocabulary=vocabulary) -> list[float]:
                return run(segmenter, vocabulary, task, pictures.to_correct, pictures.to_measure, choose, counts)

            random = [of(shuffled(i)) for i in range(SHUFFLES)]
            found = {"lowest": of(lowest), "informative": of(informative(mean_vectors(pictures.to_correct)))}
            every.setdefault("random", []).append(np.mean(random, axis=0).tolist())
            cases += len(counts)
            for order, reached in found.items():
                every.setdefault(order, []).append(reached)
                for i in range(len(counts)):
                    at = [one[i] for one in random]
                    better[order] += reached[i] > max(at)
                    worse[order] += reached[i] < min(at)
            shown = {order: [round(value, 1) for value in values[-1]] for order, values in every.items()}
            print(f"seed {seed}, {name}: {shown}", flush=True)
    print("\n| order | " + " | ".join(f"N = {n}" for n in counts) + " | above / below all shuffles |")
    print("|---" * (len(counts) + 2) + "|")
    for order, values in every.items():
        cells = " | ".join(f"{value:.1f}" for value in np.mean(values, axis=0))
        times = f"{better[order]} / {worse[order]} of {cases}" if order in better else ""
        print(f"| {order} | {cells} | {times} |")


if __name__ == "__main__":
    main()
