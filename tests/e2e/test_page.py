"""The page in a real Chromium: light, dark and narrow, by keyboard and by mouse, and nothing that shuts anybody out."""

import base64
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from pictures import data_uri, label_config, png, scene
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from reports import SCENES
from servers import ROOT, eventually

from backend.demo.browser import CHROMIUM_ARGUMENTS, find_chromium
from backend.demo.server_process import LOOPBACK, ServerProcess, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

USER, PASSWORD = "anna", "geheim"
LABELS = ("dog", "elephant", "sunflower", "rocket")
PICTURE = scene(20, (480, 640), (3, 4))
WIDE, NARROW = (1200, 900), (390, 844)
README_HEIGHT = 1180
BUSY_TASKS = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[ServerProcess]:
    """Our service with the starter weights, a password, and reports that were made up."""
    log, port = artifacts / "page.log", free_port()
    log.unlink(missing_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLIPDIY_")}
    settings = {
        "CLIPDIY_PRESET": "starter",
        "CLIPDIY_DEVICE": "cpu",
        "CLIPDIY_DATA_DIR": str(tmp_path_factory.mktemp("page")),
        "CLIPDIY_BASIC_AUTH_USER": USER,
        "CLIPDIY_BASIC_AUTH_PASSWORD": PASSWORD,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support"))),
    }
    command = [sys.executable, "-m", "gunicorn", "--config", "python:backend.gunicorn_conf"]
    with ServerProcess(
        "the backend",
        [*command, "--bind", f"{LOOPBACK}:{port}", "page_app:app"],
        url=f"http://{LOOPBACK}:{port}",
        log_path=log,
        environment={**inherited, **settings},
        ready_timeout_s=120,
    ) as running:
        yield running


def post(server: ServerProcess, path: str, body: dict[str, object]) -> requests.Response:
    return requests.post(server.url + path, json=body, auth=(USER, PASSWORD), timeout=120)


def work(server: ServerProcess) -> None:
    """Let the service see projects, and predict: scenes, and tasks with which something is wrong."""
    config = label_config(*LABELS)
    for project in (SCENES, "12.1795430001"):
        body = {"project": project, "schema": config, "hostname": "http://127.0.0.1:8080", "access_token": ""}
        assert post(server, "/setup", body).ok
    tasks = [{"id": i, "data": {"image": data_uri(png(scene(i).image))}} for i in range(8)]
    tasks += [{"id": 90, "data": {"image": "data:image/png;base64,AAAA"}}, {"id": 91, "data": {}}]
    for _ in range(2):
        assert post(server, "/predict", {"tasks": tasks, "project": SCENES, "label_config": config}).ok


@dataclass
class Visitor:
    """Somebody who opens the page, and what their browser complained about."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda asked: self._note(asked.url))

    def _note(self, url: str) -> None:
        if not url.startswith((self.url + "/", "blob:", "data:")):
            self.elsewhere.append(url)

    def open(self, path: str = "/") -> None:
        answer = self.page.goto(self.url + path)
        assert answer is not None
        assert answer.status == 200

    def drop(self, name: str, content: bytes) -> None:
        """Drop a file where it says so."""
        transfer = self.page.evaluate_handle(
            """([name, content]) => {
                const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], name, {type: "image/png"}));
                return transfer;
            }""",
            [name, base64.b64encode(content).decode()],
        )
        for kind in ("dragenter", "dragover", "drop"):
            self.page.dispatch_event("#drop", kind, {"dataTransfer": transfer})

    def ask(self, labels: str) -> None:
        self.page.fill("#labels", labels)
        self.page.click("#try button")
        self.page.wait_for_selector("#trial-heading", timeout=60_000)

    def wait_until(self, expression: str, timeout_s: float = 20.0) -> None:
        """Wait for something; not with Playwright's own function, which the page's policy forbids to evaluate texts."""
        assert eventually(lambda: self.page.evaluate(expression), timeout_s=timeout_s), expression

    def tab_to(self, selector: str, key: str = "Tab") -> None:
        """Press a key until something has the focus; whoever cannot use a mouse must get there."""
        for _ in range(60):
            if self.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            self.page.keyboard.press(key)
        raise AssertionError(f"{selector} cannot be reached by keyboard")

    def bring_everything(self) -> None:
        """Scroll until all pictures have come, and back to the top."""
        for place in self.page.query_selector_all("[data-pictures]"):
            place.scroll_into_view_if_needed()
        self.wait_until("document.querySelectorAll('[data-pictures] a[href*=\"page/class\"]').length === 0")
        self.wait_until("[...document.images].every(image => image.hidden || (image.complete && image.naturalWidth))")
        self.page.evaluate("scrollTo({top: 0, behavior: 'instant'})")

    def check(self) -> None:
        """Nobody is shut out, nothing is wider than the window, and nothing came from elsewhere."""
        found = Axe().run(self.page).response
        assert len(found["passes"]) > 20
        wrong = [(one["impact"], one["id"], one["nodes"][0]["target"]) for one in found["violations"]]
        assert wrong == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert (self.complaints, self.elsewhere) == ([], [])


@contextmanager
def visiting(
    chromium: Browser, server: ServerProcess, size_wh: tuple[int, int] = WIDE, scheme: str = "light"
) -> Iterator[Visitor]:
    context = chromium.new_context(
        viewport={"width": size_wh[0], "height": size_wh[1]},
        color_scheme=scheme,  # type: ignore[arg-type]
        http_credentials={"username": USER, "password": PASSWORD},
    )
    try:
        yield Visitor(context.new_page(), server.url)
    finally:
        context.close()


def in_chromium(look: Callable[[Browser], None]) -> None:
    """Look with a browser of one's own: Playwright's loop belongs to a thread, and that of other tests has theirs."""

    def run() -> None:
        with sync_playwright() as playwright:
            look(playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_ARGUMENTS)))

    with ThreadPoolExecutor(1) as thread:
        thread.submit(run).result()


def test_everybody_can_read_it(server: ServerProcess, artifacts: Path) -> None:
    work(server)

    def look(chromium: Browser) -> None:
        for name, size_wh, scheme in (("light", WIDE, "light"), ("dark", WIDE, "dark"), ("phone", NARROW, "light")):
            with visiting(chromium, server, size_wh, scheme) as visitor:
                visitor.open()
                page = visitor.page
                visitor.bring_everything()
                assert page.locator(".comparisons img").count() == 3 * 3 * 4
                visitor.drop("scene.png", png(PICTURE.image))
                visitor.ask(", ".join(LABELS))
                visitor.bring_everything()
                page.screenshot(path=artifacts / f"page-{name}.png", full_page=True)
                visitor.check()
                background = page.evaluate("getComputedStyle(document.body).backgroundColor")
                red, green, blue = map(int, re.findall(r"\d+", background)[:3])
                assert (red + green + blue < 200) == (scheme == "dark")
                if name == "light":
                    _for_readme(page, artifacts)
                page.click("table a:has-text('butterfly')")
                page.wait_for_url("**/page/class?*")
                visitor.check()

    in_chromium(look)


def _for_readme(page: Page, artifacts: Path) -> None:
    """Put two windows side by side: what runs and how good it is, and the panel."""
    page.set_viewport_size({"width": WIDE[0], "height": README_HEIGHT})
    halves = []
    for name, heading in (("left", "#now-heading"), ("right", "#try-heading")):
        page.evaluate("heading => document.querySelector(heading).scrollIntoView({behavior: 'instant'})", heading)
        page.screenshot(path=artifacts / f"page-{name}.png")
        halves.append(Image.open(artifacts / f"page-{name}.png").convert("RGB"))
    sheet = Image.new("RGB", (2 * WIDE[0], README_HEIGHT))
    for number, half in enumerate(halves):
        sheet.paste(half, (number * WIDE[0], 0))
    few = sheet.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(artifacts / "page.png", optimize=True)
    assert (artifacts / "page.png").stat().st_size < 300_000


def test_it_can_be_used_without_a_mouse(server: ServerProcess, tmp_path: Path, artifacts: Path) -> None:
    picture = tmp_path / "scene.png"
    picture.write_bytes(png(PICTURE.image))

    def look(chromium: Browser) -> None:
        with visiting(chromium, server) as visitor:
            visitor.open()
            page = visitor.page
            page.on("filechooser", lambda chooser: chooser.set_files(picture))
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.className") == "skip"
            page.keyboard.press("Enter")
            visitor.tab_to("#picture")
            page.screenshot(path=artifacts / "page-focus.png")
            page.keyboard.press("Enter")
            visitor.wait_until("document.querySelector('#picture').files.length === 1")
            visitor.tab_to("#labels")
            page.keyboard.type(", ".join(LABELS))
            visitor.tab_to("#try button")
            page.keyboard.press("Enter")
            visitor.wait_until("document.activeElement.id === 'trial-heading'", timeout_s=60)
            assert re.match(r"[1-4] of 4 labels were found", page.inner_text("#trial-heading"))
            legend = page.inner_text(".legend")
            assert "sunflower" in legend
            masks = page.locator("img.masks")
            assert masks.is_visible()
            visitor.tab_to("#show-masks")
            page.keyboard.press("Space")
            assert not masks.is_visible()
            page.keyboard.press("Space")
            visitor.tab_to("#answer summary")
            page.keyboard.press("Enter")
            assert page.locator("#answer details[open]").inner_text().startswith("44 others competed")
            visitor.tab_to(".panel")
            page.locator("#answer").screenshot(path=artifacts / "page-trial.png")
            visitor.tab_to("#try button", "Shift+Tab")
            visitor.check()

    in_chromium(look)


def test_mistakes_are_said_and_mended(server: ServerProcess, artifacts: Path) -> None:
    def look(chromium: Browser) -> None:
        with visiting(chromium, server) as visitor:
            visitor.open()
            page = visitor.page
            problem = page.locator("#try-problem")
            page.fill("#labels", "dog")
            page.click("#try button")
            assert problem.inner_text() == "Choose a picture first."
            assert page.evaluate("document.activeElement.id") == "picture"
            visitor.drop("text.png", b"no picture at all")
            page.click("#try button")
            visitor.wait_until("document.querySelector('#try-problem').textContent.includes('expected a JPEG')")
            visitor.complaints.clear()  # Chromium says in its console that a request was refused
            page.locator("#try").screenshot(path=artifacts / "page-problem.png")
            visitor.check()
            visitor.drop("scene.png", png(PICTURE.image))
            visitor.ask('<img src=x onerror=alert(1)>, dog, "<script>alert(2)</script>"')
            assert not problem.is_visible()
            assert "<script>alert(2)</script>" in page.inner_text("#answer")
            assert page.locator("#answer script, #answer img[src=x]").count() == 0
            visitor.check()

    in_chromium(look)


def test_versions_are_pinned_and_let_go(server: ServerProcess, artifacts: Path) -> None:
    def look(chromium: Browser) -> None:
        with visiting(chromium, server) as visitor:
            visitor.open()
            page = visitor.page
            page.get_by_role("button", name="Roll back version 2").click()
            page.wait_for_url("**/?project=*")
            row = page.locator("tr.used").first
            assert re.sub(r"\s+", " ", row.inner_text()).startswith("Version 2 in use pinned")
            row.screenshot(path=artifacts / "page-pinned.png")
            visitor.check()
            page.get_by_role("button", name="Unpin version 2").click()
            visitor.wait_until("document.querySelector('tr.used').innerText.includes('Version 3')")
            assert page.locator("tr.used .badge", has_text="pinned").count() == 0

    in_chromium(look)


def test_what_runs_is_seen_while_it_runs(server: ServerProcess) -> None:
    config = label_config(*LABELS)
    tasks = [{"id": i, "data": {"image": data_uri(png(scene(500 + i).image))}} for i in range(BUSY_TASKS)]
    body = {"tasks": tasks, "project": "12.1795430001", "label_config": config}

    def look(chromium: Browser) -> None:
        with visiting(chromium, server) as visitor, ThreadPoolExecutor(1) as asking:
            visitor.open()
            before = visitor.page.inner_text("#now")
            assert "nothing is being worked on" in before
            answered = asking.submit(post, server, "/predict", body)
            visitor.wait_until(
                "/done in about \\d.*tasks\\/s/s.test(document.querySelector('#now').innerText)", timeout_s=60
            )
            assert answered.result().ok
            visitor.check()

    in_chromium(look)
