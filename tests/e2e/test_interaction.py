"""Pointing, drawing and typing in the browser: suggestions that become regions, and survive Submit."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from on_screen import iou, stored_mask
from pictures import LABEL_COLOURS, Picture, data_uri, png, scene
from PIL import Image
from servers import ROOT, Backend, LabelStudio

from backend.demo.browser import Browser
from backend.interactive.gesture import Box
from backend.interactive.pointing import inside_box
from backend.outputs.brush import decode_mask

pytestmark = pytest.mark.e2e

LABELS = ("dog", "car", "rocket")
TAGS = "".join(f'<Label value="{label}" background="{LABEL_COLOURS[label]}"/>' for label in LABELS)
EXAMPLE = ROOT / "label_config" / "examples" / "interactive.xml"
PICTURE = scene(24, (240, 320), (1, 1))
PAIR = scene(20, (240, 320), (2, 2))
"""Two objects that do not touch."""

FORMS = {
    "bitmask": f'<BitmaskLabels name="shape" toName="img">{TAGS}</BitmaskLabels>',
    "polygon": f'<PolygonLabels name="shape" toName="img">{TAGS}</PolygonLabels>',
    "rectangle": f'<RectangleLabels name="shape" toName="img">{TAGS}</RectangleLabels>',
}


_CHOSEN = (
    """() => [...Htx.annotationStore.selected.names.values()].flatMap(control => control.selectedValues?.() ?? [])"""
)


class Annotator:
    """A person with the task open and Auto-Annotation switched on."""

    def __init__(self, browser: Browser, picture: Picture) -> None:
        self.page = browser.page
        self.picture = picture
        # The switch keeps its position from task to task.
        if not self.page.evaluate("Htx.autoAnnotation"):
            self.page.locator("text=Auto-Annotation").first.click()
            self.page.wait_for_function("Htx.autoAnnotation")

    def choose(self, label: str) -> None:
        """Press a label, unless it is chosen: that would let go of it."""
        if label in self.page.evaluate(_CHOSEN):
            return
        self.page.locator(".lsf-label", has_text=label).last.click()
        # The labels stand below the picture: looking for them has scrolled it away.
        self.page.evaluate("document.querySelector('.lsf-image').scrollIntoView({block: 'start'})")
        self.page.wait_for_timeout(300)

    def take(self, tool: str) -> None:
        """Take a smart tool from the toolbar, where there are several from the list that opens."""
        button = self.page.locator(".lsf-tool_smart").first
        button.hover()
        self.page.wait_for_timeout(300)
        listed = self.page.locator(f".lsf-tool_smart[aria-label={tool}]")
        (listed.last if listed.count() else button).click(force=True)
        self.page.wait_for_timeout(300)

    def place(self, row: float, col: float) -> tuple[float, float]:
        """Return where a pixel of the picture is on the screen."""
        box = self.page.evaluate(
            "(() => { const b = document.querySelector('.lsf-image > img').getBoundingClientRect();"
            " return [b.left, b.top, b.width, b.height] })()"
        )
        height, width = self.picture.size_hw
        return box[0] + (col + 0.5) / width * box[2], box[1] + (row + 0.5) / height * box[3]

    def click(self, row: float, col: float, *modifiers: str) -> None:
        for key in modifiers:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.place(row, col))
        for key in modifiers:
            self.page.keyboard.up(key)

    def drag(self, top: float, left: float, bottom: float, right: float) -> None:
        self.page.mouse.move(*self.place(top, left))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(bottom, right), steps=6)
        self.page.mouse.up()

    def write(self, text: str) -> None:
        field = self.page.locator("textarea, input[placeholder^='What else']").first
        field.click()
        field.fill(text)
        self.page.keyboard.press("Shift+Enter")

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Do something that asks the backend, and wait until its answer is shown."""
        with self.page.expect_response(lambda answer: "interactive-annotating" in answer.url, timeout=20_000):
            yield
        self.suggestions()

    def suggestions(self, count: int = 1) -> None:
        """Wait until there are so many."""
        self.page.wait_for_function(f"Htx.annotationStore.selected.suggestions.size === {count}", timeout=20_000)
        self.page.wait_for_timeout(700)

    def accept(self) -> None:
        """Press the button with the tick."""
        self.page.get_by_test_id("bottombar-accept-suggestions-button").click()
        self.page.wait_for_function("Htx.annotationStore.selected.suggestions.size === 0", timeout=10_000)
        self.page.wait_for_timeout(700)


@pytest.fixture(scope="module")
def project(label_studio: LabelStudio, backend: Backend) -> int:
    """A project with the config that we show, whose backend is interactive, as its owner has switched it on."""
    api = label_studio.api
    config = re.sub(r"(<Labels [^>]*>).*(</Labels>)", rf"\g<1>{TAGS}\g<2>", EXAMPLE.read_text("utf-8"), flags=re.DOTALL)
    project_id = label_studio.project("Interactive", config)
    api.connect_backend(project_id, backend.url, "CLIP-DIY", is_interactive=True)
    return project_id


def _opened(browser: Browser, label_studio: LabelStudio, project_id: int, task_id: int, picture: Picture) -> Annotator:
    """Open a task, with no region."""
    label_studio.api.retrieve_predictions(project_id, [task_id])
    [prediction] = [p for p in label_studio.api.predictions(project_id) if p["task"] == task_id]
    browser.open_task(project_id, task_id, regions=len({entry["id"] for entry in prediction["result"]}))
    browser.page.evaluate("Htx.annotationStore.selected.deleteAllRegions({deleteReadOnly: true})")
    return Annotator(browser, picture)


@pytest.fixture
def open_picture(
    browser: Browser, label_studio: LabelStudio, project: int
) -> Callable[[Picture], tuple[int, Annotator]]:
    """Make a task of another picture, and open it."""

    def make(picture: Picture) -> tuple[int, Annotator]:
        [task_id] = label_studio.api.import_tasks(project, [{"image": data_uri(png(picture.image))}])
        return task_id, _opened(browser, label_studio, project, task_id, picture)

    return make


@pytest.fixture
def task_id(label_studio: LabelStudio, project: int) -> int:
    [task_id] = label_studio.api.import_tasks(project, [{"image": data_uri(png(PICTURE.image))}])
    return task_id


@pytest.fixture
def annotator(browser: Browser, project: int, task_id: int, label_studio: LabelStudio) -> Annotator:
    return _opened(browser, label_studio, project, task_id, PICTURE)


def _submitted(browser: Browser, label_studio: LabelStudio, task_id: int) -> list[tuple[str, NDArray[np.bool_]]]:
    """Submit, and return label and mask of every brush region that Label Studio has stored."""
    browser.submit()
    task = label_studio.api.task(task_id)
    entries: list[dict[str, Any]] = task["annotations"][-1]["result"]
    labels: dict[str, list[str]] = {}
    for entry in entries:
        if entry["type"] == "labels":
            labels.setdefault(entry["id"], []).extend(entry["value"]["labels"])
    found = []
    for entry in entries:
        if entry["type"] == "brush":
            [label] = labels[entry["id"]]
            found.append((label, stored_mask(entry)))
    assert {entry["type"] for entry in entries} <= {"brush", "labels", "textarea"}
    return found


def _middle(objects: NDArray[np.bool_]) -> tuple[float, float]:
    """Return a pixel well inside an object."""
    rows, cols = np.nonzero(objects)
    row, col = np.median(rows), np.median(cols)
    at = int(np.argmin((rows - row) ** 2 + (cols - col) ** 2))
    return float(rows[at]), float(cols[at])


def test_one_row_of_labels_and_a_wand_that_holds_only_what_asks(annotator: Annotator, browser: Browser) -> None:
    assert browser.page.locator(".lsf-label").count() == len(LABELS)
    browser.page.locator(".lsf-tool_smart").first.hover()
    browser.page.wait_for_timeout(300)
    listed = browser.page.evaluate("[...document.querySelectorAll('.lsf-tool_smart')].map(e => e.ariaLabel)")
    assert {name for name in listed if name} == {"key-point-tool", "rectangle-tool", "rectangle-3-point-tool"}


def test_a_stroke_by_hand_has_the_same_labels(
    annotator: Annotator, browser: Browser, label_studio: LabelStudio, task_id: int
) -> None:
    annotator.choose("rocket")
    browser.page.locator(".lsf-tool[aria-label=brush-tool]").click()
    annotator.drag(100, 100, 120, 140)
    browser.page.wait_for_function("Htx.annotationStore.selected.regions.length === 1", timeout=10_000)
    [(label, mask)] = _submitted(browser, label_studio, task_id)
    assert label == "rocket"
    assert mask[105:115, 110:130].any()


def test_a_point(
    annotator: Annotator, browser: Browser, label_studio: LabelStudio, task_id: int, artifacts: Path
) -> None:
    annotator.take("key-point-tool")
    annotator.choose("rocket")
    annotator.click(*_middle(PICTURE.objects))
    annotator.suggestions()
    browser.photograph(artifacts / "interaction-point.png")
    annotator.accept()
    [(label, mask)] = _submitted(browser, label_studio, task_id)
    assert label == "rocket"
    assert iou(mask, PICTURE.objects) > 0.5


def test_points_combine_and_a_negative_one_takes_its_part_away(
    open_picture: Callable[[Picture], tuple[int, Annotator]],
    browser: Browser,
    label_studio: LabelStudio,
    artifacts: Path,
) -> None:
    task_id, annotator = open_picture(PAIR)
    _, numbers = cv2.connectedComponents(PAIR.objects.astype(np.uint8))
    first, second = (numbers == number for number in (1, 2))

    def shown() -> NDArray[np.bool_]:
        """Where the suggestion is, as the page has it."""
        rle = browser.page.evaluate("Array.from([...Htx.annotationStore.selected.suggestions.values()][0].rle)")
        return decode_mask(rle, PAIR.size_hw) > 0

    annotator.take("key-point-tool")
    # All points of a label are sent together.
    annotator.choose("dog")
    annotator.click(*_middle(first))
    annotator.suggestions()
    assert iou(shown(), first) > 0.5
    annotator.choose("dog")
    with annotator.asked():
        annotator.click(*_middle(second))
    assert iou(shown(), PAIR.objects) > 0.5
    browser.photograph(artifacts / "interaction-two-points.png")
    annotator.choose("dog")
    row, col = _middle(first)
    with annotator.asked():
        annotator.click(row + 15, col, "Alt")  # beside the point that is there: on it, it would only be selected
    assert browser.page.evaluate("[...Htx.annotationStore.selected.areas.values()].map(r => r.negative)") == [
        *(False, False, True)
    ]
    browser.photograph(artifacts / "interaction-negative-point.png")
    annotator.accept()
    [(label, mask)] = _submitted(browser, label_studio, task_id)
    assert label == "dog"
    assert iou(mask, second) > 0.5
    assert not (mask & first).any()


@pytest.mark.parametrize("form", FORMS)
def test_suggestions_have_the_form_of_the_project(
    label_studio: LabelStudio, backend: Backend, browser: Browser, artifacts: Path, form: str
) -> None:
    points = f'<KeyPointLabels name="points" toName="img" smart="true" smartOnly="true">{TAGS}</KeyPointLabels>'
    config = f'<View><Image name="img" value="$image"/>{FORMS[form]}{points}</View>'
    project_id = label_studio.project(f"Interactive {form}", config)
    label_studio.api.connect_backend(project_id, backend.url, "CLIP-DIY", is_interactive=True)
    [task_id] = label_studio.api.import_tasks(project_id, [{"image": data_uri(png(PICTURE.image))}])
    annotator = _opened(browser, label_studio, project_id, task_id, PICTURE)
    annotator.take("key-point-tool")
    annotator.choose("car")
    annotator.click(*_middle(PICTURE.objects))
    annotator.suggestions()
    browser.photograph(artifacts / f"interaction-{form}.png")
    annotator.accept()
    browser.submit()
    stored = label_studio.api.task(task_id)["annotations"][-1]["result"]
    [region] = [region for region in stored if region["from_name"] == "shape"]
    assert region["type"] == f"{form}labels"
    assert region["value"][f"{form}labels"] == ["car"]
    rows, cols = np.nonzero(PICTURE.objects)
    tight = np.zeros_like(PICTURE.objects)
    tight[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1] = True
    assert iou(stored_mask(region), tight if form == "rectangle" else PICTURE.objects) > 0.5


def test_a_turned_box_means_the_pixels_that_label_studio_shows_in_it(
    label_studio: LabelStudio, backend: Backend, browser: Browser, project: int, task_id: int, artifacts: Path
) -> None:
    box = Box(30, 20, 45, 50, rotation=25, label="dog")
    inside = inside_box(box, PICTURE.size_hw)
    value = {"x": box.x, "y": box.y, "width": box.width, "height": box.height, "rotation": box.rotation}
    height, width = PICTURE.size_hw
    size = {"to_name": "img", "original_width": width, "original_height": height, "image_rotation": 0}
    entries = [
        {**size, "id": "turned", "from_name": "boxes", "type": "rectangle", "value": value},
        {**size, "id": "turned", "from_name": "labels", "type": "labels", "value": {**value, "labels": ["dog"]}},
    ]
    label_studio.add_prediction(task_id, entries, "turned")
    browser.open_task(project, task_id, regions=1)
    browser.photograph(artifacts / "interaction-turned-box.png")
    [painted] = browser.painted_regions()
    shown = np.asarray(Image.fromarray(inside).resize(painted.mask.shape[::-1])) & painted.measurable
    assert iou(shown, painted.mask) > 0.9

    [connected] = label_studio.api.backends(project)
    answer = label_studio.interact(connected["id"], task_id, entries)
    region, named = answer["data"]["result"]
    mask = decode_mask(region["value"]["rle"], PICTURE.size_hw) > 0
    assert named["value"]["labels"] == ["dog"]
    assert mask.any()
    assert not (mask & ~inside).any()
    assert iou(mask, PICTURE.objects & inside) > 0.5


def test_a_box(
    annotator: Annotator, browser: Browser, label_studio: LabelStudio, task_id: int, artifacts: Path
) -> None:
    rows, cols = np.nonzero(PICTURE.objects)
    height, width = PICTURE.size_hw
    top, left = max(rows.min() - 8, 1), max(cols.min() - 8, 1)
    bottom, right = min(rows.max() + 8, height - 2), min(cols.max() + 8, width - 2)
    annotator.take("rectangle-tool")
    annotator.choose("car")
    annotator.drag(top, left, bottom, right)
    annotator.suggestions()
    browser.photograph(artifacts / "interaction-box.png")
    annotator.accept()
    [(label, mask)] = _submitted(browser, label_studio, task_id)
    assert label == "car"
    assert iou(mask, PICTURE.objects) > 0.5
    assert not mask[: top - 2].any()
    assert not mask[:, : left - 2].any()


def test_a_phrase(
    annotator: Annotator, browser: Browser, label_studio: LabelStudio, task_id: int, artifacts: Path
) -> None:
    annotator.write("the big thing -> dog")
    annotator.suggestions()
    browser.photograph(artifacts / "interaction-phrase.png")
    annotator.accept()
    browser.photograph(artifacts / "interaction-phrase-accepted.png")
    [painted] = browser.painted_regions()
    assert (painted.label, painted.colour) == ("dog", LABEL_COLOURS["dog"])
    [(label, mask)] = _submitted(browser, label_studio, task_id)
    assert label == "dog"
    assert iou(mask, PICTURE.objects) > 0.5


def test_a_phrase_goes_under_the_label_that_is_selected(
    annotator: Annotator, browser: Browser, label_studio: LabelStudio, task_id: int
) -> None:
    # What is chosen wins over what was written, as Label Studio puts it on whatever is accepted.
    annotator.choose("car")
    annotator.write("the big thing -> rocket")
    annotator.suggestions()
    annotator.accept()
    [(label, mask)] = _submitted(browser, label_studio, task_id)
    assert label == "car"
    assert iou(mask, PICTURE.objects) > 0.5
