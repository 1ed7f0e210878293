"""`clipdiy-ls sync`: read a project's annotations from Label Studio, for webhooks that were lost or never sent."""

import json
from typing import Annotated

import typer

from backend.corrections.intake import Intake
from backend.corrections.store import CorrectionStore
from backend.learning.sync import sync as sync_project
from backend.ls.options import JsonOption, ProjectOption, TokenOption, UrlOption, host_of
from backend.service import api_of, read_label_config
from backend.settings import Settings


def sync(
    project: ProjectOption,
    url: UrlOption = None,
    token: TokenOption = None,
    learn: Annotated[bool, typer.Option(help="Let a running service learn from it at once.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Make what is known of a project equal to what Label Studio has, and let it learn from that."""
    settings = Settings()
    store = CorrectionStore(settings.data_dir)
    api = api_of(host_of(settings, project, url, token))
    assert api is not None, "both its address and its token are known"
    found = sync_project(api, Intake(store, lambda xml: read_label_config(xml, settings)), project)
    if learn:
        with store.change() as change:
            change.ask(found.project.key)
    if as_json:
        print(
            json.dumps({"project": found.project.key, "annotations": found.annotations, "forgotten": found.forgotten})
        )
    else:
        print(f"project {project}: {found.annotations} annotations, {found.forgotten} forgotten that are no more")
