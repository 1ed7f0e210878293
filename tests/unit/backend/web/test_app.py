import base64
import io
import json
import os
import threading
import time

import pytest
from fakes import CONFIG, FakeCore, FakeLoader, tasks
from servers import eventually
from services import make_service
from webhooks import KEY, annotated, project

from backend.corrections.store import CorrectionStore
from backend.images.host import LabelStudioHost
from backend.metrics import Metrics
from backend.predicting.failures import Failures
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.settings import Settings
from backend.web.app import create_app, reason_phrase

JSON = {"CONTENT_TYPE": "application/json"}


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
        app = create_app(make_service(chosen, predictor, metrics))
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


@pytest.mark.parametrize("answer_memory_bytes", [0, 1500, 10**6])
def test_answers_are_the_same_wherever_they_waited(make, tmp_path, answer_memory_bytes):
    client = make(answer_memory_bytes=answer_memory_bytes)
    answer = predict(client, "ok:30x40", "fail:not-found", "ok:300x40", "ok:20x30")
    expected = predict(make(), "ok:30x40", "fail:not-found", "ok:300x40", "ok:20x30")
    assert answer.json == expected.json
    assert answer.content_type == "application/json"
    assert answer.content_length == len(answer.data)
    # The file has no name, and no descriptor is left open.
    answer.close()
    open_files = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if fd.isdigit() and os.path.exists(f"/proc/self/fd/{fd}")
    ]
    assert not [name for name in open_files if name.startswith(str(tmp_path))]


def test_images_are_asked_of_the_host_that_introduced_itself_for_the_project(make, monkeypatch):
    asked = []
    monkeypatch.setattr(
        FakeLoader, "fetch_if_changed", lambda self, value, *, task_id, host, **_rest: asked.append(host) or 1 / 0
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
        ("/predict", '{"tasks": [{"data": ' + "[" * 98 + "]" * 98 + '}], "label_config": "x"}', "nested more than 100"),
        ("/predict", '{"tasks": [{"id": NaN}], "label_config": "x"}', "NaN"),
        ("/predict", '{"tasks": [{"id": -Infinity}], "label_config": "x"}', "-Infinity"),
        ("/predict", '{"tasks": [{"id": 1}, {"id": [1]}], "label_config": "x"}', "tasks.1.id"),
        ("/predict", '{"tasks": [{"id": true}], "label_config": "x"}', "tasks.0.id"),
        ("/predict", '{"tasks": [{"id": 1.5}], "label_config": "x"}', "tasks.0.id"),
        ("/predict", '{"tasks": [{"id": "1\\nERROR all is lost"}], "label_config": "x"}', "tasks.0.id"),
        ("/predict", '{"tasks": [{"id": "' + "x" * 201 + '"}], "label_config": "x"}', "tasks.0.id"),
        ("/predict", '{"tasks": [{"id": ' + "9" * 5000 + '}], "label_config": "x"}', "JSON"),
        ("/predict", '{"tasks": [{"id": ' + "9" * 50 + '}], "label_config": "x"}', "tasks.0.id"),
        ("/predict", '{"tasks": [], "label_config": "x", "project": {}}', "project"),
        ("/predict", '{"tasks": [], "label_config": "x", "params": []}', "params"),
        ("/predict", '{"tasks": [], "label_config": "\\ud800"}', "surrogates"),
        ("/predict", b"\xff\xfe\x00", "JSON"),
        ("/predict", "", "JSON"),
        ("/setup", '{"schema": "<View/>", "hostname": 3}', "hostname"),
        ("/setup", '{"schema": "<View/>", "access_token": "' + "x" * 20_000 + '"}', "access_token"),
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


def test_an_interactive_request_is_answered_with_suggestions(client):
    point = {"type": "keypointlabels", "to_name": "img", "value": {"x": 10, "y": 50, "keypointlabels": ["Dog"]}}
    body = {"tasks": tasks("ok"), "label_config": CONFIG, "project": "1.5", "params": {"context": {"result": [point]}}}
    [result] = client.post("/predict", json=body).json["results"]
    assert [region["value"]["brushlabels"] for region in result["result"]] == [["Dog"]]
    body["params"]["context"]["result"] = "here"
    refused = client.post("/predict", json=body)
    assert (refused.status_code, "params.context.result" in refused.json["error"]) == (400, True)


def test_gestures_on_several_tasks_have_one_deadline_together(make, monkeypatch):
    given = []

    def interact(_predictor, task, *_, deadline, **__):
        given.append((task["id"], deadline))
        return {"result": [], "score": 0, "model_version": "v"}

    monkeypatch.setattr(Predictor, "interact", interact)
    body = {"tasks": tasks("ok", "ok", "ok"), "label_config": CONFIG, "project": "1.5", "params": {"context": {"a": 1}}}
    assert len(make(deadline_s=8.0).post("/predict", json=body).json["results"]) == 3
    assert [task for task, _ in given] == [1, 2, 3]
    assert len({id(deadline) for _, deadline in given}) == 1
    assert 0 < given[0][1].left_s <= 8


def test_too_large_a_body(make):
    answer = make(max_request_bytes=1000).post("/predict", data="x" * 2000, content_type="application/json")
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook"])
def test_a_body_that_is_made_to_fill_memory_is_not_read(client, path):
    answer = client.post(path, data=b'{"tasks":[' + b"{}," * 300_000 + b"{}]}", content_type="application/json")
    assert answer.status_code == 413
    assert "fewer" in answer.json["error"]


def test_bodies_that_are_read_at_once_share_their_memory(make, monkeypatch):
    monkeypatch.setattr("backend.web.app.READ_BYTES", 50_000)
    client = make()
    small, large = {"action": "A"}, {"action": "A", "rle": list(range(5000))}
    assert [client.post("/webhook", json=body).status_code for body in (small, large, small)] == [201, 503, 201]


@pytest.mark.parametrize("method", ["get", "delete"])
def test_what_is_not_allowed_says_what_is(client, method):
    answer = getattr(client, method)("/predict")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("error", [OSError, RuntimeError], ids=["sender gone", "as gunicorn says it of chunks"])
def test_a_body_that_cannot_be_read_is_a_bad_request(client, error):
    class Broken(io.BytesIO):
        def read(self, *_args):
            raise error("Invalid chunk size: b'secret'")

        readinto = read

    answer = client.post("/predict", input_stream=Broken(), environ_overrides={"CONTENT_LENGTH": "10", **JSON})
    assert answer.status_code == 400
    assert answer.json["error"] == "body: cannot be read"


def test_no_room_for_a_webhook_is_told_to_label_studio(client, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("backend.corrections.store.MOST_INBOX_BYTES", 10)
    answer = client.post("/webhook", json=annotated())
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "too many webhooks wait" in caplog.text
    assert str(tmp_path) not in caplog.text + answer.text
    monkeypatch.undo()
    assert client.post("/webhook", json=annotated()).status_code == 201


def test_an_unexpected_error_is_logged_without_traceback_and_payload(client, monkeypatch, caplog):
    monkeypatch.setattr("backend.service.parse_label_config", lambda *_a, **_k: {}["/secret/path"])
    assert predict(client, "ok").status_code == 500
    assert "predict failed: unexpected KeyError in backend.service:" in caplog.text
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


def test_too_large_a_body_in_chunks(make):
    client = make(max_request_bytes=1000)
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", **JSON}
    answer = client.post("/predict", input_stream=io.BytesIO(b"[" * 2000), environ_overrides=chunked)
    assert answer.status_code == 413


def test_what_is_refused_is_one_line_in_the_log(client, caplog):
    label = 'x" threshold="a&#10;2026-01-01 ERROR backend: all is lost'
    config = CONFIG.replace('value="Cat"', f'value="{label}"')
    assert client.post("/setup", json={"schema": config}).status_code == 400
    (record,) = [record for record in caplog.records if record.name == "backend.web.app"]
    assert "\n" not in record.getMessage()
    assert len(record.getMessage()) < 600


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("plain words", "plain words"),
        ("<Label> in\r\nX-Header: y", "(Label) in X-Header: y"),
        ("a\u2028b\x85c\x1bd\te", "a b c d e"),
        ("", "Bad Request"),
        ("x" * 1000, "x" * 297 + "..."),
        ("Köter 猫", "Köter 猫"),
        ("half \ud800", "half ?"),
    ],
)
def test_a_reason_fits_behind_a_status(text, phrase):
    assert reason_phrase(text).encode("latin-1").decode() == phrase


def test_why_a_config_is_refused_stands_where_label_studio_shows_it(client, caplog):
    answer = client.post("/setup", json={"schema": "<View/>", "project": "3.1"})
    first = answer.json["error"].splitlines()[0]
    assert answer.status == f"400 {reason_phrase(first)}"
    assert "BrushLabels" in answer.status
    assert not set("<>") & set(answer.status)


def test_what_went_well_is_logged_too(client, caplog):
    caplog.set_level("INFO")
    client.post("/setup", json={"project": "3.1", "schema": CONFIG})
    assert "project 3: set up, 2 labels, version clip-diy-" in caplog.text
    point = {"type": "keypointlabels", "to_name": "img", "value": {"x": 10, "y": 50, "keypointlabels": ["Dog"]}}
    body = {"tasks": tasks("ok"), "label_config": CONFIG, "project": "3.1", "params": {"context": {"result": [point]}}}
    client.post("/predict", json=body)
    assert "project 3, task 1: a gesture, 1 regions" in caplog.text


def test_a_number_that_is_none_is_no_webhook(client):
    body = json.dumps(annotated()).replace("12.5", "1e999")
    assert client.post("/webhook", data=body, content_type="application/json").status_code == 400


def test_an_unexpected_error_says_nothing_about_itself(client, monkeypatch):
    monkeypatch.setattr("backend.service.parse_label_config", lambda *_a, **_k: 1 / 0)
    answer = predict(client, "ok")
    assert answer.status_code == 500
    assert "division" not in answer.text
    assert "Traceback" not in answer.text


def test_webhooks_are_kept_if_they_say_something_about_corrections(client, tmp_path):
    for number in range(3):
        assert client.post("/webhook", json=annotated(number)).json == {"status": "kept"}
    heard = client.post("/webhook", json={"action": "SOMETHING_NEW"})
    assert (heard.status_code, heard.json) == (201, {"status": "heard"})
    store = CorrectionStore(tmp_path)
    assert store.waiting() == 3
    assert store.first()[2] == annotated(0)
    metrics = client.get("/metrics").text
    assert 'clipdiy_webhooks_total{action="ANNOTATION_CREATED"} 3.0' in metrics
    assert 'clipdiy_webhooks_total{action="other"} 1.0' in metrics


class TestNewTasks:
    """TASKS_CREATED: their pictures are encoded before anybody asks for them."""

    @pytest.fixture
    def service(self, tmp_path):
        metrics = Metrics()
        predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(ahead=10), metrics)
        made = make_service(Settings(data_dir=tmp_path), predictor, metrics)
        yield made
        made.close()

    @pytest.fixture
    def send(self, service):
        client = create_app(service).test_client()
        return lambda **body: client.post("/webhook", json=body)

    def waiting(self, service):
        return len(service.predictor._ahead)

    def test_they_come_from_where_their_project_is(self, service, send):
        service.introductions.remember(KEY, LabelStudioHost("http://127.0.0.1:8080", "abc"))
        body = {"action": "TASKS_CREATED", "tasks": tasks("ok:8x7", "ok:8x9"), "project": project()}
        answer = send(**body)
        assert (answer.status_code, answer.json) == (201, {"status": "heard"})
        loader = service.predictor._pictures._loader
        while len(loader.seen) < 2:
            time.sleep(0.001)
        host = LabelStudioHost("http://127.0.0.1:8080", "abc", is_neighbour=True)
        assert sorted(loader.seen) == [("ok:8x7", 1, host), ("ok:8x9", 2, host)]

    def test_whoever_tells_is_not_kept_waiting(self, service, send, monkeypatch):
        """Where a project is may have to be asked of Label Studio, which waits for the answer to the webhook."""
        asked = threading.Event()
        told = threading.Event()

        def of(key):
            asked.set()
            assert told.wait(10)
            return LabelStudioHost()

        monkeypatch.setattr(service.introductions, "of", of)
        assert send(action="TASKS_CREATED", tasks=tasks("ok"), project=project()).status_code == 201
        assert asked.wait(10)
        told.set()

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param({"action": "TASKS_DELETED"}, id="another event"),
            pytest.param({"tasks": None}, id="no tasks"),
            pytest.param({"tasks": {"id": 1}}, id="no list"),
            pytest.param({"tasks": ["x", {"id": [1], "data": {"image": "ok"}}, {"id": 2}]}, id="nothing that is one"),
            pytest.param({"project": None}, id="no project"),
            pytest.param({"project": project(config="<View/>")}, id="a config without pictures"),
        ],
    )
    def test_what_cannot_be_read_is_left_alone(self, service, send, body):
        sent = {"action": "TASKS_CREATED", "tasks": tasks("ok"), "project": project(), **body}
        with service.predictor._ahead.giving_way():
            assert send(**sent).status_code in (201, 400)
            assert self.waiting(service) == 0

    def test_in_turns_with_its_own_requests(self, service, send):
        with service.predictor._ahead.giving_way():
            send(action="TASKS_CREATED", tasks=tasks("ok"), project=project(5))
            assert service.predictor._ahead.waits_for("5")


class TestDeletedTasks:
    """What failed in tasks that are no more is told no longer."""

    @pytest.fixture
    def left(self, tmp_path):
        """Send a webhook; return which of the failed tasks 1 and 2 of the projects 4 and 5 are still told of."""
        metrics, failures = Metrics(), Failures(tmp_path)
        predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(), metrics, failures=failures)
        service = make_service(Settings(data_dir=tmp_path), predictor, metrics)
        for number in ("4", "5"):
            failures.note(number, done=[], failed=[(1, "download", ""), (2, "download", "")])
        client = create_app(service).test_client()

        def _left(**body):
            assert client.post("/webhook", json=body).status_code in (201, 400)
            return {(one.project, one.task) for one in failures.recent(9)}

        yield _left
        service.close()

    def test_tasks(self, left):
        gone = left(action="TASKS_DELETED", tasks=[{"id": 2}, {"id": 9}], project=project(4))
        assert gone == {("4", "1"), ("5", "1"), ("5", "2")}

    def test_a_project(self, left):
        assert left(action="PROJECT_DELETED", project={"id": 4}) == {("5", "1"), ("5", "2")}

    @pytest.mark.parametrize(
        "body",
        [
            {"action": "TASKS_CREATED", "tasks": [{"id": 1}], "project": project(4)},
            {"action": "TASKS_DELETED", "tasks": "all", "project": project(4)},
            {"action": "TASKS_DELETED", "tasks": [{"id": 1}], "project": None},
            {"action": "PROJECT_DELETED", "project": "4"},
        ],
        ids=repr,
    )
    def test_others_and_what_cannot_be_read_are_left_alone(self, left, body):
        assert len(left(**body)) == 4


def test_a_webhook_without_its_payload_is_refused_in_words(client):
    answer = client.post("/webhook", json={"action": "ANNOTATION_CREATED", "project": project()})
    assert answer.status_code == 400
    assert answer.json["error"] == "annotation: got nothing; webhooks are to be sent with their payload"


def test_metrics(client):
    predict(client, "ok", "ok:9x9", "fail:timeout")
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

    def test_only_health_is_open(self, make):
        app = make(basic_auth_user="anna", basic_auth_password="gehe!m").application
        answers = {
            rule.rule: app.test_client().open(rule.rule, method=next(iter(rule.methods - {"OPTIONS", "HEAD"})))
            for rule in app.url_map.iter_rules()
            if "<" not in rule.rule
        }
        assert len(answers) > 5
        assert {path for path, answer in answers.items() if answer.status_code != 401} == {"/health"}

    def test_webhooks_need_the_header_that_label_studio_can_be_told_to_send(self, client, tmp_path):
        body = annotated()
        assert client.post("/webhook", json=body).status_code == 401
        assert client.post("/webhook", json=body, headers=self.header("anna:gehe!m")).status_code == 201
        assert CorrectionStore(tmp_path).waiting() == 1

    def test_half_of_it_stops_the_start(self):
        with pytest.raises(ValueError, match="CLIPDIY_BASIC_AUTH_PASSWORD"):
            Settings(basic_auth_user="anna")


def one_runs(client):
    return eventually(lambda: "requests_running 1.0" in client.get("/metrics").text)


def test_one_request_too_many_is_told_so_before_its_body_is_read(make):
    class Untouched(io.BytesIO):
        def read(self, *_args):
            raise AssertionError("the body was read")

        readinto = read

    client = make(max_requests=1)
    first = threading.Thread(target=lambda: predict(client, "wait:2000"))
    first.start()
    try:
        assert one_runs(client)
        answer = client.post("/predict", input_stream=Untouched(), environ_overrides={"CONTENT_LENGTH": "10", **JSON})
        assert answer.status_code == 503
        assert client.get("/health").status_code == 200
        assert first.is_alive(), "it did not wait for it"
    finally:
        first.join()


def test_one_request_too_many_is_told_to_come_back(make):
    client = make(max_requests=1)
    answers = []
    first = threading.Thread(target=lambda: answers.append(predict(client, "wait:2000")))
    first.start()
    try:
        assert one_runs(client)
        second = predict(client, "ok")
        assert second.status_code == 503
        assert int(second.headers["Retry-After"]) > 0
        assert client.get("/health").status_code == 200
    finally:
        first.join()
    assert answers[0].status_code == 200
    assert predict(client, "ok").status_code == 200


class TestOneMachine:
    """A Label Studio on this machine's loopback needs no setting; one that only seems to be there gets none of it."""

    @pytest.fixture
    def asked(self, monkeypatch):
        hosts = []
        fetch = lambda self, value, *, host, **_rest: hosts.append(host) or 1 / 0  # noqa: E731
        monkeypatch.setattr(FakeLoader, "fetch_if_changed", fetch)
        return hosts

    @pytest.mark.parametrize("url", ["http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"])
    def test_it_is_a_neighbour(self, client, asked, url):
        client.post("/setup", json={"project": "7.1", "schema": CONFIG, "hostname": url, "access_token": "t"})
        predict(client, "ok", project="7.1")
        assert asked == [LabelStudioHost(url, "t", is_neighbour=True)]

    def test_one_elsewhere_is_none(self, client, asked):
        body = {"project": "7.1", "schema": CONFIG, "hostname": "http://10.0.0.7:8080", "access_token": "t"}
        client.post("/setup", json=body)
        predict(client, "ok", project="7.1")
        assert asked == [LabelStudioHost("http://10.0.0.7:8080", "t")]

    @pytest.mark.parametrize(
        "request_from",
        [
            {"environ_overrides": {"REMOTE_ADDR": "172.18.0.3"}},
            {"environ_overrides": {"REMOTE_ADDR": ""}},
            {"headers": {"X-Forwarded-For": "203.0.113.9"}},
            {"headers": {"Forwarded": "for=203.0.113.9"}},
        ],
        ids=["another container", "nobody knows", "behind a proxy", "behind a proxy, as RFC 7239 says it"],
    )
    def test_what_comes_from_elsewhere_cannot_name_our_loopback(self, client, asked, caplog, request_from):
        body = {"project": "7.1", "schema": CONFIG, "hostname": "http://localhost:8080", "access_token": "secret"}
        client.post("/setup", json=body, **request_from)
        predict(client, "ok", project="7.1")
        assert asked == [LabelStudioHost(None, "secret")]
        assert "project 7: Label Studio says that it is at http://localhost:8080" in caplog.text
        assert "CLIPDIY_LABEL_STUDIO_URL" in caplog.text
        assert "secret" not in caplog.text
