"""What is it worth to say that a label is stuff? The same labels, as objects and as stuff.

    python -m benchmarks.stuff [--seeds S,S] [--counts N,N] [--others] [--by-name]

Starter weights on scenes of objects in front of drawn skies, walls, grass, roads and water (`clipdiy.starter.grounds`).
A seed is a project with 16 nouns and the five surfaces as labels. The starter's text tower knows no word for a surface,
so that a name alone shows nothing; two ways lead around it:

- `shown`: the text embedding of a surface is the mean of the picture embeddings of its cells in 25 pictures, as if the
  text tower knew the word. Labels and words alone, masks at full size, nothing else: Eq. 1 to 4. With `--others` common
  things compete with them, by their words.
- `learned`: N pictures are corrected to the truth and learned from, as the service does it (`clipdiy.learning`).

With `--by-name` it asks instead what a list of words does that are taken for stuff by their name, as if the surfaces
and their names were on it (`clipdiy.usual_stuff`). All of it `shown`:

- `surfaces`: as above, where such a list is right.
- `none there`: other scenes, of the same nouns with nothing behind them that has a name. The surfaces are labels still.
- `two names wrong`: the first two of the nouns are called by such a word, though they are objects; they count as such.

Prints mIoU over the labels and the background, of the objects and of the stuff, pooled over the 60 pictures of each
seed that were not learned from, at 256 pixels; and what `stuff` adds, with a 95 % interval by bootstrap over pictures.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.learning_pictures import project_nouns
from clipdiy.aggregate import grid_similarity
from clipdiy.build import build_segmenter
from clipdiy.clip_method import drawn_as
from clipdiy.config import OthersConfig, SegmentOptions, preset
from clipdiy.evaluate.bootstrap import interval_around
from clipdiy.evaluate.confusion import confusion_matrix, quality
from clipdiy.features import ImageFeatures
from clipdiy.guide import ground_first
from clipdiy.label_maps import full_label_map
from clipdiy.learning.evidence import WHOLE, CorrectedPicture, cell_embeddings, class_shares
from clipdiy.learning.learn import learn
from clipdiy.others.presence import competing_classes
from clipdiy.photo import Photo
from clipdiy.segmenter import Segmenter
from clipdiy.starter.grounds import STUFF, compose_on_ground
from clipdiy.starter.scenes import NOUNS, Sprites, compose_scene, load_sprites
from clipdiy.starter.vocabulary import unknown_words
from clipdiy.vocabulary import Vocabulary, make_vocabulary

SEEDS = (301, 302, 303)
COUNTS = (5, 10, 25)
TO_SHOW, TO_MEASURE = 25, 60
SEED_STEP = 10_000
REPLICATES = 1000

Counts = NDArray[np.int64]
Answer = Callable[[ImageFeatures], NDArray[np.integer]]


@dataclass(frozen=True)
class Picture:
    """A scene: its features, and (H, W) int64 positions in the project's vocabulary."""

    identity: str
    features: ImageFeatures
    truth: NDArray[np.int64]


def pictures_of(
    segmenter: Segmenter,
    seed: int,
    nouns: Sequence[str],
    sprites: Sprites,
    *,
    on_ground: bool = True,
    count: int = TO_SHOW + TO_MEASURE,
) -> Iterator[Picture]:
    """Compose and encode a project's pictures: those to learn from, then those to measure on."""
    labels = [*nouns, *STUFF]
    every = [*NOUNS, *STUFF]
    position_of = np.array([0, *(labels.index(name) + 1 if name in labels else 0 for name in every)])
    own = Sprites({noun: sprites.by_noun[noun] for noun in nouns})
    compose = compose_on_ground if on_ground else compose_scene
    for number in range(count):
        scene = compose(seed * SEED_STEP + number, n_objects=(1, 3), sprites=own)
        features = segmenter.encode([Photo.from_array(scene.image)])[0]
        yield Picture(f"{seed}-{number}", features, position_of[scene.labels])


def shown_texts(texts: torch.Tensor, vocabulary: Vocabulary, pictures: Sequence[Picture]) -> torch.Tensor:
    """Put what the surfaces look like in the place of their words, (C, D) float32 unit vectors."""
    texts = texts.clone()
    for name in STUFF:
        position = vocabulary.names.index(name)
        cells = []
        for picture in pictures:
            shares = class_shares(picture.truth)
            if position in shares.positions:
                share = shares.shares[shares.positions.index(position)].ravel()
                cells.append(cell_embeddings(picture.features).at(np.flatnonzero(share == WHOLE)))
        texts[position] = torch.nn.functional.normalize(torch.from_numpy(np.concatenate(cells).mean(axis=0)), dim=0)
    return texts


def by_texts(texts: torch.Tensor, vocabulary: Vocabulary, logit_scale: float, others: OthersConfig) -> Answer:
    """Answer by Eq. 1 to 4 for given text embeddings, in the order of a vocabulary: labels, then others if any compete.

    Raises:
        ValueError: If there is not an embedding for each.
    """
    if len(texts) != len(vocabulary.prompts):
        raise ValueError(f"{len(texts)} embeddings for {len(vocabulary.prompts)} labels and others")

    def answer(features: ImageFeatures) -> NDArray[np.integer]:
        every = grid_similarity([scale.float() for scale in features.crop_embeddings], texts)
        competing = competing_classes(every, len(vocabulary), logit_scale, others, vocabulary.stuff)
        order, ground = ground_first(competing, vocabulary.stuff)
        grids = tuple(grid[order] for grid in every)
        labels = full_label_map(grids, features.objectness, features.size_hw, ground)
        named: NDArray[np.int64] = drawn_as(order, vocabulary)[labels.long()].numpy()
        return named

    return answer


def counted(pictures: Sequence[Picture], answer: Answer, classes: int) -> Counts:
    """Return a confusion matrix for each picture, (N, C, C)."""
    return np.stack([confusion_matrix(p.truth.astype(np.uint8), answer(p.features), classes) for p in pictures])


def means(counts: Counts, nouns: int) -> tuple[float, float, float]:
    """Return mIoU of all classes, of the objects and of the stuff, in points, of pooled counts (C, C)."""
    iou = quality(counts).iou * 100
    return tuple(float(np.nanmean(part)) for part in (iou, iou[1 : nouns + 1], iou[nouns + 1 :]))  # type: ignore[return-value]


def compared(way: str, plain: Counts, stuff: Counts, nouns: int) -> str:
    """Write one row: both, and their difference with its interval."""
    rng = np.random.default_rng(0)
    before, after = means(plain.sum(axis=0), nouns), means(stuff.sum(axis=0), nouns)
    drawn = rng.multinomial(len(plain), np.full(len(plain), 1 / len(plain)), REPLICATES)
    # Pooled counts of each replicate; a class that was not drawn leaves the mean.
    with np.errstate(invalid="ignore"):
        differences = np.array(
            [
                np.subtract(means(np.tensordot(times, stuff, 1), nouns), means(np.tensordot(times, plain, 1), nouns))
                for times in drawn
            ]
        )
    cells = []
    for i, _ in enumerate(("all", "objects", "stuff")):
        low, high = interval_around(after[i] - before[i], differences[:, i])
        cells.append(f"{before[i]:.1f} | {after[i]:.1f} | {after[i] - before[i]:+.1f} ({low:+.1f} to {high:+.1f})")
    return f"| {way} | " + " | ".join(cells) + " |"


def by_name(segmenter: Segmenter, sprites: Sprites, seeds: Sequence[int]) -> None:
    """Print what words that are taken for stuff do where they are right, where nothing is called so, and wrong."""
    print("| seed, case | of | as objects | as stuff | |\n|---|---|---|---|---|")
    gathered: dict[tuple[str, str], list[float]] = {}
    for seed in seeds:
        nouns = project_nouns(seed)
        names = (*nouns, *STUFF)
        classes = 1 + len(names)
        pictures = list(pictures_of(segmenter, seed, nouns, sprites))
        to_show, to_measure = pictures[:TO_SHOW], pictures[TO_SHOW:]
        empty = list(pictures_of(segmenter, seed, nouns, sprites, on_ground=False, count=TO_MEASURE))
        objects, every = slice(1, len(nouns) + 1), slice(0, classes)
        cases = {
            "surfaces": (to_measure, STUFF, {"all": every, "objects": objects}),
            # Labels that are nowhere have no IoU of their own: what they take is missing from the others.
            "none there": (empty, STUFF, {"background": slice(0, 1), "objects": objects}),
            "two names wrong": (to_measure, (*nouns[:2], *STUFF), {"all": every, "the two": slice(1, 3)}),
        }
        for case, (measured, lying, parts) in cases.items():
            both = []
            for stuff in ((), lying):
                vocabulary = make_vocabulary(names, stuff=stuff)
                texts = shown_texts(segmenter.clip.embed_vocabulary(vocabulary), vocabulary, to_show)
                answer = by_texts(texts, vocabulary, segmenter.clip.logit_scale, segmenter.config.others)
                both.append(counted(measured, answer, classes))
            for part, rows in parts.items():
                before, after, gained = difference(both[0], both[1], rows)
                print(f"| {seed}, {case} | {part} | {before:.1f} | {after:.1f} | {gained} |", flush=True)
                gathered.setdefault((case, part), []).append(after - before)
    print()
    for (case, part), gains in gathered.items():
        print(f"{case}, {part}: {np.mean(gains):+.1f} in the mean of the seeds")


def difference(plain: Counts, stuff: Counts, rows: slice) -> tuple[float, float, str]:
    """Return the mIoU of some classes before and after, in points, and what was added with its interval."""

    def measure(counts: Counts) -> float:
        iou = quality(counts).iou[rows]
        return float(np.nanmean(iou)) * 100 if np.isfinite(iou).any() else float("nan")

    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(plain), np.full(len(plain), 1 / len(plain)), REPLICATES)
    with np.errstate(invalid="ignore"):
        differences = np.array(
            [measure(np.tensordot(times, stuff, 1)) - measure(np.tensordot(times, plain, 1)) for times in drawn]
        )
    before, after = measure(plain.sum(axis=0)), measure(stuff.sum(axis=0))
    low, high = interval_around(after - before, differences)
    return before, after, f"{after - before:+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)))
    parser.add_argument(
        "--others", action="store_true", help="common things compete, as in the service; not with --by-name"
    )
    parser.add_argument("--by-name", action="store_true", help="what a list of words does that are taken for stuff")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    segmenter, sprites = build_segmenter(preset("starter", device="cpu", dtype="float32")), load_sprites()
    print(f"core {segmenter.identity}; words that the starter does not know: {', '.join(unknown_words(STUFF))}")
    print(
        "| seed, way | all: as objects | as stuff | | objects: as objects | as stuff | | stuff: as objects "
        "| as stuff | |"
    )
    print("|---" * 10 + "|")
    if arguments.by_name:
        by_name(segmenter, sprites, [int(seed) for seed in arguments.seeds.split(",")])
        return
    gathered: dict[str, list[tuple[Counts, Counts]]] = {}
    nouns_count = 0
    for seed in map(int, arguments.seeds.split(",")):
        nouns = project_nouns(seed)
        nouns_count = len(nouns)
        pictures = list(pictures_of(segmenter, seed, nouns, sprites))
        to_correct, to_measure = pictures[:TO_SHOW], pictures[TO_SHOW:]
        rows: dict[str, list[Counts]] = {}
        for stuff in ((), STUFF):
            vocabulary = make_vocabulary([*nouns, *STUFF], stuff=stuff)
            if arguments.others:
                vocabulary = vocabulary.with_others(segmenter.choose_others(vocabulary).competing)
            texts = segmenter.clip.embed_vocabulary(vocabulary)
            classes = 1 + len(nouns) + len(STUFF)
            shown = shown_texts(texts, vocabulary, to_correct)
            by_shown = by_texts(shown, vocabulary, segmenter.clip.logit_scale, segmenter.config.others)
            rows.setdefault("shown", []).append(counted(to_measure, by_shown, classes))
            for count in (int(number) for number in arguments.counts.split(",") if number):
                told = [CorrectedPicture(p.identity, p.features, class_shares(p.truth)) for p in to_correct[:count]]
                fit = learn(
                    told,
                    vocabulary,
                    texts.numpy(),
                    logit_scale=segmenter.clip.logit_scale,
                    encoder=segmenter.encoder_identity,
                )
                options = SegmentOptions(learned=fit)

                def answer(
                    features: ImageFeatures, vocabulary: Vocabulary = vocabulary, options: SegmentOptions = options
                ) -> NDArray[np.integer]:
                    return segmenter.segment(features, vocabulary, options).label_map

                rows.setdefault(f"learned, N = {count}", []).append(counted(to_measure, answer, classes))
        for way, (plain, as_stuff) in rows.items():
            print(compared(f"{seed}, {way}", plain, as_stuff, len(nouns)), flush=True)
            gathered.setdefault(way, []).append((plain, as_stuff))
    print()
    for way, pairs in gathered.items():
        gains = np.array(
            [np.subtract(means(s.sum(axis=0), nouns_count), means(p.sum(axis=0), nouns_count)) for p, s in pairs]
        ).mean(axis=0)
        print(f"{way}: all {gains[0]:+.1f}, objects {gains[1]:+.1f}, stuff {gains[2]:+.1f} in the mean of the seeds")


if __name__ == "__main__":
    main()
