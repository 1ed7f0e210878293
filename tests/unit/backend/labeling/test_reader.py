"""What is read of a labeling config, and what is said of one that cannot be used."""

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_studio_sdk.label_interface.interface import LabelInterface

from backend.errors import BackendError, LabelConfigError
from backend.labeling.controls import Area, Others
from backend.labeling.reader import (
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


def test_what_is_drawn_stands_in_the_order_of_the_vocabulary() -> None:
    control = only_control(config('<Label value="A"/><Label value="Background"/><Label value="B"/><Label value="A"/>'))
    assert [label.value for label in control.drawn] == ["A", "B", "A"]
    assert control.vocabulary.names == ("background", "A", "B", "A")


def test_another_template_is_used_for_labels_and_background() -> None:
    control = only_control(config('<Label value="Cat"/>'), templates=("itap of {}.",))
    assert control.vocabulary.prompts == (("itap of background.",), ("itap of Cat.",))
    with pytest.raises(VocabularyError):
        parse_label_config(config('<Label value="Cat"/>'), templates=("a {}", "no place"))


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
        ("boxes", "right", "b"),
    ]
    assert [c.vocabulary.names for c in found.controls] == [
        ("background", "Cat", "Dog"),
        ("background", "Cat"),
        ("background", "Box"),
    ]
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
    assert control.drawn[999].value == "label 999"


SKIPPED = {
    "shape without labels": ('<Brush name="b2" toName="img"/>', "has no labels: add <Labels"),
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

# --- how labels and controls are steered ------------------------------------------------------------------------------

STEERED: dict[str, tuple[str, str, float, Area]] = {
    "nothing said": ("", "", 0.0, Area()),
    "control": ('score_threshold="0.3" min_area="0.01"', "", 0.3, Area(0.01)),
    "label": ("", 'threshold="0.6" min_area="200px"', 0.6, Area(200, "px")),
    "label before control": (
        'score_threshold="0.3" min_area="0.01"',
        'threshold="0" min_area="0"',
        *(0.0, Area()),
    ),
    "percent": ('score_threshold="30%"', 'min_area="2 %"', 0.3, Area(0.02)),
    "empty": ('score_threshold="" min_area=" "', 'threshold="" min_area=""', 0.0, Area()),
    "any case": ('Score_Threshold="0.25"', 'MIN_AREA="50PX"', 0.25, Area(50, "px")),
}


@pytest.mark.parametrize(("brush", "label", "threshold", "min_area"), STEERED.values(), ids=STEERED)
def test_thresholds_and_least_areas(brush: str, label: str, threshold: float, min_area: Area) -> None:
    control = only_control(config(f'<Label value="Cat" {label}/>', brush=f'name="brush" toName="img" {brush}'))
    assert (control.drawn[0].threshold, control.drawn[0].min_area) == (threshold, min_area)


def test_an_area_in_pixels() -> None:
    assert Area.parse("1%").pixels((100, 200)) == 200
    assert Area.parse("75px").pixels((100, 200)) == 75


def test_a_controls_own_prompts() -> None:
    control = only_control(
        config(
            '<Label value="Roof" predicted_values="roof, tiles"/><Label value="Background"/>',
            brush='name="b" toName="img" prompt="a satellite photo of {} | a map of {}"',
        )
    )
    assert control.vocabulary.prompts == (
        ("a satellite photo of background", "a map of background"),
        ("a satellite photo of roof", "a map of roof", "a satellite photo of tiles", "a map of tiles"),
    )


def steered(attributes: str, **options: Any) -> MaskControl:
    return only_control(config('<Label value="Cat"/>', brush=f'name="b" toName="img" {attributes}'), **options)


def test_scales_and_refinement() -> None:
    assert steered('model_scales="128, 256"', scales=(256, 128, 64)).scales == (256, 128)
    assert steered('model_scales="64,128,256"', scales=(256, 128, 64)).scales is None, "all of them"
    assert steered('model_scales="64"').scales == (64,)
    assert steered("").scales is None


REFINED = {
    "never, not asked": ("never", "", True),
    "never, asked not to": ("never", 'refine="none"', True),
    "asked, not asked": ("asked", "", False),
    "asked, asked": ("asked", 'refine="pamr"', True),
    "asked, asked in other words": ("asked", 'refine="True"', True),
    "always, not asked": ("always", "", True),
    "always, asked not to": ("always", 'refine="false"', False),
}


@pytest.mark.parametrize(("refining", "attribute", "refine"), REFINED.values(), ids=REFINED)
def test_refinement(refining: Any, attribute: str, refine: bool) -> None:
    assert steered(attribute, refining=refining).refine is refine


def test_refinement_that_the_service_does_not_do() -> None:
    with pytest.raises(LabelConfigError, match="CLIPDIY_REFINE=asked"):
        steered('refine="pamr"')


CONTRADICTORY: dict[str, tuple[str, str, str, str]] = {
    "threshold above 1": ("", 'threshold="60"', "from 0 to 1, got 60", 'threshold="0.6"'),
    "threshold in words": ("", 'threshold="high"', "expected a number", 'threshold="0.5"'),
    "threshold not a number": ("", 'threshold="nan"', "from 0 to 1, got nan", 'threshold="0.5"'),
    "area without unit": ("", 'min_area="200"', "from 0 to 1, got 200", 'min_area="200px"'),
    "area below 0": ("", 'min_area="-1"', "got -1", 'min_area="0.001"'),
    "score_threshold": ('score_threshold="30"', "", "score_threshold: .*got 30", 'score_threshold="0.3"'),
    "min_area of a control": ('min_area="5x"', "", "min_area: expected a number", 'min_area="200px"'),
    "prompt without a place": ('prompt="a map of"', "", "needs {} where", 'prompt="a map of {}"'),
    "one prompt of two": ('prompt="a {}|map"', "", "needs {} where", 'prompt="a {}|map {}"'),
    "empty prompt of two": ('prompt="a {}|"', "", "needs {} where", 'prompt="a {}"'),
    "scale that is not encoded": ('model_scales="256,32"', "", "which are encoded", 'model_scales="256"'),
    "no scale": ('model_scales="all"', "", "list of crop sizes", 'model_scales="256,128,64"'),
    "refine": ('refine="crf"', "", "pamr", 'refine="none"'),
    "tolerance": ('tolerance="wide"', "", "number of pixels", 'tolerance="1"'),
    "parts": ('parts="single"', "", '"separate" or "together"', 'parts="separate"'),
    "no number of parts": ('parts="separate" max_parts="0"', "", "from 1 to 100", 'max_parts="20"'),
    "too many parts": ('parts="separate" max_parts="101"', "", "from 1 to 100", 'max_parts="20"'),
    "a number of parts that are none": ('max_parts="5"', "", "parts that are separate", 'parts="separate"'),
    "stuff": ("", 'stuff="yes"', 'expected "true" or "false"', 'stuff="true"'),
    "predict": ('predict="maybe"', "", "true", 'predict="true"'),
}


@pytest.mark.parametrize(("brush", "label", "problem", "instead"), CONTRADICTORY.values(), ids=CONTRADICTORY)
def test_a_contradiction_is_shown_with_what_was_meant(brush: str, label: str, problem: str, instead: str) -> None:
    xml = config(f'<Label value="Cat" {label}/>', brush=f'name="b" toName="img" {brush}')
    with pytest.raises(LabelConfigError, match=problem) as caught:
        parse_label_config(xml, scales=(256, 128, 64))
    found, corrected = str(caught.value).splitlines()[-2:]
    assert found.startswith("Found:   <")
    assert (brush or label) in found
    assert instead in corrected
    corrected_tag = corrected.removeprefix("Instead: ")
    broken_tag = found.removeprefix("Found:   ")
    if "<BrushLabels" in broken_tag:
        mended = re.sub(r"<BrushLabels[^>]*>", corrected_tag, xml)
    else:
        mended = re.sub(r"<Label [^>]*/>", corrected_tag[:-1] + "/>", xml)
    parse_label_config(mended, scales=(256, 128, 64))


@pytest.mark.parametrize(
    ("tag", "attributes", "most"),
    [
        ("BrushLabels", "", None),
        ("BrushLabels", 'parts="together"', None),
        ("BrushLabels", 'parts="Separate"', 20),
        ("BitmaskLabels", 'parts="separate" max_parts="100"', 100),
        ("PolygonLabels", 'parts="separate"', None),
        ("RectangleLabels", 'max_parts="3"', None),
        ("Choices", 'parts="together"', None),
    ],
)
def test_parts(tag: str, attributes: str, most: int | None) -> None:
    xml = f'<View><Image name="img" value="$image"/><{tag} name="b" toName="img" {attributes}>{CAT}</{tag}></View>'
    xml = xml.replace("<Label ", "<Choice ") if tag == "Choices" else xml
    [control] = parse_label_config(xml).controls
    assert control.max_parts == most


@pytest.mark.parametrize("tag", ["PolygonLabels", "RectangleLabels"])
def test_polygons_and_boxes_cannot_be_together(tag: str) -> None:
    xml = f'<View><Image name="img" value="$image"/><{tag} name="b" toName="img" parts="together">{CAT}</{tag}></View>'
    with pytest.raises(LabelConfigError, match="one part, so parts cannot be together"):
        parse_label_config(xml)


def test_parts_of_a_shape_whose_labels_stand_elsewhere() -> None:
    [brush, polygon] = parse_label_config(
        f'<View>{IMAGE}<Labels name="l" toName="img" max_parts="7">{CAT}</Labels>'
        '<Brush name="b" toName="img" parts="separate"/><Polygon name="p" toName="img"/></View>'
    ).controls
    assert (brush.max_parts, polygon.max_parts) == (7, None)


def test_predict_false_leaves_a_control_to_people() -> None:
    xml = config(CAT).replace(
        "</View>", '<BrushLabels name="b2" toName="img" predict="false"><Label value="A"/></BrushLabels></View>'
    )
    assert [control.from_name for control in parse_label_config(xml).controls] == ["brush"]


# --- several forms, and labels that stand elsewhere -------------------------------------------------------------------

IMAGE = '<Image name="img" value="$image"/>'


def view(body: str) -> LabelConfig:
    return parse_label_config(f"<View>{IMAGE}{body}</View>")


@pytest.mark.parametrize("tag", ["BrushLabels", "BitmaskLabels", "PolygonLabels", "RectangleLabels"])
def test_every_form_is_read(tag: str) -> None:
    (control,) = view(f'<{tag} name="c" toName="img"><Label value="Cat"/></{tag}>').controls
    assert (control.kind, control.labels_name) == (tag.lower(), None)


@pytest.mark.parametrize("tag", ["BrushLabels", "BitmaskLabels", "PolygonLabels", "RectangleLabels"])
def test_stuff_in_every_form(tag: str) -> None:
    (control,) = view(f'<{tag} name="c" toName="img"><Label value="Sky" stuff="true"/></{tag}>').controls
    assert control.vocabulary.stuff == (1,)


@pytest.mark.parametrize("tag", ["Brush", "Bitmask", "Polygon", "Rectangle"])
@pytest.mark.parametrize("nested", [False, True], ids=["beside", "nested"])
def test_a_shape_borrows_its_labels(tag: str, nested: bool) -> None:
    shape = f'<{tag} name="shape" toName="img" prompt="{{}}!" min_area="9px"/>'
    inside, beside = (shape, "") if nested else ("", shape)
    (control,) = view(
        f'<Labels name="labels" toName="img" score_threshold="0.5"><Label value="Cat"/>{inside}</Labels>{beside}'
    ).controls
    assert (control.kind, control.from_name, control.labels_name) == (tag.lower(), "shape", "labels")
    assert control.drawn == (MaskLabel("Cat", ("Cat!",), threshold=0.5, min_area=Area(9, "px")),)


def test_labels_with_the_same_text_in_two_controls() -> None:
    one, two = view(
        '<BrushLabels name="one" toName="img"><Label value="Cat"/></BrushLabels>'
        '<BrushLabels name="two" toName="img"><Label value="Cat" alias="lynx"/></BrushLabels>'
    ).controls
    assert one.drawn[0].prompts != two.drawn[0].prompts


def test_several_pages() -> None:
    (control,) = parse_label_config(config(CAT, image='name="img" valueList="$pages"')).controls
    assert (control.data_key, control.is_list) == ("pages", True)


@pytest.mark.parametrize("tag", ["Rectangle", "RectangleLabels"])
def test_a_smart_rectangle_is_a_tool_unless_nothing_else_takes_masks(tag: str) -> None:
    label = '<Label value="Cat"/>'
    smart = f'<{tag} name="box" toName="img" smart="true">{label if "Labels" in tag else ""}</{tag}>'
    labels = "" if "Labels" in tag else f'<Labels name="l" toName="img">{label}</Labels>'
    alone = view(smart + labels)
    assert [control.from_name for control in alone.controls] == ["box"]
    beside = view(smart + labels + f'<BrushLabels name="brush" toName="img">{label}</BrushLabels>')
    assert [control.from_name for control in beside.controls] == ["brush"]


def test_tools_do_not_change_what_is_predicted() -> None:
    brush = '<BrushLabels name="brush" toName="img"><Label value="Cat"/></BrushLabels>'
    tools = """<KeyPointLabels name="kp" toName="img" smart="true"><Label value="Cat"/></KeyPointLabels>
        <RectangleLabels name="box" toName="img" smartOnly="true"><Label value="Cat"/></RectangleLabels>
        <TextArea name="text" toName="img" smart="true"/><TextArea name="notes" toName="img"/>"""
    assert view(brush + tools).identity == view(brush).identity


def choices(attributes: str = "", values: tuple[str, ...] = ("Cat", "Dog")) -> str:
    tags = "".join(f'<Choice value="{value}"/>' for value in values)
    return f'<Choices name="c" toName="img" {attributes}>{tags}</Choices>'


def test_choices_alone() -> None:
    (single,) = view(choices()).controls
    assert (single.kind, single.is_single) == ("choices", True), "Label Studio's default is one choice"
    (several,) = view(choices('choice="multiple"')).controls
    assert not several.is_single
    assert several.vocabulary.names == ("background", "Cat", "Dog")


JUDGEMENTS = {
    "good or bad": ("good", "bad"),
    "capitals and blanks": ("Yes ", "NO"),
    "sharpness": ("sharp", "blurred", "unsure"),
}


@pytest.mark.parametrize("values", JUDGEMENTS.values(), ids=JUDGEMENTS)
def test_choices_that_judge_a_picture_are_left_to_people(values: tuple[str, ...]) -> None:
    """CLIP would call every picture good."""
    with pytest.raises(LabelConfigError, match="Choices 'c' asks for a judgement"):
        view(choices(values=values))
    (asked,) = view(choices('predict="true"', values)).controls
    assert asked.kind == "choices"
    seen = view(choices(values=values) + choices(values=("Cat", "good")).replace('"c"', '"c2"'))
    assert [control.from_name for control in seen.controls] == ["c2"]
    assert "judgement" in seen.skipped[0]


REPEATED = """<Repeater on="$pages" indexFlag="{{idx}}"><Image name="page_{{idx}}" value="$pages[{{idx}}].url"/>
    <View><BrushLabels name="b_{{idx}}" toName="page_{{idx}}"><Label value="Cat"/></BrushLabels></View>
    <Choices name="c_{{idx}}" toName="page_{{idx}}"><Choice value="Cat"/></Choices></Repeater>"""


def test_what_is_repeated_is_not_served_and_says_what_is() -> None:
    with pytest.raises(LabelConfigError, match=r"'b_\{\{idx\}\}' stands in a Repeater.*valueList"):
        parse_label_config(f"<View>{REPEATED}</View>")
    found = view(REPEATED + '<BrushLabels name="b" toName="img"><Label value="Cat"/></BrushLabels>')
    assert [control.from_name for control in found.controls] == ["b"]
    assert [sentence.count("Repeater") for sentence in found.skipped] == [1, 1]
    assert (
        view(
            REPEATED.replace("<BrushLabels", '<BrushLabels predict="false"').replace(
                "<Choices", '<Choices predict="false"'
            )
            + '<BrushLabels name="b" toName="img"><Label value="Cat"/></BrushLabels>'
        ).skipped
        == ()
    )


def test_choices_beside_masks_take_over_prompts_and_rivals() -> None:
    brush = (
        '<BrushLabels name="b" toName="img"><Label value="Background" alias="wall"/>'
        '<Label value="Cat" predicted_values="cat, kitten" stuff="true"/><Label value="Cow"/></BrushLabels>'
    )
    control = view(choices() + brush).controls[0]
    assert [label.is_stuff for label in control.drawn] == [True, False, False]
    assert control.background == ("a photo of a wall",)
    assert [(label.value, label.is_rival) for label in control.drawn] == [
        *(("Cat", False), ("Dog", False), ("Cow", True))
    ]
    assert control.drawn[0].prompts == ("a photo of a cat", "a photo of a kitten")


def test_a_choice_may_say_itself_that_it_is_stuff() -> None:
    own = '<Choices name="c" toName="img"><Choice value="Sky" stuff="true"/><Choice value="Cat"/></Choices>'
    brush = '<BrushLabels name="b" toName="img"><Label value="Sky"/><Label value="Cat"/></BrushLabels>'
    by_choice, by_label = view(own + brush).controls
    assert (by_choice.vocabulary.stuff, by_label.vocabulary.stuff) == ((1,), ())


def test_questions_about_something_else_are_left_to_people() -> None:
    brush = '<BrushLabels name="b" toName="img"><Label value="Cat"/></BrushLabels>'
    quality = choices(values=("good", "blurred"))
    found = view(brush + quality)
    assert [control.from_name for control in found.controls] == ["b"]
    assert "shares no label" in found.skipped[0]
    asked = view(brush + quality.replace("<Choices", '<Choices predict="true"'))
    assert [control.from_name for control in asked.controls] == ["b", "c"]
    per_region = view(brush + choices('perRegion="true"'))
    assert [control.from_name for control in per_region.controls] == ["b"]


@pytest.mark.parametrize("label", ['<Label value="Cat"/>', '<Label value="Background"/>'])
@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels"])
def test_labels_of_the_config_and_of_the_task_together_are_refused(tag: str, label: str) -> None:
    xml = f'<View>{IMAGE}<{tag} name="b" toName="img" value="$labels">{label}</{tag}></View>'
    with pytest.raises(LabelConfigError, match="all labels into the tasks, or all into the config") as caught:
        parse_label_config(xml)
    assert 'value=""' in str(caught.value).splitlines()[-1]


@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels", "RectangleLabels", "BitmaskLabels"])
def test_label_studio_accepts_labels_of_tasks_only_where_the_config_has_none(tag: str) -> None:
    """Why both together are refused. If this fails, Label Studio has changed, and they need not be."""
    value = {"brushlabels": {"format": "rle", "rle": [1]}, "bitmasklabels": {"imageDataURL": "data:image/png;base64,"}}
    value["polygonlabels"] = {"points": [[0, 0], [0, 9], [9, 9]], "closed": True}
    value["rectanglelabels"] = {"x": 0, "y": 0, "width": 9, "height": 9, "rotation": 0}
    region = {"id": "a", "from_name": "b", "to_name": "img", "type": tag.lower(), "original_width": 9}
    region |= {"original_height": 9, "image_rotation": 0, "value": {**value[tag.lower()], tag.lower(): ["Dog"]}}
    accepted = []
    for label in ("", '<Label value="Cat"/>'):
        xml = f'<View>{IMAGE}<{tag} name="b" toName="img" value="$labels">{label}</{tag}></View>'
        prediction = {"result": [region], "score": 0.5, "model_version": "v"}
        accepted.append(not LabelInterface(xml).validate_prediction(prediction, return_errors=True))
    assert accepted == [True, False]


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
        '<View><Image name="img" value="$i"/><Taxonomy name="c" toName="img"><Choice value="a"/></Taxonomy></View>',
        "found Image 'img', Taxonomy 'c'",
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


def labelled(label: str = "", brush: str = "", number: int = 1) -> str:
    """A config with so many labels of these attributes."""
    tags = f'<Label value="a" {label}/>' * number
    return config(tags, brush=f'name="b" toName="img" {brush}')


def controls(tag: str, number: int, body: str = '<Label value="a"/>') -> str:
    """A config with so many controls of a kind."""
    made = "".join(f'<{tag} name="{tag}{i}" toName="img">{body}</{tag}>' for i in range(number))
    return f'<View><Image name="img" value="$image"/>{made}</View>'


def crossed(shapes: int, labels: int) -> str:
    """A config in which every shape goes with every `Labels`."""
    return controls("Labels", labels).replace(
        "</View>", "".join(f'<Brush name="s{i}" toName="img"/>' for i in range(shapes)) + "</View>"
    )


def for_images(number: int) -> str:
    """A config with one control for so many images."""
    names = [f"i{i}" for i in range(number)]
    images = "".join(f'<Image name="{name}" value="$x"/>' for name in names)
    return f'<View>{images}<BrushLabels name="b" toName="{",".join(names)}"><Label value="a"/></BrushLabels></View>'


def nested(depth: int) -> str:
    """A config whose deepest tag lies so deep."""
    inner = '<Image name="img" value="$i"/><BrushLabels name="b" toName="img"><Label value="a"/></BrushLabels>'
    return "<View>" * (depth - 2) + inner + "</View>" * (depth - 2)


LIMITS: dict[str, tuple[str, str, str]] = {
    # name: a config within the limit, one beyond it, and what is said of that
    "labels x phrases": (
        labelled(f'predicted_values="{"a," * 16_383}"', number=2),
        labelled(f'predicted_values="{"a," * 16_384}"', number=2),
        "32,766 prompts in all.*<BrushLabels",
    ),
    "phrases of a label": (
        labelled(f'predicted_values="{"a," * 32_766}"'),
        labelled(f'predicted_values="{"a," * 32_767}"'),
        "32,766 prompts, got 32,767 phrases",
    ),
    "labels x templates": (
        labelled(brush=f'prompt="{"|".join(["{}"] * 100)}"', number=327),
        labelled(brush=f'prompt="{"|".join(["{}"] * 100)}"', number=328),
        "32,766 prompts in all.*<BrushLabels",
    ),
    "labels of two controls": (
        controls("BrushLabels", 2, f'<Label value="a" predicted_values="{"a," * 16_383}"/>'),
        controls("BrushLabels", 2, f'<Label value="a" predicted_values="{"a," * 16_384}"/>'),
        "32,766 prompts in all.*BrushLabels1",
    ),
    "templates": (
        labelled(brush=f'prompt="{"|".join(["{}"] * 100)}"'),
        labelled(brush=f'prompt="{"|".join(["{}"] * 101)}"'),
        "100 templates of 300 characters.*<BrushLabels",
    ),
    "length of a template": (
        labelled(brush=f'prompt="{"x" * 298}{{}}"'),
        labelled(brush=f'prompt="{"x" * 299}{{}}"'),
        "100 templates of 300 characters.*<BrushLabels",
    ),
    "places in a template": (
        labelled(brush='prompt="{} {} {}"'),
        labelled(brush='prompt="{} {} {} {}"'),
        "at most 3 times.*<BrushLabels",
    ),
    "length of a value": (
        config(f'<Label value="{"x" * 300}"/>'),
        config(f'<Label value="{"x" * 301}"/>'),
        "value of the label 'x.*300 characters, got 301.*<Label",
    ),
    "length of an alias": (
        config(f'<Label value="a" alias="{"x" * 300}"/>'),
        config(f'<Label value="a" alias="{"x" * 301}"/>'),
        "alias of the label 'a'.*300 characters, got 301",
    ),
    "length of a phrase": (
        labelled(f'predicted_values="a,{"x" * 300}"'),
        labelled(f'predicted_values="a,{"x" * 301}"'),
        "predicted_values of the label 'a'.*300 characters each",
    ),
    "controls": (controls("BrushLabels", 100), controls("BrushLabels", 101), "100 controls.*BrushLabels100"),
    "choices": (
        controls("Choices", 100, '<Choice value="a"/>'),
        controls("Choices", 101, '<Choice value="a"/>'),
        "100 controls.*Choices100",
    ),
    "shapes x labels": (crossed(10, 10), crossed(11, 10), "100 controls.*<Brush name=.s10"),
    "images of a control": (for_images(100), for_images(101), "100 names in toName, got 101.*<BrushLabels"),
    "length of a control's name": (
        config(CAT, brush=f'name="{"n" * 300}" toName="img"'),
        config(CAT, brush=f'name="{"n" * 301}" toName="img"'),
        "names of at most 300 characters, got 301.*<BrushLabels",
    ),
    "length of a field's name": (
        config(CAT, image=f'name="img" value="${"n" * 300}"'),
        config(CAT, image=f'name="img" value="${"n" * 301}"'),
        "names of at most 300 characters, got 301.*<Image",
    ),
    "length of an image's name": (
        config(CAT, brush=f'name="b" toName="{"n" * 300}"', image=f'name="{"n" * 300}" value="$i"'),
        config(CAT, brush=f'name="b" toName="{"n" * 301}"', image=f'name="{"n" * 301}" value="$i"'),
        "names of at most 300 characters, got 301.*<Image",
    ),
    "depth": (nested(100), nested(101), "100 deep, <Label> is deeper"),
    "tags": (
        config(CAT).replace("</View>", "<x/>" * 49_996 + "</View>"),
        config(CAT).replace("</View>", "<x/>" * 49_997 + "</View>"),
        "50,000 tags",
    ),
}


@pytest.mark.parametrize(("within", "beyond", "message"), LIMITS.values(), ids=LIMITS)
def test_what_a_config_costs_is_limited(within: str, beyond: str, message: str) -> None:
    parse_label_config(within)
    with pytest.raises(LabelConfigError) as caught:
        parse_label_config(beyond)
    assert re.search(message, str(caught.value), re.DOTALL)
    assert len(str(caught.value)) < 1000


def test_rivals_of_choices_count_as_their_prompts() -> None:
    """A question about one label is asked against all the others."""
    brush = f'<Label value="0" predicted_values="{"a," * 10_000}"/><Label value="1"/>'
    questions = "".join(f'<Choices name="c{i}" toName="img"><Choice value="1"/></Choices>' for i in range(3))
    xml = config(brush).replace("</View>", questions + "</View>")
    with pytest.raises(LabelConfigError, match="32,766 prompts in all"):
        parse_label_config(xml)
    assert len(parse_label_config(xml.replace('name="c2"', 'name="c2" predict="false"')).controls) == 3


def test_an_image_that_is_named_twice_is_answered_once() -> None:
    xml = config(CAT, brush=f'name="b" toName="{"img," * 5000}"')
    assert [control.to_name for control in parse_label_config(xml).controls] == ["img"]


def test_of_many_controls_that_are_not_served_some_are_named() -> None:
    shapes = "".join(f'<Brush name="s{i}" toName="img"/>' for i in range(1000))
    skipped = parse_label_config(config(CAT).replace("</View>", shapes + "</View>")).skipped
    assert len(skipped) == 21
    assert "and more controls" in skipped[-1]


LONG = "x" * 100_000
LONG_TEXTS = {
    "toName": config(CAT, brush=f'name="b" toName="{LONG}"'),
    "an image's name": config(CAT, image=f'name="{LONG}" value="$i"'),
    "name used twice": config(CAT).replace('"brush"', f'"{LONG}"').replace("</View>", f'<x name="{LONG}"/></View>'),
    "model_scales": config(CAT, brush=f'name="b" toName="img" model_scales="{LONG}"'),
    "refine": config(CAT, brush=f'name="b" toName="img" refine="{LONG}"'),
    "score_threshold": config(CAT, brush=f'name="b" toName="img" score_threshold="{LONG}"'),
    "predict": config(CAT, brush=f'name="b" toName="img" predict="{LONG}"'),
    "threshold": config(f'<Label value="{"x" * 300}" threshold="{LONG}"/>'),
    "a tag": f"<{LONG}/>",
    "other tags": f'<View><{LONG} name="{LONG}"/></View>',
}


@pytest.mark.parametrize("xml", LONG_TEXTS.values(), ids=LONG_TEXTS)
def test_what_is_said_of_a_config_is_short(xml: str) -> None:
    with pytest.raises(LabelConfigError) as caught:
        parse_label_config(xml, scales=(256, 128))
    assert len(str(caught.value)) < 1000


@settings(max_examples=100)
@given(st.text(alphabet="<>/=\"'&;! ViewBrushLabelsImagenametoNamevalue$[]-", max_size=120))
def test_any_text_is_read_or_refused(text: str) -> None:
    for xml in (text, config(text)):
        with contextlib.suppress(LabelConfigError):
            assert isinstance(parse_label_config(xml), LabelConfig)


AUTO = Others()


@pytest.mark.parametrize(
    ("written", "service", "others"),
    [
        pytest.param("", None, None, id="nothing said"),
        pytest.param("", AUTO, AUTO, id="the service's"),
        pytest.param('others=" "', AUTO, AUTO, id="empty"),
        pytest.param('others="none"', AUTO, None, id="none"),
        pytest.param('others="Auto"', None, AUTO, id="the list, though the service has none"),
        pytest.param('others="cup, plate,cup"', AUTO, Others(("cup", "plate")), id="words"),
    ],
)
def test_others(written: str, service: Others | None, others: Others | None) -> None:
    control = parse_label_config(labelled(brush=written), others=service).controls[0]
    assert control.others == others


def test_others_decide_the_version() -> None:
    said = {
        parse_label_config(labelled(brush=f'others="{text}"')).identity for text in ("none", "auto", "cup", "plate")
    }
    assert len(said) == 4
    assert parse_label_config(labelled()).identity in said, "none is what nothing said is, where the service has none"


@pytest.mark.parametrize(
    ("others", "message"),
    [(",".join(map(str, range(1001))), "at most 1000 others, got 1,001"), ("x" * 301, "at most 300 characters")],
    ids=["too many", "too long"],
)
def test_others_are_limited(others: str, message: str) -> None:
    with pytest.raises(LabelConfigError, match=message):
        parse_label_config(labelled(brush=f'others="{others}"'))


def test_others_without_a_word() -> None:
    with pytest.raises(LabelConfigError, match='others="none"'):
        parse_label_config(labelled(brush='others=", ,"'))


@pytest.mark.parametrize(
    ("written", "learns"), [("", True), ('learn="true"', True), ('learn=" False "', False), ('learn=""', True)]
)
def test_whether_a_control_learns(written, learns):
    control = parse_label_config(labelled(brush=written)).controls[0]
    assert control.learns is learns
    assert control.identity == parse_label_config(labelled()).controls[0].identity, "no prediction depends on it alone"


def test_learn_is_true_or_false():
    with pytest.raises(LabelConfigError, match='learn is "true" or "false"'):
        parse_label_config(labelled(brush='learn="sometimes"'))


SURFACES = '<Label value="Sky"/><Label value="Himmel" predicted_values="sky, cloud"/><Label value="Sofa" alias="sky"/>'
OWN = '<Label value="road" stuff="false"/><Label value="Cat" stuff="true"/><Label value="Background" alias="wall"/>'


@pytest.mark.parametrize(
    ("written", "service", "expected"),
    [
        pytest.param("", False, (False,) * 3, id="nothing said"),
        pytest.param("", True, (True,) * 3, id="the service's"),
        pytest.param('stuff="usual"', False, (True,) * 3, id="the control's"),
        pytest.param('stuff=" NONE "', True, (False,) * 3, id="not this control's"),
    ],
)
def test_stuff_by_words(written: str, service: bool, expected: tuple[bool, ...]) -> None:
    read = parse_label_config(config(SURFACES + OWN, brush=f'name="brush" toName="img" {written}'), usual_stuff=service)
    [control] = read.controls
    assert tuple(label.is_stuff for label in control.drawn) == (*expected, False, True), "what a label says holds"
    assert tuple(label.stuff_by_words for label in control.drawn) == (*expected, False, False)
    assert control.background == ("a photo of a wall",)
    assert not any(label.is_stuff for label in control.labels if label.is_background)
    [note] = read.notes or ("",)
    assert ("'Sky', 'Himmel', 'sky'" in note and "'road'" not in note and "'Cat'" not in note) == any(expected)


def test_stuff_by_words_is_what_it_is_when_said() -> None:
    by_words = parse_label_config(config('<Label value="Sky"/>'), usual_stuff=True)
    said = parse_label_config(config('<Label value="Sky" stuff="true"/>'))
    assert by_words.identity == said.identity
    assert (len(by_words.notes), said.notes) == (1, ())
    without = config('<Label value="Cat"/>')
    assert parse_label_config(without, usual_stuff=True).identity == parse_label_config(without).identity


def test_stuff_by_words_of_labels_in_tasks() -> None:
    xml = config("", brush='name="brush" toName="img" value="$labels"')
    on, off = (parse_label_config(xml, usual_stuff=usual) for usual in (True, False))
    assert on.identity != off.identity
    data = {"image": "x", "labels": ["sky", "cat", {"value": "road", "stuff": "false"}]}
    assert [label.is_stuff for label in on.for_task(data).controls[0].drawn] == [True, False, False]
    assert [label.is_stuff for label in off.for_task(data).controls[0].drawn] == [False, False, False]


def test_stuff_of_a_control_is_usual_or_none() -> None:
    with pytest.raises(LabelConfigError, match='stuff="usual"'):
        parse_label_config(labelled(brush='stuff="true"'))


@pytest.mark.parametrize(("said", "stuff"), [('stuff="false"', False), ("", True)])
def test_a_choice_is_stuff_by_words_unless_the_label_says_otherwise(said: str, stuff: bool) -> None:
    xml = (
        f'<View>{IMAGE}<Choices name="c" toName="img"><Choice value="Sky"/><Choice value="Cat"/></Choices>'
        f'<BrushLabels name="b" toName="img"><Label value="Sky" {said}/><Label value="Cat"/></BrushLabels></View>'
    )
    choices, _ = parse_label_config(xml, usual_stuff=True).controls
    assert [(label.is_stuff, label.stuff_by_words) for label in choices.drawn] == [(stuff, stuff), (False, False)]


def test_many_are_not_all_named() -> None:
    many = "".join(f'<Label value="sky {number} sky"/>' for number in range(25))
    [note] = parse_label_config(config(many), usual_stuff=True).notes
    assert "'sky 19 sky' and more;" in note
