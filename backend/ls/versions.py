"""`clipdiy-ls versions`: what a project has learned so far, and which version it uses."""

import json
from typing import Annotated

import typer

from backend.errors import BackendError
from backend.ls.quality import JsonOption, keys_of, show_iou, stored_reports
from backend.settings import Settings

AUTOMATIC = "auto"


def versions(
    project: Annotated[str, typer.Option("--project", metavar="ID", help="Id of a project in Label Studio.")],
    use: Annotated[
        str | None,
        typer.Option(
            metavar="N", help=f"Use this version from now on: a number, 0 for the labels' own words, or {AUTOMATIC}."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the versions of a project, compare them, pin one or go back. A running service follows within a second."""
    reports = stored_reports(Settings())
    keys = keys_of(reports, project)
    if use is not None and len(keys) > 1:
        raise BackendError(f"several Label Studios have a project {project}: name one of {', '.join(keys)}")
    if use is not None:
        if use != AUTOMATIC and not use.isdecimal():
            raise BackendError(f"--use takes a version's number, 0 for the words, or {AUTOMATIC}; got {use!r}")
        try:
            reports.pin(keys[0], None if use == AUTOMATIC else int(use))
        except LookupError as err:
            raise BackendError(str(err)) from err
    for key in keys:
        report = reports.report(key)
        if report is None:
            continue
        if as_json:
            print(json.dumps(report.as_json()["versions"]))
            continue
        for version in report.versions:
            marks = " (in use)" * version.is_in_use + " (pinned)" * version.is_pinned
            found = f"from {version.pictures} pictures, {version.note}; IoU {show_iou(version.iou)}"
            print(f"{version.number}{marks}: {found}")
