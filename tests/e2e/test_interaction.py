"""Pointing, drawing and typing in the browser: suggestions that become regions, and survive Submit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import LABEL_COLOURS, Picture, data_uri, png, scene
from servers import Backend, LabelStudio

from backend.browser import Browser
from backend.brush import decode_mask

pytestmark = pytest.mark.e2e

LABELS = ("dog", "car", "rocket")
TAGS = "".join(f'<Label value="{label}" background="{LABEL_COLOURS[label]}"/>' for label in LABELS)
CONFIG = f"""<View><Image name="img" value="$image"/>
  <TextArea name="words" toName="img" smart="true" rows="1" placeholder="What else?" maxSubmissions="9"/>
  <BrushLabels name="brush" toName="img">{TAGS}</BrushLabels>
  <KeyPointLabels name="points" toName="img" smart="true" smartOnly="true">{TAGS}</KeyPointLabels>
  <RectangleLabels name="boxes" toName="img" smart="true" smartOnly="true">{TAGS}</RectangleLabels></View>"""
PICTURE = scene(24, (240, 320), (1, 1))


class Annotator:
    """A person with the task open and Auto-Annotation switched on."""

    def __init__(self, browser: Browser, picture: Picture) -> None:
        self.page = browser.page
        self.picture = picture
        # The switch keeps its position from task to task.
        if not self.page.evaluate("Htx.autoAnnotation"):
            self.page.locator("text=Auto-Annotation").first.click()
            self.page.wait_for_function("Htx.autoAnnotation")

    def choose(self, control: int, label: str) -> None:
        """Press a label of one of the controls, counted from above."""
        place = control * len(LABELS) + LABELS.index(label)
        self.page.locator(".lsf-label").nth(place).click()
        # The labels stand below the picture: looking for them has scrolled it away.
        self.page.evaluate("document.querySelector('.lsf-image').scrollIntoView({block: 'start'})")
        self.page.wait_for_timeout(300)

    def take(self, tool: str) -> None:
        """Take a smart tool from the toolbar."""
        self.page.locator(".lsf-tool_smart").first.hover()
        self.page.wait_for_timeout(300)
        self.page.locator(f".lsf-tool_smart[aria-label={tool}]").last.click(force=True)
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
        field = self.page.locator("textarea, input[placeholder='What else?']").first
        field.click()
        field.fill(text)
        self.page.keyboard.press("Shift+Enter")

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
    """A project whose backend is interactive, as its owner has switched it on."""
    api = label_studio.api
    project_id = label_studio.project("Interactive", CONFIG)
    api.connect_backend(project_id, backend.url, "CLIP-DIY", is_interactive=True)
    return project_id


@pytest.fixture
def task_id(label_studio: LabelStudio, project: int) -> int:
    [task_id] = label_studio.api.import_tasks(project, [{"image": data_uri(png(PICTURE.image))}])
    return task_id


@pytest.fixture
def annotator(browser: Browser, project: int, task_id: int, label_studio: LabelStudio) -> Iterator[Annotator]:
    label_studio.api.retrieve_predictions(project, [task_id])
    [prediction] = [p for p in label_studio.api.predictions(project) if p["task"] == task_id]
    browser.open_task(project, task_id, regions=len(prediction["result"]))
    browser.page.evaluate("Htx.annotationStore.selected.deleteAllRegions({deleteReadOnly: true})")
    return Annotator(browser, PICTURE)


def _submitted(browser: Browser, label_studio: LabelStudio, task_id: int) -> list[tuple[str, NDArray[np.bool_]]]:
    """Submit, and return label and mask of every brush region that Label Studio has stored."""
    browser.submit()
    task = label_studio.api.task(task_id)
    regions: list[dict[str, Any]] = task["annotations"][-1]["result"]
    return [
        (r["value"]["brushlabels"][0], decode_mask(r["value"]["rle"], (r["original_height"], r["original_width"])) > 0)
        for r in regions
        if r["type"] == "brushlabels"
    ]


def _iou(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    return float((left & right).sum() / (left | right).sum())


def _middle() -> tuple[float, float]:
    """Return a pixel well inside the object."""
    rows, cols = np.nonzero(PICTURE.objects)
    row, col = np.median(rows), np.median(cols)
    at = int(np.argmin((rows - row) ** 2 + (cols - col) ** 2))
    return float(rows[at]), float(cols[at])


def test_a_point(
    annotator: Annotator, browser: Browser, label_studio: LabelStudio, task_id: int, artifacts: Path
) -> None:
    annotator.take("key-point-tool")
    annotator.choose(1, "rocket")
    annotator.click(*_middle())
    annotator.suggestions()
    browser.photograph(artifacts / "interaction-point.png")
    annotator.accept()
    [(label, mask)] = _submitted(browser, label_studio, task_id)
    assert label == "rocket"
    assert _iou(mask, PICTURE.objects) > 0.5


def test_a_box(
    annotator: Annotator, browser: Browser, label_studio: LabelStudio, task_id: int, artifacts: Path
) -> None:
    rows, cols = np.nonzero(PICTURE.objects)
    height, width = PICTURE.size_hw
    top, left = max(rows.min() - 8, 1), max(cols.min() - 8, 1)
    bottom, right = min(rows.max() + 8, height - 2), min(cols.max() + 8, width - 2)
    annotator.take("rectangle-tool")
    annotator.choose(2, "car")
    annotator.drag(top, left, bottom, right)
    annotator.suggestions()
    browser.photograph(artifacts / "interaction-box.png")
    annotator.accept()
    [(label, mask)] = _submitted(browser, label_studio, task_id)
    assert label == "car"
    assert _iou(mask, PICTURE.objects) > 0.5
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
    assert _iou(mask, PICTURE.objects) > 0.5


def test_a_phrase_goes_under_the_label_that_is_selected(
    annotator: Annotator, browser: Browser, label_studio: LabelStudio, task_id: int
) -> None:
    annotator.choose(0, "car")
    annotator.write("the big thing")
    annotator.suggestions()
    annotator.accept()
    [(label, mask)] = _submitted(browser, label_studio, task_id)
    assert label == "car"
    assert _iou(mask, PICTURE.objects) > 0.5
