"""The command line. Commands import what they need when they run: `clipdiy --help` does not wait for torch."""

import os
import sys

import typer

from clipdiy.cli import bench, evaluate, others, segment, weights
from clipdiy.errors import ClipDiyError
from clipdiy.threads import prepare_threads

USAGE_ERROR = 2

app = typer.Typer(
    help="CLIP-DIY: masks for any list of words, without training.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # half of the time that `--help` took
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment.segment)
app.command("others")(others.others)
app.command("evaluate")(evaluate.evaluate)
app.command("bench")(bench.bench)
app.add_typer(weights.app, name="weights")


def main() -> None:
    """Run the command line. What stops it is said in one message, without a traceback; the exit code is then 2."""
    prepare_threads(os.environ)  # commands import torch, not yet
    try:
        app()
    except ClipDiyError as err:
        typer.secho(f"clipdiy: {err}", fg="red", err=True)
        sys.exit(USAGE_ERROR)
