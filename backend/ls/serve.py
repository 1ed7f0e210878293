"""`clipdiy-ls serve`: the service, as `make serve` and the image start it."""

import os
import sys
from typing import Annotated

import typer


def serve(
    bind: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where it listens; CLIPDIY_BIND, else for this machine only."),
    ] = None,
) -> None:
    """Start the service that Label Studio connects to. Its settings are the CLIPDIY_ variables of the environment.

    Ends with Ctrl-C or SIGTERM, when the requests that it works on are answered.
    """
    command = [sys.executable, "-m", "gunicorn", "--config", "python:backend.gunicorn_conf"]
    command += ["--bind", bind] if bind else []
    # In place of this process, so that whoever started it signals the service itself.
    os.execv(sys.executable, [*command, "backend._wsgi:app"])
