"""Does sorting by score find the pictures, and the masks, that are wrong?

    python -m benchmarks.scores [--sets N] [--scenes N] [--first SEED] [--unrefined]

On seeded sets of scenes that the starter weights never saw, with all their nouns as labels, prints Spearman's rank
correlation between

- the prediction's score and the picture's true mean IoU (over the classes in its truth or its answer), and
- each region's score and its true IoU;

and what sorting by score is for: the true mean IoU of the tenth of the pictures with the lowest scores, of all, and of
the tenth with the highest.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipdiy.build import build_segmenter
from clipdiy.config import Pamr, preset
from clipdiy.evaluate.confusion import confusion_matrix, quality
from clipdiy.photo import Photo
from clipdiy.segmenter import Segmenter
from clipdiy.starter.scenes import NOUNS, compose_scene, load_sprites
from clipdiy.vocabulary import make_vocabulary

# Far from the seeds of training, which start at 1,000,000,000, and from those that other sets use.
FIRST_SEED = 40_000


@dataclass(frozen=True)
class Scored:
    """Scores and truth of one picture.

    Attributes:
        score: What Label Studio sorts by.
        miou: Mean IoU over the classes in truth or answer, background included.
        regions: Score and IoU of every region of the answer.
    """

    score: float
    miou: float
    regions: tuple[tuple[float, float], ...]


def measure(segmenter: Segmenter, seeds: Iterable[int]) -> list[Scored]:
    """Segment scenes into all nouns and compare with their truth."""
    sprites, vocabulary = load_sprites(), make_vocabulary(NOUNS)
    measured = []
    for seed in seeds:
        scene = compose_scene(seed, sprites=sprites)
        (features,) = segmenter.encode([Photo.from_array(scene.image)])
        answer = segmenter.segment(features, vocabulary)
        iou = ious(scene.labels, answer.label_map, len(vocabulary))
        regions = tuple((float(answer.score[c]), float(iou[c])) for c in answer.present)
        measured.append(Scored(answer.image_score, float(np.nanmean(iou)), regions))
    return measured


def ious(truth: NDArray[np.integer], answer: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """Return each class's IoU, NaN for a class that is in neither."""
    return quality(confusion_matrix(truth, answer, classes)).iou


def spearman(first: Iterable[float], second: Iterable[float]) -> float:
    """Return Spearman's rank correlation; equal values share the mean of their ranks."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Iterable[float]) -> NDArray[np.float64]:
    _, position, count = np.unique(np.fromiter(values, float), return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[position]


def main() -> None:
    """Measure and print a line per set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=4)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--first", type=int, default=FIRST_SEED)
    parser.add_argument("--unrefined", action="store_true", help="masks as published, not as the service makes them")
    chosen = parser.parse_args()
    segmenter = build_segmenter(preset("starter", pamr=None if chosen.unrefined else Pamr()))
    print(f"weights {segmenter.name}, core {segmenter.identity}, {len(NOUNS)} labels")
    print("| seeds | Spearman, pictures | Spearman, regions | mIoU, lowest tenth | mIoU, all | mIoU, highest tenth |")
    print("|---|---|---|---|---|---|")
    for number in range(chosen.sets):
        seeds = range(chosen.first + 1000 * number, chosen.first + 1000 * number + chosen.scenes)
        measured = sorted(measure(segmenter, seeds), key=lambda picture: picture.score)
        truths = [picture.miou for picture in measured]
        regions = [region for picture in measured for region in picture.regions]
        tenth = max(1, len(truths) // 10)
        print(
            f"| {seeds.start}..{seeds.stop - 1} | {spearman((p.score for p in measured), truths):.3f} "
            f"| {spearman((score for score, _ in regions), (iou for _, iou in regions)):.3f} "
            f"| {np.mean(truths[:tenth]):.3f} | {np.mean(truths):.3f} | {np.mean(truths[-tenth:]):.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
