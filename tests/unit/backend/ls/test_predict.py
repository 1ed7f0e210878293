"""`clipdiy-ls predict`, as somebody runs it, with a Label Studio that is a fake and networks that are one too."""

import json
import os
import signal
import threading

import pytest
from command_line import in_process
from fake_label_studio import LEGACY_TOKEN, FakeLabelStudio, Fault
from fakes import CONFIG, FakeCore, FakeLoader

from backend.images.host import LabelStudioHost
from backend.ls import predict as command
from backend.ls.app import main
from backend.metrics import Metrics
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.service import Service


class Learning:
    """Nothing was learned."""

    def teach(self, config, key):
        assert key == "1.1767323045"
        return config

    def close(self):
        pass


@pytest.fixture
def studio():
    with FakeLabelStudio() as server:
        yield server


@pytest.fixture
def loader():
    return FakeLoader()


@pytest.fixture
def clipdiy_ls(studio, loader, capsys, monkeypatch, tmp_path):
    def build(settings, *, learns):
        assert not learns, "another process does"
        metrics = Metrics()
        predictor = Predictor(FakeCore(unknown=("Dog",)), loader, PredictorOptions(), metrics)
        assert settings.label_studio_url == studio.url
        assert settings.label_studio_token.get_secret_value() == LEGACY_TOKEN
        return Service(settings, predictor, None, Learning(), metrics)

    monkeypatch.setattr(command, "build_service", build)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("CLIPDIY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CLIPDIY_LABEL_STUDIO_URL", studio.url)
    monkeypatch.setenv("CLIPDIY_LABEL_STUDIO_TOKEN", LEGACY_TOKEN)

    return in_process(main, capsys, "predict")


def add_project(studio, *values):
    return studio.add_project(CONFIG, [{"image": value} for value in values])


def test_all_is_well(studio, loader, clipdiy_ls):
    project = add_project(studio, "ok", "ok")
    ran = clipdiy_ls("--project", project)
    [version] = {one["model_version"] for one in studio.predictions.values()}
    assert ran.code == 0
    assert ran.out == f"project {project}: 2 predictions written (version {version}); 0 tasks had one\n"
    assert ran.err.splitlines() == ["warning: unknown: Dog"]
    assert {host for _, _, host in loader.seen} == {LabelStudioHost(studio.url, LEGACY_TOKEN, is_configured=True)}
    again = clipdiy_ls("--project", project)
    assert again.out == f"project {project}: 0 predictions written (version {version}); 2 tasks had one\n"


def test_failures_are_listed_at_the_end_and_the_code_is_one(studio, clipdiy_ls):
    project = add_project(studio, "ok", "fail:not-found", "fail:timeout", "fail:not-found", "ok")
    first = min(studio.projects[project].tasks)
    ran = clipdiy_ls("--project", project)
    assert ran.code == 1
    assert ran.err.splitlines()[1:] == [
        f"task {first + 1}: not-found: this one fails with not-found",
        f"task {first + 2}: timeout: this one fails with timeout",
        f"task {first + 3}: not-found: this one fails with not-found",
    ]
    assert ran.out.endswith("0 tasks had one; 3 failed (2 not-found, 1 timeout)\n")
    assert "2 predictions written" in ran.out


def test_for_scripts(studio, clipdiy_ls):
    project = add_project(studio, "ok", "fail:not-found")
    task = max(studio.projects[project].tasks)
    ran = clipdiy_ls("--project", project, "--json")
    assert ran.code == 1
    told = json.loads(ran.out)
    assert told["project"] == project
    assert (told["predicted"], told["written"], told["skipped"], told["failed"]) == (1, 1, 0, 1)
    assert told["is_complete"]
    failure = {"task": task, "reason": "not-found", "message": "this one fails with not-found"}
    assert told["failures"] == [failure]


def test_old_ones_are_removed_or_kept(studio, clipdiy_ls):
    project = add_project(studio, "ok")
    [task] = studio.projects[project].tasks
    studio.add_prediction(task, "clip-diy-old")
    assert "removed" not in clipdiy_ls("--project", project, "--keep-old").out
    assert len(studio.predictions) == 2
    assert clipdiy_ls("--project", project).out.endswith("; 1 earlier ones removed\n")
    assert len(studio.predictions) == 1


def test_annotated_tasks_can_be_left_out(studio, clipdiy_ls):
    project = add_project(studio, "ok")
    studio.add_task(project, {"image": "ok"}, annotations=1)
    assert "1 predictions written" in clipdiy_ls("--project", project, "--only-unannotated").out


def test_without_push_nothing_is_written(studio, loader, clipdiy_ls):
    project = add_project(studio, "ok", "fail:not-found")
    ran = clipdiy_ls("--project", project, "--no-push")
    assert ran.code == 1
    assert "1 tasks can be answered quickly" in ran.out
    assert len(loader.seen) == 2
    assert not studio.predictions
    assert studio.projects[project].model_version == ""
    assert {method for method, _ in studio.requests} == {"GET"}


def test_a_label_studio_that_is_not_there_is_told_at_once(studio, clipdiy_ls):
    project = add_project(studio, "ok")
    studio.fail("GET", ".*", Fault(502))
    ran = clipdiy_ls("--project", project)
    assert ran.code == 2
    assert ran.err.startswith(f"clipdiy-ls: GET /api/projects/{project}/: 502")


def test_one_that_refuses_in_the_middle(studio, clipdiy_ls):
    project = add_project(studio, "ok")
    studio.fail("POST", ".*", Fault(403))
    ran = clipdiy_ls("--project", project)
    assert ran.code == 1
    assert ran.err.splitlines()[-2:] == [
        f'POST /api/projects/{project}/import/predictions: 403 {{"detail": "a fault of the test"}}',
        "what was written stays; the same command goes on",
    ]


def test_ctrl_c_writes_what_is_predicted(studio, loader, clipdiy_ls):
    project = add_project(studio, *["ok"] * 30)
    fetch = loader.fetch_if_changed

    def interrupt(*arguments, **options):
        if len(loader.seen) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return fetch(*arguments, **options)

    loader.fetch_if_changed = interrupt
    before = signal.getsignal(signal.SIGINT)
    ran = clipdiy_ls("--project", project)
    assert ran.code == 130
    assert "stopping after what is under way" in ran.err
    assert ran.out.endswith("; stopped; the same command goes on\n")
    assert len(loader.seen) < 30
    assert signal.getsignal(signal.SIGINT) is before
    loader.fetch_if_changed = fetch
    assert clipdiy_ls("--project", project).code == 0
    assert all(len(versions) == 1 for versions in studio.versions(project).values())


def test_a_config_that_gives_us_nothing_is_told(studio, clipdiy_ls):
    project = studio.add_project("<View/>")
    ran = clipdiy_ls("--project", project)
    assert ran.code == 2
    assert ran.err.startswith("clipdiy-ls: ")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("networks")]
