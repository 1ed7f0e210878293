"""How are the bundled starter weights made? `python -m clipdiy.starter.training`, or `make starter`.

Fetches the drawings with npm, renders them, trains the tiny CLIP and the foreground model on scenes composed on the
fly, measures both, and writes everything into `clipdiy/starter/weights`. Seeded. A run that was cut off goes on from
its last checkpoint when started again. About an hour and a half on one core; on two, start it twice at the same time,
with `--only clip` and `--only foreground`, and once more without either when both have finished: the heads for
CLIP-DINOiser learn from both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch

from clipdiy.starter.scenes import NOUNS, TRAINING_SEEDS_FROM, load_sprites
from clipdiy.starter.training.art import all_sprites, bundled_sprites, fetch_art, render_art, save_sprites
from clipdiy.starter.training.clip import ClipPlan, Texts, train_clip
from clipdiy.starter.training.dinoiser import HeadsPlan, train_heads
from clipdiy.starter.training.foreground import DEFAULT_VIT, ForegroundPlan, load_foreground, train_foreground
from clipdiy.starter.training.measure import FRESH_SEEDS, TUNING_SEEDS, Measured, Measurer
from clipdiy.starter.vocabulary import ADJECTIVES, BACKGROUND, SYNONYMS, TEMPLATES, known_words
from clipdiy.weights import LOCAL_DIR, STARTER_DIR

CLIP_PLAN = ClipPlan(image_steps=2200, text_steps=1000, joint_steps=5000)
FOREGROUND_PLAN = ForegroundPlan(DEFAULT_VIT, steps=4300)
HEADS_PLAN = HeadsPlan()
# Every stage once, in a minute or two, for trying the script out. The result is of no use.
QUICK_CLIP_PLAN = ClipPlan(image_steps=6, text_steps=6, joint_steps=6, batch=32)
QUICK_FOREGROUND_PLAN = ForegroundPlan(DEFAULT_VIT, steps=4, batch=2)
QUICK_HEADS_PLAN = HeadsPlan(steps=4, batch=2)


@dataclass(frozen=True)
class Arguments:
    """What the command line says.

    Attributes:
        work: Folder for the drawings and checkpoints; git ignores `build/`.
        out: Folder for the finished files.
        only: Train only `clip`, `foreground` or `heads`, or only `measure` what is there; everything when None.
        quick: A few steps of everything, for trying the script out.
        threads: Threads for torch. One per process is fastest on a busy machine.
    """

    work: Path
    out: Path
    only: str | None
    quick: bool
    threads: int


def main(argv: Sequence[str] | None = None) -> None:
    """Run the training.

    Args:
        argv: Command line arguments; those of the process when None.

    Raises:
        RuntimeError: If the drawings cannot be fetched.
        ValueError: If a checkpoint in the work folder was made by another plan.
    """
    arguments = _parse(argv)
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only != "measure":
        fetch_art(arguments.work, _report)
        _report("art: rendering")
        art = render_art(arguments.work)
        sprites = all_sprites(art)
        _report(f"art: {sum(map(len, sprites.by_noun.values()))} drawings of {len(NOUNS)} nouns")
    if arguments.only is None:
        save_sprites(bundled_sprites(art), arguments.out / "sprites.zip")
        write_vocabulary(arguments.out / "vocabulary.json")
    if arguments.only in (None, "clip"):
        plan = QUICK_CLIP_PLAN if arguments.quick else CLIP_PLAN
        train_clip(plan, sprites, arguments.work / "clip.checkpoint.pt", arguments.out / "clip", _report)
    if arguments.only in (None, "foreground"):
        foreground = QUICK_FOREGROUND_PLAN if arguments.quick else FOREGROUND_PLAN
        checkpoint = arguments.work / "foreground.checkpoint.pt"
        train_foreground(foreground, sprites, checkpoint, arguments.out / "found", _report)
    if arguments.only in (None, "heads"):
        heads = QUICK_HEADS_PLAN if arguments.quick else HEADS_PLAN
        clip = open_clip.create_model(f"{LOCAL_DIR}{arguments.out / 'clip'}", require_pretrained=True)
        foreground_model = load_foreground(arguments.out / "found")
        checkpoint = arguments.work / "heads.checkpoint.pt"
        visual = clip.eval().requires_grad_(False).visual
        train_heads(heads, visual, foreground_model, sprites, checkpoint, arguments.out / "dinoiser", _report)
    if arguments.only in (None, "measure"):
        measurer, sprites = Measurer(arguments.out), load_sprites(arguments.out / "sprites.zip")
        tuning, fresh = (measurer(sprites, seeds, _report) for seeds in (TUNING_SEEDS, FRESH_SEEDS))
        _report(f"tuning seeds: {tuning}")
        _report(f"fresh seeds: {fresh}")
        (arguments.out / "card.md").write_text(card(tuning, fresh), "utf-8")


def write_vocabulary(path: Path) -> None:
    """Write what the text tower has seen: nouns, synonyms, templates, words and token ids."""
    vocabulary = {
        "nouns": NOUNS,
        "background": BACKGROUND,
        "synonyms": SYNONYMS,
        "adjectives": ADJECTIVES,
        "templates": TEMPLATES,
        "words": sorted(known_words()),
        "token_ids": Texts().token_ids.tolist(),
    }
    path.write_text(json.dumps(vocabulary, indent=1) + "\n", "utf-8")


def card(tuning: Measured, fresh: Measured) -> str:
    """The text that goes with the weights, with what was measured."""
    return f"""# The starter weights

A CLIP of 4.6 million parameters and a foreground model in the shape of FOUND, small enough to be part of the
repository, so that a first run, the tests and the demo mean something without a download. The code that loads and runs
them is the code that runs the real weights.

**A closed world.** They know {len(NOUNS)} nouns, drawn in the art styles of four emoji sets, on procedural backgrounds.
They are of no use on photos. Words that they never saw land silently on one of the nouns:
`clipdiy.starter.vocabulary.unknown_words` finds such words, and whoever shows results to a person should warn.

The nouns: {", ".join(NOUNS)}. Plurals and common synonyms are in `vocabulary.json`.

What is no label competes with the labels and stays empty (`clipdiy.others`). The starter's others are these nouns, without
the labels and their kind: it knows nothing else, so a thing that is none of them has no other of its own.

## How they were made
`make starter` (that is `python -m clipdiy.starter.training`), from random initial values, seeded, on scenes composed on the
fly; `LICENSES.md` lists the drawings.

| | |
|---|---|
| image tower | ModifiedResNet, layers 1-1-1-1, width 16, 64x64 pixels, embedding of 128 |
| text tower | 2 layers, width 64, 16 tokens of the standard vocabulary; rows of tokens never seen are zero |
| foreground model | ViT, patch 8, width {DEFAULT_VIT["embed_dim"]}, {DEFAULT_VIT["depth"]} blocks, {DEFAULT_VIT["num_heads"]} heads; keys of the last block, 1x1 convolution |
| CLIP | {CLIP_PLAN.image_steps} steps image tower against class vectors, {CLIP_PLAN.text_steps} steps text tower, {CLIP_PLAN.joint_steps} steps both; {CLIP_PLAN.batch} crops each |
| foreground | {FOREGROUND_PLAN.steps} steps of {FOREGROUND_PLAN.batch} pictures of 256x256 (or as many pixels in other sizes), cross-entropy and Dice |
| heads for CLIP-DINOiser | 3x3 to {HEADS_PLAN.directions} directions and 1x1, on the image tower read every 16 pixels; {HEADS_PLAN.steps} steps of {HEADS_PLAN.batch} pictures, taught by the foreground model |

The bundled files come from one such run that was stopped and resumed as the generator changed under it: its first third
saw crisper clutter, stronger colours and overlapping objects, and the schedules were lengthened twice, each time with a
step back up in learning rate. `make starter` trains on the present generator throughout, for as many steps, and overwrites
this card with what it measures; that straight run has been tried for a few steps only.

## Measured
With `python -m clipdiy.starter.training --only measure`: {len(FRESH_SEEDS)} scenes of 1 to 4 objects each, 256x256, all {len(NOUNS)} nouns
and the background in the vocabulary, half-overlapping crops.

| | fresh seeds, {FRESH_SEEDS.start} to {FRESH_SEEDS.stop - 1} | tuning seeds, {TUNING_SEEDS.start} to {TUNING_SEEDS.stop - 1} |
|---|---|---|
| mIoU, crops of 256 + 128 + 64, own objectness | {fresh.miou:.1f} % | {tuning.miou:.1f} % |
| without objectness | {fresh.miou_without_objectness:.1f} % | {tuning.miou_without_objectness:.1f} % |
| crop of 256 alone, own objectness | {fresh.miou_largest_scale:.1f} % | {tuning.miou_largest_scale:.1f} % |
| with the true mask as objectness | {fresh.miou_true_mask:.1f} % | {tuning.miou_true_mask:.1f} % |
| objectness above 0.5 against the true mask, IoU | {fresh.objectness_iou:.1f} % | {tuning.objectness_iou:.1f} % |
| single whole objects named right ({3 * len(FRESH_SEEDS)} crops) | {fresh.named_right:.1f} % | {tuning.named_right:.1f} % |
| lowest cosine of any crop with any class | {fresh.lowest_cosine:.3f} | {tuning.lowest_cosine:.3f} |

Both sets are unseen in the sense of new compositions (training seeds begin at {TRAINING_SEEDS_FROM:,}) of drawings that were
trained on: the bundled sprites are a subset of the training art. They do not show new art styles. The tuning seeds were
looked at while the generator was being changed; the fresh seeds were not.

CLIP-DINOiser with the same CLIP and the heads above is compared with CLIP-DIY by `python -m benchmarks.methods`.
"""  # noqa: E501


def _parse(argv: Sequence[str] | None) -> Arguments:
    parser = argparse.ArgumentParser(prog="python -m clipdiy.starter.training", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/starter"))
    parser.add_argument("--out", type=Path, default=STARTER_DIR)
    parser.add_argument("--only", choices=("clip", "foreground", "heads", "measure"))
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, in WORK/quick, to try it out")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(argv)
    if given.quick:  # never over the bundled weights, nor on top of a real run
        given.work = given.work / "quick"
        given.out = given.work / "out"
    return Arguments(**vars(given))


def _report(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


if __name__ == "__main__":
    main()
