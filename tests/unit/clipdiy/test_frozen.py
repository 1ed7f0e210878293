"""What the core hands on never changes: whoever holds it may keep it, and hand it to any thread."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "clipdiy"
FILLED = {"WordNet"}
"""Filled line by line while the lists are made; nothing else sees it."""


def test_dataclasses_are_frozen() -> None:
    seen, changing = 0, set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef):
                continue
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            if any(decorator.startswith("dataclass") for decorator in decorators):
                seen += 1
                if not any("frozen=True" in decorator for decorator in decorators):
                    changing.add(node.name)
    assert seen > 50
    assert changing == FILLED
