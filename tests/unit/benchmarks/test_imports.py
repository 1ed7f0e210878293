"""No benchmark is left behind when a room moves: each can be imported."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_it_can_be_imported(name):
    importlib.import_module(f"benchmarks.{name}")
