"""A Label Studio without a Django behind it: projects, tasks and predictions in memory, and every fault on demand.

It answers what `backend.label_studio_api` asks as the real one does (tests/e2e/test_pushing.py asks both).
"""

import base64
import itertools
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LEGACY_TOKEN = "0123456789abcdef0123456789abcdef01234567"


def jwt(**claims: Any) -> str:
    """Return a token that says this of itself; its signature is nobody's."""

    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}.c2lnbmF0dXJl"


PERSONAL_TOKEN = jwt(token_type="refresh", exp=9_000_000_000)


@dataclass(frozen=True)
class Fault:
    """What happens to one request instead of, or behind, what was asked for.

    Attributes:
        status: It is answered with this; 0 hangs up without an answer.
        headers: That go with it.
        is_done: What was asked for is done all the same.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    is_done: bool = False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


@dataclass
class Project:
    """One project."""

    label_config: str
    model_version: str = ""
    backends: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)


class FakeLabelStudio:
    """Runs in a thread of the test; use it as a context."""

    def __init__(self) -> None:
        self.projects: dict[int, Project] = {}
        self.predictions: dict[int, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.batches: list[int] = []
        self.exchanges = 0
        self.most_in_a_page = 10_000
        self.refuses: Callable[[dict[str, Any]], bool] = lambda prediction: False
        self.before: Callable[[str, str], object] = lambda method, path: None
        self._faults: deque[tuple[str, str, Fault]] = deque()
        self._access: set[str] = set()
        self._ids = itertools.count(1)
        self._lock = threading.RLock()
        self._open(0)
        self.port = int(self._server.server_address[1])

    # What a test does.

    def __enter__(self) -> "FakeLabelStudio":
        return self

    def __exit__(self, *_error: object) -> None:
        self._close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add_project(self, label_config: str, data: Sequence[dict[str, Any]] = ()) -> int:
        """Make a project with these tasks and return its id."""
        number = next(self._ids)
        self.projects[number] = Project(label_config)
        for one in data:
            self.add_task(number, one)
        return number

    def add_task(self, project: int, data: dict[str, Any], *, annotations: int = 0, skipped: bool = False) -> int:
        """Add a task and return its id."""
        number = next(self._ids)
        made = [{"id": next(self._ids), "result": [], "was_cancelled": skipped} for _ in range(annotations or skipped)]
        self.projects[project].tasks[number] = {"id": number, "data": data, "project": project, "annotations": made}
        return number

    def add_prediction(self, task: int, model_version: str) -> int:
        """Store a prediction."""
        number = next(self._ids)
        self.predictions[number] = {"id": number, "task": task, "model_version": model_version, "result": []}
        return number

    def fail(self, method: str, path: str, *faults: Fault) -> None:
        """Let the next requests of this method, whose path matches, fail in turn."""
        self._faults.extend((method, path, fault) for fault in faults)

    def end_access_tokens(self) -> None:
        """Let every access token that was given out be refused."""
        with self._lock:
            self._access.clear()

    def go_away_for(self, seconds: float) -> threading.Thread:
        """Refuse every connection for so long, from now on; join what is returned."""
        self._close()
        thread = threading.Timer(seconds, self._open, [self.port])
        thread.start()
        return thread

    def versions(self, project: int) -> dict[int, list[str]]:
        """Return the versions of each task's predictions."""
        with self._lock:
            found: dict[int, list[str]] = {task: [] for task in self.projects[project].tasks}
            for prediction in self.predictions.values():
                if prediction["task"] in found:
                    found[prediction["task"]].append(prediction["model_version"])
        return found

    # What it answers.

    def answer(self, method: str, target: str, authorization: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        with self._lock:
            self.requests.append((method, parts.path))
            fault = self._fault(method, parts.path)
            if fault is not None and not fault.is_done:
                return fault.status, {"detail": "a fault of the test"}, fault.headers
            status, content = self._do(method, parts.path, query, authorization, body)
            if fault is not None:
                return fault.status, {"detail": "a fault of the test"}, fault.headers
        return status, content, {}

    def _fault(self, method: str, path: str) -> Fault | None:
        for entry in self._faults:
            if entry[0] == method and re.fullmatch(entry[1], path):
                self._faults.remove(entry)
                return entry[2]
        return None

    def _do(self, method: str, path: str, query: dict[str, str], authorization: str, body: bytes) -> tuple[int, Any]:
        if (method, path) == ("POST", "/api/token/refresh/"):
            if json.loads(body).get("refresh") != PERSONAL_TOKEN:
                return 401, {"detail": "no such token"}
            self.exchanges += 1
            access = jwt(token_type="access", number=self.exchanges, exp=9_000_000_000)
            self._access.add(access)
            return 200, {"access": access}
        if authorization != f"Token {LEGACY_TOKEN}" and authorization.removeprefix("Bearer ") not in self._access:
            return 401, {"detail": "Invalid token."}
        if (method, path) == ("GET", "/api/current-user/whoami"):
            return 200, {"username": "anna"}
        if (method, path) == ("GET", "/api/ml/"):
            return 200, self.projects[int(query["project"])].backends
        if (method, path) == ("GET", "/api/tasks/"):
            return self._tasks(query)
        found = re.fullmatch(r"/api/projects/(\d+)/(import/predictions)?", path)
        if found and int(found[1]) in self.projects:
            number = int(found[1])
            project = self.projects[number]
            if method == "PATCH" and not found[2]:
                project.model_version = json.loads(body)["model_version"]
            if method in ("GET", "PATCH") and not found[2]:
                described = {"label_config": project.label_config, "model_version": project.model_version}
                return 200, {"id": number, "title": "?", "created_at": "2026-01-02T03:04:05Z", **described}
            if method == "POST" and found[2]:
                return self._import(number, json.loads(body))
        found = re.fullmatch(r"/api/predictions/(\d+)/", path)
        if found and method == "DELETE" and self.predictions.pop(int(found[1]), None):
            return 204, None
        return 404, {"detail": "Not found."}

    def _import(self, project: int, predictions: list[dict[str, Any]]) -> tuple[int, Any]:
        if any(one["task"] not in self.projects[project].tasks for one in predictions):
            return 400, {"detail": "a task that is not in the project"}
        if any(self.refuses(one) for one in predictions):
            return 400, {"detail": "a prediction that is none"}
        self.batches.append(len(predictions))
        for one in predictions:
            number = next(self._ids)
            self.predictions[number] = {"id": number, **one}
        return 201, {"created": len(predictions)}

    def _tasks(self, query: dict[str, str]) -> tuple[int, Any]:
        project = self.projects.get(int(query["project"]))
        if project is None:
            return 404, {"detail": "Not found."}
        filters = json.loads(query["query"])["filters"]["items"] if "query" in query else []
        rows = [task for task in project.tasks.values() if self._fits(task, filters)]
        page_size = min(int(query["page_size"]), self.most_in_a_page)
        return 200, {"tasks": [self._shown(row, query["fields"]) for row in rows[:page_size]], "total": len(rows)}

    def _fits(self, task: dict[str, Any], filters: list[dict[str, Any]]) -> bool:
        versions = [one["model_version"] for one in self.predictions.values() if one["task"] == task["id"]]
        for one in filters:
            column, operator, value = one["filter"].removeprefix("filter:tasks:"), one["operator"], one["value"]
            if column == "id":
                fits = {"greater": lambda v: task["id"] > v, "in_list": lambda v: task["id"] in v}[operator](value)
            elif column in ("total_annotations", "cancelled_annotations", "total_predictions"):
                cancelled = sum(bool(annotation["was_cancelled"]) for annotation in task["annotations"])
                total = {
                    "total_annotations": len(task["annotations"]) - cancelled,
                    "cancelled_annotations": cancelled,
                    "total_predictions": len(versions),
                }[column]
                fits = {"greater": total > value, "equal": total == value}[operator]
            else:
                assert column == "predictions_model_versions", column
                hits = sum(any(part in version for part in value) for version in versions)
                fits = {"contains": hits > 0, "not_contains": hits == 0}[operator]
            if not fits:
                return False
        return True

    def _shown(self, task: dict[str, Any], fields: str) -> dict[str, Any]:
        shown = {key: value for key, value in task.items() if key != "annotations"}
        shown["total_annotations"] = len(task["annotations"])
        if fields == "all":
            shown["annotations"] = task["annotations"]
            shown["predictions"] = [one for one in self.predictions.values() if one["task"] == task["id"]]
        return shown

    # Its server.

    def _open(self, port: int) -> None:
        self._server = _Server(("127.0.0.1", port), self._handler())
        serving = {"poll_interval": 0.01}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=serving, daemon=True)
        self._thread.start()

    def _close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(fake) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.before(self.command, self.path)
                authorization = self.headers.get("Authorization", "")
                status, content, headers = fake.answer(self.command, self.path, authorization, body)
                if status == 0:
                    self.close_connection = True
                    return
                encoded = b"" if content is None else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            do_GET = do_POST = do_DELETE = do_PATCH = answer

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        return Handler
