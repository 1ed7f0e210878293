"""`clipdiy-ls predict`: a whole project's predictions, without pressing a button and without its 100 seconds."""

import json
from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape

from backend.bulk.pushing import Pushed, PushProgress, push
from backend.corrections.events import read_project
from backend.label_studio_api import IMPATIENT, LabelStudioApi, LabelStudioApiError
from backend.ls.options import JsonOption, ProjectOption, TokenOption, UrlOption, host_of
from backend.ls.telling import INTERRUPTED, stopping, warnings_on
from backend.service import build_service
from backend.settings import Settings
from clipdiy.cli.progress import Progress


def predict(
    project: ProjectOption,
    write: Annotated[
        bool,
        typer.Option(
            "--push/--no-push",
            help="Write predictions into Label Studio, or only encode the pictures, so that it is answered quickly "
            "when it asks.",
        ),
    ] = True,
    only_unannotated: Annotated[
        bool, typer.Option("--only-unannotated", help="Leave out tasks that somebody has annotated or skipped.")
    ] = False,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Leave the predictions of our earlier versions where they are.")
    ] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict every task of a project that has no prediction of this version, and write the predictions in bulk.

    What ends it (Ctrl-C, a power cut) does not matter: the same command goes on where it was, and writes nothing twice.
    Settings are those of the service (CLIPDIY_ variables); with its data folder it uses what the project has learned
    and the pictures that are encoded already.

    Exit code 0: all done; 1: some tasks have no prediction, they are listed; 2: nothing could be started; 130: stopped.
    """
    tell = Console(stderr=True, highlight=False)
    settings = Settings()
    host = host_of(settings, project, url, token)
    secret = SecretStr(host.token or "")
    settings = settings.model_copy(update={"label_studio_url": host.url, "label_studio_token": secret})
    with warnings_on(tell), stopping(tell) as stop:
        # Whoever mistyped an address is told at once; later, one that goes away is waited for.
        first = LabelStudioApi.with_token(host.base_url, host.token or "", patience=IMPATIENT)
        described = read_project(first.project(project))
        api = LabelStudioApi.with_token(host.base_url, host.token or "", pause=stop.wait)
        with tell.status("loading the weights"):
            service = build_service(settings, learns=False)
        try:
            config = service.read_label_config(described.label_config, described.key)
            with Progress(tell, "predicting", total=None) as bar:

                def show(progress: PushProgress) -> None:
                    bar.update(progress.done, progress.total, f"{progress.failed} failed" if progress.failed else "")

                pushed = push(
                    api,
                    service.predictor,
                    config,
                    project,
                    host=host,
                    only_unannotated=only_unannotated,
                    keep_old=keep_old,
                    write=write,
                    stop=stop,
                    progress=show,
                )
        except LabelStudioApiError as err:
            tell.print(f"[red]{escape(str(err))}[/]", soft_wrap=True)
            tell.print("what was written stays; the same command goes on", soft_wrap=True)
            raise typer.Exit(1) from err
        finally:
            service.close()
    report(pushed, project, tell, write=write, as_json=as_json)
    if not pushed.is_complete:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(1 if pushed.failed else 0)


def report(pushed: Pushed, project: int, tell: Console, *, write: bool, as_json: bool) -> None:
    """Say what became of it: the result on standard output, failures on standard error."""
    if as_json:
        print(json.dumps({"project": project, **asdict(pushed)}, ensure_ascii=False))
        return
    for failure in sorted(pushed.failures, key=lambda failure: failure.task):
        line = f"task {failure.task}: {failure.reason}: {failure.message}"
        tell.print(f"[red]{escape(line)}[/]", soft_wrap=True)
    done = f"{pushed.written:,} predictions written" if write else f"{pushed.predicted:,} tasks can be answered quickly"
    parts = [f"project {project}: {done} (version {pushed.version})", f"{pushed.skipped:,} tasks had one"]
    if pushed.removed:
        parts.append(f"{pushed.removed:,} earlier ones removed")
    if pushed.failed:
        reasons = Counter(failure.reason for failure in pushed.failures)
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        parts.append(f"{pushed.failed:,} failed ({listed})")
    if not pushed.is_complete:
        parts.append("stopped; the same command goes on")
    print("; ".join(parts))
