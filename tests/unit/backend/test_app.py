import base64
import json
import threading

import pytest
from fakes import CONFIG, FakeCore, FakeLoader, tasks

from backend.app import create_app
from backend.metrics import Metrics
from backend.predictor import LabelStudioHost, Predictor, PredictorOptions
from backend.service import Service
from backend.settings import Settings
from backend.webhooks import WebhookStore


@pytest.fixture
def make(tmp_path, monkeypatch):
    for name in ("CLIPDIY_BASIC_AUTH_USER", "CLIPDIY_BASIC_AUTH_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    made = []

    def _make(**settings):
        chosen = Settings(data_dir=tmp_path, **settings)
        metrics = Metrics()
        predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(deadline_s=chosen.deadline_s), metrics)
        made.append(predictor)
        app = create_app(Service(chosen, predictor, WebhookStore(tmp_path), metrics))
        return app.test_client()

    yield _make
    for predictor in made:
        predictor.close()


@pytest.fixture
def client(make):
    return make()


def predict(client, *values, config=CONFIG, project="1.5"):
    body = {"tasks": tasks(*values), "label_config": config, "project": project, "params": {"context": None}}
    return client.post("/predict", json=body)


def test_health(client):
    assert client.get("/health").json["status"] == "UP"


def test_setup_answers_the_version_that_predictions_will_have(client):
    setup = client.post("/setup", json={"project": "1.5", "schema": CONFIG, "hostname": "", "access_token": ""})
    assert setup.status_code == 200
    answer = predict(client, "ok", "fail:not-found", "ok")
    assert answer.status_code == 200
    results = answer.json["results"]
    assert [bool(result) for result in results] == [True, False, True]
    assert results[1] == []
    assert {result["model_version"] for result in results if result} == {setup.json["model_version"]}
    assert client.get("/versions").json == {"versions": [setup.json["model_version"]]}


def test_images_are_asked_of_the_host_that_introduced_itself_for_the_project(make, monkeypatch):
    asked = []
    monkeypatch.setattr(
        FakeLoader, "fetch_if_changed", lambda self, value, *, task_id, host, known=None: asked.append(host) or 1 / 0
    )
    client = make()
    client.post("/setup", json={"project": "7.1", "schema": CONFIG, "hostname": "http://ls:8080", "access_token": "t"})
    predict(client, "ok", project="7.1")
    predict(client, "ok", project="8.1")
    assert asked == [LabelStudioHost("http://ls:8080", "t"), LabelStudioHost()]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/predict", "not json", "JSON"),
        ("/predict", "[]", "body"),
        ("/predict", "null", "body"),
        ("/predict", "{}", "tasks"),
        ("/predict", '{"tasks": {}, "label_config": "x"}', "tasks"),
        ("/predict", '{"tasks": [1], "label_config": "x"}', "tasks.0"),
        ("/predict", '{"tasks": [], "label_config": 3}', "label_config"),
        ("/predict", '{"tasks": [], "label_config": "<View/>"}', "BrushLabels"),
        ("/predict", "[" * 100_000, "body"),
        ("/setup", "{}", "schema"),
        ("/setup", '{"schema": "<View><Image"}', "XML"),
        ("/setup", json.dumps({"schema": "<View/>"}), "A config that works"),
        ("/webhook", "{}", "action"),
        ("/webhook", '{"action": 3}', "action"),
    ],
)
def test_bad_requests_name_what_is_wrong(client, path, body, words):
    answer = client.post(path, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert words in answer.json["error"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(("method", "path", "status"), [("get", "/predict", 405), ("get", "/nothing", 404)])
def test_http_errors_are_json(client, method, path, status):
    answer = getattr(client, method)(path)
    assert answer.status_code == status
    assert "error" in answer.json


def test_too_large_a_body(make):
    answer = make(max_request_bytes=1000).post("/predict", data="x" * 2000, content_type="application/json")
    assert answer.status_code == 413


def test_an_unexpected_error_says_nothing_about_itself(client, monkeypatch):
    monkeypatch.setattr("backend.service.parse_label_config", lambda *_a, **_k: 1 / 0)
    answer = predict(client, "ok")
    assert answer.status_code == 500
    assert "division" not in answer.text
    assert "Traceback" not in answer.text


def test_webhooks_are_kept_one_line_each(client, tmp_path):
    for i in range(3):
        body = {"action": "ANNOTATION_CREATED", "annotation": {"id": i, "result": ["ü\n"]}, "project": {"id": 1}}
        assert client.post("/webhook", json=body).status_code == 201
    client.post("/webhook", json={"action": "SOMETHING_NEW"})
    lines = (tmp_path / "webhooks.jsonl").read_text().splitlines()
    kept = [json.loads(line) for line in lines]
    assert [line["action"] for line in kept] == ["ANNOTATION_CREATED"] * 3 + ["SOMETHING_NEW"]
    assert [line["annotation"]["id"] for line in kept[:3]] == [0, 1, 2]
    assert kept[0]["annotation"]["result"] == ["ü\n"]
    metrics = client.get("/metrics").text
    assert 'clipdiy_webhooks_total{action="ANNOTATION_CREATED"} 3.0' in metrics
    assert 'clipdiy_webhooks_total{action="other"} 1.0' in metrics


def test_metrics(client):
    predict(client, "ok", "ok", "fail:timeout")
    text = client.get("/metrics").text
    assert 'clipdiy_tasks_total{outcome="predicted"} 2.0' in text
    assert 'clipdiy_tasks_total{outcome="timeout"} 1.0' in text
    assert 'clipdiy_stage_seconds_count{stage="encode"} 2.0' in text
    assert "clipdiy_predict_requests_running 0.0" in text


class TestBasicAuth:
    @pytest.fixture
    def client(self, make):
        return make(basic_auth_user="anna", basic_auth_password="gehe!m")

    def header(self, text):
        return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}

    @pytest.mark.parametrize(
        "headers",
        [{}, {"Authorization": "Basic"}, {"Authorization": "Bearer x"}, {"Authorization": "Basic !!!"}],
        ids=["none", "empty", "bearer", "no base64"],
    )
    @pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook"])
    def test_refused(self, client, headers, path):
        answer = client.post(path, json={}, headers=headers)
        assert answer.status_code == 401
        assert "Basic" in answer.headers["WWW-Authenticate"]

    @pytest.mark.parametrize("pair", ["anna:wrong", "otto:gehe!m", "anna:", ":gehe!m", "ännä:gehe!m"])
    def test_wrong(self, client, pair):
        assert client.get("/metrics", headers=self.header(pair)).status_code == 401

    def test_right(self, client):
        assert client.get("/metrics", headers=self.header("anna:gehe!m")).status_code == 200

    def test_health_is_open(self, client):
        assert client.get("/health").status_code == 200

    def test_half_of_it_stops_the_start(self):
        with pytest.raises(ValueError, match="CLIPDIY_BASIC_AUTH_PASSWORD"):
            Settings(basic_auth_user="anna")


def test_one_request_too_many_is_told_to_come_back(make):
    client = make(max_requests=1)
    answers = []
    first = threading.Thread(target=lambda: answers.append(predict(client, "slow:250", "slow:250")))
    first.start()
    try:
        second = None
        for _ in range(100):
            second = predict(client, "ok")
            if second.status_code == 503:
                break
        assert second.status_code == 503
        assert int(second.headers["Retry-After"]) > 0
        assert client.get("/health").status_code == 200
    finally:
        first.join()
    assert answers[0].status_code == 200
    assert predict(client, "ok").status_code == 200
