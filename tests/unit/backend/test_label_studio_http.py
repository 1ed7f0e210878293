"""What is asked again, how long, and what is not."""

import itertools
import json

import pytest
import requests
from clocks import HandClock
from fake_label_studio import LEGACY_TOKEN, PERSONAL_TOKEN, FakeLabelStudio, Fault, jwt
from web_server import Reply, WebServer

from backend.label_studio_http import (
    FixedCredentials,
    LabelStudioApiError,
    LabelStudioHttp,
    Patience,
    TokenCredentials,
    json_of,
    retry_after_s,
)

WHOAMI = "/api/current-user/whoami"


class Pauses:
    """Time that passes only while somebody waits; gives up after so many pauses."""

    def __init__(self, most=100, meanwhile=lambda: None):
        self.clock = HandClock()
        self.seconds = []
        self.most = most
        self.meanwhile = meanwhile

    def __call__(self, seconds):
        self.seconds.append(seconds)
        self.clock.now += seconds
        self.meanwhile()
        return len(self.seconds) > self.most


def http_to(url, pauses, credentials=None, **patience):
    credentials = credentials or FixedCredentials(f"Token {LEGACY_TOKEN}")
    return LabelStudioHttp(
        url, credentials, timeout_s=10, patience=Patience(**patience), pause=pauses, clock=pauses.clock
    )


@pytest.fixture
def studio():
    with FakeLabelStudio() as server:
        yield server


@pytest.fixture
def pauses():
    return Pauses()


def test_what_passes_is_waited_for_longer_each_time(studio, pauses):
    studio.fail("GET", WHOAMI, *[Fault(status) for status in (500, 502, 503, 504, 429)], Fault(0))
    answer = http_to(studio.url, pauses, first_s=0.5, most_s=4).request("GET", WHOAMI)
    assert answer.json() == {"username": "anna"}
    assert pauses.seconds == [0.5, 1, 2, 4, 4, 4]


def test_who_is_asked_to_wait_longer_does(studio, pauses):
    studio.fail("GET", WHOAMI, Fault(429, {"Retry-After": "40"}), Fault(429, {"Retry-After": "0"}), Fault(503))
    http_to(studio.url, pauses, most_s=5).request("GET", WHOAMI)
    assert pauses.seconds == [40, 1, 2]


def test_patience_ends(studio, pauses):
    studio.fail("GET", WHOAMI, *[Fault(502)] * 20)
    with pytest.raises(LabelStudioApiError, match="GET /api/current-user/whoami: 502") as caught:
        http_to(studio.url, pauses, for_s=7).request("GET", WHOAMI)
    assert caught.value.status == 502
    assert caught.value.is_passing
    assert pauses.seconds == [0.5, 1, 2], "the next pause would end after the patience"


def test_nobody_waits_when_it_is_no_use_any_more(studio):
    pauses = Pauses(most=1)
    studio.fail("GET", WHOAMI, *[Fault(502)] * 20)
    with pytest.raises(LabelStudioApiError):
        http_to(studio.url, pauses).request("GET", WHOAMI)
    assert len(pauses.seconds) == 2


@pytest.mark.parametrize("status", [400, 403, 404])
def test_what_does_not_pass_is_said_at_once(studio, pauses, status):
    studio.fail("GET", WHOAMI, Fault(status))
    with pytest.raises(LabelStudioApiError, match=str(status)) as caught:
        http_to(studio.url, pauses).request("GET", WHOAMI)
    assert not caught.value.is_passing
    assert pauses.seconds == []


@pytest.mark.parametrize("fault", [Fault(500), Fault(502), Fault(503), Fault(0), Fault(500, is_done=True)])
def test_what_writes_and_may_be_done_is_not_sent_again(studio, pauses, fault):
    studio.fail("POST", ".*", fault)
    with pytest.raises(LabelStudioApiError) as caught:
        http_to(studio.url, pauses).request("POST", "/api/projects/1/import/predictions", json=[])
    assert caught.value.is_passing
    assert caught.value.may_be_done
    assert pauses.seconds == []


def test_what_writes_is_sent_again_where_it_was_not_heard(studio):
    project = studio.add_project("<View/>", [{"image": "a"}])
    studio.fail("POST", ".*", Fault(429))
    away = studio.go_away_for(0.1)
    pauses = Pauses(meanwhile=lambda: away.join())
    path = f"/api/projects/{project}/import/predictions"
    assert http_to(studio.url, pauses).request("POST", path, json=[]).json() == {"created": 0}
    assert pauses.seconds == [0.5, 1]


def test_what_leaves_the_same_when_done_twice_is_sent_again(studio, pauses):
    number = studio.add_prediction(1, "v")
    studio.fail("DELETE", ".*", Fault(502))
    assert http_to(studio.url, pauses).request("DELETE", f"/api/predictions/{number}/").status_code == 204
    assert pauses.seconds == [0.5]


def test_a_connection_that_is_refused_is_tried_again_and_never_sent(pauses):
    with WebServer() as gone:
        url = gone.url
    for method in ("GET", "POST"):
        with pytest.raises(LabelStudioApiError) as caught:
            http_to(url, pauses, for_s=1).request(method, WHOAMI)
        assert caught.value.is_passing
        assert not caught.value.may_be_done
        assert caught.value.status is None
    assert pauses.seconds == [0.5, 0.5]


def test_an_address_that_is_none_is_not_tried_again(pauses):
    with pytest.raises(LabelStudioApiError) as caught:
        http_to("nowhere", pauses).request("GET", WHOAMI)
    assert not caught.value.is_passing


class TestTokens:
    def test_a_legacy_token_is_sent_as_it_is(self, studio, pauses):
        credentials = TokenCredentials(studio.url, f" {LEGACY_TOKEN}\n")
        assert http_to(studio.url, pauses, credentials).request("GET", WHOAMI).ok
        assert studio.exchanges == 0

    def test_a_personal_token_is_exchanged_once(self, studio, pauses):
        http = http_to(studio.url, pauses, TokenCredentials(studio.url + "/", PERSONAL_TOKEN))
        for _ in range(3):
            assert http.request("GET", WHOAMI).ok
        assert studio.exchanges == 1

    def test_one_that_has_ended_is_exchanged_again_and_nothing_is_lost(self, studio, pauses):
        http = http_to(studio.url, pauses, TokenCredentials(studio.url, PERSONAL_TOKEN))
        project = studio.add_project("<View/>")
        path = f"/api/projects/{project}/import/predictions"
        http.request("POST", path, json=[])
        studio.end_access_tokens()
        assert http.request("POST", path, json=[]).json() == {"created": 0}
        assert studio.exchanges == 2
        assert pauses.seconds == []

    def test_one_that_is_refused_when_it_is_new_is_refused(self, studio, pauses):
        studio.before = lambda method, path: path == WHOAMI and studio.end_access_tokens()
        with pytest.raises(LabelStudioApiError) as caught:
            http_to(studio.url, pauses, TokenCredentials(studio.url, PERSONAL_TOKEN)).request("GET", WHOAMI)
        assert caught.value.status == 401
        assert studio.exchanges == 2

    def test_one_that_ends_soon_is_renewed_before(self, studio, pauses):
        clock = HandClock(8_999_999_000)
        http = http_to(studio.url, pauses, TokenCredentials(studio.url, PERSONAL_TOKEN, now=clock))
        http.request("GET", WHOAMI)
        clock.now = 9_000_000_000 - 31
        http.request("GET", WHOAMI)
        assert studio.exchanges == 1
        clock.now = 9_000_000_000 - 29
        http.request("GET", WHOAMI)
        assert studio.exchanges == 2

    def test_a_legacy_token_that_is_refused_is_not_tried_again(self, studio, pauses):
        with pytest.raises(LabelStudioApiError):
            http_to(studio.url, pauses, TokenCredentials(studio.url, "0" * 40)).request("GET", WHOAMI)
        assert len(studio.requests) == 1

    def test_a_personal_token_that_was_revoked_says_what_to_do(self, studio, pauses):
        revoked = jwt(token_type="refresh", jti="another")
        with pytest.raises(LabelStudioApiError, match="make a new one") as caught:
            http_to(studio.url, pauses, TokenCredentials(studio.url, revoked)).request("GET", WHOAMI)
        assert not caught.value.is_passing
        assert revoked not in str(caught.value)
        assert pauses.seconds == []

    def test_an_exchange_is_waited_for_too(self, studio, pauses):
        studio.fail("POST", "/api/token/refresh/", Fault(502), Fault(0))
        http = http_to(studio.url, pauses, TokenCredentials(studio.url, PERSONAL_TOKEN))
        project = studio.add_project("<View/>")
        # Also where what was to be sent then may be sent only once: it has not been.
        assert http.request("POST", f"/api/projects/{project}/import/predictions", json=[]).ok
        assert pauses.seconds == [0.5, 1]

    def test_an_answer_to_an_exchange_is_not_shown(self, pauses):
        with WebServer() as web:
            web.replies["/api/token/refresh/"] = Reply(body=json.dumps({"refresh": "secret"}).encode())
            with pytest.raises(LabelStudioApiError, match="expected an access token") as caught:
                http_to(web.url, pauses, TokenCredentials(web.url, PERSONAL_TOKEN)).request("GET", WHOAMI)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-3", 0.0),
        ("Fri, 01 Jan 2100 00:00:10 GMT", 10.0),
        ("Fri, 01 Jan 1999 00:00:10 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_how_long_a_server_wants_to_be_left_alone(value, seconds):
    assert retry_after_s(value, now=lambda: 4_102_444_800.0) == seconds


def test_an_answer_that_is_no_json_is_said_to_be_none():
    answer = requests.Response()
    answer._content, answer.status_code = b"<html>", 200
    answer.headers["Content-Type"] = "text/html"
    with pytest.raises(LabelStudioApiError, match="expected JSON, got text/html"):
        json_of("GET", WHOAMI, answer)


def test_pauses_are_real_where_nobody_says_how():
    with FakeLabelStudio() as studio:
        studio.fail("GET", WHOAMI, Fault(502))
        ticks = itertools.count()
        credentials = FixedCredentials(f"Token {LEGACY_TOKEN}")
        patience = Patience(first_s=0.01)
        http = LabelStudioHttp(studio.url, credentials, timeout_s=5, patience=patience, clock=lambda: next(ticks))
        assert http.request("GET", WHOAMI).ok
