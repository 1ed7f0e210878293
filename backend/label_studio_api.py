"""What is asked of a Label Studio: projects, tasks page by page, a connected backend, predictions, exports.

`backend.label_studio_http` says how: with which token, and what is asked again.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import orjson
import requests

from backend.label_studio_http import (
    IMPATIENT,
    Credentials,
    FixedCredentials,
    LabelStudioApiError,
    LabelStudioHttp,
    Patience,
    Pause,
    TokenCredentials,
    json_of,
)

__all__ = ["IMPATIENT", "BasicAuth", "Json", "LabelStudioApi", "LabelStudioApiError", "Patience", "Pause", "TaskFilter"]

# What JSON decodes to, or can be encoded from.
Json = Any

PAGE_TASKS = 100
LISTED_TASKS = 1000


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks of a project are meant, in the words of Label Studio's data manager.

    Attributes:
        column: Without `filter:tasks:`.
        operator: One of the data manager's.
        kind: What the column holds: Number, String, List, ...
        value: To compare with.
    """

    column: str
    operator: str
    kind: str
    value: Json

    @classmethod
    def behind(cls, task_id: int) -> Self:
        """Those with a higher id."""
        return cls("id", "greater", "Number", task_id)

    @classmethod
    def among(cls, task_ids: Iterable[int]) -> Self:
        """Those with these ids."""
        return cls("id", "in_list", "List", list(task_ids))

    @classmethod
    def with_version(cls, model_version: str) -> Self:
        """Those that hold a prediction of this version (or of one whose name has this in it)."""
        return cls("predictions_model_versions", "contains", "List", [model_version])

    @classmethod
    def without_version(cls, model_version: str) -> Self:
        """Those that hold none of it."""
        return cls("predictions_model_versions", "not_contains", "List", [model_version])

    @classmethod
    def annotated(cls) -> Self:
        """Those that somebody has annotated."""
        return cls("total_annotations", "greater", "Number", 0)

    @classmethod
    def unannotated(cls) -> Self:
        """Those that nobody has annotated, but perhaps skipped."""
        return cls("total_annotations", "equal", "Number", 0)

    @classmethod
    def untouched(cls) -> tuple[Self, ...]:
        """Those that nobody has annotated or skipped."""
        return cls.unannotated(), cls("cancelled_annotations", "equal", "Number", 0)

    @classmethod
    def with_several(cls) -> Self:
        """Those that hold more than one prediction, of whatever version."""
        return cls("total_predictions", "greater", "Number", 1)

    def fields(self) -> dict[str, Json]:
        """Return it as Label Studio takes it."""
        column = f"filter:tasks:{self.column}"
        return {"filter": column, "operator": self.operator, "type": self.kind, "value": self.value}


@dataclass(frozen=True)
class BasicAuth:
    """User and password that Label Studio is to send to a backend."""

    user: str
    password: str


class LabelStudioApi:
    """A thin client for the calls that are needed here, in the words of this project. For any number of threads."""

    def __init__(
        self,
        url: str,
        authorization: str | Credentials,
        *,
        timeout_s: float = 120.0,
        patience: Patience = IMPATIENT,
        pause: Pause | None = None,
    ) -> None:
        """Ask nothing yet.

        Args:
            url: Address of Label Studio.
            authorization: Value of the header, `Token <legacy token>` or `Bearer <access token>`, or what gives it.
            timeout_s: How long one request may take. A retrieval lasts as long as the backend works, up to 100 s.
            patience: How long a Label Studio that does not answer, or has too much to do, is waited for.
            pause: How to wait for it; `Event.wait` of an event that is set when nobody wants the answer any more.
        """
        credentials = FixedCredentials(authorization) if isinstance(authorization, str) else authorization
        self._http = LabelStudioHttp(url, credentials, timeout_s=timeout_s, patience=patience, pause=pause)
        self.url = self._http.url

    @classmethod
    def with_token(
        cls,
        url: str,
        token: str,
        *,
        timeout_s: float = 120.0,
        patience: Patience | None = None,
        pause: Pause | None = None,
    ) -> Self:
        """Return a client for long work: patient, with a token of either kind that is renewed as it ends.

        Args:
            url: Address of Label Studio.
            token: As a person copied it out of Label Studio: legacy, or a personal access token.
            timeout_s: How long one request may take.
            patience: If other than usual; see `Patience`.
            pause: See above.
        """
        patience = patience or Patience()
        return cls(url, TokenCredentials(url, token), timeout_s=timeout_s, patience=patience, pause=pause)

    def whoami(self) -> str:
        """Return the user name that the token belongs to."""
        return str(self._get("/api/current-user/whoami", {})["username"])

    def project(self, project_id: int) -> dict[str, Json]:
        """Return a project: `title`, `label_config`, `task_number`, `model_version` and more."""
        return dict(self._get(f"/api/projects/{project_id}/", {}))

    def label_config(self, project_id: int) -> str:
        """Return the labeling config of a project."""
        return str(self.project(project_id)["label_config"])

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
        ids: list[int] = []
        page = 1
        while True:
            answer = self._get("/api/projects/", {"page": page, "page_size": 1000, "filter": "all"})
            ids += [int(project["id"]) for project in answer["results"] if project["title"] == title]
            if not answer.get("next"):
                return min(ids, default=None)
            page += 1

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

    def task_pages(
        self,
        project_id: int,
        *,
        fields: str = "task_only",
        page_size: int = PAGE_TASKS,
        filters: Sequence[TaskFilter] = (),
        resolve_uri: bool = False,
    ) -> Iterator[list[dict[str, Json]]]:
        """Yield the tasks of a project in the order of their ids, in lists of some, each asked for when it is wanted.

        Every page asks for what lies behind the last id, so that tasks that come, go, or no longer fit the filters
        meanwhile shift no other: each is there once.

        Args:
            project_id: Project.
            fields: `task_only`; `all` has annotations, drafts and predictions too, with all their masks.
            page_size: Most tasks in a list; Label Studio may give fewer.
            filters: All of which must hold.
            resolve_uri: Addresses in object stores become Label Studio's own (`/tasks/1/resolve/...`).
        """
        last = 0
        while True:
            answer = self._tasks_behind(last, project_id, fields, page_size, filters, resolve_uri)
            page = [dict(task) for task in answer["tasks"]]
            if not page:
                return
            yield page
            last = int(page[-1]["id"])
            if len(page) >= int(answer["total"]):
                return

    def _tasks_behind(
        self,
        task_id: int,
        project_id: int,
        fields: str,
        page_size: int,
        filters: Sequence[TaskFilter],
        resolve_uri: bool = False,
    ) -> Json:
        wanted = [TaskFilter.behind(task_id), *filters]
        query = {"filters": {"conjunction": "and", "items": [one.fields() for one in wanted]}}
        asked = {"project": project_id, "page": 1, "page_size": page_size, "fields": fields}
        return self._get("/api/tasks/", {**asked, "resolve_uri": resolve_uri, "query": json.dumps(query)})

    def count_tasks(self, project_id: int, filters: Sequence[TaskFilter] = ()) -> int:
        """Return how many tasks of a project the filters hold for."""
        return int(self._tasks_behind(0, project_id, "task_only", 1, filters)["total"])

    def tasks(self, project_id: int) -> list[dict[str, Json]]:
        """Return the tasks of a project, with their data and without annotations."""
        pages = self.task_pages(project_id, page_size=LISTED_TASKS, resolve_uri=True)
        return [task for page in pages for task in page]

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

    def import_predictions(self, project_id: int, predictions: Sequence[Mapping[str, Json]]) -> int:
        """Write predictions in one request, and return how many were.

        Args:
            project_id: Project.
            predictions: Each with `task` (its id), `result`, `score` and `model_version`.

        Raises:
            LabelStudioApiError: With `may_be_done` if all, some or none of them may have been written: look before
                they are sent again. One that names a task that is not there makes Label Studio refuse all.
        """
        path, headers = f"/api/projects/{project_id}/import/predictions", {"Content-Type": "application/json"}
        return int(self._call("POST", path, data=orjson.dumps(list(predictions)), headers=headers)["created"])

    def delete_prediction(self, prediction_id: int) -> None:
        """Remove a prediction; nothing happens if it is not there any more."""
        try:
            self._request("DELETE", f"/api/predictions/{prediction_id}/")
        except LabelStudioApiError as err:
            if err.status != 404:
                raise

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
        return json_of(method, path, self._request(method, path, **arguments))

    def _request(self, method: str, path: str, **arguments: Json) -> requests.Response:
        return self._http.request(method, path, **arguments)
