"""The real servers and the real browser that the end-to-end tests share; each is started once."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from image_server import ImageServer, image_server
from servers import LOGIN, ROOT, Backend, LabelStudio, run_backend, run_label_studio

from backend.demo.browser import Browser


@pytest.fixture(scope="session", autouse=True)
def _end_servers_when_killed() -> None:
    """Let a plain kill of pytest end the servers too, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots and logs are kept for people to look at."""
    folder = ROOT / "artifacts" / "e2e"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[tuple[LabelStudio, Backend]]:
    """Label Studio and our backend, started side by side."""
    root = tmp_path_factory.mktemp("e2e")
    with ExitStack() as running, ThreadPoolExecutor(2) as pool:
        label_studio = pool.submit(
            running.enter_context, run_label_studio(root / "label-studio", artifacts / "label-studio.log")
        )
        backend = pool.submit(
            running.enter_context,
            run_backend(
                root / "backend",
                artifacts / "backend.log",
                allow_private_addresses="true",
                show_pictures="true",
                learn="on-training",  # or how far it got by itself would depend on how fast a test annotates
            ),
        )
        yield label_studio.result(), backend.result()


@pytest.fixture(scope="session")
def label_studio(servers: tuple[LabelStudio, Backend]) -> LabelStudio:
    """A Label Studio as one gets it."""
    return servers[0]


@pytest.fixture(scope="session")
def personal_token(label_studio: LabelStudio) -> str:
    """A personal access token; a person can hold one at a time."""
    return label_studio.api.create_personal_access_token()


@pytest.fixture(scope="session")
def backend(servers: tuple[LabelStudio, Backend]) -> Backend:
    """Our backend; it takes tokens from Label Studio's /setup, and images from this machine."""
    return servers[1]


@pytest.fixture(scope="session")
def images() -> Iterator[ImageServer]:
    """A web server for images."""
    with image_server() as files:
        yield files


@pytest.fixture(scope="session")
def browser(label_studio: LabelStudio) -> Iterator[Browser]:
    """A logged-in browser."""
    with Browser(label_studio.url, LOGIN) as window:
        yield window
