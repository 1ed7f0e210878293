"""What a person sees who opens a task in Label Studio: a headless Chromium that looks, and presses Submit."""

import io
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Error, Page, Playwright, sync_playwright

from backend.demo.label_studio_process import Login
from backend.errors import BackendError

CHROMIUM_VARIABLE = "CHROMIUM_EXECUTABLE"

# Sees this machine only, and needs neither a screen nor a GPU.
CHROMIUM_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)

# Label Studio draws a brush region some time after the region is there, and nothing in the page tells when.
_PAINT_MS = 1500
# A changed brush paints within a frame or two.
_REPAINT_MS = 400
# Two colours closer than this (of 441) cannot be told apart reliably at a region's opacity.
_DISTINCT = 40.0

_PAINTED = """regions => {
    const image = document.querySelector('.lsf-image > img');
    const canvas = document.querySelector('.konvajs-content canvas');
    const chosen = window.Htx?.annotationStore?.selected;
    return image?.naturalWidth > 0 && canvas && chosen?.regions.length === regions;
}"""
# The picture, and the window it is seen through: Label Studio may have zoomed in a little, and then the canvas itself
# can be larger than what is left of it on the screen.
_BOXES = """() => {
    const edges = element => {
        const box = element.getBoundingClientRect();
        return [box.left, box.top, box.right, box.bottom];
    };
    const canvas = document.querySelector('.konvajs-content canvas');
    let seen = edges(canvas);
    for (let around = canvas.parentElement; around; around = around.parentElement) {
        if (getComputedStyle(around).overflow === 'visible') continue;
        const [left, top, right, bottom] = edges(around);
        seen = [Math.max(seen[0], left), Math.max(seen[1], top), Math.min(seen[2], right), Math.min(seen[3], bottom)];
    }
    return [edges(document.querySelector('.lsf-image > img')), seen];
}"""
# What is chosen for the whole picture stands among the regions, without a label. Shapes say their line's opacity only.
_REGIONS = """() => Htx.annotationStore.selected.regions.map(region => [
    region.labels[0], region.getOneColor?.(), /polygon|rect/.test(region.type) ? 0.2 : region.opacity, region.type
])"""
# Only the region at this place stays visible; -1 hides all of them.
_SHOW_ONLY = """place => Htx.annotationStore.selected.regions.forEach((region, i) => {
    if (region.hidden !== (i !== place)) region.toggleHidden();
})"""
# The tools float above the picture.
_WITHOUT_TOOLS = ".lsf-toolbar { visibility: hidden }"
_SHOW_ALL = """() => Htx.annotationStore.selected.regions.forEach(region => {
    if (region.hidden) region.toggleHidden();
})"""


Box = tuple[int, int, int, int]


class BrowserError(BackendError):
    """The browser cannot be started, or a page does not become what it should. What it was doing is in the message."""


@dataclass(frozen=True)
class PaintedRegion:
    """One region as it is painted on the screen.

    Attributes:
        label: The label it carries.
        colour: The colour it is painted in, as the label has it (`#rrggbb`).
        mask: (h, w) bool, where the displayed picture turns towards that colour when the region is shown; h and w are
            the size of the picture on the screen, not its natural size.
        measurable: (h, w) bool, where a change can be seen at all: the picture itself is unlike the colour there, and
            not cut off at the edge of the canvas.
        kind: Label Studio's word for it: `brushregion`, `bitmaskregion`, `polygonregion`, `rectangleregion`.
    """

    label: str
    colour: str
    mask: NDArray[np.bool_]
    measurable: NDArray[np.bool_]
    kind: str = "brushregion"


def find_chromium() -> str:
    """Return Chromium's program: `$CHROMIUM_EXECUTABLE`, or the one on the path.

    Raises:
        BrowserError: If there is none.
    """
    for name in (os.environ.get(CHROMIUM_VARIABLE), "chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise BrowserError(f"there is no Chromium: install the package `chromium`, or name one in {CHROMIUM_VARIABLE}")


class Browser:
    """One logged-in browser window, closed when the `with` block is left."""

    def __init__(self, url: str, login: Login, *, size_wh: tuple[int, int] = (1500, 900), scale: float = 1.0) -> None:
        """Describe the window; nothing is started yet.

        Args:
            url: Address of Label Studio.
            login: Who logs in.
            size_wh: Width and height of the window.
            scale: Screen pixels per window pixel; 2 gives pictures twice as fine.
        """
        self._url = url
        self._login = login
        self._size_wh = size_wh
        self._scale = scale
        self._playwright: Playwright | None = None
        self._page: Page | None = None

    def __enter__(self) -> Self:
        """Start Chromium and log in.

        Raises:
            BrowserError: If Chromium is missing or does not start, or the login is refused.
        """
        executable = find_chromium()
        self._playwright = sync_playwright().start()
        try:
            chromium = self._playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_ARGUMENTS))
            width, height = self._size_wh
            context = chromium.new_context(viewport={"width": width, "height": height}, device_scale_factor=self._scale)
            self._page = context.new_page()
            self._log_in()
        except Error as err:
            self.close()
            raise BrowserError(f"no browser at {self._url}: {err}") from err
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser; does nothing if there is none."""
        running, self._playwright, self._page = self._playwright, None, None
        if running is not None:
            running.stop()

    def open_task(self, project_id: int, task_id: int, *, regions: int, timeout_s: float = 60.0) -> None:
        """Open a task in the data manager and wait until its regions are painted.

        Args:
            project_id: Project; it needs a tab in the data manager.
            task_id: Task.
            regions: How many regions are to be there.
            timeout_s: How long to wait.

        Raises:
            BrowserError: If the task does not show with so many regions.
        """
        page = self._current_page()
        try:
            page.goto(f"{self._url}/projects/{project_id}/data?task={task_id}")
            page.wait_for_function(_PAINTED, arg=regions, timeout=timeout_s * 1000)
        except Error as err:
            raise BrowserError(f"task {task_id} does not show with {regions} regions: {err}") from err
        page.wait_for_timeout(_PAINT_MS)

    def open_data_manager(self, project_id: int, view_id: int) -> None:
        """Open a tab of the data manager and wait until its rows are there."""
        page = self._current_page()
        try:
            page.goto(f"{self._url}/projects/{project_id}/data?tab={view_id}")
            page.wait_for_selector("text=Tasks: ", timeout=60_000)
        except Error as err:
            raise BrowserError(f"the data manager of project {project_id} does not show: {err}") from err
        page.wait_for_timeout(_PAINT_MS)

    def photograph(self, path: Path) -> None:
        """Save what the window shows as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._current_page().screenshot(path=path)

    def painted_regions(self) -> list[PaintedRegion]:
        """Measure where each region of the open task is painted, and in its label's colour.

        The picture is taken with all regions hidden and with one of them shown. A pixel is painted where showing the
        region moves it at least half of the way that the region's opacity says towards the label's colour.
        """
        page = self._current_page()
        regions = page.evaluate(_REGIONS)
        no_tools = page.add_style_tag(content=_WITHOUT_TOOLS)
        bare = self._picture(-1)
        visible = self._visible()
        painted = []
        for place, (label, colour, opacity, kind) in enumerate(regions):
            if label is None:
                continue
            way = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32) - bare
            change = self._picture(place) - bare
            squared = (way**2).sum(axis=2)
            alpha = (change * way).sum(axis=2) / np.maximum(squared, 1.0)
            measurable = visible & (squared > _DISTINCT**2)
            painted.append(PaintedRegion(label, colour, measurable & (alpha > opacity / 2), measurable, kind))
        page.evaluate(_SHOW_ALL)
        no_tools.evaluate("style => style.remove()")
        page.wait_for_timeout(_REPAINT_MS)
        return painted

    def submit(self, timeout_s: float = 30.0) -> None:
        """Press Submit and wait until Label Studio has taken the annotation.

        Raises:
            BrowserError: If there is no button, or the annotation is not taken.
        """
        page = self._current_page()
        try:
            with page.expect_response(
                lambda answer: "/annotations" in answer.url and answer.request.method == "POST",
                timeout=timeout_s * 1000,
            ) as taken:
                page.locator("button", has_text=re.compile("^Submit$")).click()
            status = taken.value.status
        except Error as err:
            raise BrowserError(f"the annotation was not submitted: {err}") from err
        if status != 201:
            raise BrowserError(f"the annotation was not taken: status {status}")

    @property
    def page(self) -> Page:
        """What the window shows, for whoever goes on from here."""
        return self._current_page()

    def _current_page(self) -> Page:
        if self._page is None:
            raise BrowserError("the browser is not open: use it in a `with` block")
        return self._page

    def _log_in(self) -> None:
        page = self._current_page()
        page.goto(f"{self._url}/user/login/")
        page.fill("input[name=email]", self._login.email)
        page.fill("input[name=password]", self._login.password)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/user/login" not in url)

    def _picture(self, place: int) -> NDArray[np.float32]:
        """Return the displayed picture with one region shown, (h, w, 3) float32 in 0..255; place -1 shows none."""
        page = self._current_page()
        page.evaluate(_SHOW_ONLY, place)
        page.wait_for_timeout(_REPAINT_MS)
        screen = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        picture, _ = self._boxes()
        return np.asarray(screen.crop(picture), np.float32)

    def _visible(self) -> NDArray[np.bool_]:
        """Return which pixels of the displayed picture are not cut off, (h, w) bool."""
        (left, top, right, bottom), window = self._boxes()
        visible = np.zeros((bottom - top, right - left), np.bool_)
        visible[max(window[1] - top, 0) : window[3] - top, max(window[0] - left, 0) : window[2] - left] = True
        return visible

    def _boxes(self) -> tuple[Box, Box]:
        """Return where the picture is on the screen, and what of it can be seen, in screen pixels."""
        picture, window = (
            tuple(round(edge * self._scale) for edge in box) for box in self._current_page().evaluate(_BOXES)
        )
        return picture, window
