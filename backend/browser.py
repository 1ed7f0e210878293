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

from backend.errors import BackendError
from backend.label_studio_process import Login

CHROMIUM_VARIABLE = "CHROMIUM_EXECUTABLE"

# Sees this machine only, and needs neither a screen nor a GPU.
_ARGUMENTS = (
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

_PAINTED = """regions => {
    const image = [...document.querySelectorAll('img[alt=image]')].some(img => img.naturalWidth > 0);
    const canvas = document.querySelector('.konvajs-content canvas');
    const chosen = window.Htx?.annotationStore?.selected;
    return image && canvas && chosen && chosen.regions.length === regions;
}"""
_PICTURE_BOX = """() => {
    const box = document.querySelector('img[alt=image]').getBoundingClientRect();
    return [box.x, box.y, box.width, box.height];
}"""
_LABELS = "() => Htx.annotationStore.selected.regions.map(region => region.labels[0])"
# Only the region at this place stays visible; -1 hides all of them.
_SHOW_ONLY = """place => Htx.annotationStore.selected.regions.forEach((region, i) => {
    if (region.hidden !== (i !== place)) region.toggleHidden();
})"""
_SHOW_ALL = """() => Htx.annotationStore.selected.regions.forEach(region => {
    if (region.hidden) region.toggleHidden();
})"""


class BrowserError(BackendError):
    """The browser cannot be started, or a page does not become what it should. What it was doing is in the message."""


@dataclass(frozen=True)
class PaintedRegion:
    """One region as it is painted on the screen.

    Attributes:
        label: The label it carries.
        mask: (h, w) bool, which pixels of the displayed picture change when the region is shown; h and w are the size
            of the picture on the screen, not its natural size.
    """

    label: str
    mask: NDArray[np.bool_]


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
            chromium = self._playwright.chromium.launch(executable_path=executable, args=list(_ARGUMENTS))
            width, height = self._size_wh
            context = chromium.new_context(
                viewport={"width": width, "height": height}, device_scale_factor=self._scale
            )
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
        """Measure what each region of the open task changes on the screen.

        The picture is taken with all regions hidden and with one shown; where the two differ, the region is painted.
        So it does not matter what the picture itself looks like, as long as it is not in the label's own colour.
        """
        page = self._current_page()
        labels = page.evaluate(_LABELS)
        bare = self._picture(-1)
        painted = []
        for place, label in enumerate(labels):
            difference = np.abs(self._picture(place).astype(np.int16) - bare).max(axis=2)
            # A region is painted at 0.6 opacity: half of its own strongest change separates it from its smooth edge.
            strongest = float(np.percentile(difference[difference > 0], 90)) if difference.any() else 0.0
            painted.append(PaintedRegion(label, difference > max(strongest / 2, 8.0)))
        page.evaluate(_SHOW_ALL)
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

    def _picture(self, place: int) -> NDArray[np.uint8]:
        """Return the displayed picture with one region shown, (h, w, 3) uint8; place -1 shows none."""
        page = self._current_page()
        page.evaluate(_SHOW_ONLY, place)
        page.wait_for_timeout(_REPAINT_MS)
        x, y, width, height = page.evaluate(_PICTURE_BOX)
        screen = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        edges = [round(value * self._scale) for value in (x, y, x + width, y + height)]
        return np.asarray(screen.crop((edges[0], edges[1], edges[2], edges[3])))
