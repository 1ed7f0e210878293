"""What is asked of every picture."""

import pytest

from backend.bulk.asking import config_for, image_key, questions
from backend.errors import LabelConfigError
from backend.labeling.reader import parse_label_config
from clipdiy.errors import VocabularyError


def test_labels_become_a_config_that_asks_for_them():
    xml = config_for('cat, "bread, <sliced>", pet=dog|hamster, background=wall|floor')
    [control] = parse_label_config(xml).controls
    assert [(label.value, label.prompts) for label in control.drawn] == [
        ("cat", ("a photo of a cat",)),
        ("bread, <sliced>", ("a photo of a bread, <sliced>",)),
        ("pet", ("a photo of a dog", "a photo of a hamster")),
    ]
    assert control.background == ("a photo of a wall", "a photo of a floor")
    assert image_key(parse_label_config(xml)) == "image"


def test_labels_that_are_stuff():
    [control] = parse_label_config(config_for("cat, sky, road=asphalt", "road, sky")).controls
    assert control.vocabulary.stuff == (2, 3)
    [control] = parse_label_config(config_for("cat, sky")).controls
    assert control.vocabulary.stuff == ()
    for said, stuff in ((None, (2,)), ("cat", (1,)), ("usual", (2,)), ("none", ())):
        [control] = parse_label_config(config_for("cat, sky", said), usual_stuff=True).controls
        assert control.vocabulary.stuff == stuff, "what is said is all of it"
    with pytest.raises(VocabularyError, match="'grass' is none"):
        config_for("cat, sky", "grass")


def test_phrases_that_a_config_cannot_hold():
    with pytest.raises(VocabularyError, match="'x': phrases behind a = hold no commas"):
        config_for('"x=a, b|c"')
    with pytest.raises(VocabularyError):
        config_for(" , ")


TWO = """<View><Image name="a" value="$left"/><Image name="b" value="$right"/>
<BrushLabels name="x" toName="a"><Label value="Cat"/></BrushLabels>
<BrushLabels name="y" toName="b"><Label value="Cat"/></BrushLabels></View>"""
PAGES = """<View><Image name="a" valueList="$pages"/>
<BrushLabels name="x" toName="a"><Label value="Cat"/></BrushLabels></View>"""
FROM_TASKS = """<View><Image name="a" value="$image"/><BrushLabels name="x" toName="a" value="$labels"/></View>"""


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (TWO, "one picture a task, got 2: left, right"),
        (PAGES, "lists of pages"),
        (FROM_TASKS, "the labels stand in tasks"),
    ],
)
def test_what_pictures_alone_cannot_answer(xml, message):
    with pytest.raises(LabelConfigError, match=message):
        image_key(parse_label_config(xml))


def test_controls_that_ask_the_same_share_a_question():
    config = parse_label_config(
        """<View><Image name="img" value="$photo"/>
        <BrushLabels name="brush" toName="img"><Label value="Cat"/><Label value="Dog"/></BrushLabels>
        <RectangleLabels name="box" toName="img"><Label value="Cat"/><Label value="Dog"/></RectangleLabels>
        <PolygonLabels name="poly" toName="img"><Label value="Owl"/></PolygonLabels></View>"""
    )
    assert image_key(config) == "photo"
    assert [(names, control.from_name) for names, control in questions(config)] == [
        (("brush", "box"), "brush"),
        (("poly",), "poly"),
    ]
