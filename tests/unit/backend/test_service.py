"""How the rooms are put together: from which Label Studio corrections are read, and from which they are not."""

import io
import logging
import threading
from dataclasses import replace

import pytest
from fakes import FakeCore, FakeLoader
from PIL import Image
from webhooks import KEY, annotation, project

from backend import service as room
from backend.bulk.pushing import Pushed
from backend.corrections.events import read_project
from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.host import LabelStudioHost
from backend.images.introductions import Introductions
from backend.metrics import Metrics
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.service import make_learning, make_loader
from backend.settings import Settings
from clipdiy.method import method_named


class FakeApi:
    def __init__(self):
        self.asked = []

    def project(self, number):
        self.asked.append(number)
        return project(number)

    def task_pages(self, number, *, fields, page_size):
        yield [{"id": 1, "data": {"image": "ok"}, "annotations": [annotation(1)]}]


def saved(kind, **options):
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, kind, **options)
    return file.getvalue()


LIMITS = {
    "max_image_px": (saved("PNG"), 30 * 40, 30 * 40 - 1, "too-large"),
    # What Pillow writes for a picture in colours.
    "max_jpeg_scans": (saved("JPEG", progressive=True), 10, 9, "too-large"),
    "decode_timeout_s": (saved("PNG"), 600, 1e-9, "timeout"),
}


@pytest.mark.parametrize(("name", "picture", "enough", "too_little", "reason"), [(k, *v) for k, v in LIMITS.items()])
def test_a_limit_on_pictures_is_the_one_of_the_setting_that_its_error_names(name, picture, enough, too_little, reason):
    assert make_loader(Settings(**{name: enough})).decode(picture, "x").size_hw == (30, 40)
    with pytest.raises(TaskError, match=rf"^x: .*CLIPDIY_{name.upper()}") as caught:
        make_loader(Settings(**{name: too_little})).decode(picture, "x")
    assert caught.value.reason == reason


def test_how_much_is_decoded_at_the_same_time_is_a_setting():
    loader = make_loader(Settings(max_decoding_px=30 * 40 + 10))
    with loader._decoding.hold(10, Deadline.never()):
        assert loader.decode(saved("PNG"), "x", deadline=Deadline.after(60)).size_hw == (30, 40)
    message = "CLIPDIY_MAX_DECODING_PX lets more"
    with loader._decoding.hold(11, Deadline.never()), pytest.raises(TaskError, match=message) as caught:
        loader.decode(saved("PNG"), "x", deadline=Deadline.after(0))
    assert caught.value.reason == "deadline"


@pytest.fixture
def read_from(tmp_path, monkeypatch):
    """Let a project be asked to learn; return its Label Studios, and what became of it."""
    predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(), Metrics())
    hosts, api = [], FakeApi()

    def api_of(host, patience=None, pause=None):
        hosts.append(host)
        return api if host.url and host.token else None

    monkeypatch.setattr(room, "api_of", api_of)
    # Nothing is learned here.
    entry = replace(method_named("clip-diy"), learn=None)
    monkeypatch.setattr(room, "method_named", lambda name: entry)

    def _read(introduced, **settings):
        introductions = Introductions(tmp_path)
        introductions.remember(KEY, introduced)
        learning = make_learning(Settings(data_dir=tmp_path, **settings), predictor.method, predictor, introductions)
        learning.receive({"action": "START_TRAINING", "project": project()})
        learning.learner.step()
        return hosts, learning.store

    yield _read
    predictor.close()


def test_the_one_that_is_configured_is_read_whatever_was_said(read_from):
    hosts, store = read_from(
        LabelStudioHost("http://evil", "theirs"), label_studio_url="http://ls:8080", label_studio_token="ours"
    )
    assert [(host.url, host.token) for host in hosts] == [("http://ls:8080", "ours")]
    assert [one.number for one in store.annotations(KEY)] == [1]


def test_one_on_this_machine_is_read(read_from):
    hosts, store = read_from(LabelStudioHost("http://127.0.0.1:8080", "t"))
    assert [host.url for host in hosts] == ["http://127.0.0.1:8080"]
    assert len(store.annotations(KEY)) == 1


def test_one_that_only_said_where_it_is_gets_no_request(read_from, caplog):
    caplog.set_level(logging.INFO)
    hosts, store = read_from(LabelStudioHost("http://169.254.169.254", "t"))
    assert hosts == []
    assert store.annotations(KEY) == []
    assert "set CLIPDIY_LABEL_STUDIO_URL" in caplog.text


def test_without_a_token_nothing_is_read(read_from):
    hosts, store = read_from(LabelStudioHost("http://127.0.0.1:8080", None))
    assert len(hosts) == 1
    assert store.annotations(KEY) == []


class TestPushing:
    @pytest.fixture
    def run(self, tmp_path, monkeypatch):
        predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(), Metrics())
        pushed, done = [], threading.Event()

        def push(api, predictor, config, number, *, host, only_unannotated, stop):
            pushed.append((api, config.version, number, host.url, only_unannotated, stop.is_set()))
            done.set()
            return Pushed("v")

        monkeypatch.setattr(room, "push", push)
        monkeypatch.setattr(room, "api_of", lambda host, patience=None, pause=None: host.token and "api")

        def _run(host=None, **settings):
            introductions = Introductions(tmp_path)
            if host is not None:
                introductions.remember(KEY, host)
            chosen = Settings(data_dir=tmp_path, **settings)
            learning = make_learning(chosen, predictor.method, predictor, introductions)
            with learning.store.change() as change:
                change.see(read_project(project()))
            learning.learner.announce(KEY)
            done.wait(1)
            learning.close()
            return pushed

        yield _run
        predictor.close()

    def test_a_new_version_replaces_what_nobody_has_annotated(self, run):
        pushed = run(push=True, label_studio_url="http://ls:8080", label_studio_token="t")
        assert pushed == [("api", 0, 1, "http://ls:8080", True, False)]

    def test_it_has_to_be_asked_for(self, run):
        assert run(label_studio_url="http://ls:8080", label_studio_token="t") == []

    def test_not_to_one_that_only_said_where_it_is(self, run, caplog):
        assert run(LabelStudioHost("http://elsewhere", "t"), push=True) == []
        assert "CLIPDIY_PUSH needs" in caplog.text


@pytest.mark.parametrize(("cores", "threads"), [(1, 2), (6, 3), (64, 8)])
def test_pictures_are_finished_by_as_many_threads_as_the_container_has_room_for(cores, threads, monkeypatch):
    monkeypatch.setattr(room, "usable_cores", lambda: cores)
    assert room.finish_threads() == threads
