"""Does what is no label stay empty, and what does that cost?

    python -m benchmarks.others [--sets N] [--scenes N] [--draws N] [--first SEED] [--only TABLE]
    python -m benchmarks.others --tune      what the gate and the absolute test were chosen by, on other seeds
    python -m benchmarks.others --near      how near texts come to each other, for the rule of the cosine
    python -m benchmarks.others --cost      a picture's question with and without the list, at ViT-B/32's shapes

Starter weights on seeded scenes of its 48 nouns, k of them labels, drawn at random for each set and draw; the rest of
what is in the pictures should stay empty. mIoU is over labels and background, pooled over a set's scenes and averaged
over draws and sets; intervals are 95 % by bootstrap over the scenes. `false` counts regions with an IoU below 0.1, of
all; rho is Spearman's rank correlation of score and IoU, of regions and of pictures.

Coverage is how many of the nouns that are no labels the others know. `list` knows nothing else; `open` also holds every
noun that is not in the picture: it has as many words as ever, and at 0 % none of them is there to be seen.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.scores import spearman
from benchmarks.timing import CLOCKS, machine, medians_ms
from clipdiy.build import build_segmenter
from clipdiy.config import OthersConfig, Pamr, preset
from clipdiy.evaluate.confusion import confusion_matrix, quality
from clipdiy.features import ImageFeatures
from clipdiy.others.choice import Chooser
from clipdiy.others.nouns import default_nouns
from clipdiy.photo import Photo
from clipdiy.segmentation import Segmentation
from clipdiy.segmenter import Segmenter
from clipdiy.starter.scenes import NOUNS, Sprites, compose_scene, load_sprites
from clipdiy.starter.vocabulary import BACKGROUND, SYNONYMS, TEMPLATES
from clipdiy.vocabulary import make_vocabulary

# Far from the seeds of training, which start at 1,000,000,000, and from those that other benchmarks use.
FIRST_SEED, TUNING_SEED = 80_000, 70_000
SIZES = (1, 2, 4, 8, 16)
COVERAGES = (0.0, 0.25, 0.5, 1.0)
FALSE_IOU = 0.1
ENCODED_AT_ONCE = 20
REPLICATES = 1000

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A scene: what was encoded of it, its truth as `Scene` has it, and the nouns that are in it."""

    features: ImageFeatures
    labels: Pixels
    nouns: frozenset[str]


@dataclass
class Tally:
    """What came out for one drawing of labels, picture by picture.

    Attributes:
        hits: Per picture (C,) pixels that are rightly of a class.
        unions: Per picture (C,) pixels that are of a class in truth or answer.
        regions: Score and IoU of every region.
        pictures: Score and mean IoU of every picture.
    """

    hits: list[NDArray[np.int64]] = field(default_factory=list)
    unions: list[NDArray[np.int64]] = field(default_factory=list)
    regions: list[tuple[float, float]] = field(default_factory=list)
    pictures: list[tuple[float, float]] = field(default_factory=list)

    def add(self, truth: Pixels, answer: Segmentation, classes: int) -> None:
        """Take the next picture."""
        counts = confusion_matrix(truth, answer.label_map, classes)
        found = quality(counts)
        hits = np.diag(counts)
        self.hits.append(hits)
        self.unions.append(counts.sum(axis=0) + counts.sum(axis=1) - hits)
        self.regions += [(float(answer.score[c]), float(found.iou[c])) for c in answer.present]
        self.pictures.append((answer.image_score, found.miou))


@dataclass
class Cell:
    """One row's figures: tallies of several drawings of labels, over several sets of scenes."""

    tallies: list[Tally] = field(default_factory=list)

    def miou(self) -> tuple[float, float, float]:
        """Return the mean over the tallies in percent, and its interval."""
        point = np.mean([pooled_miou(np.ones((1, len(tally.hits))), tally)[0] for tally in self.tallies])
        rng = np.random.default_rng(0)
        drawn = [pooled_miou(times(rng, len(tally.hits)), tally) for tally in self.tallies]
        low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
        return 100 * float(point), 100 * float(low), 100 * float(high)

    def above(self, base: "Cell") -> str:
        """Write by how much the mean is above another cell's, and the interval of that over the same scenes."""
        difference = self.miou()[0] - base.miou()[0]
        rng = np.random.default_rng(0)
        drawn = []
        for tally, other in zip(self.tallies, base.tallies, strict=True):
            weights = times(rng, len(tally.hits))
            drawn.append(pooled_miou(weights, tally) - pooled_miou(weights, other))
        low, high = 100 * np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
        return f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"

    def false(self) -> tuple[int, int]:
        """Return how many regions are false, and how many there are."""
        ious = [iou for tally in self.tallies for _, iou in tally.regions]
        return sum(iou < FALSE_IOU for iou in ious), len(ious)

    def rho(self) -> tuple[float, float]:
        """Return Spearman's rank correlation of score and IoU, of the regions and of the pictures."""
        regions = [region for tally in self.tallies for region in tally.regions]
        pictures = [picture for tally in self.tallies for picture in tally.pictures]
        return correlation(regions), correlation(pictures)

    def exact(self) -> tuple[float, float]:
        """Return which share of the pictures have an IoU of exactly 1, and the rho of a perfect score without ties.

        Spearman's correlation gives equal values their mean rank, so a score that orders pictures perfectly, but is
        nowhere equal, stays below 1 where many of the pictures are equally good.
        """
        ious = np.array([iou for tally in self.tallies for _, iou in tally.pictures])
        order = ious.argsort(kind="stable").argsort()
        return float((ious == 1).mean()), correlation(list(zip(order.tolist(), ious.tolist(), strict=True)))

    def __str__(self) -> str:
        """Write the columns that every table has."""
        miou, low, high = self.miou()
        false, regions = self.false()
        rho, rho_pictures = self.rho()
        return f"{miou:.1f} ({low:.1f} to {high:.1f}) | {false} of {regions} | {rho:.2f} | {rho_pictures:.2f}"


def times(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return how often each of `count` pictures is drawn in each replicate, (REPLICATES, count)."""
    return rng.multinomial(count, np.full(count, 1 / count), size=REPLICATES).astype(np.float64)


def pooled_miou(weights: NDArray[np.float64], tally: Tally) -> NDArray[np.float64]:
    """Return each replicate's mean IoU over the classes that it has, in [0, 1].

    Args:
        weights: (replicates, pictures).
        tally: Of as many pictures.
    """
    hits, unions = weights @ np.stack(tally.hits), weights @ np.stack(tally.unions)
    iou = np.divide(hits, unions, out=np.full_like(hits, np.nan), where=unions > 0)
    return np.asarray(np.nanmean(iou, axis=1))


def correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Return Spearman's rank correlation; NaN where one side is constant."""
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if len(set(first)) < 2 or len(set(second)) < 2:
        return float("nan")
    return spearman(first, second)


def encode(segmenter: Segmenter, seeds: Iterable[int], sprites: Sprites) -> list[Picture]:
    """Compose and encode scenes."""
    scenes = [compose_scene(seed, sprites=sprites) for seed in seeds]
    pictures = []
    for start in range(0, len(scenes), ENCODED_AT_ONCE):
        part = scenes[start : start + ENCODED_AT_ONCE]
        for scene, features in zip(part, segmenter.encode([Photo.from_array(s.image) for s in part]), strict=True):
            pictures.append(Picture(features, scene.labels, frozenset(scene.nouns)))
    return pictures


def truth_of(picture: Picture, labels: Sequence[str]) -> Pixels:
    """Return the picture's truth in positions of the labels; what is no label is background."""
    position = np.zeros(len(NOUNS) + 1, np.uint8)
    for i, label in enumerate(labels):
        position[NOUNS.index(label) + 1] = i + 1
    return np.asarray(position[picture.labels])


def measure(
    segmenter: Segmenter,
    pictures: Iterable[Picture],
    labels: Sequence[str],
    others: Callable[[Picture], Sequence[str] | None],
) -> Tally:
    """Segment pictures and compare with their truth.

    Args:
        segmenter: Its list is the starter's own.
        pictures: Encoded by it.
        labels: Some of `NOUNS`.
        others: Names of those that compete in a picture; `None` for what the segmenter chooses itself.
    """
    vocabulary = make_vocabulary(labels)
    tally = Tally()
    for picture in pictures:
        choice = segmenter.choose_others(vocabulary, others(picture))
        answer = segmenter.segment(picture.features, vocabulary.with_others(choice.competing))
        tally.add(truth_of(picture, labels), answer, len(vocabulary))
    return tally


def as_made_by(segmenter: Segmenter, picture: Picture) -> ImageFeatures:
    """Return a picture's features for a segmenter that wants the same of it, but no picture to refine by."""
    return replace(picture.features, made_by=segmenter.encoder_identity, picture=None)


def drawings(sets: int, draws: int, size: int) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield number of the set, labels, and the other nouns in an order of their own, from which shares are taken."""
    for number in range(sets):
        for draw in range(draws):
            order = np.random.default_rng([number, draw, size]).permutation(len(NOUNS))
            yield number, [NOUNS[i] for i in sorted(order[:size])], [NOUNS[i] for i in order[size:]]


def known_share(rest: Sequence[str], share: float) -> list[str]:
    """Return the others that know a share of the nouns that are no labels."""
    return list(rest[: round(share * len(rest))])


def open_list(rest: Sequence[str], share: float) -> Callable[[Picture], list[str]]:
    """Return others that know a share of what is in a picture, and every noun that is not in it."""
    hidden = set(rest[round(share * len(rest)) :])
    return lambda picture: [noun for noun in rest if noun not in hidden or noun not in picture.nouns]


def default_rows(segmenter: Segmenter, sets: Sequence[list[Picture]], draws: int) -> None:
    """Print the labels alone and beside the default list."""
    print("\n| labels | others | mIoU | false | rho, regions | rho, pictures |\n|---|---|---|---|---|---|")
    exact = {}
    for size in SIZES:
        for name, others in (("none", ()), ("default", None)):
            cell = Cell()
            for number, labels, _ in drawings(len(sets), draws, size):
                cell.tallies.append(measure(segmenter, sets[number], labels, lambda _, o=others: o))
            print(f"| {size} | {name} | {cell} |", flush=True)
            exact[f"{size}, {name}"] = cell.exact()
    vocabulary = make_vocabulary(NOUNS)
    full = vocabulary.with_others(segmenter.choose_others(vocabulary).competing)
    different, cell = 0, Cell()
    for pictures in sets:
        tally = Tally()
        for picture in pictures:
            alone, beside = (segmenter.segment(picture.features, words) for words in (vocabulary, full))
            different += int((alone.label_map != beside.label_map).sum())
            tally.add(picture.labels, beside, len(vocabulary))
        cell.tallies.append(tally)
    print(
        f"| {len(NOUNS)} | default ({len(full.others)}) | {cell} |\n\nPixels that differ at {len(NOUNS)}: {different}."
    )
    print("\nPictures whose masks are exact, and rho of a perfect score of which no two are equal:")
    for name, (share, best) in exact.items():
        print(f"{name}: {share:.0%}, {best:.2f}")


def coverage_rows(segmenter: Segmenter, sets: Sequence[list[Picture]], draws: int) -> None:
    """Print what others that know part of the nouns do."""
    print("\nMasks as published, not refined:\n")
    print("| labels | coverage | others | mIoU | false | rho, regions | rho, pictures |\n|---|---|---|---|---|---|---|")
    for size in SIZES:
        for share in COVERAGES:
            # At 0 % the list is empty, and at 100 % the two are the same.
            for kind in ("open",) if share == 0 else ("list",) if share == 1 else ("list", "open"):
                cell = Cell()
                for number, labels, rest in drawings(len(sets), draws, size):
                    known = known_share(rest, share)
                    others = open_list(rest, share) if kind == "open" else lambda _, k=known: k
                    cell.tallies.append(measure(segmenter, sets[number], labels, others))
                print(f"| {size} | {share:.0%} | {kind} | {cell} |", flush=True)


def all_labels_rows(segmenter: Segmenter, sets: int, scenes: int, first: int, size: int = 16) -> None:
    """Print what others cost where every noun in the pictures is a label: scenes of 16 nouns alone."""
    sprites = load_sprites()
    print("\n| others | mIoU | false | rho, regions | rho, pictures | against none |\n|---|---|---|---|---|---|")
    cells = {"none": Cell(), "4": Cell(), "10": Cell(), "default (32)": Cell()}
    for number, labels, rest in drawings(sets, 1, size):
        only = Sprites({noun: sprites.by_noun[noun] for noun in labels})
        start = first + 500 + 1000 * number
        pictures = encode(segmenter, range(start, start + scenes), only)
        for (_, cell), others in zip(cells.items(), ((), rest[:4], rest[:10], None), strict=True):
            cell.tallies.append(measure(segmenter, pictures, labels, lambda _, o=others: o))
    for name, cell in cells.items():
        print(f"| {name} | {cell} | {cell.above(cells['none'])} |", flush=True)


def part_rows(segmenter: Segmenter, sets: Sequence[list[Picture]], draws: int) -> None:
    """Print what each part does: nothing but competition, the gate, the absolute test, and that test alone."""
    never = float("inf")
    parts = {
        "others compete, no test": OthersConfig(gate_logits=-never, absent_quantile=None),
        "and the gate": OthersConfig(absent_quantile=None),
        "and the absolute test": OthersConfig(gate_logits=-never),
        "both (kept)": OthersConfig(),
        "the absolute test alone": OthersConfig(gate_logits=never),
    }
    print("\nMasks as published, not refined:\n")
    print("| labels | coverage | | mIoU | false | rho, regions | rho, pictures | against no test |")
    print(f"|{'---|' * 8}")
    for size in (2, 4, 16):
        for share in (0.5, 1.0):
            base = None
            for name, config in parts.items():
                changed = segmenter.with_config(replace(segmenter.config, others=config))
                cell = Cell()
                for number, labels, rest in drawings(len(sets), draws, size):
                    known = known_share(rest, share)
                    cell.tallies.append(measure(changed, sets[number], labels, lambda _, k=known: k))
                base = base or cell
                print(f"| {size} | {share:.0%} | {name} | {cell} | {cell.above(base)} |", flush=True)


def tune(scenes: int) -> None:
    """Print the grid that the two numbers of `OthersConfig` were chosen from; masks as published, for speed."""
    segmenter = build_segmenter(preset("starter"))
    sprites = load_sprites()
    starts = (TUNING_SEED, TUNING_SEED + 1000)
    sets = [encode(segmenter, range(start, start + scenes), sprites) for start in starts]
    closed = []
    for number, labels, rest in drawings(len(starts), 1, 16):
        only = Sprites({noun: sprites.by_noun[noun] for noun in labels})
        start = starts[number] + 500
        closed.append((labels, rest, encode(segmenter, range(start, start + scenes), only)))
    columns = [(size, share) for size in (2, 4, 16) for share in (0.5, 1.0)]
    print(f"seeds {TUNING_SEED}.., {scenes} scenes a set; mIoU by labels and coverage")
    print(f"| gate | quantile | {' | '.join(f'{size}, {share:.0%}' for size, share in columns)} | all nouns labels |")
    print(f"|{'---|' * (3 + len(columns))}")
    for gate in (-float("inf"), 2.0, 3.0):
        for quantile in (None, 0.85, 0.9, 0.95):
            config = OthersConfig(gate_logits=gate, absent_quantile=quantile)
            changed = segmenter.with_config(replace(segmenter.config, others=config))
            figures = []
            for size, share in columns:
                cell = Cell()
                for number, labels, rest in drawings(len(sets), 1, size):
                    known = known_share(rest, share)
                    cell.tallies.append(measure(changed, sets[number], labels, lambda _, k=known: k))
                figures.append(cell.miou()[0])
            cell = Cell([measure(changed, pictures, labels, lambda _, r=rest: r) for labels, rest, pictures in closed])
            row = " | ".join(f"{figure:.1f}" for figure in (*figures, cell.miou()[0]))
            print(f"| {gate} | {quantile} | {row} |", flush=True)


def near() -> None:
    """Print how near the starter's texts come: nouns to each other, and synonyms to their noun."""
    segmenter = build_segmenter(preset("starter"))
    clip = segmenter.clip
    chooser = Chooser(clip.embed_texts, clip.embed_vocabulary, names=NOUNS)
    known, unknown = chooser.near()

    def embed(words: Sequence[str]) -> torch.Tensor:
        return clip.embed_texts([TEMPLATES[0].format(word) for word in words])

    nouns = embed(NOUNS)
    nearest = (nouns @ nouns.T).fill_diagonal_(-1).amax(dim=1)
    pairs = [(noun, word) for noun, words in SYNONYMS.items() if noun != BACKGROUND for word in words]
    cosines = embed([word for _, word in pairs]) @ nouns.T
    own = cosines[torch.arange(len(pairs)), [NOUNS.index(noun) for noun, _ in pairs]]
    print(f"q = {unknown:.3f}, half way to 1 = {known:.3f}")
    print(f"nearest other noun: median {nearest.median():.3f}, largest {nearest.amax():.3f}")
    print(f"{len(pairs)} synonyms to their noun: smallest {own.amin():.3f}; above half way: {int((own > known).sum())}")
    print(f"other nouns above half way of a synonym: {int((cosines > known).sum() - (own > known).sum())}")


def cost(repeats: int, clock: str) -> None:
    """Print what 20 labels cost alone and beside the list, on random class maps of ViT-B/32's shapes."""
    from clipdiy.others.presence import competing_classes
    from clipdiy.pamr import refined_label_map
    from clipdiy.scores import class_scores

    torch.manual_seed(0)
    size_hw, logit_scale, classes, dims = (480, 640), 100.0, 21, 512
    crops = [torch.nn.functional.normalize(torch.randn(side, side, dims) + 2, dim=-1) for side in (1, 3, 7)]
    picture = torch.randint(0, 256, (3, 240, 320), dtype=torch.uint8)
    texts = torch.nn.functional.normalize(torch.randn(classes + len(default_nouns()), dims) + 2, dim=-1)

    def ask(count: int) -> None:
        grids = tuple((crop @ texts[:count].T).permute(2, 0, 1).contiguous() for crop in crops)
        drawn = classes
        if count > classes:
            kept = competing_classes(grids, classes, logit_scale, OthersConfig())
            grids = tuple(grid[kept] for grid in grids)
            drawn = int((kept < classes).sum())
        refined_label_map(grids, None, picture, size_hw, logit_scale, Pamr())
        class_scores(grids, None, logit_scale, drawn)

    ways = {"20 labels": lambda: ask(classes), f"and {len(default_nouns())} others": lambda: ask(len(texts))}
    print(machine())
    for name, taken in medians_ms(ways, repeats, clock=CLOCKS[clock]).items():
        print(f"| {name} | {taken:.1f} ms |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--first", type=int, default=FIRST_SEED)
    parser.add_argument("--only", choices=("default", "labels", "coverage", "parts"), help="one table of the four")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--near", action="store_true")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="cpu")
    chosen = parser.parse_args()
    if chosen.tune:
        tune(chosen.scenes)
    if chosen.near:
        near()
    if chosen.cost:
        cost(chosen.repeats, chosen.clock)
    if chosen.tune or chosen.near or chosen.cost:
        return
    segmenter = build_segmenter(preset("starter", pamr=Pamr()))
    starts = [chosen.first + 1000 * number for number in range(chosen.sets)]
    print(f"weights {segmenter.name}, core {segmenter.identity}, sets of {chosen.scenes} scenes from {starts}")
    if chosen.only in (None, "labels"):
        all_labels_rows(segmenter, chosen.sets, chosen.scenes, chosen.first)
    if chosen.only == "labels":
        return
    sprites = load_sprites()
    sets = [encode(segmenter, range(start, start + chosen.scenes), sprites) for start in starts]
    if chosen.only in (None, "default"):
        default_rows(segmenter, sets, chosen.draws)
    unrefined = build_segmenter(preset("starter"))
    plain = [[replace(picture, features=as_made_by(unrefined, picture)) for picture in pictures] for pictures in sets]
    if chosen.only in (None, "coverage"):
        coverage_rows(unrefined, plain, chosen.draws)
    if chosen.only in (None, "parts"):
        part_rows(unrefined, plain, chosen.draws)


if __name__ == "__main__":
    main()
