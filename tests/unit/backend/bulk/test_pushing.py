"""A whole project's predictions: every task once, through faults, over several runs."""

import os
import signal
import subprocess
import sys
import threading
import time
from threading import Event

import pytest
from command_line import ROOT
from fake_label_studio import LEGACY_TOKEN, PERSONAL_TOKEN, FakeLabelStudio, Fault
from fakes import CONFIG, FakeCore, FakeLoader

from backend.bulk.pushing import PushProgress, batch_for, push
from backend.images.host import LabelStudioHost
from backend.label_studio_api import LabelStudioApi, LabelStudioApiError, Patience
from backend.labeling.reader import parse_label_config
from backend.metrics import Metrics
from backend.predicting.predictor import Predictor, PredictorOptions

PARSED = parse_label_config(CONFIG)
QUICK = Patience(first_s=0.01, most_s=0.05)


@pytest.fixture
def studio():
    with FakeLabelStudio() as server:
        yield server


@pytest.fixture
def predictor():
    made = Predictor(FakeCore(), FakeLoader(), PredictorOptions(), Metrics())
    yield made
    made.close()


@pytest.fixture
def version(predictor):
    return predictor.model_version(PARSED)


@pytest.fixture
def run(studio, predictor):
    def _run(project, **options):
        options = {"batch": 4, **options}
        api = LabelStudioApi.with_token(studio.url, options.pop("token", LEGACY_TOKEN), patience=QUICK)
        return push(api, predictor, PARSED, project, **options)

    return _run


def add_project(studio, *values):
    return studio.add_project(CONFIG, [{"image": value} for value in values])


def ids_of(studio, project):
    return [*studio.projects[project].tasks]


def test_every_task_gets_its_prediction(studio, run, version):
    project = add_project(studio, *(f"ok:8x{width}" for width in range(10, 21)))
    other = add_project(studio, "ok")
    seen = []
    pushed = run(project, progress=seen.append)
    assert studio.versions(project) == {task: [version] for task in ids_of(studio, project)}
    assert studio.versions(other) == {task: [] for task in ids_of(studio, other)}
    assert (pushed.version, pushed.written, pushed.skipped, pushed.failed) == (version, 11, 0, 0)
    assert pushed.is_complete
    assert studio.batches == [4, 4, 3]
    assert seen[0] == PushProgress(0, 11, 0)
    assert seen[-1] == PushProgress(11, 11, 0)
    widths = {one["task"]: one["result"][0]["original_width"] for one in studio.predictions.values() if one["result"]}
    assert widths == dict(zip(ids_of(studio, project), range(10, 21), strict=True)), "each its own"


def test_those_that_have_one_are_left_alone(studio, run, predictor, version):
    project = add_project(studio, *["ok"] * 6)
    for task in ids_of(studio, project)[:2]:
        studio.add_prediction(task, version)
    pushed = run(project)
    assert (pushed.written, pushed.skipped) == (4, 2)
    assert all(versions == [version] for versions in studio.versions(project).values())
    assert len(predictor._pictures._loader.seen) == 4
    again = run(project)
    assert (again.written, again.skipped, again.is_complete) == (0, 6, True)
    assert len(predictor._pictures._loader.seen) == 4


def test_failures_are_told_with_their_reasons_and_cost_no_other(studio, run, version):
    project = add_project(studio, "ok", "fail:not-found", "ok", "breaks", "ok", "ok")
    studio.add_task(project, {"text": "no picture"})
    seen = []
    pushed = run(project, progress=seen.append)
    _, missing, _, broken, _, refused, without = ids_of(studio, project)
    studio.refuses = lambda prediction: prediction["task"] == refused
    assert {failure.task: failure.reason for failure in pushed.failures} == {
        missing: "not-found",
        broken: "inference",
        without: "missing-data",
    }
    assert (pushed.written, pushed.failed) == (4, 3)
    assert pushed.is_complete
    assert seen[-1] == PushProgress(7, 7, 3)
    assert "fails with not-found" in next(one.message for one in pushed.failures if one.task == missing)


def test_what_label_studio_refuses_is_a_failure(studio, run):
    project = add_project(studio, *["ok"] * 4)
    bad = ids_of(studio, project)[2]
    studio.refuses = lambda prediction: prediction["task"] == bad
    seen = []
    pushed = run(project, progress=seen.append)
    [failure] = pushed.failures
    assert (failure.task, failure.reason) == (bad, "refused-by-label-studio")
    assert (pushed.written, pushed.failed) == (3, 1)
    assert seen[-1] == PushProgress(4, 4, 1)


def test_pictures_come_from_the_host_that_is_named(studio, run, predictor):
    project = add_project(studio, "ok")
    host = LabelStudioHost("http://elsewhere", "abc", is_configured=True)
    run(project, host=host)
    assert predictor._pictures._loader.seen == [("ok", ids_of(studio, project)[0], host)]


@pytest.mark.parametrize(("tasks", "batch"), [(0, 200), (2000, 200), (20_000, 400), (50_000, 1000), (10**6, 1000)])
def test_large_projects_get_few_requests(tasks, batch):
    assert batch_for(tasks) == batch


class TestReplacing:
    """What becomes of the predictions that were there."""

    @pytest.fixture
    def project(self, studio):
        return add_project(studio)

    def task(self, studio, project, *versions, **options):
        task = studio.add_task(project, {"image": "ok"}, **options)
        for one in versions:
            studio.add_prediction(task, one)
        return task

    def test_our_earlier_ones_go_from_tasks_that_nobody_touched(self, studio, run, project, version):
        untouched = self.task(studio, project, "clip-diy-old-1", "another-model", "clip-diy-old-2")
        annotated = self.task(studio, project, "clip-diy-old-1", annotations=1)
        skipped = self.task(studio, project, "clip-diy-old-1", skipped=True)
        pushed = run(project)
        assert studio.versions(project) == {
            untouched: ["another-model", version],
            annotated: ["clip-diy-old-1", version],
            skipped: ["clip-diy-old-1", version],
        }
        assert pushed.removed == 2

    def test_they_can_be_kept(self, studio, run, project, version):
        task = self.task(studio, project, "clip-diy-old-1")
        pushed = run(project, keep_old=True)
        assert studio.versions(project)[task] == ["clip-diy-old-1", version]
        assert pushed.removed == 0

    def test_only_tasks_that_nobody_touched(self, studio, run, project, version):
        untouched = self.task(studio, project, "clip-diy-old-1")
        annotated = self.task(studio, project, "clip-diy-old-1", annotations=1)
        skipped = self.task(studio, project, skipped=True)
        pushed = run(project, only_unannotated=True)
        assert studio.versions(project) == {untouched: [version], annotated: ["clip-diy-old-1"], skipped: []}
        assert (pushed.written, pushed.skipped) == (1, 0)

    def test_one_that_failed_keeps_what_it_had(self, studio, run, project):
        task = studio.add_task(project, {"image": "fail:timeout"})
        studio.add_prediction(task, "clip-diy-old-1")
        run(project)
        assert studio.versions(project)[task] == ["clip-diy-old-1"]

    def test_what_an_earlier_run_had_no_time_to_remove(self, studio, run, project, version):
        task = self.task(studio, project, "clip-diy-old-1", version)
        assert run(project).removed == 1
        assert studio.versions(project)[task] == [version]

    def test_of_two_of_this_version_the_first_stays(self, studio, run, project, version):
        """Somebody opened the task in the same moment, and Label Studio asked for a prediction."""
        task = self.task(studio, project, version, version, version)
        first = min(studio.predictions)
        assert run(project).removed == 2
        assert [*studio.predictions] == [first]
        assert studio.versions(project)[task] == [version]

    @pytest.mark.parametrize(
        ("chosen", "backends", "then"),
        [
            pytest.param("", [], None, id="nothing"),
            pytest.param("clip-diy-old-1", [], None, id="an earlier one of ours"),
            pytest.param("another-model", [], "another-model", id="another model"),
            pytest.param("clip-diy-here", [{"title": "clip-diy-here"}], "clip-diy-here", id="a backend"),
        ],
    )
    def test_the_project_shows_it_unless_somebody_chose_another(
        self, studio, run, project, version, chosen, backends, then
    ):
        self.task(studio, project)
        studio.projects[project].model_version = chosen
        studio.projects[project].backends = backends
        run(project)
        assert studio.projects[project].model_version == (then or version)

    def test_a_version_that_cannot_be_chosen_costs_nothing(self, studio, run, project, version):
        self.task(studio, project)
        studio.fail("PATCH", ".*", Fault(400))
        assert run(project).is_complete
        assert studio.projects[project].model_version == ""

    def test_where_nothing_was_written_nothing_is_chosen(self, studio, run, project, version):
        self.task(studio, project, version)
        run(project)
        assert studio.projects[project].model_version == ""


class TestFaults:
    @pytest.fixture
    def project(self, studio):
        return add_project(studio, *["ok"] * 20)

    def each_once(self, studio, project, version):
        return all(versions == [version] for versions in studio.versions(project).values())

    def test_pictures_that_were_away_with_label_studio_are_tried_once_more(self, studio, run, predictor, version):
        project = add_project(studio, "fail:timeout", "ok", "fail:download", "fail:not-found", "ok")
        away, timeout = Event(), ids_of(studio, project)[0]
        loader = predictor._pictures._loader
        fetch = loader.fetch_if_changed

        def fetching(value, **options):
            back = away.is_set() and value == "fail:download"
            away.set() if len(loader.seen) == 4 else None
            return fetch("ok" if back else value, **options)

        loader.fetch_if_changed = fetching
        seen = []
        pushed = run(project, progress=seen.append)
        assert (pushed.written, pushed.failed) == (3, 2)
        assert {failure.reason for failure in pushed.failures} == {"timeout", "not-found"}
        assert next(one.task for one in pushed.failures if one.reason == "timeout") == timeout
        assert len(loader.seen) == 7, "what passes twice, all others once"
        assert seen[-1] == PushProgress(5, 5, 2)
        assert pushed.is_complete

    @pytest.mark.parametrize("is_done", [False, True])
    @pytest.mark.parametrize("status", [0, 429, 500, 502])
    def test_answers_that_pass(self, studio, run, project, version, status, is_done):
        faults = [Fault(status, {"Retry-After": "0"}, is_done=is_done and status != 429)] * 2
        studio.fail("POST", ".*/import/predictions", *faults)
        studio.fail("GET", "/api/tasks/", *faults)
        pushed = run(project)
        assert self.each_once(studio, project, version)
        assert (pushed.written, pushed.failed, pushed.is_complete) == (20, 0, True)

    def test_label_studio_is_restarted_in_the_middle(self, studio, run, project, version):
        away = []

        def go_away(method, path):
            if len(studio.batches) == 2 and not away and method == "GET":
                away.append(threading.Thread(target=lambda: studio.go_away_for(0.2).join()))
                away[0].start()

        studio.before = go_away
        pushed = run(project)
        away[0].join()
        assert self.each_once(studio, project, version)
        assert pushed.written == 20

    def test_a_token_that_ends(self, studio, run, project, version):
        ended = set()

        def end(method, path):
            # Once a batch, and only where it is written: a page that is read meanwhile meets no second end.
            if method == "POST" and path.endswith("/import/predictions") and len(studio.batches) not in ended:
                ended.add(len(studio.batches))
                studio.end_access_tokens()

        studio.before = end
        pushed = run(project, token=PERSONAL_TOKEN)
        assert self.each_once(studio, project, version)
        assert pushed.written == 20
        assert studio.exchanges > 2

    def test_somebody_else_writes_the_same_in_between(self, studio, run, project, version):
        def press_the_button(method, path):
            if method == "POST" and len(studio.batches) == 1:
                studio.add_prediction(ids_of(studio, project)[-1], version)
                studio.before = lambda method, path: None

        studio.before = press_the_button
        pushed = run(project)
        assert self.each_once(studio, project, version)
        assert (pushed.written, pushed.skipped) == (19, 0)

    def test_one_that_is_away_for_too_long_says_so_and_the_next_run_goes_on(self, studio, run, project, version):
        studio.fail("POST", ".*/import/predictions", Fault(403))
        with pytest.raises(LabelStudioApiError, match="403"):
            run(project)
        assert run(project).written == 20
        assert self.each_once(studio, project, version)

    def test_stop_writes_what_is_predicted_and_the_next_run_goes_on(self, studio, run, project, version):
        stop = Event()

        def enough(progress):
            if progress.done >= 4:
                stop.set()

        pushed = run(project, stop=stop, progress=enough)
        assert not pushed.is_complete
        assert 4 <= pushed.written < 20
        assert sum(len(versions) for versions in studio.versions(project).values()) == pushed.written
        assert studio.projects[project].model_version == "", "it is not all there yet"
        rest = run(project)
        assert (rest.written, rest.skipped) == (20 - pushed.written, pushed.written)
        assert self.each_once(studio, project, version)

    def test_stop_while_label_studio_is_away_is_no_error(self, studio, predictor, project):
        stop = Event()
        studio.fail("GET", ".*", *[Fault(502)] * 100)
        api = LabelStudioApi.with_token(studio.url, LEGACY_TOKEN, pause=stop.wait)
        threading.Timer(0.1, stop.set).start()
        assert not push(api, predictor, PARSED, project, stop=stop).is_complete

    def test_a_process_that_is_killed_and_started_again(self, studio):
        """A process of its own, killed with -9 while it writes: nothing is missing, nothing is there twice."""
        project = add_project(studio, *["ok"] * 60)
        script = f"""
import sys; sys.path.insert(0, ".")
from backend.bulk.pushing import push
from backend.label_studio_api import LabelStudioApi
class Predictor:
    def model_version(self, config): return "clip-diy-v"
    def predict_behind(self, tasks, config, *, keep, **rest): return [keep(dict(score=0.5, result=[])) for _ in tasks]
api = LabelStudioApi.with_token({studio.url!r}, {LEGACY_TOKEN!r})
pushed = push(api, Predictor(), None, {project}, batch=5)
print(pushed.written, pushed.skipped, pushed.failed, pushed.is_complete)
"""
        reached = Event()

        def stay(method, path):
            """Hold the fifth batch, so that it is under way when the process dies; the test then lets it be written."""
            if method == "POST" and len(studio.batches) == 4:
                reached.set()
                time.sleep(0.3)

        studio.before = stay
        first = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert reached.wait(60)
        os.kill(first.pid, signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
        assert first.communicate()[0] == ""
        while len(studio.batches) < 5:
            time.sleep(0.01)
        studio.before = lambda method, path: None
        ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
        assert ended.stdout.split() == ["35", "25", "0", "True"]
        assert all(len(versions) == 1 for versions in studio.versions(project).values())
