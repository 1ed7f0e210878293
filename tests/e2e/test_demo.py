"""The demo does what its README says: it comes up, fills a project, retrieves everything, and ends."""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from servers import ROOT

from backend.demo.demo import SCENES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def _demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backend.demo", "--no-wait", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )


def _rows(data_dir: Path, query: str) -> list[tuple[object, ...]]:
    data_base = sqlite3.connect(data_dir / "label-studio" / "label_studio.sqlite3")
    try:
        return data_base.execute(query).fetchall()
    finally:
        data_base.close()


def test_the_demo_fills_a_project_and_goes_on_with_it(tmp_path: Path, artifacts: Path) -> None:
    data_dir = tmp_path / "demo-data"
    screenshot = artifacts / "demo.png"
    first = _demo("--data-dir", str(data_dir), "--screenshot", str(screenshot))
    assert first.returncode == 0, first.stdout
    (artifacts / "demo.txt").write_text(first.stdout)
    assert "starter weights" in first.stdout
    assert re.search(r"^. page   http://127\.0\.0\.1:\d+/ ", first.stdout, re.MULTILINE)
    assert "make demo PRESET=paper" in first.stdout
    tasks = "SELECT count(*) FROM task"
    predictions = "SELECT count(*), count(DISTINCT task_id), count(DISTINCT model_version) FROM prediction"
    assert _rows(data_dir, tasks) == [(len(SCENES),)]
    assert _rows(data_dir, predictions) == [(len(SCENES), len(SCENES), 1)]
    assert screenshot.stat().st_size > 10_000

    again = _demo("--data-dir", str(data_dir))
    assert again.returncode == 0, again.stdout
    assert _rows(data_dir, "SELECT count(*) FROM project") == [(1,)]
    assert _rows(data_dir, tasks) == [(len(SCENES),)]
    assert _rows(data_dir, predictions) == [(len(SCENES), len(SCENES), 1)], "the second run asks for nothing anew"


def test_missing_weights_end_the_demo_with_a_message(tmp_path: Path) -> None:
    ended = _demo("--preset", "paper", "--data-dir", str(tmp_path / "demo-data"), CLIPDIY_WEIGHTS_DIR=str(tmp_path))
    assert ended.returncode == 1, ended.stdout
    assert "Traceback" not in ended.stdout
    assert "error:" in ended.stdout


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("42")
    ended = _demo("--fresh", "--data-dir", str(tmp_path))
    assert ended.returncode == 1, ended.stdout
    assert (tmp_path / "thesis.txt").read_text() == "42"
