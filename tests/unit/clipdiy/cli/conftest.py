"""What the commands' tests share."""

import sys

import pytest
from command_line import Ran

from clipdiy.cli import main


@pytest.fixture
def clipdiy_command(monkeypatch, capsys, tmp_path):
    """Runs `clipdiy` in this process, through `main`."""
    monkeypatch.delenv("CLIPDIY_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["clipdiy", *(str(argument) for argument in arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Ran(ended.value.code or 0, out, err)

    return run
