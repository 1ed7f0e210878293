"""What a config asks for, once it is read: areas, scores, labels that stand in tasks, and what decides a prediction."""

import json
from dataclasses import replace

import pytest
from learned import made_up

from backend.errors import TaskError
from backend.labeling.controls import (
    Area,
    LabelError,
    LabelRules,
    MaskControl,
    MaskLabel,
    make_label,
    parse_score,
    task_labels,
)
from backend.labeling.reader import parse_label_config
from backend.labeling.taught import Taught
from clipdiy.vocabulary import Vocabulary

IMAGE = '<Image name="img" value="$image"/>'
CAT = '<Label value="Cat"/>'


def config(labels: str, *, brush: str = 'name="brush" toName="img"', image: str = 'name="img" value="$image"') -> str:
    return f"<View><Image {image}/><BrushLabels {brush}>{labels}</BrushLabels></View>"


AREAS: dict[str, tuple[str, Area | str]] = {
    "share": ("0.01", Area(0.01)),
    "percent": (" 1 % ", Area(0.01)),
    "pixels": ("200 PX", Area(200, "px")),
    "nothing": ("0", Area(0)),
    "all": ("1", Area(1)),
    "more than all": ("1.01", "from 0 to 1, got 1.01"),
    "more than all, percent": ("101%", "from 0 to 100, got 101"),
    "below nothing": ("-1px", "from 0 to inf, got -1"),
    "endless": ("infpx", "from 0 to inf, got inf"),
    "no number": ("much", "expected a number, got 'much'"),
    "no number, very long": ("x" * 1000, "expected a number, got 'x{40}'$"),
    "not a number": ("nan", "got nan"),
}


@pytest.mark.parametrize(("text", "area"), AREAS.values(), ids=AREAS)
def test_areas(text: str, area: Area | str) -> None:
    if isinstance(area, Area):
        assert Area.parse(text) == area
        return
    with pytest.raises(ValueError, match=area):
        Area.parse(text)


def test_areas_in_pixels() -> None:
    assert Area(0.25).pixels((10, 20)) == 50
    assert Area(7, "px").pixels((10, 20)) == 7


def test_scores() -> None:
    assert (parse_score("0.3"), parse_score(" 30% "), parse_score("1")) == (0.3, 0.3, 1.0)
    for text in ("30", "101%", "-0.1", "sure"):
        with pytest.raises(ValueError, match="expected a number"):
            parse_score(text)


BAD_LABELS: dict[str, tuple[dict[str, str], str, str]] = {
    "threshold": ({"value": "a", "threshold": "7"}, "threshold", "from 0 to 1, got 7"),
    "least area": ({"value": "a", "min_area": "x"}, "min_area", "expected a number"),
    "stuff": ({"value": "a", "stuff": "yes"}, "stuff", 'expected "true" or "false", got \'yes\''),
    "long value": ({"value": "a" * 301}, "value", "at most 300 characters, got 301"),
    "long alias": ({"value": "a", "alias": "b" * 301}, "alias", "at most 300 characters, got 301"),
    "long phrase": ({"value": "a", "predicted_values": "b" * 301}, "predicted_values", "at most 300 characters each"),
    "many phrases": ({"value": "a", "predicted_values": "b," * 16_384}, "predicted_values", "16,384 phrases"),
}


@pytest.mark.parametrize(("given", "attribute", "problem"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_what_is_wrong_with_a_label(given: dict[str, str], attribute: str, problem: str) -> None:
    with pytest.raises(LabelError) as caught:
        make_label(given, LabelRules(templates=("a {}", "b {}")))
    assert caught.value.attribute == attribute
    assert problem in caught.value.problem
    assert str(caught.value).startswith(f"{attribute}: ")


def test_a_label_without_a_name_is_none() -> None:
    assert make_label({"value": " ", "alias": ""}, LabelRules()) is None


def test_what_is_stuff() -> None:
    given = {"sky": "true", "grass": " TRUE ", "cat": "false", "dog": "", "Background": "true"}
    labels = [make_label({"value": value, "stuff": stuff}, LabelRules()) for value, stuff in given.items()]
    assert [label is not None and label.is_stuff for label in labels] == [True, True, False, False, False]
    (control,) = parse_label_config(config('<Label value="cat"/><Label value="Sky" STUFF="true"/>')).controls
    assert [label.stuff for label in control.vocabulary.labels] == [False, False, True]


def test_prompts_are_counted_with_those_of_the_background() -> None:
    (control,) = parse_label_config(
        config('<Label value="Cat" predicted_values="cat, kitten"/><Label value="Background" alias="wall"/>')
    ).controls
    assert control.prompt_count == 3


DYNAMIC = f'<View>{IMAGE}<BrushLabels name="b" toName="img" value="$labels" prompt="a {{}}" min_area="9px"/></View>'


def dynamic(labels: object, xml: str = DYNAMIC) -> MaskControl:
    (control,) = parse_label_config(xml).for_task({"image": "x", "labels": labels}).controls
    return control


def test_labels_from_the_tasks_data() -> None:
    control = dynamic(
        [
            {"value": "Dyn A", "background": "#0033ff"},
            "plain",
            {"value": "Katze", "alias": "cat", "predicted_values": "kitten, cat", "threshold": 0.5, "min_area": "1%"},
            {"value": "Background", "predicted_values": "wall"},
            {"background": "red"},
            {"value": "sky", "stuff": True},
        ]
    )
    assert control.drawn == (
        MaskLabel("Dyn A", ("a Dyn A",), min_area=Area(9, "px")),
        MaskLabel("plain", ("a plain",), min_area=Area(9, "px")),
        MaskLabel("cat", ("a kitten", "a cat"), threshold=0.5, min_area=Area(0.01)),
        MaskLabel("sky", ("a sky",), min_area=Area(9, "px"), is_stuff=True),
    )
    assert control.background == ("a wall",)


def test_labels_of_a_path() -> None:
    assert [label.value for label in task_labels({"doc": {"labels": ["a"]}}, "doc.labels", LabelRules())] == ["a"]


WITHOUT_LABELS = {
    "nothing": None,
    "text": "Cat, Dog",
    "number in it": [1],
    "bad threshold": [{"value": "Cat", "threshold": 7}],
    "long": ["x" * 301],
    "too many phrases": [{"value": "x", "predicted_values": "a," * 20_000}] * 2,
}


@pytest.mark.parametrize("labels", WITHOUT_LABELS.values(), ids=WITHOUT_LABELS)
def test_a_task_without_the_labels_it_should_have_fails_alone(labels: object) -> None:
    with pytest.raises(TaskError, match="labels"):
        dynamic(labels)


def test_the_labels_of_a_task_are_limited_over_all_controls_together() -> None:
    two = DYNAMIC.replace("</View>", DYNAMIC.partition("/>")[2].replace('name="b"', 'name="b2"'))
    config_of_two = parse_label_config(two)

    def labels(phrases: int) -> list[object]:
        return [{"value": "x", "predicted_values": "a," * phrases}]

    assert len(config_of_two.for_task({"labels": labels(16_382)}).controls) == 2
    with pytest.raises(TaskError, match="32,766 prompts") as caught:
        config_of_two.for_task({"labels": labels(16_383)})
    assert caught.value.reason == "too-large"


def test_an_empty_list_of_labels_is_nothing_to_look_for() -> None:
    assert dynamic([]).drawn == ()


def test_words_speak_for_labels_without_examples() -> None:
    read = parse_label_config(config(CAT + '<Label value="Dog"/><Label value="Fish"/>'))
    [control] = read.controls
    assert control.by_words is control.vocabulary

    def taught(vocabulary: Vocabulary, **changes: object) -> MaskControl:
        learned = replace(made_up(vocabulary), **changes)
        return read.taught({"brush": Taught(1, learned)}).controls[0]

    two = Vocabulary((control.vocabulary.labels[0], *control.vocabulary.labels[1:3]))
    left = taught(two).by_words
    assert left is not None
    assert left.names == ("background", "Fish")
    assert taught(control.vocabulary).by_words is None
    assert taught(control.vocabulary, naming=None).by_words == control.vocabulary, "the guard kept the words"


def test_controls_ask_the_same_where_nothing_differs_that_decides_an_answer() -> None:
    read = parse_label_config(config(CAT))
    [control] = read.controls
    assert replace(control, from_name="other", kind="bitmasklabels").question == control.question
    [taught] = read.taught({"brush": Taught(1, made_up(control.vocabulary))}).controls
    others = [
        taught,
        parse_label_config(config('<Label value="Dog"/>')).controls[0],
        parse_label_config(config(CAT, brush='name="brush" toName="img" others="cup"')).controls[0],
        replace(control, scales=(256,)),
        replace(control, refine=not control.refine),
    ]
    assert all(other.question != control.question for other in others)


def identity(labels: str, **parts: str) -> str:
    return parse_label_config(config(labels, **parts)).identity


SAME = {
    "colour and hotkey": '<Label value="Cat" background="#00f" hotkey="1"/>',
    "the prompt spelled out": '<Label value="Cat" predicted_values="Cat"/>',
    "t0 spelled out": '<Label value="Cat"/><Label value="Background"/>',
    "no stuff spelled out": '<Label value="Cat" stuff="false"/>',
}
OTHER = {
    "value": identity('<Label value="Dog" predicted_values="Cat"/>'),
    "prompt": identity('<Label value="Cat" predicted_values="lynx"/>'),
    "background prompt": identity('<Label value="Cat"/><Label value="Background" alias="wall"/>'),
    "one more label": identity('<Label value="Cat"/><Label value="Dog"/>'),
    "order": identity('<Label value="Dog"/><Label value="Cat"/>'),
    "control's name": identity(CAT, brush='name="b" toName="img"'),
    "data key": identity(CAT, image='name="img" value="$other"'),
    "template": parse_label_config(config(CAT), templates=("{}",)).identity,
    "prompt of the control": identity(CAT, brush='name="brush" toName="img" prompt="a {}"'),
    "threshold": identity('<Label value="Cat" threshold="0.5"/>'),
    "stuff": identity('<Label value="Cat" stuff="true"/>'),
    "stuff and threshold": identity('<Label value="Cat" stuff="true" threshold="0.5"/>'),
    "other threshold": identity('<Label value="Cat" threshold="0.6"/>'),
    "least area": identity('<Label value="Cat" min_area="1%"/>'),
    "least area in pixels": identity('<Label value="Cat" min_area="1px"/>'),
    "scales": identity(CAT, brush='name="brush" toName="img" model_scales="128"'),
    "no refinement": parse_label_config(
        config(CAT, brush='name="brush" toName="img" refine="none"'), refining="always"
    ).identity,
    "tolerance": identity(CAT, brush='name="brush" toName="img" tolerance="3"'),
    "parts": identity(CAT, brush='name="brush" toName="img" parts="separate"'),
    "fewer parts": identity(CAT, brush='name="brush" toName="img" parts="separate" max_parts="3"'),
    "pages": identity(CAT, image='name="img" valueList="$image"'),
    "form": identity(CAT).replace("brushlabels", "bitmasklabels"),
    "labels of tasks": identity("", brush='name="brush" toName="img" value="$labels"'),
    "the rule for them": identity("", brush='name="brush" toName="img" value="$labels" min_area="1%"'),
    "other labels of tasks": identity("", brush='name="brush" toName="img" value="$words"'),
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


# What competes and stays empty
