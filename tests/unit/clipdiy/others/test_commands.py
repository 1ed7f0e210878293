"""`clipdiy others`, and `--others` of `clipdiy segment`: what may stand there, and what a person reads."""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from tiny import TINY

from clipdiy.cli import main
from clipdiy.cli.others import describe, read_others
from clipdiy.errors import ConfigError, VocabularyError
from clipdiy.others.choice import Choice, LeftOut
from clipdiy.others.kin import Kinship
from clipdiy.others.words import parse_words
from clipdiy.vocabulary import Label

MODELS = ("--clip", TINY.clip, "--device", "cpu")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `clipdiy`; returns exit code and what was printed."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["clipdiy", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("cup", ("cup",), id="one"),
        pytest.param("cup, wine glass,cup,", ("cup", "wine glass"), id="several"),
        pytest.param("cup\n# a comment\nplate # too\n\n", ("cup", "plate"), id="lines"),
    ],
)
def test_words(text, words):
    assert parse_words(text) == words


@pytest.mark.parametrize("text", ["", " , ", "# nothing"])
def test_no_words(text):
    with pytest.raises(VocabularyError, match="cup, plate"):
        parse_words(text)


@pytest.mark.parametrize(
    ("text", "words"), [("auto", None), (" Auto ", None), ("none", ()), ("off", ()), ("cup", ("cup",))]
)
def test_what_may_stand_after_others(text, words):
    assert read_others(text) == words


def test_a_file_of_others(tmp_path):
    (tmp_path / "list").write_text("cup\nplate\n")
    assert read_others(str(tmp_path / "list")) == ("cup", "plate")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    for name in ("latin", "missing", "missing.txt"):
        with pytest.raises(ConfigError, match=name):
            read_others(str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"cannot read the others from missing\.txt"):
        read_others("missing.txt")  # a name that ends so is a file, not a word


def test_a_choice_in_words():
    left_out = (
        LeftOut("dog", "animal", Kinship.KIND),
        LeftOut("cup", "mug", Kinship.CLOSE, 0.98765),
        LeftOut("cat", "animal", Kinship.KIND),
        LeftOut("truck", "fire engine", Kinship.WIDER),
    )
    assert describe(Choice((Label("car", ("car",)), Label("tree", ("tree",))), left_out)) == [
        "2 others compete: car, tree",
        "2 left out beside animal:",
        "  dog is a kind of animal",
        "  cat is a kind of animal",
        "1 left out beside mug:",
        "  cup is to CLIP nearly the same as mug (cosine 0.988)",
        "1 left out beside fire engine:",
        "  fire engine is a kind of truck",
    ]
    assert describe(Choice((), ())) == ["0 others compete"]


def test_the_command(run):
    code, out, err = run("others", "--labels", "puppy", "--others", "dog, cup, puppy", *MODELS, "--found", TINY.found)
    assert code == 0, err
    assert out.splitlines() == [
        "2 others compete: dog, cup",
        "1 left out beside puppy:",
        "  puppy is a word for puppy",
    ]
    assert run("others", "--labels", "puppy", "--others", "none", *MODELS)[1] == "no others compete\n"


def test_segment_beside_others(run, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    counts = {}
    for others in ("none", "sofa, tree", "auto"):
        out = tmp_path / others[:4]
        code, _, err = run(
            *("segment", tmp_path / "a.png", "--labels", "cat", "--others", others, "--out", out, "--explain"),
            *(*MODELS, "--found", TINY.found),
        )
        assert code == 0, err
        report = json.loads((out / "a.json").read_text())
        assert [label["name"] for label in report["labels"]] == ["background", "cat"]
        counts[others] = report["others"]
    assert counts["none"] == 0
    assert counts["sofa, tree"] == 2
    assert counts["auto"] > 300
