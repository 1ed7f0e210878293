"""The program as a whole: what it can do, how it ends; one command that is missing or broken costs no other."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
from command_line import ROOT, Ran, in_process

from backend.ls import app as program
from backend.ls import serve as serve_module
from backend.ls.app import COMMANDS, main


@pytest.fixture
def clipdiy_ls(capsys, monkeypatch, tmp_path):
    """Runs `clipdiy-ls` in this process."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("CLIPDIY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("CLIPDIY_LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("CLIPDIY_LABEL_STUDIO_TOKEN", raising=False)

    return in_process(main, capsys)


def commands_in(text):
    return re.findall(r"^  (\w+) {2,}[A-Z]", text.partition("Commands:")[2], re.MULTILINE)


def test_help_names_the_commands_and_imports_none():
    script = "import sys; from backend.ls.app import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    heavy = ("torch", "numpy", "PIL", "requests", "rich", "sqlite3", "backend.settings", "backend.ls.sync")
    script += f"print([name for name in {heavy} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    *help_lines, imported = ended.stdout.splitlines()
    assert imported == "[]"
    assert {"serve", "doctor", "predict", "bulk", "export", "sync"} <= set(commands_in("\n".join(help_lines)))


@pytest.mark.parametrize("name", ["quality", "versions"])
def test_what_reads_the_data_folder_alone_does_not_wait_for_torch(name, tmp_path):
    script = "import sys; from backend.ls.app import main\n"
    script += f"try: main(['{name}', '--project', '1'])\nexcept SystemExit: pass\n"
    script += "print([name for name in ('torch', 'torchvision', 'timm') if name in sys.modules])"
    environment = {**os.environ, "CLIPDIY_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, env=environment)
    assert "nothing is known of project 1" in ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"


def test_without_a_command_it_says_what_there_is(clipdiy_ls):
    assert clipdiy_ls() == clipdiy_ls("--help")
    assert clipdiy_ls().code == 0


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_that_is_there_explains_itself(clipdiy_ls, name):
    ran = clipdiy_ls(name, "--help")
    assert ran.code == 0
    assert f"clipdiy-ls {name}" in ran.out


def test_one_that_is_not_there_is_neither_listed_nor_run(clipdiy_ls, monkeypatch):
    monkeypatch.setitem(program.COMMANDS, "dance", "Dance.")
    ran = clipdiy_ls("--help")
    assert ran.code == 0
    assert "dance" not in ran.out
    ran = clipdiy_ls("dance")
    assert ran.code == 2
    assert "No such command" in ran.err


def test_what_a_command_needs_and_is_not_installed_is_named(clipdiy_ls, monkeypatch):
    monkeypatch.setattr(program, "import_module", lambda name: __import__("no_such_package"))
    ran = clipdiy_ls("sync", "--project", "1")
    assert ran.code == 2
    assert ran.err.strip() == "clipdiy-ls: no_such_package is not installed, and this command needs it"


def test_a_fault_of_our_own_is_not_hidden(monkeypatch):
    monkeypatch.setattr(program, "import_module", lambda name: __import__("backend.no_such_room"))
    with pytest.raises(ModuleNotFoundError):
        main(["sync", "--project", "1"])


def test_what_stops_a_command_is_one_message(clipdiy_ls, monkeypatch):
    ran = clipdiy_ls("sync", "--project", "7")
    assert ran.code == 2
    assert ran.err.startswith("clipdiy-ls: Label Studio's address or token is not known")
    monkeypatch.setenv("CLIPDIY_MIN_AREA", "many")
    ran = clipdiy_ls("sync", "--project", "7")
    assert ran.code == 2
    assert ran.err.startswith("clipdiy-ls: CLIPDIY_MIN_AREA: ")
    assert ran.out == ""


def test_wrong_options_end_with_two(clipdiy_ls):
    assert clipdiy_ls("sync").code == 2
    assert clipdiy_ls("sync", "--project", "x").code == 2


def test_the_commands_are_installed():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["clipdiy-ls"] == "backend.ls.app:main"
    assert scripts["clipdiy-doctor"] == "backend.doctor:main"


def test_serve_becomes_the_service_that_make_starts(clipdiy_ls, monkeypatch):
    started = []
    monkeypatch.setattr(serve_module.os, "execv", lambda path, command: started.append(command))
    clipdiy_ls("serve")
    clipdiy_ls("serve", "--bind", "0.0.0.0:1234")
    [plain, bound] = [" ".join(command[1:]) for command in started]
    made = re.search(r"^serve:.*\n\t\$\(BIN\)/python (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert plain == re.sub(r"\$\(if .*\)(?=backend)", "", made)
    assert "--bind 0.0.0.0:1234 backend._wsgi:app" in bound


def test_threads_are_prepared_before_a_command_imports_torch(clipdiy_ls, monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    clipdiy_ls("--help")
    assert os.environ["GOMP_SPINCOUNT"] == "4000"


class TestDoctor:
    @pytest.fixture(autouse=True)
    def _wrong(self, monkeypatch):
        monkeypatch.setenv("CLIPDIY_PRESET", "nonsense")

    def test_it_is_the_same_as_before(self, clipdiy_ls):
        ran = clipdiy_ls("doctor", "--project", "3")
        assert ran.code == 1
        assert "WRONG settings: CLIPDIY_PRESET" in ran.out

    def test_for_scripts(self, clipdiy_ls):
        ran = clipdiy_ls("doctor", "--json")
        assert ran.code == 1
        [finding] = json.loads(ran.out)
        assert finding["verdict"] == "bad"
        assert finding["what"] == "settings"

    def test_nothing_wrong(self, clipdiy_ls, monkeypatch):
        monkeypatch.setattr("backend.doctor.examine", lambda project: iter(()))
        assert clipdiy_ls("doctor", "--json") == Ran(0, "[]\n", "")
