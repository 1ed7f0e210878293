"""A task's pictures become one prediction: every form, every page, each question asked once; valid for Label Studio."""

import base64
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import FakeCore, FakeLoader
from label_studio_sdk.label_interface.interface import LabelInterface
from PIL import Image

from backend.errors import TaskError
from backend.images.pages import ImageKey, pictures_of
from backend.labeling.controls import LabelConfig, MaskControl
from backend.labeling.reader import parse_label_config
from backend.metrics import Metrics
from backend.outputs.brush import decode_mask
from backend.outputs.polygons import fill
from backend.predicting.answer import answer_task
from backend.predicting.predictor import Predictor, PredictorOptions
from clipdiy.features import ImageFeatures
from clipdiy.segmentation import Segmentation

TWO_CATS = np.array(
    [
        [1, 1, 0, 0, 2, 2],
        [1, 1, 0, 0, 2, 2],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
    ],
    np.uint16,
)
SCORES = np.array([0, 0.8, 0.4, 0.6, 0.9], np.float32)
LABELS = '<Label value="Cat"/><Label value="Dog"/><Label value="Cow"/>'


class Asked:
    """Gives every picture the same map, and counts."""

    def __init__(self, label_map: np.ndarray = TWO_CATS) -> None:
        self.label_map = label_map
        self.questions: list[tuple[str, ...]] = []

    def __call__(self, features: ImageFeatures, control: MaskControl) -> Segmentation:
        self.questions.append(control.vocabulary.names)
        classes = len(control.vocabulary)
        label_map = np.where(self.label_map < classes, self.label_map, 0).astype(np.uint16)
        area = np.bincount(label_map.ravel(), minlength=classes) / label_map.size
        score = np.where(area > 0, np.resize(SCORES, classes), 0).astype(np.float32)
        return Segmentation(label_map, area, score, 0.5)


def features(*keys: ImageKey) -> dict[ImageKey, ImageFeatures]:
    return {key: ImageFeatures((), None, (4, 6), "fake") for key in keys or (("image", None),)}


def view(body: str, image: str = 'value="$image"') -> str:
    return f'<View><Image name="img" {image}/>{body}</View>'


def answer(xml: str, segment: Asked | None = None, data: Any = None, keys: tuple[ImageKey, ...] = ()) -> dict[str, Any]:
    task = {"id": 7, "data": {"image": "x"} if data is None else data}
    config = parse_label_config(xml)
    prediction = answer_task(task, config, features(*keys), segment or Asked(), model_version="v1")
    assert LabelInterface(xml).validate_prediction(prediction, return_errors=True) == []
    assert json.loads(json.dumps(prediction)) == prediction
    return prediction


def control(tag: str, attributes: str = "", labels: str = LABELS) -> str:
    return f'<{tag} name="{tag}" toName="img" {attributes}>{labels}</{tag}>'


def by_label(prediction: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for region in prediction["result"]:
        [label] = region["value"][region["type"]]
        found.setdefault(label, []).append(region)
    return found


def pixels(region: dict[str, Any]) -> np.ndarray:
    """Paint a region as the browser does."""
    height, width = region["original_height"], region["original_width"]
    value = region["value"]
    if "rle" in value:
        return decode_mask(value["rle"], (height, width)) > 0
    if "imageDataURL" in value:
        header, code = value["imageDataURL"].split(",")
        assert header == "data:image/png;base64"
        image = Image.open(io.BytesIO(base64.b64decode(code)))
        assert (image.mode, image.size) == ("RGBA", (width, height))
        return np.asarray(image)[..., 3] > 0
    if "points" in value:
        assert value["closed"] is True
        return fill(np.array(value["points"]) * (width / 100, height / 100), (height, width))
    painted = np.zeros((height, width), bool)
    x, y = value["x"] * width / 100, value["y"] * height / 100
    right, bottom = x + value["width"] * width / 100, y + value["height"] * height / 100
    painted[round(y) : round(bottom), round(x) : round(right)] = True
    return painted


REGIONS = {"BrushLabels": (1, 1), "BitmaskLabels": (1, 1), "PolygonLabels": (2, 1), "RectangleLabels": (2, 1)}


@pytest.mark.parametrize("tag", REGIONS)
def test_each_form_shows_the_same_pixels(tag: str) -> None:
    found = by_label(answer(view(control(tag))))
    assert {label: len(regions) for label, regions in found.items()} == dict(
        zip(("Cat", "Dog"), REGIONS[tag], strict=True)
    )
    for position, label in ((1, "Cat"), (2, "Dog")):
        painted = np.any([pixels(region) for region in found[label]], axis=0)
        np.testing.assert_array_equal(painted, np.equal(TWO_CATS, position))
        assert all(region["score"] == round(float(SCORES[position]), 4) for region in found[label])


def test_polygons_and_boxes_are_one_for_each_connected_part_in_percent() -> None:
    cats = by_label(answer(view(control("RectangleLabels"))))["Cat"]
    assert [region["value"] for region in cats] == [
        {"x": 0, "y": 0, "width": 33.3333, "height": 50, "rotation": 0, "rectanglelabels": ["Cat"]},
        {"x": 50, "y": 75, "width": 16.6667, "height": 25, "rotation": 0, "rectanglelabels": ["Cat"]},
    ]
    polygons = by_label(answer(view(control("PolygonLabels"))))["Cat"]
    assert len({region["id"] for region in polygons + cats}) == 4


def test_several_forms_of_the_same_labels_are_asked_once() -> None:
    asked = Asked()
    tags = [*REGIONS]
    prediction = answer(
        view("".join(map(control, tags)) + control("Choices", 'choice="multiple"', LABELS.replace("Label", "Choice"))),
        asked,
    )
    assert [*dict.fromkeys(region["from_name"] for region in prediction["result"])] == [*tags, "Choices"]
    assert len({region["id"] for region in prediction["result"]}) == len(prediction["result"])
    assert len(asked.questions) == 1


@pytest.mark.parametrize("shape", ["Brush", "Bitmask", "Polygon", "Rectangle"])
def test_a_shape_and_its_labels_are_two_results_of_one_region(shape: str) -> None:
    body = f'<Labels name="names" toName="img">{LABELS}</Labels><{shape} name="shape" toName="img"/>'
    results = answer(view(body))["result"]
    pairs = list(zip(results[::2], results[1::2], strict=True))
    assert [(drawn["type"], named["type"]) for drawn, named in pairs] == [(shape.lower(), "labels")] * len(pairs)
    assert all(drawn["id"] == named["id"] for drawn, named in pairs)
    assert {named["value"]["labels"][0] for _, named in pairs} == {"Cat", "Dog"}
    assert "labels" not in pairs[0][0]["value"]
    np.testing.assert_array_equal(
        np.any([pixels(drawn) for drawn, named in pairs if named["value"]["labels"] == ["Cat"]], axis=0), TWO_CATS == 1
    )


# --- choices ----------------------------------------------------------------------------------------------------------

CHOICES = LABELS.replace("Label", "Choice")


def chosen(attributes: str, beside: str = "", segment: Asked | None = None) -> list[str]:
    results = answer(view(control("Choices", attributes, CHOICES) + beside), segment)["result"]
    return [value for region in results if region["type"] == "choices" for value in region["value"]["choices"]]


def test_choices_are_the_labels_that_are_there() -> None:
    assert chosen('choice="multiple"') == ["Cat", "Dog"]
    assert chosen('choice="single"') == ["Cat"]
    assert chosen("") == ["Cat"]


def test_nothing_there_is_nothing_chosen() -> None:
    assert chosen('choice="multiple"', segment=Asked(np.zeros((4, 6), np.uint16))) == []


def test_labels_that_are_no_choice_only_compete() -> None:
    # Cow is at position 1 of the brush; for the choices it comes behind them.
    brush = control("BrushLabels", labels='<Label value="Cow"/><Label value="Cat"/><Label value="Emu"/>')
    everything = np.array([[0, 1, 2, 3, 4]], np.uint16)
    assert chosen('choice="multiple"', brush, Asked(everything)) == ["Cat", "Dog", "Cow"]


# --- steering ---------------------------------------------------------------------------------------------------------


def test_what_is_not_sure_enough_is_not_answered() -> None:
    assert [*by_label(answer(view(control("BrushLabels", 'score_threshold="0.5"'))))] == ["Cat"]
    own = LABELS.replace('value="Dog"', 'value="Dog" threshold="0.4"')
    assert [*by_label(answer(view(control("BrushLabels", 'score_threshold="0.9"', own))))] == ["Dog"]


@pytest.mark.parametrize("tag", REGIONS)
def test_parts_that_are_too_small_are_not_answered(tag: str) -> None:
    labels = LABELS.replace('value="Dog"', 'value="Dog" min_area="5px"')
    found = by_label(answer(view(control(tag, 'min_area="10%"', labels))))
    [cat] = found["Cat"]
    expected = TWO_CATS == 1
    expected[3, 3] = False
    np.testing.assert_array_equal(pixels(cat), expected)
    assert "Dog" not in found


# --- labels and pages from the task -----------------------------------------------------------------------------------

DYNAMIC = view(control("BrushLabels", 'value="$labels"', ""))


def test_every_task_gets_its_own_labels() -> None:
    asked = Asked()
    first = answer(DYNAMIC, asked, {"image": "x", "labels": [{"value": "Fox"}, {"value": "Owl", "alias": "owl"}]})
    second = answer(DYNAMIC, asked, {"image": "x", "labels": ["Elk"]})
    assert [[*by_label(prediction)] for prediction in (first, second)] == [["Fox", "owl"], ["Elk"]]
    assert asked.questions == [("background", "Fox", "owl"), ("background", "Elk")]
    assert first["result"][0]["id"] != second["result"][0]["id"], "another label, another region"
    assert first["model_version"] == second["model_version"], "it names the rule: else Label Studio would ask for ever"


def test_no_labels_in_the_task_is_nothing_found() -> None:
    assert answer(DYNAMIC, data={"image": "x", "labels": []})["result"] == []
    with pytest.raises(TaskError, match="list of labels"):
        answer(DYNAMIC, data={"image": "x"})


def test_every_page_has_regions_of_its_own() -> None:
    pages: tuple[ImageKey, ...] = (("pages", 0), ("pages", 1), ("pages", 2))
    xml = view(
        control("BrushLabels") + control("Choices", 'choice="multiple"', CHOICES),
        'valueList="$pages"',
    )
    prediction = answer(xml, data={"pages": ["a", "b", "c"]}, keys=pages)
    masks = [region for region in prediction["result"] if region["type"] == "brushlabels"]
    assert [(region["item_index"], region["value"]["brushlabels"]) for region in masks] == [
        (page, [label]) for page in range(3) for label in ("Cat", "Dog")
    ]
    assert len({region["id"] for region in masks}) == 6
    [choice] = [region for region in prediction["result"] if region["type"] == "choices"]
    assert "item_index" not in choice
    per_item = answer(xml.replace("choice=", 'perItem="true" choice='), data={"pages": ["a"]}, keys=pages)
    assert [region["item_index"] for region in per_item["result"] if region["type"] == "choices"] == [0, 1, 2]


def pages_of(data: Any, image: str = 'valueList="$pages"') -> dict[ImageKey, str]:
    return pictures_of(data, parse_label_config(view(control("BrushLabels"), image)).controls)


def test_the_pictures_of_a_task() -> None:
    assert pages_of({"pages": ["a", "b"]}) == {("pages", 0): "a", ("pages", 1): "b"}
    assert pages_of({"pages": "a"}) == {("pages", 0): "a"}
    assert pages_of({"image": "a"}, 'value="$image"') == {("image", None): "a"}


@pytest.mark.parametrize("pages", [[], [""], [1], None, {}, ["a"] * 101], ids=repr)
def test_pages_that_are_none(pages: object) -> None:
    with pytest.raises(TaskError, match="pages"):
        pages_of({"pages": pages})


def test_the_predictor_brings_in_every_page() -> None:
    predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(), Metrics())
    config: LabelConfig = parse_label_config(view(control("BrushLabels"), 'valueList="$pages"'))
    whole, broken = predictor.predict(
        [{"id": 1, "data": {"pages": ["ok:8x8", "ok:10x12"]}}, {"id": 2, "data": {"pages": ["ok", "fail:timeout"]}}],
        config,
    )
    predictor.close()
    assert isinstance(whole, dict)
    assert [(r["item_index"], r["original_height"], r["original_width"]) for r in whole["result"]] == [
        *((0, 8, 8), (1, 10, 12))
    ]
    assert broken == [], "a task is whole or not done"


def test_the_score_of_a_task_is_the_mean_of_what_was_asked() -> None:
    def score(*image_scores: float) -> float:
        left = iter(image_scores)
        keys: tuple[ImageKey, ...] = tuple(("pages", page) for page in range(len(image_scores)))
        config = parse_label_config(view(control("BrushLabels") + control("PolygonLabels"), 'valueList="$pages"'))
        asked: Any = lambda features, of: replace(Asked()(features, of), image_score=next(left))  # noqa: E731
        prediction = answer_task(
            {"id": 7, "data": {}}, config, features(*keys) if keys else {}, asked, model_version="v1"
        )
        assert next(left, None) is None, "every question once"
        return float(prediction["score"])

    assert score(0.2, 0.7) == pytest.approx(0.45)
    assert score(0.2, 0.3, 0.7) == pytest.approx(0.4)
    assert score() == 0


def test_a_control_without_labels_costs_the_others_nothing() -> None:
    """A task may name none for one control; what stands behind it is answered all the same."""
    xml = view(
        control("BrushLabels", 'value="$labels"', "")
        + control("RectangleLabels", labels='<Label value="Cat"/>')
        + control("Choices", 'choice="multiple"', '<Choice value="Cat"/>')
        + control("PolygonLabels", labels='<Label value="Cat"/>')
    )
    found = answer(xml, data={"image": "x", "labels": []})["result"]
    assert [*dict.fromkeys(region["from_name"] for region in found)] == ["RectangleLabels", "Choices", "PolygonLabels"]


def test_each_of_two_pictures_gets_the_regions_of_its_own_controls() -> None:
    xml = (
        '<View><Image name="a" value="$first"/><Image name="b" value="$second"/>'
        f'<BrushLabels name="of a" toName="a">{LABELS}</BrushLabels>'
        f'<BrushLabels name="of b" toName="b">{LABELS}</BrushLabels></View>'
    )
    asked = Asked()
    found = answer(xml, asked, {"first": "x", "second": "y"}, (("first", None), ("second", None)))["result"]
    assert [(region["from_name"], region["to_name"]) for region in found] == [("of a", "a")] * 2 + [("of b", "b")] * 2
    assert len(asked.questions) == 2


def test_one_field_as_a_picture_and_as_the_only_page_of_a_list() -> None:
    xml = (
        '<View><Image name="a" value="$image"/><Image name="b" valueList="$image"/>'
        f'<BrushLabels name="of a" toName="a">{LABELS}</BrushLabels>'
        f'<BrushLabels name="of b" toName="b">{LABELS}</BrushLabels></View>'
    )
    found = answer(xml, data={"image": "x"}, keys=(("image", None), ("image", 0)))["result"]
    assert [(region["from_name"], region.get("item_index")) for region in found] == [
        *[("of a", None)] * 2,
        *[("of b", 0)] * 2,
    ]


TEXTS = ['6" <nail> & co', "cup, blue", "\N{CAT FACE}", "חתול", "كلب كبير", "犬", "{} $x"]


def test_labels_of_any_text() -> None:
    from xml.sax.saxutils import quoteattr

    for text in TEXTS:
        xml = view(control("BrushLabels", labels=f"<Label value={quoteattr(text)}/>"))
        assert [*by_label(answer(xml))] == [text]
        assert [*by_label(answer(DYNAMIC, data={"image": "x", "labels": [{"value": text}]}))] == [text]


def test_a_thousand_labels_of_which_the_last_is_there() -> None:
    labels = "".join(f'<Label value="label {number}"/>' for number in range(1000))
    last = np.full((4, 6), 1000, np.uint16)
    assert [*by_label(answer(view(control("BrushLabels", labels=labels)), Asked(last)))] == ["label 999"]
