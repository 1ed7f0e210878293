"""What the demo hands to its service; that it comes up is shown end to end."""

from typing import get_args

import pytest

from backend.demo import demo
from backend.errors import BackendError
from clipdiy.config import PRESETS


def test_every_preset_can_be_shown():
    assert set(get_args(demo.PresetName)) == set(PRESETS)


def test_settings_of_the_environment_reach_its_service(monkeypatch, tmp_path):
    """`CLIPDIY_METHOD=clip-dinoiser make demo` is the other method; what the demo must know stays its own."""
    given = {}

    def seen(environment, **_):
        given.update(environment)
        raise BackendError("seen")

    monkeypatch.setattr(demo, "backend_process", seen)
    monkeypatch.setattr(demo, "find_executable", lambda _named: tmp_path / "label-studio")
    monkeypatch.setenv("CLIPDIY_METHOD", "clip-dinoiser")
    monkeypatch.setenv("CLIPDIY_DATA_DIR", "/elsewhere")
    with pytest.raises(BackendError, match="seen"):
        demo.run_demo("starter", tmp_path / "demo", wait=False)
    assert (given["CLIPDIY_METHOD"], given["CLIPDIY_PRESET"]) == ("clip-dinoiser", "starter")
    assert given["CLIPDIY_DATA_DIR"] == str(tmp_path / "demo" / "backend")
