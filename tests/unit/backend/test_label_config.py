"""What is read of a labeling config, and what is said of one that cannot be used."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_studio_sdk.label_interface.interface import LabelInterface

from backend.errors import BackendError, LabelConfigError
from backend.label_config import (
    MAX_CONFIG_CHARS,
    WORKING_CONFIG,
    LabelConfig,
    MaskControl,
    MaskLabel,
    parse_label_config,
)
from clipdiy.errors import VocabularyError


def config(labels: str, *, brush: str = 'name="brush" toName="img"', image: str = 'name="img" value="$image"') -> str:
    return f"<View><Image {image}/><BrushLabels {brush}>{labels}</BrushLabels></View>"


def only_control(xml: str, **options: Any) -> MaskControl:
    (control,) = parse_label_config(xml, **options).controls
    return control


def test_reads_a_plain_config() -> None:
    control = only_control(config('<Label value="Cat" background="#f00"/><Label value="Dog"/>'))
    assert (control.from_name, control.to_name, control.data_key) == ("brush", "img", "image")
    assert control.kind == "brushlabels"
    assert control.labels == (MaskLabel("Cat", ("a photo of a Cat",)), MaskLabel("Dog", ("a photo of a Dog",)))
    assert control.background == ("a photo of a background",)
    assert control.vocabulary.names == ("background", "Cat", "Dog")
    assert control.vocabulary.prompts == (("a photo of a background",), ("a photo of a Cat",), ("a photo of a Dog",))


LABELS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "value": ('<Label value="Cat"/>', "Cat", ("Cat",)),
    "alias is stored and asked for": ('<Label value="Hund" alias="dog"/>', "dog", ("dog",)),
    "predicted values": ('<Label value="Sofa" predicted_values="sofa, couch"/>', "Sofa", ("sofa", "couch")),
    "predicted values before alias": ('<Label value="S" alias="s" predicted_values="sofa"/>', "s", ("sofa",)),
    "empty predicted values": ('<Label value="Cat" predicted_values=" , ,"/>', "Cat", ("Cat",)),
    "empty alias": ('<Label value="Cat" alias=""/>', "Cat", ("Cat",)),
    "blank alias is stored all the same": ('<Label value="Cat" alias=" "/>', " ", ("Cat",)),
    "alias only": ('<Label alias="cat"/>', "cat", ("cat",)),
    "blanks around": ('<Label value=" Cat "/>', " Cat ", ("Cat",)),
    "comma in a value": ('<Label value="cup, blue"/>', "cup, blue", ("cup, blue",)),
    "quotes and angle brackets": (
        '<Label value="6&quot; &lt;nail&gt; &amp; co"/>',
        '6" <nail> & co',
        ('6" <nail> & co',),
    ),
    "braces": ('<Label value="{} {0}"/>', "{} {0}", ("{} {0}",)),
    "emoji": ('<Label value="\N{CAT FACE}"/>', "\N{CAT FACE}", ("\N{CAT FACE}",)),
    "right to left": ('<Label value="חתול"/>', "חתול", ("חתול",)),
    "name that begins with background": (
        '<Label value="Background noise"/>',
        "Background noise",
        ("Background noise",),
    ),
    "unknown attributes": ('<Label value="Cat" hotkey="1" frobnicate="yes"/>', "Cat", ("Cat",)),
}


@pytest.mark.parametrize(("xml", "value", "phrases"), LABELS.values(), ids=LABELS)
def test_reads_a_label(xml: str, value: str, phrases: tuple[str, ...]) -> None:
    control = only_control(config(xml))
    assert control.labels == (MaskLabel(value, tuple(f"a photo of a {phrase}" for phrase in phrases)),)
    # The server checks stored labels against its own reading of the config.
    assert list(LabelInterface(config(xml)).get_control("brush").labels) == [value]


BACKGROUNDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Background": ('<Label value="Background"/>', ("background",)),
    "any case": ('<Label value="BACKGROUND"/>', ("background",)),
    "with alias": ('<Label value="background" alias="wall"/>', ("wall",)),
    "with predicted values": ('<Label value="Background" predicted_values="sky, grass"/>', ("sky", "grass")),
    "by alias": ('<Label value="Hintergrund" alias="Background"/>', ("background",)),
    "two of them": (
        '<Label value="Background"/><Label value="b" alias="background" predicted_values="wall"/>',
        ("background", "wall"),
    ),
    "none": ("", ("background",)),
}


@pytest.mark.parametrize("before", [True, False], ids=["first", "last"])
@pytest.mark.parametrize(("xml", "phrases"), BACKGROUNDS.values(), ids=BACKGROUNDS)
def test_a_label_called_background_stands_for_t0(xml: str, phrases: tuple[str, ...], before: bool) -> None:
    cat = '<Label value="Cat"/>'
    control = only_control(config(xml + cat if before else cat + xml))
    assert control.vocabulary.prompts == (tuple(f"a photo of a {phrase}" for phrase in phrases), ("a photo of a Cat",))
    assert [label.value for label in control.drawn] == ["Cat"]


def test_positions_lead_back_to_labels() -> None:
    control = only_control(config('<Label value="A"/><Label value="Background"/><Label value="B"/><Label value="A"/>'))
    assert control.label_at(0) is None
    assert [getattr(control.label_at(position), "value", None) for position in (1, 2, 3)] == ["A", "B", "A"]
    assert len(control.vocabulary) == 4
    for outside in (-1, 4):
        with pytest.raises(IndexError, match="outside the vocabulary"):
            control.label_at(outside)


def test_another_template_is_used_for_labels_and_background() -> None:
    control = only_control(config('<Label value="Cat"/>'), template="itap of {}.")
    assert control.vocabulary.prompts == (("itap of background.",), ("itap of Cat.",))
    with pytest.raises(VocabularyError):
        parse_label_config(config('<Label value="Cat"/>'), template="no place")


def test_finds_controls_anywhere_in_the_tree_each_with_its_own_vocabulary() -> None:
    found = parse_label_config("""
        <View><Style>.x { color: red }</Style><!-- two pictures -->
          <View className="x"><Header value="$title"/><Image name="left" value="$a"/></View>
          <View><Collapse><Panel>
            <BrushLabels name="one" toName="left"><View><Label value="Cat"/></View><Label value="Dog"/></BrushLabels>
          </Panel></Collapse></View>
          <Image name="right" value="$b"/>
          <BrushLabels name="two" toName="right"><Label value="Cat" predicted_values="lynx"/></BrushLabels>
          <RectangleLabels name="boxes" toName="right"><Label value="Box"/></RectangleLabels>
        </View>""")
    assert [(c.from_name, c.to_name, c.data_key) for c in found.controls] == [
        ("one", "left", "a"),
        ("two", "right", "b"),
    ]
    assert [c.vocabulary.names for c in found.controls] == [("background", "Cat", "Dog"), ("background", "Cat")]
    assert found.controls[0].vocabulary.prompts[1] != found.controls[1].vocabulary.prompts[1]
    assert found.skipped == ()


def test_one_control_for_two_images_is_two() -> None:
    found = parse_label_config("""<View><Image name="a" value="$a"/><Image name="b" value="$b"/>
        <BrushLabels name="brush" toName="a, b"><Label value="Cat"/></BrushLabels></View>""")
    assert [(c.from_name, c.to_name, c.data_key) for c in found.controls] == [("brush", "a", "a"), ("brush", "b", "b")]


def test_case_of_tags_and_attributes_does_not_matter() -> None:
    control = only_control(
        '<view><image NAME="img" VALUE="$image"/><brushlabels name="b" toname="img"><label value="Cat"/></brushlabels>'
        "</view>"
    )
    assert control.vocabulary.names == ("background", "Cat")


def test_reads_a_config_with_declaration_and_namespace() -> None:
    xml = '<?xml version="1.0" encoding="latin-1"?>' + config('<Label value="Köter"/>').replace(
        "<View>", '<View xmlns="urn:x">'
    )
    assert only_control(xml).drawn[0].value == "Köter"


def test_a_thousand_labels() -> None:
    control = only_control(config("".join(f'<Label value="label {n}" background="#123456"/>' for n in range(1000))))
    assert len(control.vocabulary) == 1001
    label = control.label_at(1000)
    assert label is not None
    assert label.value == "label 999"


SKIPPED = {
    "dynamic labels": ('<BrushLabels name="b2" toName="img" value="$labels"/>', "labels from the task's data"),
    "several pages": (
        '<Image name="p" valueList="$p"/><BrushLabels name="b2" toName="p"><Label value="A"/></BrushLabels>',
        "several pages",
    ),
    "video": (
        '<Video name="v" value="$v"/><BrushLabels name="b2" toName="v"><Label value="A"/></BrushLabels>',
        "only an Image",
    ),
}


@pytest.mark.parametrize(("xml", "note"), SKIPPED.values(), ids=SKIPPED)
def test_what_is_not_served_is_skipped_with_a_note_as_long_as_something_is_left(xml: str, note: str) -> None:
    found = parse_label_config(config('<Label value="Cat"/>').replace("</View>", xml + "</View>"))
    assert [control.from_name for control in found.controls] == ["brush"]
    assert len(found.skipped) == 1
    assert note in found.skipped[0]
    with pytest.raises(LabelConfigError, match=note):
        parse_label_config(f'<View><Image name="img" value="$image"/>{xml}</View>')


CAT = '<Label value="Cat"/>'
UNUSABLE: dict[str, tuple[str, str]] = {
    "empty": ("", "is empty"),
    "blank": (" \n", "is empty"),
    "no XML": ("hello", "is no XML"),
    "cut off": (config(CAT)[:-9], "is no XML"),
    "two roots": ("<View/><View/>", "is no XML"),
    "null character": (config('<Label value="\0"/>'), "is no XML"),
    "lone surrogate": (config('<Label value="\ud800"/>'), "is no XML"),
    "undefined entity": (config('<Label value="&nbsp;"/>'), "is no XML"),
    "nothing in it": ("<View/>", "found <View> with no named tag"),
    "other controls only": (
        '<View><Image name="img" value="$i"/><Choices name="c" toName="img"><Choice value="a"/></Choices></View>',
        "found Image 'img', Choices 'c'",
    ),
    "no name": (config(CAT, brush='toName="img"'), "needs name="),
    "no toName": (config(CAT, brush='name="brush"'), "needs name="),
    "toName names nothing": (config(CAT, brush='name="brush" toName="photo"'), "toName='photo'.*called 'img'"),
    "toName names the control": (config(CAT, brush='name="brush" toName="brush"'), "toName='brush'"),
    "no image at all": (
        '<View><BrushLabels name="b" toName="i"><Label value="a"/></BrushLabels></View>',
        "no Image at all",
    ),
    "image without value": (config(CAT, image='name="img"'), "needs value="),
    "image with a fixed address": (config(CAT, image='name="img" value="http://x/y.png"'), "needs value="),
    "image with half a variable": (config(CAT, image='name="img" value="$"'), "needs value="),
    "no labels": (config(""), "has no <Label"),
    "labels without value": (config('<Label background="red"/><Label value=" "/>'), "has no <Label"),
    "only the background": (config('<Label value="Background"/>'), "besides the background"),
    "same name twice": (
        config(CAT).replace("</View>", '<TextArea name="brush" toName="img"/></View>'),
        "2 tags are called 'brush'",
    ),
    "one usable, one contradictory": (
        config(CAT).replace("</View>", '<BrushLabels name="b2" toName="no"><Label value="A"/></BrushLabels></View>'),
        "toName='no'",
    ),
}


@pytest.mark.parametrize(("xml", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_config_is_named_and_a_working_one_shown(xml: str, message: str) -> None:
    with pytest.raises(LabelConfigError, match=message) as caught:
        parse_label_config(xml)
    assert isinstance(caught.value, BackendError)
    assert WORKING_CONFIG in str(caught.value)


def test_the_config_shown_works() -> None:
    assert only_control(WORKING_CONFIG).vocabulary.names == ("background", "Cat", "Sofa")
    LabelInterface(WORKING_CONFIG).validate()


BOMB = """<?xml version="1.0"?><!DOCTYPE View [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><View>&c;</View>"""
HOSTILE = {
    "entity bomb": (BOMB, "document type"),
    "external entity": ('<!DOCTYPE v [<!ENTITY x SYSTEM "file:///etc/passwd">]><v>&x;</v>', "document type"),
    "external DTD": ('<!DOCTYPE v SYSTEM "http://127.0.0.1:9/x.dtd"><v/>', "document type"),
    "empty doctype": ("<!DOCTYPE v><v/>", "document type"),
    "too long": ("<View>" + " " * MAX_CONFIG_CHARS + "</View>", "2,000,000 characters"),
    "too many labels": (config('<Label value="a"/>' * 65_535), "65,534 labels"),
}


@pytest.mark.parametrize(("xml", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_configs_are_refused(xml: str, message: str) -> None:
    with pytest.raises(LabelConfigError, match=message):
        parse_label_config(xml)


def test_deep_nesting_is_read() -> None:
    depth = 20_000
    control = only_control("<View>" * depth + config('<Label value="Cat"/>') + "</View>" * depth)
    assert control.vocabulary.names == ("background", "Cat")


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="<>/=\"'&;! ViewBrushLabelsImagenametoNamevalue$[]-", max_size=120))
def test_any_text_is_read_or_refused(text: str) -> None:
    for xml in (text, config(text)):
        with contextlib.suppress(LabelConfigError):
            assert isinstance(parse_label_config(xml), LabelConfig)


def identity(labels: str, **parts: str) -> str:
    return parse_label_config(config(labels, **parts)).identity


SAME = {
    "colour and hotkey": '<Label value="Cat" background="#00f" hotkey="1"/>',
    "the prompt spelled out": '<Label value="Cat" predicted_values="Cat"/>',
    "t0 spelled out": '<Label value="Cat"/><Label value="Background"/>',
}
OTHER = {
    "value": identity('<Label value="Dog" predicted_values="Cat"/>'),
    "prompt": identity('<Label value="Cat" predicted_values="lynx"/>'),
    "background prompt": identity('<Label value="Cat"/><Label value="Background" alias="wall"/>'),
    "one more label": identity('<Label value="Cat"/><Label value="Dog"/>'),
    "order": identity('<Label value="Dog"/><Label value="Cat"/>'),
    "control's name": identity(CAT, brush='name="b" toName="img"'),
    "data key": identity(CAT, image='name="img" value="$other"'),
    "template": parse_label_config(config(CAT), template="{}").identity,
}


@pytest.mark.parametrize("labels", SAME.values(), ids=SAME)
def test_what_does_not_decide_a_prediction_is_not_in_the_identity(labels: str) -> None:
    assert identity(labels) == identity(CAT)


def test_what_decides_a_prediction_is_in_the_identity() -> None:
    assert len({identity(CAT), *OTHER.values()}) == len(OTHER) + 1


def test_the_identity_is_stable_json() -> None:
    assert json.loads(identity(CAT)) == [
        ["brushlabels", "brush", "img", "image", ["a photo of a background"], [["Cat", ["a photo of a Cat"]]]]
    ]
