import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from backend.service import read_label_config
from backend.settings import Settings, misspelt
from backend.web.start import start
from clipdiy.config import PRESETS, CleanUp, Pamr


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("CLIPDIY_"):
            monkeypatch.delenv(name)


def test_defaults():
    settings = Settings()
    assert settings.preset == "paper"
    assert settings.deadline_s == 90
    assert settings.core_config() == replace(PRESETS["paper"], pamr=Pamr())


def test_the_method_as_published_can_be_had(monkeypatch):
    monkeypatch.setenv("CLIPDIY_REFINE", "never")
    monkeypatch.setenv("CLIPDIY_MIN_AREA", "0")
    monkeypatch.setenv("CLIPDIY_LABEL_MAP", "square")
    assert Settings().core_config() == replace(PRESETS["paper"], label_map="square", clean_up=CleanUp(0))


def test_everything_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("CLIPDIY_PRESET", "starter")
    monkeypatch.setenv("CLIPDIY_DEVICE", "cpu")
    monkeypatch.setenv("CLIPDIY_DTYPE", "bfloat16")
    monkeypatch.setenv("CLIPDIY_MIN_AREA", "0.01")
    monkeypatch.setenv("CLIPDIY_LOCAL_FILES_ROOT", "/a, /b")
    monkeypatch.setenv("CLIPDIY_ALLOWED_HOSTS", "a.org,*.b.org")
    monkeypatch.setenv("CLIPDIY_LABEL_STUDIO_TOKEN", "geheim")
    settings = Settings()
    config = settings.core_config()
    assert (config.clip, config.device, config.dtype) == ("starter", "cpu", "bfloat16")
    assert config.clean_up.min_area == 0.01
    assert settings.local_files_root == (Path("/a"), Path("/b"))
    assert settings.allowed_hosts == ("a.org", "*.b.org")
    assert "geheim" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PRESET", "papre"), ("DEADLINE_S", "0"), ("MIN_AREA", "2"), ("DTYPE", "int8"), ("LABEL_MAP", "half")],
)
def test_a_bad_value_says_which(monkeypatch, name, value):
    monkeypatch.setenv(f"CLIPDIY_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CLIPDIY_DEADLINE_S": "soon"}, ["CLIPDIY_DEADLINE_S"]),
        ({}, ["open_clip_model.safetensors", "dino_deitsmall8_300ep_pretrain.pth", "decoder_weights.pt", "fetch"]),
    ],
    ids=["setting", "weights"],
)
def test_the_service_ends_with_a_message_when_it_cannot_start(tmp_path, environment, words):
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "CLIPDIY_WEIGHTS_DIR": str(tmp_path),
        "OMP_DISPLAY_ENV": "VERBOSE",  # libgomp says what it read
        **environment,
    }
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "gunicorn",
            "-c",
            "python:backend.gunicorn_conf",
            "-b",
            "127.0.0.1:0",
            "backend._wsgi:app",
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[3],
    )
    assert ended.returncode != 0
    for word in words:
        assert word in ended.stderr
    if sys.platform == "linux":
        assert "GOMP_SPINCOUNT = '4000'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_misspelt_setting_is_named_with_the_one_that_was_meant():
    names = ("PATH", "CLIPDIY_WORKERS", "CLIPDIY_PRESET", "CLIPDIY_PRESSET", "CLIPDIY_DEADLINE", "CLIPDIY_XYZZY")
    assert misspelt(names) == [
        "CLIPDIY_DEADLINE is no setting; was CLIPDIY_DEADLINE_S meant?",
        "CLIPDIY_PRESSET is no setting; was CLIPDIY_PRESET meant?",
        "CLIPDIY_XYZZY is no setting",
    ]


def test_it_is_said_at_the_start(monkeypatch, caplog):
    monkeypatch.setenv("CLIPDIY_PRESSET", "starter")
    monkeypatch.setattr("backend.web.start.set_up_logging", lambda _level: None)
    start(lambda settings: settings, lambda service: service)
    assert "CLIPDIY_PRESSET is no setting; was CLIPDIY_PRESET meant?" in caplog.text


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"preset": "paper"}, "clip-diy"),
        ({"preset": "dinoiser"}, "clip-dinoiser"),
        ({"preset": "starter", "method": "clip-dinoiser"}, "clip-dinoiser"),
    ],
)
def test_the_method_is_the_presets_unless_another_is_named(settings, method):
    assert Settings(**settings).core_config().method == method


def test_a_method_that_nobody_knows():
    with pytest.raises(ValidationError, match="clip-diy, clip-dinoiser"):
        Settings(method="clip-die")


@pytest.mark.parametrize(("stuff", "positions"), [("usual", (2,)), ("off", ())])
def test_whether_words_say_what_is_stuff(monkeypatch, stuff, positions):
    monkeypatch.setenv("CLIPDIY_STUFF", stuff)
    xml = (
        '<View><Image name="img" value="$image"/><BrushLabels name="brush" toName="img">'
        '<Label value="cat"/><Label value="sky"/></BrushLabels></View>'
    )
    [control] = read_label_config(xml, Settings(preset="starter")).controls
    assert control.vocabulary.stuff == positions
    monkeypatch.delenv("CLIPDIY_STUFF")
    assert Settings().stuff == "off", "measured: see benchmarks/stuff.py"
