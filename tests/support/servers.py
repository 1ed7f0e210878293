"""A real Label Studio and our real service for one test or for many, always ended."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests

from backend.corrections.store import CorrectionStore
from backend.demo.label_studio_process import Login, find_executable, label_studio_process
from backend.demo.server_process import ServerProcess, backend_process
from backend.label_studio_api import LabelStudioApi

ROOT = Path(__file__).parents[2]
LOGIN = Login("annotator@example.com", "a-long-password", "0123456789abcdef0123456789abcdef01234567")
# Off by default in this Label Studio, on in its hosted sister: one bad prediction then costs its whole batch.
VALIDATION_FLAG = "fflag_feat_utc_210_prediction_validation_15082025"


@dataclass(frozen=True)
class LabelStudio:
    """A running Label Studio."""

    server: ServerProcess
    api: LabelStudioApi
    files_dir: Path

    @property
    def url(self) -> str:
        return self.server.url

    def project(self, title: str, label_config: str, backend: "Backend | None" = None) -> int:
        """Make a project, connected to a backend if one is given."""
        project_id = self.api.create_project(title, label_config)
        self.api.create_view(project_id, "Default")
        if backend is not None:
            self.api.connect_backend(project_id, backend.url, "CLIP-DIY")
        return project_id

    def add_prediction(self, task_id: int, result: list[dict[str, Any]], model_version: str) -> None:
        """Store a prediction that no backend has made."""
        self._post("/api/predictions/", {"task": task_id, "result": result, "model_version": model_version})

    def interact(self, backend_id: int, task_id: int, result: list[dict[str, Any]]) -> dict[str, Any]:
        """Ask a backend what a smart tool asks."""
        path = f"/api/ml/{backend_id}/interactive-annotating"
        return dict(self._post(path, {"task": task_id, "context": {"result": result}}))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Token {LOGIN.token}"}
        answer = requests.post(self.url + path, json=body, headers=headers, timeout=120)
        answer.raise_for_status()
        return answer.json()


@dataclass(frozen=True)
class Backend:
    """Our service under gunicorn."""

    server: ServerProcess
    data_dir: Path

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def corrections(self) -> CorrectionStore:
        """What people made of its predictions."""
        return CorrectionStore(self.data_dir)

    def tasks_by_outcome(self, auth: tuple[str, str] | None = None) -> dict[str, int]:
        """Return what /metrics says became of the tasks so far."""
        text = requests.get(f"{self.url}/metrics", auth=auth, timeout=10).text
        found = re.findall(r'^clipdiy_tasks_total\{outcome="([^"]+)"\} (\S+)$', text, re.MULTILINE)
        return {outcome: int(float(count)) for outcome, count in found}


T = TypeVar("T")


def eventually(look: Callable[[], T], *, timeout_s: float = 60.0) -> T:
    """Return the first true thing that `look` finds, or what it finds last."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


@contextmanager
def run_label_studio(data_dir: Path, log_path: Path, *, validate: bool = False) -> Iterator[LabelStudio]:
    """Run a fresh Label Studio."""
    log_path.unlink(missing_ok=True)
    flags = {VALIDATION_FLAG: "true"} if validate else {}
    with label_studio_process(find_executable(), data_dir, LOGIN, log_path=log_path, extra_environment=flags) as server:
        yield LabelStudio(server, LabelStudioApi(server.url, f"Token {LOGIN.token}"), data_dir / "files")


@contextmanager
def run_backend(data_dir: Path, log_path: Path, **settings: str) -> Iterator[Backend]:
    """Run our backend with the starter weights; settings by their name without the prefix, in small letters."""
    log_path.unlink(missing_ok=True)
    given = {"preset": "starter", "device": "cpu", "data_dir": str(data_dir), **settings}
    with backend_process({f"CLIPDIY_{name.upper()}": value for name, value in given.items()}, log_path=log_path) as it:
        yield Backend(it, data_dir)
