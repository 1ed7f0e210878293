"""The commands of `clipdiy-ls`. Each lies in a file of its own and is imported when it is asked for.

So `clipdiy-ls --help` does not wait for torch, and one command that cannot be imported does not cost another.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import typer
import typer.core
import typer.main
from pydantic import ValidationError

from backend.errors import BackendError
from clipdiy.errors import ClipDiyError
from clipdiy.threads import prepare_threads

USAGE_ERROR = 2
HELP = "CLIP-DIY beside Label Studio: the service, and long work on whole projects and data sets."
SETTINGS = {"help_option_names": ["-h", "--help"]}

COMMANDS = {
    "serve": "Start the service that Label Studio connects to.",
    "doctor": "Look at everything that has to be right, and say what to do.",
    "predict": "Predict a whole project, and write the predictions into Label Studio.",
    "bulk": "Segment folders, buckets and lists of pictures into Parquet shards.",
    "export": "Make a data set of a project, or of shards.",
    "sync": "Read a project's annotations from Label Studio, for webhooks that were lost.",
    "quality": "Say how good a project's masks are, by what people made of them.",
    "versions": "List what a project has learned, and which version it uses.",
}
"""Names with what is said of each; `backend.ls.NAME` has a function of that name, or a `typer.Typer`."""


class Commands(typer.core.TyperGroup):
    """A group that knows its commands by name, and imports the one that runs."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order in which they are shown."""
        return [name for name in COMMANDS if find_spec(f"backend.ls.{name}") is not None]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; `None` if there is none of this name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        made: Any = getattr(import_module(f"backend.ls.{cmd_name}"), cmd_name)
        if not isinstance(made, typer.Typer):
            made, function = _typer(), made
            made.command(cmd_name)(function)
        command: Any = typer.main.get_command(made)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


def _typer(**settings: Any) -> typer.Typer:
    return typer.Typer(
        no_args_is_help=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # half of the time that `--help` took
        context_settings=SETTINGS,
        add_completion=False,
        **settings,
    )


app = _typer(cls=Commands, help=HELP)


@app.callback()
def _commands() -> None:
    """Do nothing: commands do."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. What stops it is said in one message, without a traceback; the exit code is then 2.

    Args:
        arguments: Behind the program's name; the process's own, if left out.

    Raises:
        SystemExit: Always.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    prepare_threads(os.environ)  # commands import torch, not yet
    try:
        app(given or ["--help"], prog_name="clipdiy-ls")
    except (ClipDiyError, BackendError) as err:
        problem = str(err)
    except ValidationError as err:
        from backend.settings import problems_of

        problem = "\n".join(problems_of(err))
    except ModuleNotFoundError as err:
        if (err.name or "").partition(".")[0] in ("backend", "clipdiy"):
            raise
        problem = f"{err.name} is not installed, and this command needs it"
    typer.secho(f"clipdiy-ls: {problem}", fg="red", err=True)
    sys.exit(USAGE_ERROR)
