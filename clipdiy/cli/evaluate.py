"""`clipdiy evaluate`: a data set in; the paper's tables, beside the paper's figures, out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from clipdiy.cli.options import (
    ClipOption,
    DeviceOption,
    DirOption,
    DtypeOption,
    FoundOption,
    PresetOption,
    configure,
)
from clipdiy.config import CleanUp
from clipdiy.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from clipdiy.evaluate.cited import Cited
    from clipdiy.evaluate.datasets.sample import Dataset
    from clipdiy.evaluate.evaluator import Evaluator, Plan
    from clipdiy.evaluate.protocol import Protocol
    from clipdiy.evaluate.report import Row
    from clipdiy.evaluate.runner import Finished, Job
    from clipdiy.evaluate.variants import Variant

DATA_HELP = (
    "voc:PATH or voc20:PATH (VOC2012), context:PATH or context59:PATH (VOC2010), coco:PATH (annotations and val2017), "
    "object:PATH or stuff:PATH (stuffthingmaps), ade20k:PATH, cityscapes:PATH, folder:PATH (VOC layout with "
    "classes.txt), or composed scenes: scenes:SEED[:COUNT[:single]]."
)
FILE_WIDTH = 140  # of tables that go to a file
TABLE_HELP = "Tables, with commas: 1 to 4 of the paper, methods, stride, peer, refine, prune."


def evaluate(
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    preset_name: PresetOption = "paper",
    table: Annotated[str | None, typer.Option(help=TABLE_HELP)] = None,
    variants: Annotated[
        str | None, typer.Option(metavar="A,B", help="Single systems by name, in addition; `list` shows all.")
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full/--published",
            help="Argmax at full size with clean-up as in daily use, or as published (argmax at 256, no clean-up).",
        ),
    ] = False,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="clean|authors|mmseg",
            help="Rules of counting: clean, or those that the published figures were counted by, of CLIP-DIY (authors) "
            "or of CLIP-DINOiser and others (mmseg). docs/evaluation.md has what differs.",
        ),
    ] = "clean",
    workers: Annotated[
        int, typer.Option(min=1, help="Processes; each takes one thread, or the next GPU. The result is the same.")
    ] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what lies in --out.")] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results go.")] = Path("clipdiy-out/evaluate"),
    figures: Annotated[
        int, typer.Option(metavar="N", min=0, help="Draw the N pictures with the lowest IoU, and the confusions.")
    ] = 0,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N pictures.")] = None,
    instances: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instance masks as COCO results, for the variant cutler.")
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="Label maps that another program wrote, one indexed PNG for each picture, as a system of that name. "
            "May be given several times; alone it needs no weights.",
        ),
    ] = None,
    boundary: Annotated[bool, typer.Option(help="Also count boundary IoU.")] = True,
    clip: ClipOption = None,
    found: FoundOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    weights_dir: DirOption = None,
) -> None:
    """Measure segmentation quality on a data set, one row for each system.

    Truth is brought to a shorter side of 448 (nearest; not with mmseg), the pixels of the whole set go into one
    confusion matrix, 255 is ignored; docs/evaluation.md has all rules. Writes results.json, results.csv, classes.csv
    and records.jsonl (for --resume) into --out.
    """
    from rich.console import Console

    tell = Console(stderr=True, highlight=False)
    if variants == "list":
        _print_systems()
        return
    title, chosen = _choose_systems(table, variants, predictions or (), instances, preset_name, tell)
    rules = _rules(protocol, full=full)
    config = configure(preset_name, clip=clip, found=found, device=device, dtype=dtype)
    if not full:
        config = replace(config, label_map="square", clean_up=CleanUp(0))
    _make_folder(out)

    from clipdiy.evaluate.evaluator import Plan
    from clipdiy.evaluate.report import make_rows
    from clipdiy.evaluate.runner import Job

    job = Job(data, out / "data", out / "records.jsonl", limit, workers, resume, figures)
    evaluator = _load(Plan(config, chosen, weights_dir, instances, boundary=boundary, protocol=rules), job, tell)
    _say_doubts(evaluator, tell)
    finished = _run_with_progress(evaluator, job, tell)
    rows = make_rows(chosen, finished)
    cited = _cited(table)
    about = _describe(evaluator, job, finished, way="full" if full else "published", preset_name=preset_name)
    _write(out, evaluator.dataset, rows, about, cited)
    _show(title, evaluator.dataset, rows, finished.count, cited, tell)
    if figures:
        _draw(evaluator, finished, out / "figures")
    tell.print(f"written to {escape(str(out))}", soft_wrap=True)


def _print_systems() -> None:
    from clipdiy.evaluate.variants import VARIANTS

    for variant in VARIANTS.values():
        print(f"{variant.key:24}{variant.title}")


def _choose_systems(
    table: str | None,
    variants: str | None,
    predictions: Sequence[str],
    instances: Path | None,
    preset_name: str,
    tell: "Console",
) -> "tuple[str, tuple[Variant, ...]]":
    """Return a heading and what is compared: tables, then single systems, then what other programs predicted.

    Raises:
        ConfigError: If there is no such table, system or folder, or two predictions have one name.
    """
    from clipdiy.evaluate.predictions import Predictions
    from clipdiy.evaluate.variants import choose

    keys = [key.strip() for key in (variants or "").split(",") if key.strip()]
    written = [Predictions.parse(text) for text in predictions]
    names = [one.name for one in written]
    if len(set(names)) < len(names):
        raise ConfigError(f"two predictions have one name: {', '.join(names)}")
    title, chosen = choose(table, keys, preset_name) if table or keys or not written else ("Comparison", ())
    if instances is None and "cutler" not in keys:
        without = tuple(variant for variant in chosen if variant.objectness != "instances")
        if without != chosen:
            tell.print("[yellow]the row of CutLER is left out: it needs its masks, --instances FILE[/]", soft_wrap=True)
        chosen = without
    return title, chosen + tuple(one.variant for one in written)


def _rules(name: str, *, full: bool) -> "Protocol":
    """Return the rules of counting that are called so.

    Raises:
        ConfigError: If there are none, or they do not go with `--full`.
    """
    from clipdiy.evaluate.protocol import AUTHORS, PROTOCOLS

    rules = PROTOCOLS.get(name)  # type: ignore[call-overload]
    if rules is None:
        raise ConfigError(f"there is no protocol {name!r}; there are: {', '.join(PROTOCOLS)}")
    if full and rules is AUTHORS:
        raise ConfigError("--full is not how the published figures were made: leave it out, or --protocol authors")
    return rules  # type: ignore[no-any-return]


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(f"cannot make the folder for the results {out}: {err.strerror or err}") from err


def _load(plan: "Plan", job: "Job", tell: "Console") -> "Evaluator":
    """Open the data set, load the networks, and see that every picture has what it needs."""
    from clipdiy.evaluate.datasets import open_dataset
    from clipdiy.evaluate.evaluator import Evaluator

    with tell.status(f"opening {escape(job.dataset)}"):
        dataset = open_dataset(job.dataset, job.scratch, plan.protocol)
    with tell.status(f"loading {escape(plan.config.clip)}"):
        evaluator = Evaluator(plan, dataset)
    evaluator.require_predictions(dataset.image_ids[: job.limit])
    return evaluator


def _say_doubts(evaluator: "Evaluator", tell: "Console") -> None:
    """Say what makes the figures differ from what somebody may take them for, before they are made."""
    if evaluator.dataset.left_out:
        rule = f"fewer than {evaluator.plan.protocol.least_labelled_px} labelled pixels, as the authors do"
        tell.print(f"{evaluator.dataset.left_out} pictures are left out: {rule}", soft_wrap=True)
    doubts = [doubt for segmenter in evaluator.segmenters.values() for doubt in segmenter.doubts(evaluator.vocabulary)]
    for doubt in dict.fromkeys([*evaluator.doubts, *doubts]):
        tell.print(f"[yellow]warning: {escape(doubt)}[/]", soft_wrap=True)


def _run_with_progress(evaluator: "Evaluator", job: "Job", tell: "Console") -> "Finished":
    from clipdiy.cli.progress import Progress
    from clipdiy.evaluate.runner import run

    total = len(evaluator.dataset.image_ids[: job.limit])
    with Progress(tell, "evaluating", total=total, note="mIoU -") as progress:

        def report(done: int, total: int, miou: float) -> None:
            progress.update(done, total, f"mIoU {100 * miou:.1f}")

        return run(evaluator, job, report)


def _cited(table: str | None) -> "tuple[Cited, ...]":
    """Return the systems that table 1 of the paper only cites, if it is asked for."""
    from clipdiy.evaluate.cited import TABLE_1

    return TABLE_1 if "1" in [name.strip() for name in (table or "").split(",")] else ()


def _describe(
    evaluator: "Evaluator", job: "Job", finished: "Finished", *, way: str, preset_name: str
) -> dict[str, object]:
    """Return what the figures were measured with, for `results.json`."""
    dataset = evaluator.dataset
    return {
        "dataset": {"name": dataset.name, "title": dataset.title, "asked": job.dataset, "pictures": finished.count},
        "protocol": evaluator.plan.protocol.name,
        "way": way,
        "preset": preset_name,
        "worst": list(finished.worst),
        "configurations": evaluator.description,
        "identity": evaluator.identity,
    }


def _write(
    out: Path, dataset: "Dataset", rows: "Sequence[Row]", about: Mapping[str, object], cited: "Sequence[Cited]"
) -> None:
    from clipdiy.evaluate.report import write_class_csv, write_csv, write_json

    write_json(out / "results.json", rows, dataset, about, cited)
    write_csv(out / "results.csv", rows)
    write_class_csv(out / "classes.csv", rows, dataset)


def _show(
    title: str, dataset: "Dataset", rows: "Sequence[Row]", count: int, cited: "Sequence[Cited]", tell: "Console"
) -> None:
    """Print the tables, and what of the data set was not there."""
    from rich.console import Console

    from clipdiy.evaluate.report import completeness, print_classes, print_rows

    say = Console(highlight=False)
    if not say.is_terminal:
        say = Console(highlight=False, width=FILE_WIDTH)
    say.print(print_classes(rows[0], dataset))
    say.print(print_rows(rows, title, dataset, count, cited))
    warning = completeness(dataset, count)
    if warning:
        tell.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)


def _draw(evaluator: "Evaluator", finished: "Finished", folder: Path) -> None:
    """Draw the worst pictures of the first variant, lowest first, and its confusion matrix."""
    from clipdiy.evaluate.datasets import counted_classes
    from clipdiy.evaluate.figures import comparison_panel, confusion_picture, with_background

    folder.mkdir(exist_ok=True)
    for old in folder.glob("worst-*.png"):
        old.unlink()
    names = with_background(evaluator.dataset.classes)
    variant = evaluator.plan.variants[0]
    for number, image_id in enumerate(finished.worst, start=1):
        panel = comparison_panel(evaluator.look(image_id, variant.key), names, f"{image_id} · {variant.title}")
        panel.save(folder / f"worst-{number:02d}-{re.sub(r'[^A-Za-z0-9_.-]', '_', image_id)}.png")
    tally = finished.tallies[variant.key]
    title = f"{variant.title} · {evaluator.dataset.title} · mIoU {100 * tally.quality.miou:.1f}"
    confusion_picture(tally.confusion, counted_classes(evaluator.dataset), title).save(folder / "confusion.png")
