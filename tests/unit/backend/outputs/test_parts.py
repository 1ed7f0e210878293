"""A region for each connected part: the same pixels together, the largest first, so many at most, one to learn from."""

import json
import logging

import numpy as np
import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from backend.annotations.reading import KeptRegion, read_regions
from backend.corrections.agreement import agreements
from backend.corrections.evidence import control_shares
from backend.labeling.controls import LabelConfig
from backend.labeling.reader import parse_label_config
from backend.outputs.parts import largest_parts
from backend.outputs.regions import make_prediction, make_regions, make_suggestion
from clipdiy.learning.evidence import class_shares
from clipdiy.segmentation import Segmentation

LABELS = '<Label value="Cat"/><Label value="Dog"/>'
FORMS = {
    tag: f'<View><Image name="img" value="$image"/><{tag} name="c" toName="img" {{}}>{LABELS}</{tag}></View>'
    for tag in ("BrushLabels", "BitmaskLabels")
} | {
    tag: f'<View><Image name="img" value="$image"/><Labels name="l" toName="img">{LABELS}</Labels>'
    f'<{tag} name="c" toName="img" {{}}/></View>'
    for tag in ("Brush", "Bitmask")
}
# Three cats of 2, 4 and 1 pixels, of which the last two touch at a corner; a dog with a hole.
PARTS = np.array(
    [
        [1, 0, 0, 2, 2, 2],
        [1, 0, 0, 2, 0, 2],
        [0, 0, 0, 2, 2, 2],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0, 1],
        [0, 0, 0, 1, 0, 0],
    ],
    np.uint16,
)
CATS = [5, 2, 1]


def read(tag: str, attributes: str = 'parts="separate"') -> LabelConfig:
    return parse_label_config(FORMS[tag].format(attributes))


def answered(config: LabelConfig, label_map: np.ndarray = PARTS, task: int = 7) -> list[dict]:
    area = np.bincount(label_map.ravel(), minlength=3) / label_map.size
    segmentation = Segmentation(label_map, area, np.array([0, 0.75, 0.5], np.float32), 0.6)
    return make_regions(segmentation, config.controls[0], task_id=task, model_version="v")


def regions_of(results: list[dict], config: LabelConfig) -> dict[str, list[KeptRegion]]:
    found: dict[str, list[KeptRegion]] = {}
    read_back = read_regions(json.loads(json.dumps(results)), config)
    assert read_back.problems == ()
    for region in read_back.regions:
        found.setdefault(region.labels[0], []).append(region)
    return found


@pytest.mark.parametrize("tag", FORMS)
def test_each_part_is_a_region_the_largest_first(tag: str) -> None:
    config = read(tag)
    results = answered(config)
    found = regions_of(results, config)
    assert {label: [int(one.mask().sum()) for one in several] for label, several in found.items()} == {
        "Cat": CATS,
        "Dog": [8],
    }
    for position, label in ((1, "Cat"), (2, "Dog")):
        masks = [one.mask() for one in found[label]]
        np.testing.assert_array_equal(np.sum(masks, axis=0), np.equal(PARTS, position))
        assert {one.score for one in found[label]} == {0.75 if label == "Cat" else 0.5}
    ids = [one.region_id for several in found.values() for one in several]
    assert len(set(ids)) == len(ids) == 4
    assert ids == [one.region_id for several in regions_of(answered(config), config).values() for one in several]
    prediction = make_prediction([results], score=0.5, model_version="v")
    xml = FORMS[tag].format('parts="separate"')
    assert LabelInterface(xml).validate_prediction(prediction, return_errors=True) == []


@pytest.mark.parametrize("tag", FORMS)
@pytest.mark.parametrize("attributes", ["", 'parts="together"'], ids=["by default", "said"])
def test_together_is_one_region_a_label(tag: str, attributes: str) -> None:
    config = read(tag, attributes)
    assert {label: len(several) for label, several in regions_of(answered(config), config).items()} == {
        "Cat": 1,
        "Dog": 1,
    }


@pytest.mark.parametrize("tag", ["BrushLabels", "Bitmask"])
def test_what_is_beyond_the_limit_is_left_out_and_said(tag: str, caplog: pytest.LogCaptureFixture) -> None:
    config = read(tag, 'parts="separate" max_parts="2"')
    with caplog.at_level(logging.INFO):
        found = regions_of(answered(config), config)
    assert [int(one.mask().sum()) for one in found["Cat"]] == CATS[:2]
    assert [record.getMessage() for record in caplog.records] == [
        "task 7: 1 of the parts of 'Cat' (control 'c') are left out, the smallest: more than max_parts=2"
    ]
    caplog.clear()
    answered(read(tag))
    assert not caplog.records


def test_small_parts_are_gone_before_they_count() -> None:
    config = read("BrushLabels", 'parts="separate" max_parts="3" min_area="2px"')
    assert len(regions_of(answered(config), config)["Cat"]) == 2


def test_a_mask_that_was_asked_for_comes_in_parts_too() -> None:
    config = read("BrushLabels")
    control = config.controls[0]
    results = make_suggestion(PARTS == 1, control, control.drawn[0], 0.5)
    assert [int(one.mask().sum()) for one in regions_of(results, config)["Cat"]] == CATS
    assert len({result["id"] for result in results}) == 3


def test_of_equal_parts_the_upper_one_is_first() -> None:
    parts, left_out = largest_parts(np.array([[0, 0, 1], [0, 0, 0], [1, 0, 1]], bool), 2)
    assert [part.box_xyxy for part in parts] == [(2, 0, 3, 1), (0, 2, 1, 3)]
    assert left_out == 1
    assert largest_parts(np.zeros((2, 2), bool), 2) == ([], 0)


@pytest.mark.parametrize("tag", FORMS)
def test_parts_of_a_label_teach_and_are_judged_as_one(tag: str) -> None:
    config = read(tag)
    [control] = config.controls
    predicted = read_regions(answered(config), config).regions
    labels_alone = control_shares(predicted, control, None).shares
    expected = class_shares(PARTS.astype(int))
    assert labels_alone.positions == expected.positions == (0, 1, 2)
    np.testing.assert_allclose(labels_alone.shares, expected.shares, atol=1)
    # A person keeps two of the three cats: one row for the label, by all of its pixels.
    kept = [region for region in predicted if not (region.labels == ("Cat",) and region.mask().sum() == 2)]
    cat, dog = agreements(predicted, kept, number=0)
    assert (cat.label, cat.state, cat.score) == ("Cat", "changed", 0.75)
    assert cat.iou == pytest.approx(6 / 8)
    assert (dog.label, dog.iou) == ("Dog", 1.0)
