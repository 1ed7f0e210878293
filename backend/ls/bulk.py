"""`clipdiy-ls bulk`: folders, buckets and lists of pictures into Parquet shards, here or on a Ray cluster."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from backend.errors import BackendError
from backend.ls.options import JsonOption
from backend.ls.telling import INTERRUPTED, stopping, warnings_on
from backend.settings import Settings
from clipdiy.cli.progress import Progress

if TYPE_CHECKING:
    from backend.bulk.kept_features import KeptFeatures
    from backend.bulk.making import ShardReport
    from backend.bulk.shards import Chunk, Shards
    from backend.ls.bulk_job import BulkJob

LISTED_FAILURES = 1000


def bulk(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, a pattern in quotes, a list (.txt), a table (.parquet, .csv), or one of them in s3://, "
            "gs:// or az://.",
        ),
    ],
    out: Annotated[str, typer.Option("--out", metavar="DEST", help="A folder or a bucket for the shards.")],
    labels: Annotated[
        str | None, typer.Option("--labels", help='Classes, with commas: "cat, dog"; name=phrase|phrase.')
    ] = None,
    stuff: Annotated[
        str | None,
        typer.Option(
            metavar="usual|none|LABELS",
            help='Which of the labels are stuff, no things: "sky, road"; usual: those whose words usually mean it.',
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="A labeling config, instead of labels.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of a table: where the names of the pictures stand.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Weights and sizes: paper, paper-fast, paper-b16, dinoiser or starter; CLIPDIY_PRESET."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N; CLIPDIY_DEVICE.")] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", metavar="N", min=1, help="Pictures in a shard.")] = 200,
    keep_features: Annotated[
        bool,
        typer.Option(
            "--keep-features", help="Keep features beside the shards, and use them for other labels: about 100 kB each."
        ),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try the pictures that failed the last time again.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on Ray: local, or auto for the cluster that it is started on."),
    ] = None,
    ray_actors: Annotated[int | None, typer.Option(metavar="N", min=1, help="Most actors; as many as fit.")] = None,
    ray_cores: Annotated[int, typer.Option(metavar="N", min=1, help="Cores of an actor without a GPU.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Segment pictures into Parquet shards: label maps as runs, scores, digests, and the reason for what failed.

    DEST/VERSION then has part-*.parquet and labeling.xml. What ends a run does not matter: the same command goes on
    with the shards that are missing. `clipdiy-ls export --shards DEST` makes data sets of them, and files that Label
    Studio imports.

    Exit code 0: all done; 1: some pictures failed, they are listed; 2: it could not start, or not go on; 130: stopped.
    """
    from backend.bulk.asking import config_for
    from backend.bulk.listing import list_pictures
    from backend.bulk.places import Stores, absolute, plain
    from backend.ls.bulk_job import BulkJob

    tell = Console(stderr=True, highlight=False)
    given: dict[str, Any] = {"preset": preset, "device": device}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    xml = _config(labels, stuff, config) if config else config_for(_labels(labels), stuff)
    source, out = absolute(source), absolute(out)
    stores = Stores.of(source, out)
    with warnings_on(tell), stopping(tell) as stop:
        with tell.status("listing the pictures"):
            pictures = list_pictures(source, stores, column)
        job = BulkJob(settings, stores, xml, plain(out), keep_features)
        with tell.status("loading the weights"), ExitStack() as running:
            runner = running.enter_context(_here(job) if ray is None else _on_ray(job, ray, ray_cores, ray_actors))
            kept = running.pop_all()
        with kept:
            shards = runner.shards
            with tell.status("looking for finished shards"):
                together = runner.features.chunks() if runner.features else ()
                plan = shards.plan(pictures, shard_size, retry_failed=retry_failed, together=together)
            shards.write_config(xml)
            failed, listed, made = Counter(plan.failed), list[tuple[str, str, str]](), 0
            total = sum(len(chunk.sources) for chunk in plan.chunks)
            with Progress(tell, "segmenting", total=total) as bar:
                for report in runner.run(plan.chunks, bar, stop):
                    made += report.pictures
                    failed.update(report.failed)
                    listed += report.failures[: LISTED_FAILURES - len(listed)]
                    bar.update(made)
    is_complete = made == total
    told = {
        "version": shards.version,
        "folder": shards.folder,
        "pictures": len(pictures),
        "made": made,
        "done_before": plan.done,
        "failed": dict(failed),
        "is_complete": is_complete,
    }
    if as_json:
        failures = [{"source": name, "reason": reason, "message": text} for name, reason, text in listed]
        print(json.dumps({**told, "failures": failures}, ensure_ascii=False))
    else:
        _report(told, listed, tell)
    raise typer.Exit(INTERRUPTED if not is_complete else 1 if failed else 0)


def _labels(labels: str | None) -> str:
    if labels is None:
        raise BackendError('what is asked for is missing: --labels "cat, dog", or --config labeling.xml')
    return labels


def _config(labels: str | None, stuff: str | None, config: Path) -> str:
    for option, given in (("--labels", labels), ("--stuff", stuff)):
        if given is not None:
            raise BackendError(f"{option} and --config say the same thing twice: leave one out")
    try:
        return config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise BackendError(f"{config} cannot be read: {getattr(err, 'strerror', None) or err}") from err


@dataclass(frozen=True)
class _Runner:
    """Something that makes shards."""

    shards: "Shards"
    features: "KeptFeatures | None"
    run: "Callable[[Sequence[Chunk], Progress, Event], Iterator[ShardReport]]"


@contextmanager
def _here(job: "BulkJob") -> Iterator[_Runner]:
    from backend.bulk.places import remove_stale
    from backend.bulk.running import run_here
    from backend.ls.bulk_job import build_bulk

    built = build_bulk(job)
    remove_stale(built.shards.folder)
    try:
        yield _Runner(
            built.shards,
            built.features,
            lambda chunks, bar, stop: run_here(chunks, built.maker, done=bar.advance, stop=stop),
        )
    finally:
        built.predictor.close()


@contextmanager
def _on_ray(job: "BulkJob", address: str, cores: int, actors: int | None) -> Iterator[_Runner]:
    from backend.bulk.on_ray import RayOptions, RayRunner
    from backend.bulk.places import remove_stale
    from backend.bulk.shards import Shards
    from backend.ls.bulk_job import look_at_weights, make_maker

    device = job.settings.device
    if ":" in device:
        raise BackendError(f"on Ray every actor has one GPU, its first: --device cuda, not {device}")
    gpus = None if device == "auto" else device != "cpu"
    # Ray tells of workers that died on stdout, which is for what became of the run.
    with redirect_stdout(sys.stderr), RayRunner(RayOptions(address, cores, actors, gpus)) as ray:
        # What the version is, they know where the shards are made.
        found = ray.ask(partial(look_at_weights, job))
        shards = Shards(job.stores, job.dest, found.version)
        remove_stale(shards.folder)
        make = partial(make_maker, job.as_elsewhere(found))
        yield _Runner(shards, job.features(found.encoder), lambda chunks, _bar, stop: ray.run(chunks, make, stop))


def _report(told: dict[str, Any], listed: list[tuple[str, str, str]], tell: Console) -> None:
    for name, reason, message in listed:
        tell.print(f"[red]{escape(f'{name}: {reason}: {message}')}[/]", soft_wrap=True)
    parts = [f"{told['made']:,} pictures into shards in {told['folder']}"]
    if told["done_before"]:
        parts.append(f"{told['done_before']:,} were done before")
    if told["failed"]:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in Counter(told["failed"]).most_common())
        parts.append(f"{sum(told['failed'].values()):,} failed ({counts})")
    if not told["is_complete"]:
        parts.append("stopped; the same command goes on")
    print("; ".join(parts))
