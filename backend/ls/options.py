"""The options that several commands share, and the Label Studio that they make together."""

from typing import Annotated

import typer

from backend.errors import BackendError
from backend.images.host import LabelStudioHost
from backend.images.introductions import Introductions
from backend.settings import Settings

ProjectOption = Annotated[int, typer.Option("--project", metavar="ID", help="Id of a project in Label Studio.")]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Label Studio's address; CLIPDIY_LABEL_STUDIO_URL by default."),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="A legacy or personal access token of somebody who may change the project; CLIPDIY_LABEL_STUDIO_TOKEN by "
        "default.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for scripts.")]


def host_of(settings: Settings, project: int, url: str | None, token: str | None) -> LabelStudioHost:
    """Return what was said here, else what is set, else what the project's Label Studio said of itself.

    Raises:
        BackendError: If neither says address and token.
    """
    introductions = Introductions(settings.data_dir)
    keys = [key for key in introductions.projects() if key.partition(".")[0] == str(project)]
    said = introductions.of(keys[0]) if len(keys) == 1 else LabelStudioHost()
    set_token = settings.label_studio_token
    found = LabelStudioHost(
        url or settings.label_studio_url or said.url,
        token or (set_token.get_secret_value() if set_token else None) or said.token,
        is_configured=True,
    )
    if not found.url or not found.token:
        raise BackendError(
            "Label Studio's address or token is not known: pass --url and --token, or set CLIPDIY_LABEL_STUDIO_URL and "
            "CLIPDIY_LABEL_STUDIO_TOKEN"
        )
    return found
