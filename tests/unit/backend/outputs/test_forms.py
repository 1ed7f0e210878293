"""One table decides the form, and every kind of control that draws is in it."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np
import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from backend.labeling.controls import ControlKind, MaskControl, MaskLabel
from backend.labeling.reader import parse_label_config
from backend.outputs import forms
from backend.outputs.regions import make_prediction, make_regions, make_suggestion
from backend.outputs.shape import Shape
from clipdiy.segmentation import Segmentation

MASK = np.array([[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]], bool)
LABELLED = """<View><Image name="img" value="$image"/>
  <{0} name="c" toName="img"><Label value="Cat" threshold="1" min_area="99px"/></{0}></View>"""
APART = """<View><Image name="img" value="$image"/>
  <Labels name="l" toName="img"><Label value="Cat"/></Labels><{0} name="c" toName="img"/></View>"""
TAGS = {
    **{tag: LABELLED.format(tag) for tag in ("BrushLabels", "BitmaskLabels", "PolygonLabels", "RectangleLabels")},
    **{tag: APART.format(tag) for tag in ("Brush", "Bitmask", "Polygon", "Rectangle")},
}


def control_of(xml: str) -> MaskControl:
    return parse_label_config(xml).controls[0]


def test_every_kind_that_draws_has_a_writer() -> None:
    for kind in set(get_args(ControlKind)) - {"choices"}:
        assert callable(forms.writer_of(kind))
    assert {control_of(xml).kind for xml in TAGS.values()} == set(get_args(ControlKind)) - {"choices"}


def test_a_new_form_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_dots(label_map: Any, positions: Sequence[int], _control: MaskControl) -> Iterator[Shape]:
        for position in positions:
            yield Shape(position, {"dots": int((label_map == position).sum())})

    monkeypatch.setitem(forms.WRITERS, "brush", write_dots)
    label_map = MASK.astype(np.uint16)
    segmentation = Segmentation(label_map, np.array([8, 4]) / 12, np.array([0, 1], np.float32), 1.0)
    control = control_of(APART.format("Brush"))
    drawn, named = make_regions(segmentation, control, task_id=1, model_version="v")
    assert (drawn["value"], named["value"]) == ({"dots": 4}, {"dots": 4, "labels": ["Cat"]})
    assert drawn["id"] == named["id"]


@pytest.mark.parametrize("tag", TAGS)
def test_a_suggestion_has_the_form_of_its_control(tag: str) -> None:
    """However small and unsure it is: it was asked for."""
    control = control_of(TAGS[tag])
    results = make_suggestion(MASK, control, control.drawn[0], 0.25, item_index=2)
    parts = 2 if "Polygon" in tag or "Rectangle" in tag else 1
    assert len(results) == parts * (1 if tag.endswith("Labels") else 2)
    assert len({result["id"] for result in results}) == parts
    assert {result["item_index"] for result in results} == {2}
    assert {result["score"] for result in results} == {0.25}
    assert {(result["original_height"], result["original_width"]) for result in results} == {(3, 4)}
    assert [result["value"].get("labels", result["value"].get(control.kind)) for result in results].count(
        ["Cat"]
    ) == parts
    prediction = make_prediction([results], score=0.5, model_version="v")
    assert LabelInterface(TAGS[tag]).validate_prediction(prediction, return_errors=True) == []
    again = make_suggestion(MASK, control, control.drawn[0], 0.25, item_index=2)
    assert not {result["id"] for result in results} & {result["id"] for result in again}


@pytest.mark.parametrize("tag", TAGS)
def test_a_suggestion_of_no_label_leaves_it_out(tag: str) -> None:
    results = make_suggestion(MASK, control_of(TAGS[tag]), None, 0.25)
    assert {result["type"] for result in results} == {tag.lower()}
    for result in results:
        assert "item_index" not in result
        assert not {"labels", tag.lower()} & set(result["value"])


def test_an_empty_mask_is_no_suggestion() -> None:
    label = MaskLabel("Cat", ("a cat",))
    assert make_suggestion(np.zeros((3, 4), bool), control_of(TAGS["BrushLabels"]), label, 1.0) == []
