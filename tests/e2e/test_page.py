"""The page in a real Chromium: light, dark and narrow, by keyboard and by mouse, and nothing that shuts anybody out."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from pictures import data_uri, label_config, png, scene
from playwright.sync_api import Browser, sync_playwright
from reports import SCENES
from servers import ROOT
from visitor import Visitor

from backend.demo.browser import CHROMIUM_ARGUMENTS, find_chromium
from backend.demo.server_process import LOOPBACK, ServerProcess, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

USER, PASSWORD = "anna", "geheim"
LABELS = ("dog", "elephant", "sunflower", "rocket")
PICTURE = scene(20, (480, 640), (3, 4))
WIDE, NARROW = (1200, 900), (390, 844)
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
                assert page.locator(".comparisons img").count() == (3 + 1) * 3 * 4
                visitor.drop("scene.png", png(PICTURE.image))
                visitor.ask(", ".join(LABELS))
                visitor.bring_everything()
                page.screenshot(path=artifacts / f"page-{name}.png", full_page=True)
                visitor.check()
                background = page.evaluate("getComputedStyle(document.body).backgroundColor")
                red, green, blue = map(int, re.findall(r"\d+", background)[:3])
                assert (red + green + blue < 200) == (scheme == "dark")
                page.click("table a:has-text('butterfly')")
                page.wait_for_url("**/page/class?*")
                visitor.check()

    in_chromium(look)


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
            page.fill("#stuff", "sky")
            page.click("#try button")
            visitor.wait_until("document.querySelector('#try-problem').textContent.includes('sky')")
            visitor.complaints.clear()
            page.fill("#stuff", "")
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
