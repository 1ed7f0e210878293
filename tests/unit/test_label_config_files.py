"""The labeling configs to start from: read by us, accepted by Label Studio's SDK, with colours to tell apart."""

import importlib.util
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from backend.labeling.reader import MaskControl, parse_label_config
from clipdiy.starter.vocabulary import BACKGROUND, SYNONYMS

FOLDER = Path(__file__).parents[2] / "label_config"
FILES = sorted(path.name for path in FOLDER.glob("*.xml"))
DRAWN = {"small.xml": 3, "photos.xml": 7, "starter.xml": 48, "voc20.xml": 20, "coco80.xml": 80}


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """The script beside the configs."""
    spec = importlib.util.spec_from_file_location("label_config_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def control_of(name: str) -> MaskControl:
    (control,) = parse_label_config(text_of(name)).controls
    return control


def test_none_is_forgotten() -> None:
    assert set(FILES) == set(DRAWN)
    listed = re.findall(r"^\| `(\w+\.xml)` \| (\d+)", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: int(count) for name, count in listed} == DRAWN


@pytest.mark.parametrize("name", FILES)
def test_is_read_whole(name: str) -> None:
    config = parse_label_config(text_of(name))
    assert config.skipped == ()
    control = control_of(name)
    assert (control.data_key, len(control.drawn)) == ("image", DRAWN[name])
    assert len({label.prompts for label in control.drawn}) == DRAWN[name], "no two labels ask for the same"


@pytest.mark.parametrize("name", FILES)
def test_is_accepted_by_label_studio(name: str) -> None:
    interface = LabelInterface(text_of(name))
    interface.validate()
    stored = set(interface.get_control("brush").labels)
    assert stored == {label.value for label in control_of(name).labels}


@pytest.mark.parametrize("name", FILES)
def test_is_what_the_script_writes(name: str, make: ModuleType) -> None:
    assert text_of(name) == make.config(make.CONFIGS[name]), "run python label_config/make.py"


@pytest.mark.parametrize("name", FILES)
def test_colours_can_be_told_apart(name: str, make: ModuleType) -> None:
    colours = [tag.attrib["background"] for tag in ET.fromstring(text_of(name)).iter("Label")]
    labs = [make.oklab(tuple(bytes.fromhex(colour[1:]))) for colour in colours]
    closest = min(math.dist(a, b) for at, a in enumerate(labs) for b in labs[:at])
    assert closest > (0.1 if len(colours) <= 20 else 0.04), "black to white is 1"


def test_the_starters_labels_are_the_words_it_knows() -> None:
    known = [noun for noun in SYNONYMS if noun != BACKGROUND]
    assert [label.value for label in control_of("starter.xml").drawn] == known


def test_the_small_one_shows_everything_a_label_can_say() -> None:
    control = control_of("small.xml")
    assert [label.value for label in control.drawn] == ["Cat", "Sofa", "dog"]
    assert control.vocabulary.prompts == (
        ("a photo of a background", "a photo of a wall", "a photo of a floor"),
        ("a photo of a Cat",),
        ("a photo of a sofa", "a photo of a couch"),
        ("a photo of a dog",),
    )


def test_the_readmes_example_works() -> None:
    example = re.findall(r"```xml\n(.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    (control,) = parse_label_config(example).controls
    assert control.vocabulary == control_of("small.xml").vocabulary
