"""Somebody who opens the service's page in a real Chromium, looks at it closely, and takes pictures of it."""

import base64
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page
from servers import eventually

README_WH = (1200, 1180)


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

    def photograph(self, path: Path) -> None:
        """Put two windows side by side, for README: what runs and how good it is, and the panel."""
        self.page.set_viewport_size({"width": README_WH[0], "height": README_WH[1]})
        sheet = Image.new("RGB", (2 * README_WH[0], README_WH[1]))
        for number, heading in enumerate(("#now-heading", "#try-heading")):
            for _ in range(2):  # pictures that come in move what is on the screen
                self.page.evaluate(
                    "heading => document.querySelector(heading).scrollIntoView({behavior: 'instant'})", heading
                )
                self.page.wait_for_timeout(500)
            self.page.screenshot(path=path)
            sheet.paste(Image.open(path).convert("RGB"), (number * README_WH[0], 0))
        few = sheet.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
        assert path.stat().st_size < 300_000
