"""The label-studio-ml model class, over HTTP behind that package's own server, and as its version 2.x would call it."""

import importlib
import sys
import threading
import types

import pytest
import requests
from fakes import CONFIG, FakeCore, FakeLoader, tasks
from label_studio_ml.api import init_app
from services import make_service
from webhooks import annotated
from werkzeug.serving import make_server

from backend.corrections.store import CorrectionStore
from backend.metrics import Metrics
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.settings import Settings
from backend.web import model as model_room

OTHER_CONFIG = CONFIG.replace("Cat", "Apple")


@pytest.fixture
def service(tmp_path, monkeypatch):
    metrics = Metrics()
    predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(), metrics)
    made = make_service(Settings(data_dir=tmp_path), predictor, metrics)
    monkeypatch.setattr(model_room, "shared_service", lambda: made)
    yield made
    predictor.close()


@pytest.fixture
def server(service, tmp_path):
    app = init_app(model_class=model_room.ClipDiyModel, model_dir=str(tmp_path))
    http = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


def post(url, **body):
    return requests.post(url, json=body, timeout=10)


def test_over_http_behind_the_published_server(server, service):
    assert requests.get(f"{server}/health", timeout=10).json()["status"] == "UP"
    assert post(f"{server}/setup", project="1.2", schema=CONFIG, hostname="http://ls", access_token="t").ok
    answer = post(
        f"{server}/predict",
        tasks=tasks("ok", "fail:not-found", "ok:20x10"),
        project="1.2",
        label_config=CONFIG,
        params={"login": None, "password": None, "context": None},
    )
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [bool(result) for result in results] == [True, False, True]
    region = results[2]["result"][0]
    assert (region["original_height"], region["original_width"]) == (20, 10)
    assert results[0]["model_version"] == service.predictor.model_version(service.read_label_config(CONFIG))


def test_the_published_server_keeps_one_model_for_all_projects_and_we_answer_right(server):
    post(f"{server}/setup", project="1.2", schema=CONFIG, hostname="", access_token="")
    post(f"{server}/setup", project="2.2", schema=OTHER_CONFIG, hostname="", access_token="")
    for config, label in ((CONFIG, "Cat"), (OTHER_CONFIG, "Apple"), (CONFIG, "Cat")):
        answer = post(f"{server}/predict", tasks=tasks("ok"), project="1.2", label_config=config, params={})
        assert answer.json()["results"][0]["result"][0]["value"]["brushlabels"] == [label]


def test_fit_in_both_forms_keeps_the_webhook(service, tmp_path):
    model = model_room.ClipDiyModel(label_config=CONFIG)
    model.fit((), event="ANNOTATION_CREATED", data=annotated(1), job_id="x")
    model.fit("ANNOTATION_UPDATED", annotated(2))
    store = CorrectionStore(tmp_path)
    assert store.waiting() == 2
    assert store.first()[2] == annotated(1)


class BaseOfVersion2:
    """What label-studio-ml 2.x's base class offers to its children: this constructor, `get`, `set`, `setup`."""

    def __init__(self, project_id=None, label_config=None):
        self.project_id = project_id or ""
        self._cache = {}
        self.set("label_config", label_config)
        self.setup()

    def setup(self):
        raise AssertionError("the child's setup is called")

    def get(self, key):
        return self._cache.get(key)

    def set(self, key, value):
        assert isinstance(value, str)
        self._cache[key] = value

    @property
    def label_config(self):
        return self.get("label_config")


def test_as_version_2_calls_it(service, monkeypatch):
    stand_in = types.ModuleType("label_studio_ml.model")
    stand_in.LabelStudioMLBase = BaseOfVersion2
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", stand_in)
    try:
        room = importlib.reload(model_room)
        monkeypatch.setattr(room, "shared_service", lambda: service)
        model = room.ClipDiyModel(project_id="5", label_config=CONFIG)
        assert model.get("model_version") == service.predictor.model_version(service.read_label_config(CONFIG))
        answer = model.predict(tasks("ok"), context={}, login=None, password=None)
        assert answer[0]["result"][0]["value"]["brushlabels"] == ["Cat"]
        point = {"type": "keypointlabels", "to_name": "img", "value": {"x": 10, "y": 50, "keypointlabels": ["Dog"]}}
        answer = model.predict(tasks("ok"), context={"result": [point]})
        assert answer[0]["result"][0]["value"]["brushlabels"] == ["Dog"]
    finally:
        monkeypatch.undo()
        importlib.reload(model_room)
