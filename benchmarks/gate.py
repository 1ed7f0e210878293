"""Is it worth leaving out labels that are not in the picture, where the list is long and few of it are there?

    python -m benchmarks.gate [--sets N] [--scenes N] [--first SEED] [--unrefined]
    python -m benchmarks.gate --tune [--unrefined]      every threshold, on other seeds

Starter weights on scenes of three of its 48 nouns, all 48 of them labels, so that no other competes. Each test looks at
what is kept of a picture anyway, and those labels that pass it are segmented without the rest, edges refined and specks
removed as in the service. The tests:

- `coarse`: at the coarsest scale at most t logits below the best label (`clipdiy.prune`, the only one in the product,
  off by default);
- `sure crop`: the probability of the label in its best crop, a softmax over all labels, is at least t;
- `wins`: some crop is nearest to the label, the background left out, and objectness is at least t there;
- `soft IoU`: after FreeCP (Chen et al., ICCV 2025), in which a class stays if its map hardly changes when it is spread
  by attention. Here probabilities of the finest crops, weighted by objectness, are spread by the likeness of the crops'
  embeddings; the soft IoU of the two has to be t;
- `score`: the label's score, which estimates its mask's IoU, is at least t when all take part.
- `truth`: the labels that are there, which no test can know: what there is to be gained.

Prints pooled mIoU with 95 % intervals by bootstrap over the scenes, and what is gained against no test on the same
scenes. `lost` and `left` count labels that are there and were left out, and that are not there and were kept.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.others import REPLICATES
from clipdiy.aggregate import grid_similarity
from clipdiy.build import build_segmenter
from clipdiy.config import Pamr, preset
from clipdiy.evaluate.bootstrap import interval_around
from clipdiy.evaluate.confusion import confusion_matrix, quality
from clipdiy.features import ImageFeatures
from clipdiy.guide import ObjectnessField
from clipdiy.photo import Photo
from clipdiy.prune import likely_classes
from clipdiy.scores import class_scores
from clipdiy.segmenter import Segmenter
from clipdiy.starter.scenes import NOUNS, Sprites, compose_scene, load_sprites
from clipdiy.vocabulary import make_vocabulary

OBJECTS = 3
AFFINITY_POWER = 8.0  # cosines of crops lie close together; this tells like from unlike

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """What a test may look at.

    Attributes:
        grids: Per scale (C, h, w) float32 cosines, background first.
        features: Of the picture.
        logit_scale: CLIP's inverse temperature.
    """

    grids: tuple[Tensor, ...]
    features: ImageFeatures
    logit_scale: float

    def objectness(self, grid: Tensor) -> Tensor:
        """Return objectness at the crops of a grid, flat float32."""
        assert self.features.objectness is not None, "the starter has it"
        rows, cols = grid.shape[1:]
        return ObjectnessField(self.features.objectness, (rows, cols)).rows(0, rows).flatten()


Test = Callable[[Seen, float], Tensor]
"""Says of each label, the background left out, whether it stays: (C - 1,) bool."""


def coarse(seen: Seen, threshold: float) -> Tensor:
    """See the module."""
    stays = torch.zeros(len(seen.grids[0]), dtype=torch.bool)
    stays[likely_classes(seen.grids[0], seen.logit_scale, threshold)] = True
    return stays[1:]


def sure_crop(seen: Seen, threshold: float) -> Tensor:
    """See the module."""
    likely = [(grid[1:].flatten(1) * seen.logit_scale).softmax(dim=0).amax(dim=1) for grid in seen.grids]
    return torch.stack(likely).amax(dim=0) >= threshold


def wins(seen: Seen, threshold: float) -> Tensor:
    """See the module."""
    stays = torch.zeros(len(seen.grids[0]) - 1, dtype=torch.bool)
    for grid in seen.grids:
        nearest = grid[1:].flatten(1).argmax(dim=0)
        stays[nearest[seen.objectness(grid) >= threshold]] = True
    return stays


def soft_iou(seen: Seen, threshold: float) -> Tensor:
    """See the module."""
    finest = seen.grids[-1]
    activation = (finest[1:].flatten(1) * seen.logit_scale).softmax(dim=0) * seen.objectness(finest)
    crops = seen.features.crop_embeddings[-1].float().flatten(0, 1)
    affinity = (crops @ crops.T).clamp(min=0) ** AFFINITY_POWER
    spread = activation @ (affinity / affinity.sum(dim=0))
    both, either = torch.minimum(activation, spread).sum(dim=1), torch.maximum(activation, spread).sum(dim=1)
    return both / either.clamp(min=1e-6) >= threshold


def score(seen: Seen, threshold: float) -> Tensor:
    """See the module."""
    return class_scores(seen.grids, seen.features.objectness, seen.logit_scale)[1:] >= threshold


TESTS: dict[str, tuple[Test, tuple[float, ...]]] = {
    "coarse": (coarse, (2.0, 4.0, 6.0, 10.0)),
    "sure crop": (sure_crop, (0.3, 0.5, 0.7, 0.9, 0.95)),
    "wins": (wins, (0.3, 0.5, 0.7, 0.9)),
    "soft IoU": (soft_iou, (0.05, 0.1, 0.15, 0.25, 0.4)),
    "score": (score, (0.05, 0.1, 0.2, 0.3, 0.4)),
}
# The best of each by `--tune`, and the threshold of the paper.
CHOSEN = (("coarse", 10.0), ("sure crop", 0.7), ("sure crop", 0.9), ("wins", 0.7), ("soft IoU", 0.15), ("score", 0.3))
FIRST_SEED, TUNING_SEED = 90_000, 70_000


@dataclass(frozen=True)
class Picture:
    """What is seen of a scene, and the truth about it, (H, W) uint8."""

    segmenter: Segmenter
    seen: Seen
    truth: NDArray[np.uint8]

    @property
    def there(self) -> Tensor:
        """Which labels are there, (C - 1,) bool."""
        return torch.tensor([bool((self.truth == position).any()) for position in range(1, len(NOUNS) + 1)])

    def segmented(self, stays: Tensor) -> Counts:
        """Segment with the labels that stay, and count, (C, C)."""
        kept = stays.nonzero().squeeze(1)
        label_map = np.zeros(self.truth.shape, np.int64)
        if len(kept):
            vocabulary = make_vocabulary([NOUNS[place] for place in kept])
            positions = np.array([0, *(int(place) + 1 for place in kept)])
            label_map = positions[self.segmenter.segment(self.seen.features, vocabulary).label_map]
        return confusion_matrix(self.truth, label_map, len(NOUNS) + 1)


def compose(segmenter: Segmenter, seeds: Sequence[int], sprites: Sprites) -> list[Picture]:
    """Compose and encode scenes."""
    texts = segmenter.clip.embed_vocabulary(make_vocabulary(NOUNS))
    pictures = []
    for seed in seeds:
        scene = compose_scene(seed, n_objects=(OBJECTS, OBJECTS), sprites=sprites)
        (features,) = segmenter.encode([Photo.from_array(scene.image)])
        grids = grid_similarity([scale.float() for scale in features.crop_embeddings], texts)
        pictures.append(Picture(segmenter, Seen(grids, features, segmenter.clip.logit_scale), scene.labels))
    return pictures


def row(name: str, pictures: Sequence[Picture], stays: Sequence[Tensor], base: Counts | None) -> tuple[str, Counts]:
    """Write one row; return also the counts of each picture."""
    counts = np.stack([picture.segmented(kept) for picture, kept in zip(pictures, stays, strict=True)])
    lost = sum(int((picture.there & ~kept).sum()) for picture, kept in zip(pictures, stays, strict=True))
    left = sum(int((kept & ~picture.there).sum()) for picture, kept in zip(pictures, stays, strict=True))
    drawn = np.random.default_rng(0).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), REPLICATES)

    def miou(of: Counts) -> float:
        return 100 * quality(of.sum(axis=0)).miou

    def replicates(of: Counts) -> NDArray[np.float64]:
        return np.array([100 * quality(np.tensordot(times, of, 1)).miou for times in drawn])

    figure, low, high = miou(counts), *interval_around(miou(counts), replicates(counts))
    gain = ""
    if base is not None:
        gained = figure - miou(base)
        ends = interval_around(gained, replicates(counts) - replicates(base))
        gain = f"{gained:+.1f} ({ends[0]:+.1f} to {ends[1]:+.1f})"
    return f"| {name} | {figure:.1f} ({low:.1f} to {high:.1f}) | {gain} | {lost} | {left} |", counts


def table(pictures: Sequence[Picture], chosen: Sequence[tuple[str, float]]) -> None:
    """Print what each test does to some scenes."""
    print("| test | mIoU | gained | lost | left |\n|---|---|---|---|---|")
    every = [torch.ones(len(NOUNS), dtype=torch.bool) for _ in pictures]
    line, base = row("none", pictures, every, None)
    print(line, flush=True)
    for name, threshold in chosen:
        stays = [TESTS[name][0](picture.seen, threshold) for picture in pictures]
        print(row(f"{name}, {threshold:g}", pictures, stays, base)[0], flush=True)
    print(row("truth", pictures, [picture.there for picture in pictures], base)[0], flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--first", type=int, default=FIRST_SEED)
    parser.add_argument("--unrefined", action="store_true", help="edges as published")
    parser.add_argument("--tune", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pamr = None if arguments.unrefined else Pamr()
    segmenter = build_segmenter(preset("starter", device="cpu", dtype="float32", pamr=pamr))
    starts = [TUNING_SEED] if arguments.tune else [arguments.first + 1000 * number for number in range(arguments.sets)]
    seeds = [start + number for start in starts for number in range(arguments.scenes)]
    pictures = compose(segmenter, seeds, load_sprites())
    chosen = [*CHOSEN]
    if arguments.tune:
        chosen = [(name, threshold) for name, (_, thresholds) in TESTS.items() for threshold in thresholds]
    print(f"core {segmenter.identity}, {len(pictures)} scenes of {OBJECTS} of {len(NOUNS)} labels")
    table(pictures, chosen)


if __name__ == "__main__":
    main()
