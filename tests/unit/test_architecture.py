"""The page on the rooms says what the contracts say, and names files that are there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def test_the_picture_of_the_rooms_is_the_contract():
    [layers] = [contract["layers"] for contract in CONTRACTS if contract.get("containers") == ["backend"]]
    picture = PAGE.partition("```text\n")[2].partition("```")[0].splitlines()
    drawn = []
    for line in picture:
        rooms = re.match(r"((?: {0,2}\w+)+?)(?: {3,}.*)?$", line)
        assert rooms, line
        drawn.append(rooms[1].split())
    assert drawn == [re.split(r" [|:] ", layer) for layer in layers]


def test_every_room_is_in_the_contract():
    """Import-linter holds the rest: the contract is exhaustive."""
    [contract] = [contract for contract in CONTRACTS if contract.get("containers") == ["backend"]]
    assert contract["exhaustive"] is True
    rooms = {
        path.stem for path in (ROOT / "backend").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__"} == {room for layer in contract["layers"] for room in re.split(r" [|:] ", layer)}


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_that_are_named_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])[\w./-]+\.(?:md|py|toml|txt)(?![\w*])", text)) - {"utils.py"}
    places = (ROOT, ROOT / "backend", ROOT / "docs")
    assert len(named) > 3
    missing = {name for name in named if not any((place / name).exists() for place in places)}
    assert missing == set()
