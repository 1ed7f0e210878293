"""The program as a whole: quick to say what it can do."""

import re
import subprocess
import sys

from command_line import ROOT


def test_help_imports_nothing_heavy():
    script = "import sys; from clipdiy.cli import app; import typer.main; typer.main.get_command(app)\n"
    script += (
        "print([name for name in ('torch', 'numpy', 'open_clip', 'cv2', 'PIL', 'requests') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ended.stdout.strip() == "[]"


def test_help_names_every_command(clipdiy_command):
    assert {"segment", "others", "weights"} <= set(re.findall(r"\w+", clipdiy_command("--help").out))
    assert {"list", "fetch", "check"} <= set(re.findall(r"\w+", clipdiy_command("weights", "--help").out))
