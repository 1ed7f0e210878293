"""The command line as a person uses it, and the options for the tiny networks."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tiny import TINY

ROOT = Path(__file__).parents[2]
TINY_OPTIONS = ("--clip", TINY.clip, "--found", TINY.found, "--device", "cpu")


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def real_process(*arguments, **environment):
    ended = subprocess.run(
        [sys.executable, "-m", "clipdiy", *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120", **environment},
        timeout=240,
    )
    return Ran(ended.returncode, ended.stdout, ended.stderr)
