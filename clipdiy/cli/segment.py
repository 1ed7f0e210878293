"""`clipdiy segment`: photos and labels in; a label map, an overlay and a report each out."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from clipdiy.cli.options import (
    ClipOption,
    DeviceOption,
    DirOption,
    DtypeOption,
    FoundOption,
    LabelsOption,
    MethodOption,
    OthersOption,
    PresetOption,
    RuntimeOption,
    TemplateOption,
    configure,
    conversions_dir,
)
from clipdiy.cli.photos import EXPLAIN, LABELS, OVERLAY, REPORT, find_photos, name_results
from clipdiy.config import CleanUp, Pamr
from clipdiy.errors import ClipDiyError, ConfigError
from clipdiy.labels import parse_vocabulary
from clipdiy.method import Method, build_method, method_named, require_weights
from clipdiy.others.words import AUTO, read_others

if TYPE_CHECKING:
    from rich.console import Console

    from clipdiy.draw import Pixels
    from clipdiy.photo import Photo
    from clipdiy.segmentation import Segmentation
    from clipdiy.vocabulary import Vocabulary

MAX_PHOTO_PX = 400_000_000
WORKERS = 2  # one photo is read, drawn and written while the other is in the networks


def segment(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTO...", help="Pictures, folders of pictures, or patterns in quotes.")
    ],
    labels: LabelsOption,
    stuff: Annotated[
        str | None,
        typer.Option(
            metavar="usual|none|LABELS",
            help='Which of the labels are stuff, no things, and need no object: "sky, road"; usual: those whose words '
            "usually mean it.",
        ),
    ] = None,
    preset_name: PresetOption = "paper",
    method_name: MethodOption = None,
    clip: ClipOption = None,
    found: FoundOption = None,
    template: TemplateOption = None,
    others: OthersOption = AUTO,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    runtime: RuntimeOption = None,
    label_map: Annotated[
        str | None, typer.Option(metavar="full|square", help="Argmax at the photo's size, or the published way.")
    ] = None,
    min_area: Annotated[
        float | None, typer.Option(help="Parts and holes smaller than this share of the picture are removed.")
    ] = None,
    refine: Annotated[
        bool, typer.Option(help="Let masks follow the picture's edges (PAMR), as the service does.")
    ] = True,
    explain: Annotated[bool, typer.Option("--explain", help="Also draw every step on the way to the result.")] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results go.")] = Path("clipdiy-out"),
    weights_dir: DirOption = None,
) -> None:
    """Segment photos into the classes you name.

    Writes for each photo NAME.labels.png (indexed; a pixel's value is the position of its class, 0 = background),
    NAME.overlay.png (to look at), NAME.json (areas, scores, model) and with --explain NAME.explain.png.

    Exit code 0: all done; 1: some photos could not be used, the others are done; 2: nothing could be started.
    """
    from rich.console import Console

    models = {"clip": clip, "found": found, "device": device, "dtype": dtype, "runtime": runtime}
    config = configure(
        preset_name,
        **models,
        method=method_name,
        label_map=label_map,
        prompt_template=template,
        clean_up=None if min_area is None else CleanUp(min_area),
        pamr=Pamr() if refine and label_map != "square" else None,
    )
    vocabulary = parse_vocabulary(labels, method_named(config.method).templates(config), stuff)
    words = read_others(others)
    tell = Console(stderr=True, highlight=False)
    files, problems = find_photos(photos)
    for problem in problems:
        tell.print(f"[red]{escape(problem)}[/]", soft_wrap=True)
    if not files:
        raise typer.Exit(1)
    # Loading would say the same, seconds later.
    require_weights(config, weights_dir)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(f"cannot make the folder for the results {out}: {err.strerror or err}") from err

    with tell.status(f"loading {config.clip}"):
        # The first photo warms it up as well as any.
        method = build_method(config, weights_dir=weights_dir, cache_dir=conversions_dir(config), warm_up=False)
    for doubt in method.doubts(vocabulary):
        tell.print(f"[yellow]warning: {escape(doubt)}[/]", soft_wrap=True)
    if stuff is not None and vocabulary.stuff:
        lying = ", ".join(vocabulary.names[position] for position in vocabulary.stuff)
        tell.print(f"stuff, which needs no object: {escape(lying)}", soft_wrap=True)
    if words != ():
        vocabulary = vocabulary.with_others(method.choose_others(vocabulary, words).competing)
    job = _Job(method, vocabulary, explain)
    failed = len(problems)
    for done in _run(job, files, name_results(files, out), out, tell):
        if done.problem is None:
            print(done.summary)
        else:
            failed += 1
            tell.print(f"[red]{escape(f'{done.photo}: {done.problem}')}[/]", soft_wrap=True)
    if failed:
        tell.print(f"{failed} of {len(files) + len(problems)} could not be used", soft_wrap=True)
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Job:
    """What is the same for every photo of a run."""

    method: Method[Any]
    vocabulary: "Vocabulary"
    explain: bool


@dataclass(frozen=True)
class _Done:
    """How one photo ended: a line for the person, or what was wrong with it."""

    photo: Path
    summary: str = ""
    problem: str | None = None


def _run(job: _Job, files: list[Path], names: list[str], out: Path, tell: "Console") -> Iterator[_Done]:
    """Segment all photos under a progress bar; yield how each one ended, in order."""
    import torch

    from clipdiy.cli.progress import Progress

    def one(photo: Path, name: str) -> _Done:
        try:
            return _Done(photo, summary=_one_photo(job, photo, out / name))
        except (ClipDiyError, OSError, MemoryError, torch.OutOfMemoryError) as err:
            return _Done(photo, problem=str(err) or type(err).__name__)

    # Without a terminal, the line about each photo says how far it is.
    with Progress(tell, "segmenting", total=len(files), lines=False) as progress, ThreadPoolExecutor(WORKERS) as pool:
        try:
            for done in pool.map(one, files, names):
                progress.advance()
                yield done
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _one_photo(job: _Job, path: Path, target: Path) -> str:
    """Segment one photo, write its results, return a line about it."""
    from clipdiy.draw import OVERLAY_LONG_PX, LegendEntry, label_image, overlay, palette, with_legend
    from clipdiy.photo import decode_photo

    method, vocabulary = job.method, job.vocabulary
    # More than the networks need: the overlay is drawn on it.
    keep_px = max(method.keep_long_px, OVERLAY_LONG_PX[1])
    with path.open("rb") as file:
        photo = decode_photo(file, max_px=MAX_PHOTO_PX, keep_px=keep_px, keep_short_px=method.keep_short_px)
    features = method.encode([photo])[0]
    segmentation = method.segment(features, vocabulary)
    colours = palette(len(vocabulary))
    present = sorted(segmentation.present, key=lambda c: -segmentation.area[c])
    entries = [
        LegendEntry(
            vocabulary.names[c],
            (int(colours[c, 0]), int(colours[c, 1]), int(colours[c, 2])),
            float(segmentation.score[c]),
            float(segmentation.area[c]),
        )
        for c in present
    ]
    not_found = [name for c, name in enumerate(vocabulary.names) if c and c not in present]
    # The report first: should the run end here, it says which photo these results belong to.
    _write(target, REPORT, json.dumps(_report(job, path, photo, segmentation, colours), indent=2, ensure_ascii=False))
    label_image(segmentation.label_map, colours).save(f"{target}{LABELS}", optimize=True)
    with_legend(overlay(photo.pixels, segmentation.label_map, colours), entries, not_found).save(f"{target}{OVERLAY}")
    if job.explain:
        from clipdiy.panel import explain_panel

        explanation = method.explain(photo, features, vocabulary)
        explain_panel(photo.pixels, explanation, segmentation, vocabulary, colours).save(f"{target}{EXPLAIN}")
    listed = ", ".join(f"{entry.name} {entry.score:.2f} ({entry.area:.0%})" for entry in entries) or "nothing found"
    return f"{path}: {listed} -> {target}{OVERLAY}"


def _write(target: Path, ending: str, text: str) -> None:
    Path(f"{target}{ending}").write_text(text + "\n", encoding="utf-8")


def _report(job: _Job, path: Path, photo: "Photo", segmentation: "Segmentation", colours: "Pixels") -> dict[str, Any]:
    """Return the content of the JSON file beside the pictures."""
    method = job.method
    height, width = photo.size_hw
    return {
        "photo": str(path.resolve()),
        "width": width,
        "height": height,
        "score": round(segmentation.image_score, 4),
        "labels": [
            {
                "value": position,
                "name": label.name,
                "prompts": list(label.prompts),
                "stuff": label.stuff,
                "colour": "#" + bytes(colours[position]).hex(),
                "area": round(float(segmentation.area[position]), 6),
                "score": round(float(segmentation.score[position]), 4),
            }
            for position, label in enumerate(job.vocabulary.labels)
        ],
        "others": len(job.vocabulary.others),
        "model": {
            "identity": method.identity,
            "method": method.config.method,
            "device": str(method.device),
            **method.description,
        },
    }
