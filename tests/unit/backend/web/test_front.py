"""Who may ask, and how much may come, by the headers alone."""

import base64
from http import HTTPStatus

import pytest

from backend.settings import Settings
from backend.web.front import FORM_BYTES, SETUP_BYTES, WEBHOOK_BYTES, AppFront, Refusal

JSON = "application/json"
OPEN = AppFront(Settings(_env_file=None, basic_auth_user=None, basic_auth_password=None))
LOCKED = AppFront(Settings(_env_file=None, basic_auth_user="anna", basic_auth_password="gehe!m"))


def environ(method="POST", path="/predict", content_type=JSON, **headers):
    made = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": "127.0.0.1:9090"}
    if content_type is not None:
        made["CONTENT_TYPE"] = content_type
    return {**made, **{f"HTTP_{name.upper()}": value for name, value in headers.items()}}


def status(front, **request):
    try:
        front.check(environ(**request))
    except Refusal as err:
        assert front.body_limit(environ(**request)) == 0
        return err.status
    return HTTPStatus.OK


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"sec_fetch_site": "same-origin", "origin": "http://127.0.0.1:9090"}, 200),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "anything new"}, 403),
        ({"origin": "http://127.0.0.1:9090"}, 200),
        ({"origin": "http://localhost:9090", "host": "localhost:9090"}, 200),
        ({"origin": "http://[::1]:9090", "host": "[::1]:9090"}, 200),
        ({"origin": "http://127.0.0.1:8080"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "file://127.0.0.1:9090"}, 403),
        ({"origin": "http://evil.example:9090", "host": "evil.example:9090"}, 403),
    ],
    ids=lambda value: ", ".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_pages_of_other_sites(headers, expected, method):
    assert status(OPEN, method=method, **headers) == expected


def test_a_name_of_its_own_may_be_the_origin_where_a_password_is_asked_for():
    good = {"origin": "https://masks.example", "host": "masks.example"}
    assert status(LOCKED, authorization=basic(b"anna:gehe!m"), **good) == 200


def test_reading_is_no_writing():
    assert status(OPEN, method="GET", content_type=None, origin="https://evil.example") == 200


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (JSON, 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("text/plain; application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonx", 415),
        ("", 415),
        (None, 415),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook"])
def test_only_json_is_taken(path, content_type, expected):
    assert status(OPEN, path=path, content_type=content_type) == expected


def basic(pair: bytes) -> str:
    return "Basic " + base64.b64encode(pair).decode()


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (basic(b"anna:gehe!m"), 200),
        (basic(b"anna:gehe!m").replace("Basic", "bAsIc"), 200),
        (basic(b"anna:gehe"), 401),
        (basic(b"otto:gehe!m"), 401),
        (basic(b"anna"), 401),
        (basic(b"\xff:\xff"), 401),
        ("Basic \xff", 401),
        ("Basic =", 401),
        ("Basic ", 401),
        ("Basic", 401),
        ("Bearer x", 401),
        ("", 401),
        (None, 401),
    ],
)
def test_user_and_password(authorization, expected):
    headers = {} if authorization is None else {"authorization": authorization}
    assert status(LOCKED, **headers) == expected
    assert status(LOCKED, path="/health", method="GET", **headers) == 200


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("POST", "/predict", 256_000_000),
        ("POST", "/setup", SETUP_BYTES),
        ("POST", "/webhook", WEBHOOK_BYTES),
        ("POST", "/page/try", 50_000_000 * 4 // 3 + FORM_BYTES),
        ("GET", "/page/now", 0),
        ("GET", "/", 0),
        ("POST", "/nothing", 0),
        ("GET", "/predict", 0),
        ("GET", "/health", 0),
    ],
)
def test_each_path_has_its_limit(method, path, limit):
    assert OPEN.body_limit(environ(method, path)) == limit


def test_no_path_has_more_than_is_set():
    front = AppFront(Settings(_env_file=None, max_request_bytes=1000))
    assert {front.body_limit(environ(path=path)) for path in ("/predict", "/setup", "/webhook", "/page/try")} == {1000}
    form = environ(path="/page/pin", content_type="application/x-www-form-urlencoded")
    assert (OPEN.body_limit(form), front.body_limit(form)) == (FORM_BYTES, 1000)


@pytest.mark.parametrize(
    ("path", "accept", "lane"),
    [
        ("/health", None, "health"),
        ("/predict", None, "heavy"),
        ("/page/try", None, "heavy"),
        ("/setup", None, "light"),
        ("/", None, "light"),
        ("/", "text/html", "page"),
        ("/page/now", None, "page"),
        ("/metrics", "text/html", "light"),
    ],
)
def test_what_takes_long_keeps_nothing_else_waiting(path, accept, lane):
    assert OPEN.lane(environ(path=path) | ({"HTTP_ACCEPT": accept} if accept else {})) == lane


def test_a_form_is_taken_from_the_page_only_where_there_is_one():
    form = "application/x-www-form-urlencoded"
    assert status(OPEN, path="/page/pin", content_type=form) == 200
    assert status(OPEN, path="/page/pin") == 415
    assert status(OPEN, path="/page/try", content_type=form) == 415
