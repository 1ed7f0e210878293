"""What Label Studio gets: every region is checked with the SDK's own validation."""

import copy
import json
import math
import re
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from backend.labeling.reader import MaskControl, parse_label_config
from backend.outputs.brush import decode_mask
from backend.outputs.regions import make_prediction, make_regions
from clipdiy.errors import ShapeError
from clipdiy.segmentation import Segmentation

CONFIG = """<View><Image name="img" value="$image"/><BrushLabels name="brush" toName="img">
  <Label value="Background"/><Label value="Cat"/><Label value="Hund" alias="dog"/><Label value="Cup"/>
</BrushLabels></View>"""


@pytest.fixture
def control() -> MaskControl:
    return parse_label_config(CONFIG).controls[0]


def segmentation(label_map: list[list[int]], classes: int = 4, score: float = 0.5) -> Segmentation:
    classes_hw = np.array(label_map, np.uint16)
    area = np.bincount(classes_hw.ravel(), minlength=classes) / classes_hw.size
    scores = np.where(area > 0, np.float32(score), 0).astype(np.float32)
    return Segmentation(classes_hw, area, scores, image_score=0.25)


TWO_CLASSES = [[0, 1, 1], [3, 3, 1]]


def regions(control: MaskControl, made: Segmentation, task_id: object = 7, version: str = "v1") -> list[dict[str, Any]]:
    return make_regions(made, control, task_id=task_id, model_version=version)


def test_one_region_per_class_that_is_there(control: MaskControl) -> None:
    cat, cup = regions(control, segmentation(TWO_CLASSES))
    assert cat["value"]["brushlabels"] == ["Cat"]
    assert cup["value"]["brushlabels"] == ["Cup"]
    np.testing.assert_array_equal(decode_mask(cat["value"]["rle"], (2, 3)) > 0, [[0, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(decode_mask(cup["value"]["rle"], (2, 3)) > 0, [[0, 0, 0], [1, 1, 0]])


def test_a_region_has_all_that_label_studio_reads_and_no_more(control: MaskControl) -> None:
    (region,) = regions(control, segmentation([[0, 2, 0]], score=0.123456))
    rle = region["value"].pop("rle")
    assert isinstance(region.pop("id"), str)
    assert region == {
        "from_name": "brush",
        "to_name": "img",
        "type": "brushlabels",
        "original_width": 3,
        "original_height": 1,
        "image_rotation": 0,
        "score": 0.1235,
        "value": {"format": "rle", "brushlabels": ["dog"]},
    }
    assert all(type(number) is int for number in rle)


def test_the_background_is_never_drawn(control: MaskControl) -> None:
    assert regions(control, segmentation([[0, 0], [0, 0]])) == []


def test_nothing_found_is_an_empty_result(control: MaskControl) -> None:
    prediction = make_prediction([regions(control, segmentation([[0]]))], score=1.0, model_version="v1")
    assert prediction == {"result": [], "score": 1.0, "model_version": "v1"}
    assert LabelInterface(CONFIG).validate_prediction(prediction)


def test_the_sdk_accepts_the_prediction_and_it_is_json(control: MaskControl) -> None:
    made = segmentation([[0, 1, 2, 3]])
    prediction = make_prediction([regions(control, made)], score=made.image_score, model_version="v1")
    assert LabelInterface(CONFIG).validate_prediction(prediction, return_errors=True) == []
    assert json.loads(json.dumps(prediction)) == prediction


def broken(**changes: Any) -> dict[str, Any]:
    (made,) = make_regions(segmentation([[1]]), parse_label_config(CONFIG).controls[0], task_id=1, model_version="v1")
    region = copy.deepcopy(made)
    region["value"].update(changes.pop("value", {}))
    return make_prediction([[{**region, **changes}]], score=0.5, model_version="v1")


BROKEN = {
    "from_name": broken(from_name="other"),
    "to_name": broken(to_name="other"),
    "type": broken(type="rectanglelabels"),
    "label": broken(value={"brushlabels": ["Horse"]}),
    "value instead of alias": broken(value={"brushlabels": ["Hund"]}),
    "rle": broken(value={"rle": [1, 256]}),
    "score": {**broken(), "score": math.nan},
}


@pytest.mark.parametrize("prediction", BROKEN.values(), ids=BROKEN)
def test_the_sdk_would_have_noticed(prediction: dict[str, Any]) -> None:
    assert LabelInterface(CONFIG).validate_prediction(broken())
    assert not LabelInterface(CONFIG).validate_prediction(prediction)


def test_ids_are_short_stable_and_differ(control: MaskControl) -> None:
    made = segmentation([[1, 2, 3]])
    ids = [region["id"] for region in regions(control, made)]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{10}", region_id) for region_id in ids)
    assert ids == [region["id"] for region in regions(control, segmentation([[3, 1], [2, 2]]))], "not of the mask"
    others = [*regions(control, made, task_id=8), *regions(control, made, version="v2"), *regions(control, made, "7")]
    assert len({*ids, *(region["id"] for region in others)}) == 12


def test_labels_with_one_name_are_two_things() -> None:
    xml = CONFIG.replace('value="Cup"', 'value="Cat" predicted_values="lynx"')
    first, second = regions(parse_label_config(xml).controls[0], segmentation([[1, 3]]))
    assert first["value"]["brushlabels"] == second["value"]["brushlabels"] == ["Cat"]
    assert first["id"] != second["id"]


def test_two_controls_share_a_prediction() -> None:
    xml = CONFIG.replace("</View>", '<BrushLabels name="b2" toName="img"><Label value="Cat"/></BrushLabels></View>')
    one, two = parse_label_config(xml).controls
    both = [regions(one, segmentation([[1]])), regions(two, segmentation([[1]], classes=2))]
    prediction = make_prediction(both, score=0.5, model_version="v1")
    assert [region["from_name"] for region in prediction["result"]] == ["brush", "b2"]
    assert len({region["id"] for region in prediction["result"]}) == 2
    assert LabelInterface(xml).validate_prediction(prediction, return_errors=True) == []


SCORES = {
    "NaN": (math.nan, 0.0),
    "too high": (1.5, 1.0),
    "infinite": (math.inf, 1.0),
    "negative": (-0.1, 0.0),
    "numpy": (np.float32(0.25), 0.25),
    "long": (1 / 3, 0.3333),
}


@pytest.mark.parametrize(("score", "stored"), SCORES.values(), ids=SCORES)
def test_a_score_is_always_a_plain_number_in_0_to_1(control: MaskControl, score: float, stored: float) -> None:
    prediction = make_prediction([regions(control, segmentation([[1]], score=score))], score=score, model_version="v1")
    for given_out in (prediction["score"], prediction["result"][0]["score"]):
        assert type(given_out) is float
        assert given_out == stored


def test_another_vocabularys_segmentation_is_refused(control: MaskControl) -> None:
    with pytest.raises(ShapeError, match="4 classes with the background, the segmentation has 3"):
        regions(control, segmentation([[1]], classes=3))
