"""Numbers of classes follow the config."""

import pytest

from backend.errors import ExportError, LabelConfigError
from backend.export.classes import IGNORED, Classes, classes_of, drawing_controls, read_config


def config(body):
    return read_config(f'<View><Image name="img" value="$image"/>{body}</View>')


def brush(*labels, name="brush", more=""):
    tags = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<BrushLabels name="{name}" toName="img" {more}>{tags}</BrushLabels>'


def test_numbers_follow_the_order_of_the_config_and_not_of_the_alphabet():
    classes = classes_of(config(brush("zebra", "Background", "ant")).controls)
    assert classes.names == ("zebra", "ant")
    assert [classes.number_of([label]) for label in ("zebra", "ant", "Background")] == [1, 2, 0]


def test_labels_of_several_controls_are_classes_once():
    made = config(brush("a", "b") + brush("c", "b", name="second"))
    assert classes_of(drawing_controls(made)).names == ("a", "b", "c")
    assert classes_of(drawing_controls(made, ["second"])).names == ("c", "b")


@pytest.mark.parametrize(
    ("labels", "number"),
    [
        ((), IGNORED),
        (("gone",), IGNORED),
        (("bad",), IGNORED),
        (("nothing",), 0),
        (("b", "a"), 1),
        (("b", "nothing"), 2),
        (("gone", "b"), 2),
        (("gone", "nothing"), 0),
    ],
    ids=str,
)
def test_number_of_a_region(labels, number):
    classes = Classes(("a", "b"), frozenset({"nothing"}), frozenset({"bad"}))
    assert classes.number_of(labels) == number


def test_labels_to_ignore_have_no_number_of_their_own():
    classes = classes_of(config(brush("a", "unsure", "b")).controls, ["unsure"])
    assert classes.names == ("a", "b")
    assert classes.number_of(["unsure"]) == IGNORED


def test_the_background_may_be_ignored():
    classes = classes_of(config(brush("a", "Background")).controls, ["Background"])
    assert classes.number_of(["Background"]) == IGNORED


def test_an_unknown_label_to_ignore_is_named():
    with pytest.raises(ExportError, match=r"no label is called c; there are: a, b"):
        classes_of(config(brush("a", "b")).controls, ["c"])


def test_too_many_labels():
    with pytest.raises(ExportError, match="at most 10,000"):
        classes_of(config(brush(*(f"l{i}" for i in range(10_001)))).controls)


def test_what_is_left_to_people_is_exported_too():
    made = config(brush("a", more='predict="false"') + brush("b", name="second", more='PREDICT="false"'))
    assert [control.from_name for control in drawing_controls(made)] == ["brush", "second"]
    labels = '<Labels name="l" toName="img" predict="false"><Label value="a"/></Labels>'
    made = config(f'{labels}<Brush name="b" toName="img" predict="false"/>')
    assert [control.from_name for control in drawing_controls(made)] == ["b"]


def test_boxes_only_where_there_is_nothing_better():
    boxes = '<RectangleLabels name="boxes" toName="img"><Label value="a"/></RectangleLabels>'
    both = config(brush("a") + boxes)
    assert [control.from_name for control in drawing_controls(both)] == ["brush"]
    assert [control.from_name for control in drawing_controls(both, ["boxes"])] == ["boxes"]
    assert [control.from_name for control in drawing_controls(config(boxes))] == ["boxes"]


def test_choices_do_not_draw():
    choices = '<Choices name="which" toName="img"><Choice value="a"/></Choices>'
    assert [control.from_name for control in drawing_controls(config(choices + brush("a")))] == ["brush"]
    with pytest.raises(ExportError, match=r"no control that draws$"):
        drawing_controls(config(choices))
    with pytest.raises(ExportError, match=r"called which; there are: brush"):
        drawing_controls(config(choices + brush("a")), ["which"])


def test_a_config_without_pictures():
    with pytest.raises(LabelConfigError):
        read_config('<View><Text name="t" value="$t"/></View>')
