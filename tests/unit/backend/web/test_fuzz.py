"""A few seconds of what tests/oracles/fuzz.py does at length, without a server; and the description against the app."""

import json
import logging
import time

import pytest
import schemathesis
from fakes import FakeCore
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from services import make_service
from webhooks import annotated

from backend.images.loader import ImageLoader
from backend.images.sources import ImageSources
from backend.metrics import Metrics
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.settings import Settings
from backend.web.app import create_app
from backend.web.openapi import describe
from backend.web.page.asked import BELOW
from tests.oracles.fuzz import CHECKS, CONFIGS, GOOD, Answer, Checker, check_discreet, damaged, projects

QUICK = settings(
    max_examples=60,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    metrics = Metrics()
    loader = ImageLoader(ImageSources(allowed_hosts=("127.0.0.1",)))
    predictor = Predictor(FakeCore(), loader, PredictorOptions(deadline_s=10), metrics)
    chosen = Settings(_env_file=None, preset="starter", data_dir=folder, basic_auth_user=None, basic_auth_password=None)
    yield create_app(make_service(chosen, predictor, metrics))
    predictor.close()


@pytest.fixture(scope="module")
def checker(app):
    client = app.test_client()

    def send(path, data):
        begun = time.monotonic()
        answer = client.post(path, data=data, content_type="application/json")
        return Answer(answer.status_code, answer.headers, answer.text, time.monotonic() - begun)

    return Checker(send)


@pytest.fixture(autouse=True)
def discreet_log(caplog):
    caplog.set_level(logging.INFO)
    yield
    check_discreet(caplog.text)


@QUICK
@given(body=projects())
def test_every_task_gets_its_own_masks(checker, body):
    checker.predict(body)


def test_the_comparison_would_notice_a_swap(checker):
    tasks = [{"id": i, "data": {"image": value}} for i, value in enumerate(GOOD[:2])]
    first, second = checker.predict({"tasks": tasks, "label_config": CONFIGS[0]})
    assert first["result"]
    assert checker.alone(tasks[0], CONFIGS[0]) != checker.alone(tasks[1], CONFIGS[0])
    assert first["result"][0]["original_height"] != second["result"][0]["original_height"]


@QUICK
@given(case=damaged())
def test_whatever_comes_is_answered(checker, case):
    checker.post(*case)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook"])
def test_answers_are_as_described(app, path, mode):
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)

    @settings(QUICK, max_examples=25)
    @given(case=schema[path]["POST"].as_strategy(generation_mode=mode))
    def run(case):
        answer = case.call()
        case.validate_response(answer, checks=CHECKS)
        check_discreet(answer.text)

    run()


@pytest.mark.parametrize("path", ["/health", "/", "/versions", "/metrics", "/openapi.json"])
def test_answers_to_get_are_as_described(app, path):
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    case = schema[path]["GET"].Case()
    case.validate_response(case.call(), checks=CHECKS)


def test_good_requests_are_answered_as_described(app):
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    bodies = {
        "/setup": {"schema": CONFIGS[0], "project": "1.2", "hostname": "", "access_token": ""},
        "/predict": {"tasks": [{"id": 1, "data": {"image": GOOD[0]}}, {"id": 2}], "label_config": CONFIGS[0]},
        "/webhook": annotated(),
    }
    for path, body in bodies.items():
        case = schema[path]["POST"].Case(body=body, media_type="application/json")
        answer = case.call()
        assert answer.status_code in (200, 201)
        case.validate_response(answer, checks=CHECKS)


@pytest.mark.parametrize("with_auth", [False, True])
def test_the_description_names_every_way_to_call_the_app(app, with_auth):
    described = {
        (path, method.upper()) for path, ways in describe(with_auth=with_auth)["paths"].items() for method in ways
    }
    served = {
        (rule.rule, method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if not rule.rule.startswith(BELOW)  # what the page asks for is between the two of them
    }
    assert described == served


def test_the_description_says_who_asks_for_a_password():
    description = describe(with_auth=True)
    open_to_all = [
        path for path, ways in description["paths"].items() for way in ways.values() if "security" not in way
    ]
    assert open_to_all == ["/health"]
    assert "securitySchemes" not in describe(with_auth=False)["components"]


def test_the_description_is_sound():
    description = describe(with_auth=True)
    for schema in description["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    named = {part.split('"')[0] for part in json.dumps(description).split("#/components/schemas/")[1:]}
    assert named <= set(description["components"]["schemas"])
