"""One config for every capability: read whole by us, accepted by Label Studio's SDK, listed in the README."""

import re
from pathlib import Path

import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from backend.labeling.controls import Area, LabelConfig, Others
from backend.labeling.reader import parse_label_config

FOLDER = Path(__file__).parents[2] / "label_config" / "examples"
FILES = sorted(path.name for path in FOLDER.glob("*.xml"))
SCALES = (256, 128, 64)


def read(name: str) -> LabelConfig:
    return parse_label_config((FOLDER / name).read_text(encoding="utf-8"), scales=SCALES)


@pytest.mark.parametrize("name", FILES)
def test_is_read_and_accepted(name: str) -> None:
    assert read(name).controls
    LabelInterface((FOLDER / name).read_text(encoding="utf-8")).validate()


def test_all_are_in_the_readme() -> None:
    text = (FOLDER.parent / "README.md").read_text(encoding="utf-8").split("(`examples/`)")[1]
    assert sorted(re.findall(r"^\| `([\w-]+\.xml)` \|", text, re.MULTILINE)) == FILES


def test_nothing_is_skipped_but_the_question_about_quality() -> None:
    skipped = {name: read(name).skipped for name in FILES if read(name).skipped}
    assert [*skipped] == ["choices.xml"]
    assert "'quality' shares no label" in skipped["choices.xml"][0]


def test_they_show_what_they_say() -> None:
    roof, pool = read("steering.xml").controls[0].drawn
    assert len(roof.prompts) == 4
    assert (roof.threshold, roof.min_area, pool.threshold, pool.min_area) == (0.3, Area(64, "px"), 0.6, Area(0.01))
    assert read("others.xml").controls[0].others == Others(("cup", "plate", "cutlery"))
    assert read("scales.xml").controls[0].scales == (256, 128)
    assert read("parts.xml").controls[0].max_parts == 50
    assert read("stuff.xml").controls[0].vocabulary.stuff == (2, 3, 4)
    assert [c.kind for c in read("forms.xml").controls] == ["polygonlabels", "rectanglelabels", "bitmasklabels"]
    assert [c.from_name for c in read("choices.xml").controls] == ["brush", "animals"]
    assert read("labels-and-brush.xml").controls[0].labels_name == "labels"
    assert read("task-labels.xml").controls[0].labels_key == "labels"
    assert read("pages.xml").controls[0].is_list
    assert [c.data_key for c in read("two-images.xml").controls] == ["before", "after"]
    prompts = [label.prompts[0] for label in read("any-language.xml").controls[0].drawn]
    assert prompts == [f"a photo of a {word}" for word in ("dog", "cat", "car", "pizza")]
    interactive = read("interactive.xml")
    assert [c.from_name for c in interactive.controls] == ["brush"]
