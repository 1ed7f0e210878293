"""`clipdiy-ls sync`: read a project's annotations from Label Studio, for webhooks that were lost or never sent."""

import json
from typing import Annotated

import typer

from backend.corrections.intake import Intake
from backend.corrections.store import CorrectionStore
from backend.errors import BackendError
from backend.images.host import LabelStudioHost
from backend.images.introductions import Introductions
from backend.learning.sync import sync as sync_project
from backend.ls.quality import JsonOption
from backend.service import api_of, read_label_config
from backend.settings import Settings


def sync(
    project: Annotated[int, typer.Option("--project", metavar="ID", help="Id of a project in Label Studio.")],
    url: Annotated[
        str | None, typer.Option(help="Label Studio's address; CLIPDIY_LABEL_STUDIO_URL by default.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="A token of somebody who may see the project; CLIPDIY_LABEL_STUDIO_TOKEN by default."),
    ] = None,
    learn: Annotated[bool, typer.Option(help="Let a running service learn from it at once.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Make what is known of a project equal to what Label Studio has, and let it learn from that."""
    settings = Settings()
    store = CorrectionStore(settings.data_dir)
    api = api_of(_host(settings, project, url, token))
    if api is None:
        raise BackendError(
            "Label Studio's address or token is not known: pass --url and --token, or set CLIPDIY_LABEL_STUDIO_URL and "
            "CLIPDIY_LABEL_STUDIO_TOKEN"
        )
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


def _host(settings: Settings, project: int, url: str | None, token: str | None) -> LabelStudioHost:
    """Return what was said here, else what is set, else what the project's Label Studio said of itself."""
    introductions = Introductions(settings.data_dir)
    keys = [key for key in introductions.projects() if key.partition(".")[0] == str(project)]
    said = introductions.of(keys[0]) if len(keys) == 1 else LabelStudioHost()
    set_token = settings.label_studio_token
    return LabelStudioHost(
        url or settings.label_studio_url or said.url,
        token or (set_token.get_secret_value() if set_token else None) or said.token,
    )
