"""`clipdiy-ls predict` with a real Label Studio, as a process; and whether the unit tests' fake answers as it does."""

from pathlib import Path

import pytest
import requests
from command_line import clipdiy_ls
from fake_label_studio import LEGACY_TOKEN, FakeLabelStudio
from pictures import LABEL_COLOURS, label_config, png, scene, truncated_jpeg
from servers import LOGIN, Backend, LabelStudio

from backend.label_studio_api import LabelStudioApi, LabelStudioApiError, TaskFilter

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def annotate(label_studio: LabelStudio, task: int) -> None:
    headers = {"Authorization": f"Token {LOGIN.token}"}
    url = f"{label_studio.url}/api/tasks/{task}/annotations/"
    requests.post(url, json={"result": []}, headers=headers, timeout=30).raise_for_status()


def test_a_project_is_predicted_without_pressing(
    label_studio: LabelStudio, personal_token: str, backend: Backend, tmp_path: Path
) -> None:
    api = label_studio.api
    project = label_studio.project("Without pressing", label_config(*LABEL_COLOURS))
    good = api.upload(project, [(f"{i}.png", png(scene(3000 + i, (96, 128)).image)) for i in range(6)])
    [broken] = api.upload(project, [("broken.jpg", truncated_jpeg())])
    where = ("--project", project, "--url", label_studio.url, "--token", personal_token)

    code, told, messages = clipdiy_ls("predict", *where, data_dir=tmp_path)
    assert code == 1, messages
    assert (told["written"], told["failed"], told["is_complete"]) == (6, 1, True)
    assert [(one["task"], one["reason"]) for one in told["failures"]] == [(broken, "not-an-image")]
    first = {int(one["task"]): one for one in api.predictions(project)}
    assert sorted(first) == sorted(good)
    assert {one["model_version"] for one in first.values()} == {told["version"]}
    assert any(one["result"] for one in first.values())
    assert api.project(project)["model_version"] == told["version"], "or nobody would be shown them while labeling"

    # The button finds them there: the service names the same version. Only the broken one is asked for again.
    before = backend.tasks_by_outcome()
    api.connect_backend(project, backend.url, "CLIP-DIY")
    api.retrieve_predictions(project)
    after = backend.tasks_by_outcome()
    assert {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)} == {
        "not-an-image": 1
    }

    # Another version replaces ours where nobody has been; what somebody annotated keeps what it was made from.
    annotate(label_studio, good[0])
    label_studio.add_prediction(good[1], [], "somebody-else")
    code, again, messages = clipdiy_ls("predict", *where, data_dir=tmp_path, min_area="0.01")
    assert (again["written"], again["skipped"], again["removed"], again["failed"]) == (6, 0, 5, 1), messages
    stored: dict[int, list[str]] = {task: [] for task in good}
    for one in api.predictions(project):
        stored[int(one["task"])].append(one["model_version"])
    assert sorted(stored.pop(good[0])) == sorted([told["version"], again["version"]])
    assert sorted(stored.pop(good[1])) == sorted(["somebody-else", again["version"]])
    assert set(map(tuple, stored.values())) == {(again["version"],)}
    assert {task["total_predictions"] for task in api.tasks(project) if task["id"] in good[2:]} == {1}


def what_is_said(api: LabelStudioApi, project: int, tasks: list[int]) -> list[object]:
    """Ask for everything that depends on how Label Studio filters, counts and refuses; by the tasks' places."""
    made = [{"task": task, "result": [], "score": 0.5, "model_version": "clip-diy-a"} for task in tasks[:3]]
    created = api.import_predictions(project, [*made, made[0], {**made[2], "model_version": "another"}])
    version = "clip-diy-a"
    asked: list[list[TaskFilter]] = [
        [],
        [TaskFilter.with_version(version)],
        [TaskFilter.without_version(version)],
        [TaskFilter.with_several()],
        [TaskFilter.annotated()],
        [TaskFilter.unannotated()],
        [*TaskFilter.untouched()],
        [*TaskFilter.untouched(), TaskFilter.with_version(version), TaskFilter.with_several()],
        [TaskFilter.among(tasks[2:5]), TaskFilter.without_version(version)],
        [TaskFilter.among(tasks[1:5]), TaskFilter.with_version(version)],
    ]
    said: list[object] = [created]
    for filters in asked:
        for page_size in (2, 100):
            pages = [*api.task_pages(project, page_size=page_size, filters=filters)]
            said.append([[tasks.index(task["id"]) for task in page] for page in pages])
        said.append(api.count_tasks(project, filters))
    [[full]] = api.task_pages(project, fields="all", filters=[TaskFilter.among([tasks[2]])])
    said.append(sorted(one["model_version"] for one in full["predictions"]))
    for wrong in ([{**made[0], "task": 10**9}], [made[0], {**made[1], "task": 10**9}]):
        with pytest.raises(LabelStudioApiError) as caught:
            api.import_predictions(project, wrong)
        said.append((caught.value.status, caught.value.may_be_done))
    first = min(int(one["id"]) for one in full["predictions"])
    api.delete_prediction(first)
    api.delete_prediction(first)
    said.append(api.count_tasks(project, [TaskFilter.with_several()]))
    return said


def test_the_fake_of_the_unit_tests_answers_as_the_real_one(label_studio: LabelStudio) -> None:
    config = label_config("cat")
    project = label_studio.project("Filters", config)
    tasks = label_studio.api.import_tasks(project, [{"image": f"http://127.0.0.1:1/{i}.png"} for i in range(7)])
    annotate(label_studio, tasks[1])
    annotate(label_studio, tasks[4])
    url = f"{label_studio.url}/api/tasks/{tasks[5]}/annotations/"
    skipped = {"result": [], "was_cancelled": True}
    requests.post(url, json=skipped, headers={"Authorization": f"Token {LOGIN.token}"}, timeout=30).raise_for_status()
    with FakeLabelStudio() as fake:
        number = fake.add_project(config)
        same = [fake.add_task(number, {"image": str(i)}, annotations=i in (1, 4), skipped=i == 5) for i in range(7)]
        expected = what_is_said(LabelStudioApi(fake.url, f"Token {LEGACY_TOKEN}"), number, same)
    assert what_is_said(label_studio.api, project, tasks) == expected
