"""The program as a whole: quick to say what it can do."""

import os
import re
import subprocess
import sys

import pytest
from command_line import ROOT

from clipdiy.cli import main


def test_help_imports_nothing_heavy():
    script = "import sys; from clipdiy.cli import app; import typer.main; typer.main.get_command(app)\n"
    script += (
        "print([name for name in ('torch', 'numpy', 'open_clip', 'cv2', 'PIL', 'requests') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ended.stdout.strip() == "[]"


def test_threads_are_prepared_before_torch_is_imported(monkeypatch, capsys):
    monkeypatch.setenv("GOMP_SPINCOUNT", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "argv", ["clipdiy", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["GOMP_SPINCOUNT"] == "4000"


def test_help_names_every_command(clipdiy_command):
    assert {"segment", "others", "weights"} <= set(re.findall(r"\w+", clipdiy_command("--help").out))
    assert {"list", "fetch", "check"} <= set(re.findall(r"\w+", clipdiy_command("weights", "--help").out))
