"""What "Retrieve predictions" gives a project owner: everything that can be had, and the reason for the rest."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from image_server import ImageServer
from pictures import (
    LABEL_COLOURS,
    data_uri,
    decompression_bomb,
    label_config,
    png,
    scene,
    truncated_jpeg,
)
from servers import LOGIN, Backend, LabelStudio, run_backend, run_label_studio

from backend.label_studio_api import BasicAuth, LabelStudioApi, LabelStudioApiError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def _stored(api: LabelStudioApi, project_id: int) -> list[int]:
    """Return the task of every stored prediction."""
    return [int(prediction["task"]) for prediction in api.predictions(project_id)]


# --- many tasks, little time ------------------------------------------------------------------------------------------


def test_nothing_is_lost_when_time_is_short(label_studio: LabelStudio, tmp_path: Path, artifacts: Path) -> None:
    api = label_studio.api
    with run_backend(tmp_path, artifacts / "backend-hurried.log", deadline_s="3") as hurried:
        project_id = label_studio.project("Short deadline", label_config(*LABEL_COLOURS), hurried)
        task_ids = api.import_tasks(
            project_id, [{"image": data_uri(png(scene(1000 + i, (96, 128)).image))} for i in range(150)]
        )
        rounds = 0
        stored: list[int] = []
        while len(stored) < len(task_ids):
            api.retrieve_predictions(project_id)
            before, stored = stored, _stored(api, project_id)
            rounds += 1
            assert set(before) < set(stored), "every retrieval brings something new and loses nothing"
        assert sorted(stored) == sorted(task_ids), "exactly one prediction per task"
        assert rounds > 1, "the deadline came before the end, or this test shows nothing"
        outcomes = hurried.tasks_by_outcome()
        assert outcomes["predicted"] == 150
        assert outcomes["deadline"] > 0


# --- some tasks are broken --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict_label_studio(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[LabelStudio]:
    """A Label Studio that refuses a whole batch for one prediction that its config does not allow."""
    data_dir = tmp_path_factory.mktemp("strict")
    with run_label_studio(data_dir, artifacts / "label-studio-strict.log", validate=True) as studio:
        yield studio


@pytest.mark.parametrize("studio", ["label_studio", "strict_label_studio"])
def test_broken_tasks_are_reported_and_cost_no_other(
    studio: str, request: pytest.FixtureRequest, backend: Backend, images: ImageServer
) -> None:
    label_studio: LabelStudio = request.getfixturevalue(studio)
    api = label_studio.api
    # Tasks may lack the key only in a project whose config did not ask for it when they were imported.
    project_id = label_studio.project(f"Broken, {studio}", "<View></View>")
    broken = {
        "not-found": {"image": f"{images.url}/nothing-here.png"},
        "truncated": {"image": images.add("truncated.jpg", truncated_jpeg(), "image/jpeg")},
        "bomb": {"image": images.add("bomb.png", decompression_bomb())},
        "html": {"image": images.add("page.png", b"<!doctype html><title>Log in</title>", "text/html")},
        "no-key": {"caption": "no image here"},
    }
    good = [{"image": images.add(f"good-{i}.png", png(scene(2000 + i).image))} for i in range(15)]
    rows = [*good[:3], broken["not-found"], *good[3:6], broken["truncated"], *good[6:8], broken["bomb"]]
    rows += [*good[8:11], broken["html"], *good[11:], broken["no-key"]]
    task_ids = api.import_tasks(project_id, rows)
    broken_ids = {kind: task_ids[rows.index(row)] for kind, row in broken.items()}
    api.update_project(project_id, label_config=label_config(*LABEL_COLOURS))
    api.connect_backend(project_id, backend.url, "CLIP-DIY")

    before = Counter(backend.tasks_by_outcome())
    api.retrieve_predictions(project_id)
    outcomes = Counter(backend.tasks_by_outcome()) - before

    assert sorted(_stored(api, project_id)) == sorted(set(task_ids) - set(broken_ids.values()))
    reasons = {
        "not-found": "not-found",
        "truncated": "not-an-image",
        "bomb": "too-large",
        "html": "not-an-image",
        "no-key": "missing-data",
    }
    assert outcomes == Counter({"predicted": 15, **Counter(reasons.values())})
    log = backend.server.log_text()
    for kind, task_id in broken_ids.items():
        assert f"project {project_id}, task {task_id}: {reasons[kind]}:" in log


def test_the_strict_label_studio_is_strict(strict_label_studio: LabelStudio) -> None:
    project_id = strict_label_studio.project("Strict", label_config("cat"))
    [task_id] = strict_label_studio.api.import_tasks(project_id, [{"image": data_uri(png(scene(1).image))}])
    wrong = {
        "id": "1",
        "from_name": "brush",
        "to_name": "img",
        "type": "brushlabels",
        "value": {"format": "rle", "rle": [0], "brushlabels": ["no such label"]},
    }
    answer = requests.post(
        f"{strict_label_studio.url}/api/predictions/",
        json={"task": task_id, "result": [wrong], "score": 0.5, "model_version": "1"},
        headers={"Authorization": f"Token {LOGIN.token}"},
        timeout=30,
    )
    assert answer.status_code == 400


# --- who may ask, and with which token --------------------------------------------------------------------------------


def test_basic_auth(label_studio: LabelStudio, tmp_path: Path, artifacts: Path) -> None:
    api = label_studio.api
    auth = BasicAuth("label-studio", "open sesame")
    guarded_by = {"basic_auth_user": auth.user, "basic_auth_password": auth.password}
    with run_backend(tmp_path, artifacts / "backend-guarded.log", **guarded_by) as guarded:
        project_id = label_studio.project("Basic auth", label_config(*LABEL_COLOURS))
        [task_id] = api.import_tasks(project_id, [{"image": data_uri(png(scene(3).image))}])
        with pytest.raises(LabelStudioApiError, match="401"):
            api.connect_backend(project_id, guarded.url, "Without")
        with pytest.raises(LabelStudioApiError, match="401"):
            api.connect_backend(project_id, guarded.url, "Wrong", BasicAuth(auth.user, "open barley"))
        api.connect_backend(project_id, guarded.url, "With", auth)
        api.retrieve_predictions(project_id)
        assert _stored(api, project_id) == [task_id]
        assert requests.get(f"{guarded.url}/metrics", timeout=5).status_code == 401
        assert guarded.tasks_by_outcome((auth.user, auth.password)) == {"predicted": 1}


def test_a_personal_access_token_is_enough(
    label_studio: LabelStudio, personal_token: str, tmp_path: Path, artifacts: Path
) -> None:
    api, token = label_studio.api, personal_token
    project_id = label_studio.project("Personal token", label_config(*LABEL_COLOURS))
    [task_id] = api.upload(project_id, [("upload.png", png(scene(4).image))])
    settings = {"label_studio_url": label_studio.url, "label_studio_token": token}
    with run_backend(tmp_path, artifacts / "backend-token.log", **settings) as own_token:
        api.connect_backend(project_id, own_token.url, "CLIP-DIY")
        bearer = LabelStudioApi(label_studio.url, f"Bearer {api.access_token(token)}")
        # Now the token that Label Studio itself sends on /setup is worth nothing.
        bearer.allow_legacy_tokens(False)
        try:
            bearer.retrieve_predictions(project_id)
        finally:
            bearer.allow_legacy_tokens(True)
    assert _stored(api, project_id) == [task_id]


def test_a_legacy_token_in_the_settings_is_enough(label_studio: LabelStudio, tmp_path: Path, artifacts: Path) -> None:
    api = label_studio.api
    project_id = label_studio.project("Legacy token", label_config(*LABEL_COLOURS))
    [task_id] = api.upload(project_id, [("upload.png", png(scene(5).image))])
    settings = {"label_studio_url": label_studio.url, "label_studio_token": LOGIN.token}
    with run_backend(tmp_path, artifacts / "backend-legacy-token.log", **settings) as own_token:
        api.connect_backend(project_id, own_token.url, "CLIP-DIY")
        api.retrieve_predictions(project_id)
    assert _stored(api, project_id) == [task_id]


# --- projects side by side, and projects that change ------------------------------------------------------------------


def test_two_projects_at_once_get_their_own_labels(label_studio: LabelStudio, backend: Backend) -> None:
    api = label_studio.api
    words = [("dog", "car", "pizza"), ("puppy", "automobile", "sunflower")]
    pictures = [{"image": data_uri(png(scene(3000 + i).image))} for i in range(12)]
    project_ids = [
        label_studio.project(f"Words {' '.join(labels)}", label_config(*labels), backend) for labels in words
    ]
    task_ids = [api.import_tasks(project_id, pictures) for project_id in project_ids]
    with ThreadPoolExecutor(len(project_ids)) as pool:
        list(pool.map(api.retrieve_predictions, project_ids))
    for project_id, labels, tasks in zip(project_ids, words, task_ids, strict=True):
        predictions = api.predictions(project_id)
        assert sorted(prediction["task"] for prediction in predictions) == tasks
        used = {
            label
            for prediction in predictions
            for region in prediction["result"]
            for label in region["value"]["brushlabels"]
        }
        assert used
        assert used <= set(labels)


def test_what_is_known_is_not_asked_again_until_the_labels_change(label_studio: LabelStudio, backend: Backend) -> None:
    api = label_studio.api
    project_id = label_studio.project("Changes", label_config("dog", "car"), backend)
    task_ids = api.import_tasks(project_id, [{"image": data_uri(png(scene(4000 + i).image))} for i in range(5)])

    def retrieve() -> int:
        before = backend.tasks_by_outcome().get("predicted", 0)
        api.retrieve_predictions(project_id)
        return backend.tasks_by_outcome().get("predicted", 0) - before

    assert retrieve() == 5
    assert retrieve() == 0, "nothing has changed"
    api.update_project(project_id, label_config=label_config("dog", "car", "pizza"))
    assert retrieve() == 5, "a new label: everything is asked again"
    versions = Counter(prediction["model_version"] for prediction in api.predictions(project_id))
    assert sorted(versions.values()) == [5, 5]
    assert sorted(_stored(api, project_id)) == sorted(task_ids * 2)
    assert retrieve() == 0
