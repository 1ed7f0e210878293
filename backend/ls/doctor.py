"""`clipdiy-ls doctor`: why does it not work? `clipdiy-doctor` is the same under its older name."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from backend.ls.options import JsonOption


def doctor(
    project: Annotated[
        int | None, typer.Option("--project", metavar="ID", help="A project in Label Studio to look at too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at everything that has to be right, first things first, and say what to do.

    Reads the same CLIPDIY_ variables as the service. Exit code 0: nothing is wrong; 1: something is.
    """
    from backend import doctor

    if not as_json:
        doctor.main([] if project is None else ["--project", str(project)])
    findings = [*doctor.examine(project)]
    print(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    raise typer.Exit(any(finding.verdict == "bad" for finding in findings))
