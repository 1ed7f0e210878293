"""The public face: the names that a program needs, cheap to import, and README's example as it stands there."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipdiy
from clipdiy.starter.scenes import NOUNS, compose_scene

ROOT = Path(__file__).parents[3]


def python_block():
    [block] = re.findall(r"<!-- tested -->\n```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    return block


@pytest.mark.parametrize("name", clipdiy.__all__)
def test_every_name_is_that_of_its_module(name):
    assert name in dir(clipdiy)
    home = importlib.import_module(f"clipdiy.{clipdiy._MODULES[name]}")
    assert getattr(clipdiy, name) is getattr(home, name)
    assert getattr(clipdiy, name).__module__ == home.__name__, "named where it is defined"


def test_no_name_without_a_module_and_no_module_without_a_name():
    assert sorted(clipdiy._MODULES) == sorted(clipdiy.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        clipdiy.nonsense  # noqa: B018


def test_importing_it_loads_nothing_else():
    code = "import sys, clipdiy; print(*sorted({'torch', 'numpy', 'PIL', 'open_clip', 'typer'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.stdout.strip(), ended.stderr) == ("", "")


def test_it_says_that_it_is_typed():
    assert (Path(clipdiy.__file__).parent / "py.typed").is_file()


def test_the_example_in_readme(tmp_path, monkeypatch):
    scene = compose_scene(1)  # a dog, a cup and a cactus
    (tmp_path / "photos").mkdir()
    Image.fromarray(scene.image).save(tmp_path / "photos" / "0.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(python_block(), names)  # noqa: S102 - the example is ours
    masks = names["masks"]
    assert set(scene.nouns) <= set(masks) <= {"dog", "cup", "cactus", "tree"}
    for noun in scene.nouns:
        mask, truth = masks[noun], scene.labels == NOUNS.index(noun) + 1
        assert (mask.shape, mask.dtype) == ((256, 256), np.bool_)
        assert (mask & truth).sum() > 0.3 * (mask | truth).sum()
    assert names["scores"].keys() == masks.keys()
