"""The command line as a person uses it, and the options for the tiny networks."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

ROOT = Path(__file__).parents[2]
TINY_OPTIONS = ("--clip", TINY.clip, "--found", TINY.found, "--device", "cpu")


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def in_process(main, capsys, *before):
    """Return what runs a program's `main` in this process with these arguments first, and gives back how it ended."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in (*before, *arguments)])
        out, err = capsys.readouterr()
        return Ran(ended.value.code or 0, out, err)

    return run


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


def clipdiy_ls(*arguments: object, data_dir: Path, **settings: str) -> tuple[int, dict[str, Any], str]:
    """Run a command of `clipdiy-ls` as a process; return its exit code, what it printed as JSON, and its messages."""
    given = {"preset": "starter", "device": "cpu", "data_dir": str(data_dir), **settings}
    environment = {f"CLIPDIY_{name.upper()}": value for name, value in given.items()}
    command = [sys.executable, "-m", "backend.ls", *map(str, arguments), "--json"]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=240
    )
    return ended.returncode, json.loads(ended.stdout or "null"), ended.stderr
