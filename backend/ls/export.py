"""`clipdiy-ls export`: a project's annotations and predictions, or the masks of shards, as a data set."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from backend.errors import BackendError
from backend.ls.options import JsonOption, TokenOption, UrlOption, host_of

if TYPE_CHECKING:
    from backend.export.exporting import Exported

PROBLEMS_SAID = 20


def export(
    format_name: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="voc, coco, yolo, masks, hf or labelstudio.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder that it becomes.")],
    project: Annotated[
        int | None, typer.Option("--project", metavar="ID", help="Id of a project in Label Studio.")
    ] = None,
    shards: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Instead of a project: a folder or bucket that `clipdiy-ls bulk` wrote."),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            metavar="annotations|predictions|both",
            help="Whose masks; both: what people left, else a prediction that is sure enough.",
        ),
    ] = "both",
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Predictions with a lower score, or without one, are not used.")
    ] = 0.5,
    model_version: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only predictions of this version; the newest, if left out.")
    ] = None,
    annotators: Annotated[
        str | None,
        typer.Option(
            metavar="latest|majority",
            help="Which of several annotations of a task count; CLIPDIY_ANNOTATORS by default.",
        ),
    ] = None,
    val: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the pictures for validation, chosen by their content.")
    ] = 0.2,
    control: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only what is drawn with this control; may be given several times."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="A label whose pixels are to be ignored; may be given several times."),
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW",
            help="Of shards, as labelstudio: addresses that begin with OLD begin with NEW; may be given several times.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder of that name at the end.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a data set of a project, or of shards: pictures, masks, and lists for training and validation.

    Every picture is in it. Where nobody has said anything yet it is in a list of its own, unlabelled, for that is not
    to say that nothing is there. Nothing has the folder's name before all of it is written.

    Exit code 0: all done; 1: some pictures or masks could not be read, the others are written; 2: nothing was written.
    """
    from pydantic import SecretStr
    from rich.console import Console
    from rich.markup import escape

    from backend.export.chosen import Rules, Source
    from backend.export.exporting import export_project
    from backend.export.source import ProjectSource, Wanted
    from backend.labeling.controls import Counting
    from backend.service import api_of, make_loader
    from backend.settings import Settings
    from clipdiy.cli.progress import Progress

    settings = Settings()
    rules = Rules(
        one_of("--source", source, get_args(Source)),
        min_score,
        one_of("--annotators", annotators or settings.annotators, get_args(Counting)),
        model_version,
    )
    problems: list[str] = []
    wanted = Wanted(rules, tuple(control or ()), tuple(ignore or ()), val)
    if (project is None) == (shards is None):
        raise BackendError("name one that is to be exported: --project ID, or --shards PLACE")
    if shards is not None:
        from backend.ls.bulk_job import open_shards

        if replace and format_name != "labelstudio":
            raise BackendError("--replace is for --format labelstudio: for all others the pictures are read")
        tasks, loader = open_shards(shards, model_version, [_pair(one) for one in replace or ()])
        read = ProjectSource(tasks, loader, 0, wanted, tell=problems.append)
    else:
        assert project is not None, "one of the two is given"
        host = host_of(settings, project, url, token)
        api = api_of(host)
        assert api is not None, "both its address and its token are known"
        # Pictures come from the same Label Studio, whose address may be private: the person who asks has named it.
        named = {"label_studio_url": host.base_url, "label_studio_token": SecretStr(host.token or "")}
        images = make_loader(settings.model_copy(update=named))
        read = ProjectSource(api, images, project, wanted, host=host, tell=problems.append)
    console = Console(stderr=True, highlight=False)
    with Progress(console, "exporting", total=read.expected, lines=not as_json) as progress:
        exported = export_project(read, format_name, out, overwrite=overwrite, done=progress.update)
    if shards is not None and tasks.left_out:
        problems.append(f"{tasks.left_out:,} pictures are left out: they have failed, see the shards")
    for problem in problems[:PROBLEMS_SAID]:
        console.print(f"[yellow]{escape(problem)}[/]", soft_wrap=True)
    if len(problems) > PROBLEMS_SAID:
        console.print(f"and {len(problems) - PROBLEMS_SAID:,} more", soft_wrap=True)
    if as_json:
        found = {"count": exported.count, "splits": exported.splits, "origins": exported.origins, "problems": problems}
        print(json.dumps({"out": str(out), "format": format_name, **found}, ensure_ascii=False))
    else:
        print("\n".join(summary(exported, out)))
    raise typer.Exit(bool(problems))


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not old or not equals:
        raise BackendError(f"--replace takes OLD=NEW, got {text!r}")
    return old, new


def one_of(option: str, given: str, words: tuple[Any, ...]) -> Any:
    """Return a word that is one of some.

    Raises:
        BackendError: If it is another.
    """
    if given not in words:
        raise BackendError(f"{option} takes {', '.join(words)}; got {given!r}")
    return given


def summary(exported: "Exported", out: Path) -> list[str]:
    """Say what was written, in lines."""
    lines = [f"{exported.count:,} {'pictures' if exported.splits else 'tasks'} in {out}"]
    for what, counts in (("for", exported.splits), ("masks by", exported.origins)):
        if counts:
            lines.append(f"  {what}: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())))
    return lines
