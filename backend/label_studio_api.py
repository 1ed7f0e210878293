"""What the demo and the tests ask of a Label Studio: projects, tasks, a connected backend, predictions, exports."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from backend.errors import BackendError

# What JSON decodes to, or can be encoded from.
Json = Any


class LabelStudioApiError(BackendError):
    """Label Studio refused a request. The message names the request and what it said."""


@dataclass(frozen=True)
class BasicAuth:
    """User and password that Label Studio is to send to a backend."""

    user: str
    password: str


class LabelStudioApi:
    """A thin client for the calls that are needed here, in the words of this project."""

    def __init__(self, url: str, authorization: str, *, timeout_s: float = 120.0) -> None:
        """Open a session.

        Args:
            url: Address of Label Studio.
            authorization: Value of the header, `Token <legacy token>` or `Bearer <access token>`.
            timeout_s: How long one request may take. A retrieval lasts as long as the backend works, up to 100 s.
        """
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._authorization = {"Authorization": authorization}

    def whoami(self) -> str:
        """Return the user name that the token belongs to."""
        return str(self._get("/api/current-user/whoami", {})["username"])

    def project(self, project_id: int) -> dict[str, Json]:
        """Return how Label Studio describes a project."""
        return dict(self._get(f"/api/projects/{project_id}/", {}))

    def task_pages(
        self, project_id: int, *, fields: str = "all", page_size: int = 100
    ) -> Iterator[list[dict[str, Json]]]:
        """Yield all tasks of a project, page by page; with `fields="all"` with annotations and predictions.

        A page may be empty, if what was on it has been deleted meanwhile.
        """
        page = 1
        while True:
            query = {"project": project_id, "page": page, "page_size": page_size, "fields": fields}
            answer = self._get("/api/tasks/", query)
            yield list(answer["tasks"])
            if page * page_size >= int(answer["total"]):
                return
            page += 1

    def label_config(self, project_id: int) -> str:
        """Return the labeling config of a project."""
        return str(self._get(f"/api/projects/{project_id}/", {})["label_config"])

    def first_task(self, project_id: int) -> dict[str, Json] | None:
        """Return one task of a project with its data, None if it has none."""
        query = {"project": project_id, "page_size": 1, "fields": "task_only"}
        tasks = self._get("/api/tasks/", query)["tasks"]
        return dict(tasks[0]) if tasks else None

    def create_project(self, title: str, label_config: str, **settings: Json) -> int:
        """Create a project and return its id; the title needs three characters."""
        return int(self._post("/api/projects/", {"title": title, "label_config": label_config, **settings})["id"])

    def find_project(self, title: str) -> int | None:
        """Return the id of the oldest project with this title, or None."""
        found = self._get("/api/projects/", {"page_size": 1000, "filter": "all"})["results"]
        ids = [int(project["id"]) for project in found if project["title"] == title]
        return min(ids, default=None)

    def update_project(self, project_id: int, **changes: Json) -> None:
        """Change settings of a project."""
        self._call("PATCH", f"/api/projects/{project_id}/", json=changes)

    def upload(self, project_id: int, files: Iterable[tuple[str, bytes]]) -> list[int]:
        """Upload files (name and content), one task each, and return the ids of the tasks in that order."""
        before = {task["id"] for task in self.tasks(project_id)}
        # Every part under a name of its own: of several with one name Label Studio keeps the last.
        parts = {f"file{number}": file for number, file in enumerate(files)}
        self._call("POST", f"/api/projects/{project_id}/import", files=parts)
        return sorted(task["id"] for task in self.tasks(project_id) if task["id"] not in before)

    def import_tasks(self, project_id: int, data: Sequence[Mapping[str, Json]]) -> list[int]:
        """Add tasks by their data and return their ids in that order."""
        tasks = [{"data": dict(entry)} for entry in data]
        answer = self._post(f"/api/projects/{project_id}/import?return_task_ids=true", tasks)
        return [int(task_id) for task_id in answer["task_ids"]]

    def add_local_storage(self, project_id: int, path: str) -> None:
        """Allow `/data/local-files/?d=...` for a folder under the document root."""
        self._post("/api/storages/localfiles", {"project": project_id, "path": path, "use_blob_urls": True})

    def tasks(self, project_id: int) -> list[dict[str, Json]]:
        """Return the tasks of a project, with their data and without annotations."""
        query = {"project": project_id, "page_size": 10_000, "fields": "task_only"}
        answer = self._get("/api/tasks/", query)
        return list(answer["tasks"])

    def task(self, task_id: int) -> dict[str, Json]:
        """Return one task with its annotations."""
        return dict(self._get(f"/api/tasks/{task_id}/", {}))

    def backends(self, project_id: int) -> list[dict[str, Json]]:
        """Return the backends connected to a project."""
        return list(self._get("/api/ml/", {"project": project_id}))

    def connect_backend(
        self,
        project_id: int,
        url: str,
        title: str,
        auth: BasicAuth | None = None,
        *,
        is_interactive: bool = False,
    ) -> int:
        """Connect a backend, or change the address of the one that is connected, and return its id.

        Args:
            project_id: Project.
            url: Address of the backend.
            title: Its name in the settings.
            auth: What it asks for.
            is_interactive: It may be asked by smart tools too (*Interactive preannotations* in the settings).

        Raises:
            LabelStudioApiError: If Label Studio cannot reach it, or is refused by it.
        """
        body: dict[str, Json] = {"project": project_id, "url": url, "title": title, "is_interactive": is_interactive}
        if auth is not None:
            body |= {"auth_method": "BASIC_AUTH", "basic_auth_user": auth.user, "basic_auth_pass": auth.password}
        existing = self.backends(project_id)
        if existing:
            return int(self._call("PATCH", f"/api/ml/{existing[0]['id']}", json=body)["id"])
        return int(self._post("/api/ml/", body)["id"])

    def retrieve_predictions(self, project_id: int, task_ids: Sequence[int] | None = None) -> None:
        """Do what the button does, for some tasks or for all, and wait until Label Studio is through.

        It reports success whatever the backend answered: look at `predictions` afterwards.
        """
        chosen: dict[str, Json] = {"all": True, "excluded": []}
        if task_ids is not None:
            chosen = {"all": False, "included": list(task_ids)}
        path = f"/api/dm/actions?id=retrieve_tasks_predictions&project={project_id}"
        self._post(path, {"selectedItems": chosen})

    def predictions(self, project_id: int) -> list[dict[str, Json]]:
        """Return every stored prediction of a project."""
        return list(self._get("/api/predictions/", {"project": project_id}))

    def create_view(self, project_id: int, title: str, **data: Json) -> int:
        """Add a tab to the data manager and return its id; without one, no task can be opened by its address."""
        body = {"project": project_id, "data": {"title": title, **data}}
        return int(self._post(f"/api/dm/views?project={project_id}", body)["id"])

    def views(self, project_id: int) -> list[dict[str, Json]]:
        """Return the tabs of the data manager."""
        return list(self._get("/api/dm/views", {"project": project_id}))

    def create_personal_access_token(self) -> str:
        """Return a new personal access token; a person can hold one at a time."""
        return str(self._post("/api/token/", {})["token"])

    def access_token(self, personal_access_token: str) -> str:
        """Exchange a personal access token for what is sent as Bearer; good for five minutes."""
        return str(self._post("/api/token/refresh/", {"refresh": personal_access_token})["access"])

    def allow_legacy_tokens(self, allowed: bool) -> None:
        """Switch the legacy tokens of everybody in the organization on or off."""
        self._post("/api/jwt/settings", {"api_tokens_enabled": True, "legacy_api_tokens_enabled": allowed})

    def export(self, project_id: int, export_type: str) -> bytes:
        """Export the annotated tasks; several files come as a zip, one file comes bare."""
        return self._request("GET", f"/api/projects/{project_id}/export", params={"exportType": export_type}).content

    def _get(self, path: str, query: Mapping[str, Json]) -> Json:
        return self._call("GET", path, params=query)

    def _post(self, path: str, body: Json) -> Json:
        return self._call("POST", path, json=body)

    def _call(self, method: str, path: str, **arguments: Json) -> Json:
        return self._request(method, path, **arguments).json()

    def _request(self, method: str, path: str, **arguments: Json) -> requests.Response:
        try:
            # A new connection each time: Label Studio's own server closes the old ones without notice.
            answer = requests.request(
                method, self.url + path, headers=self._authorization, timeout=self._timeout_s, **arguments
            )
        except requests.RequestException as err:
            raise LabelStudioApiError(f"{method} {path}: {err}") from err
        if not answer.ok:
            raise LabelStudioApiError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer
