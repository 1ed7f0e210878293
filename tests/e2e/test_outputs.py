"""Every form of a prediction, as an annotator sees it: the pixels on the screen are those of the masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from on_screen import assert_painted, iou, stored_mask
from pictures import LABEL_COLOURS, data_uri, png, scene
from servers import Backend, LabelStudio

from backend.demo.browser import Browser

pytestmark = pytest.mark.e2e

SHAPES = {
    "brush": "brushregion",
    "bitmask": "bitmaskregion",
    "polygon": "polygonregion",
    "rectangle": "rectangleregion",
    "shape": "brushregion",
}
PICTURE = scene(45, (480, 640), (2, 3))


def _tags(tag: str = "Label", labels: tuple[str, ...] = tuple(LABEL_COLOURS)) -> str:
    return "".join(f'<{tag} value="{label}" background="{LABEL_COLOURS[label]}"/>' for label in labels)


def _view(body: str, image: str = 'value="$image"') -> str:
    return f'<View><Image name="img" {image}/>{body}</View>'


EVERYTHING = _view(
    f"""<BrushLabels name="brush" toName="img">{_tags()}</BrushLabels>
    <BitmaskLabels name="bitmask" toName="img">{_tags()}</BitmaskLabels>
    <PolygonLabels name="polygon" toName="img">{_tags()}</PolygonLabels>
    <RectangleLabels name="rectangle" toName="img">{_tags()}</RectangleLabels>
    <Labels name="labels" toName="img">{_tags()}</Labels><Brush name="shape" toName="img"/>
    <Choices name="there" toName="img" choice="multiple" showInline="true">{_tags("Choice")}</Choices>"""
)


def _retrieved(label_studio: LabelStudio, project_id: int) -> list[dict[str, Any]]:
    label_studio.api.retrieve_predictions(project_id)
    [prediction] = label_studio.api.predictions(project_id)
    result: list[dict[str, Any]] = prediction["result"]
    return result


def test_every_form_shows_the_masks(
    label_studio: LabelStudio, backend: Backend, browser: Browser, artifacts: Path
) -> None:
    project_id = label_studio.project("Every form", EVERYTHING, backend)
    [task_id] = label_studio.api.import_tasks(project_id, [{"image": data_uri(png(PICTURE.image))}])
    result = _retrieved(label_studio, project_id)
    masks = {
        region["value"]["brushlabels"][0]: stored_mask(region) for region in result if region["type"] == "brushlabels"
    }
    assert len(masks) >= 2
    assert iou(np.any([*masks.values()], axis=0), PICTURE.objects) > 0.5

    # What is stored.
    [there] = [region for region in result if region["type"] == "choices"]
    assert set(there["value"]["choices"]) == set(masks)
    for name in ("bitmask", "polygon"):
        for label, mask in masks.items():
            parts = [stored_mask(r) for r in result if r["from_name"] == name and label in r["value"][f"{name}labels"]]
            assert iou(np.any(parts, axis=0), mask) >= 0.98, f"{name} {label}"
    assert {region["id"] for region in result if region["from_name"] == "shape"} == {
        region["id"] for region in result if region["from_name"] == "labels"
    }

    # What is shown.
    drawn = [region for region in result if region["from_name"] in SHAPES]
    browser.open_task(project_id, task_id, regions=len(drawn) + 1)
    browser.photograph(artifacts / "outputs-all.png")
    chosen = browser.page.evaluate("Htx.annotationStore.selected.results.find(r => r.type === 'choices').mainValue")
    assert set(chosen) == set(masks)
    painted = browser.painted_regions()
    assert [region.kind for region in painted] == [SHAPES[region["from_name"]] for region in drawn]
    for stored, shown in zip(drawn, painted, strict=True):
        assert shown.colour == LABEL_COLOURS[shown.label]
        assert_painted(stored, shown)


def test_parts_are_regions_of_their_own_and_a_label_may_be_stuff(
    label_studio: LabelStudio, backend: Backend, browser: Browser
) -> None:
    picture = scene(60, (480, 640), (2, 2), ("pizza",))
    labels = _tags() + '<Label value="sky" background="#ff7f00" stuff="true"/>'
    body = f'<BrushLabels name="brush" toName="img" parts="separate">{labels}</BrushLabels>'
    project_id = label_studio.project("Parts", _view(body), backend)
    [task_id] = label_studio.api.import_tasks(project_id, [{"image": data_uri(png(picture.image))}])
    result = [one for one in _retrieved(label_studio, project_id) if one["value"]["brushlabels"] == ["pizza"]]
    larger, smaller = (stored_mask(region) for region in result)
    assert len({region["id"] for region in result}) == 2
    assert larger.sum() > smaller.sum()
    assert not (larger & smaller).any()
    assert iou(larger | smaller, picture.objects) > 0.5

    browser.open_task(project_id, task_id, regions=len(_retrieved(label_studio, project_id)))
    painted = [region for region in browser.painted_regions() if region.label == "pizza"]
    assert len(painted) == 2
    for stored, shown in zip(result, painted, strict=True):
        assert_painted(stored, shown)


def test_labels_from_the_task_and_pages(
    label_studio: LabelStudio, backend: Backend, browser: Browser, artifacts: Path
) -> None:
    brush = '<BrushLabels name="brush" toName="img" value="$labels"/>'
    project_id = label_studio.project("Pages", _view(brush, 'valueList="$pages"'), backend)
    pages = [scene(seed, (240, 320), (1, 2)) for seed in (14, 15)]
    labels = [{"value": label, "background": colour} for label, colour in LABEL_COLOURS.items()]
    data = {"pages": [data_uri(png(page.image)) for page in pages], "labels": labels}
    [task_id] = label_studio.api.import_tasks(project_id, [data])
    result = _retrieved(label_studio, project_id)
    assert {region["item_index"] for region in result} == {0, 1}
    for number, page in enumerate(pages):
        found = np.any([stored_mask(region) for region in result if region["item_index"] == number], axis=0)
        assert iou(found, page.objects) > 0.5, "the masks of a page lie on its objects"

    browser.open_task(project_id, task_id, regions=len(result))
    shown = browser.page.evaluate("Htx.annotationStore.selected.regions.map(r => [r.item_index, r.labels[0]])")
    assert sorted(shown) == sorted([region["item_index"], region["value"]["brushlabels"][0]] for region in result)
    for number in range(len(pages)):
        if number:
            browser.page.locator(".lsf-pagination__btn_arrow-right").first.click()
            browser.page.wait_for_timeout(2000)
        browser.photograph(artifacts / f"outputs-page-{number + 1}.png")
        painted = [region for region in browser.painted_regions() if region.mask.any()]
        expected = [region for region in result if region["item_index"] == number]
        assert [region.label for region in painted] == [region["value"]["brushlabels"][0] for region in expected]
        for stored, region in zip(expected, painted, strict=True):
            assert region.colour == LABEL_COLOURS[region.label]
            assert_painted(stored, region)
