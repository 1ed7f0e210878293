"""Which header each kind of token becomes, and how often Label Studio is asked for a new one."""

import base64
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from web_server import Reply, Seen, WebServer

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.host import LabelStudioHost
from backend.images.outbound import Outbound
from backend.images.policy import HostPolicy
from backend.images.tokens import AccessTokens

LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(**claims: Any) -> str:
    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}.c2lnbmF0dXJl"


REFRESH = jwt(token_type="refresh", exp=9_000_000_000)


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def web(clock: Clock) -> Iterator[WebServer]:
    """A Label Studio that hands out access tokens which live five minutes."""

    numbers = itertools.count()

    def refresh(seen: Seen) -> Reply:
        access = jwt(number=next(numbers), exp=int(clock.now) + 300)
        return Reply(body=json.dumps({"access": access}).encode())

    with WebServer() as server:
        server.replies["/api/token/refresh/"] = refresh
        yield server


class Tokens:
    """`AccessTokens` for one server."""

    def __init__(self, web: WebServer, clock: Clock) -> None:
        self.tokens = AccessTokens(Outbound(HostPolicy()), now=clock)
        self.url = web.url

    def header(self, token: str) -> str | None:
        return self.tokens.authorization(self.host(token), Deadline.after(5))

    def forget(self, token: str, header: str) -> bool:
        return self.tokens.forget(self.host(token), header)

    def host(self, token: str) -> LabelStudioHost:
        return LabelStudioHost(self.url, token, is_configured=True)


@pytest.fixture
def tokens(web: WebServer, clock: Clock) -> Tokens:
    return Tokens(web, clock)


AS_THEY_ARE = {
    "legacy": (LEGACY, f"Token {LEGACY}"),
    "access token": (jwt(token_type="access"), f"Bearer {jwt(token_type='access')}"),
    "two dots that are no JWT": ("a.b.c", "Token a.b.c"),
    "two dots, JSON that is no object": (f"a.{base64.b64encode(b'[1]').decode()}.c", "Token a.WzFd.c"),
}


@pytest.mark.parametrize(("token", "header"), AS_THEY_ARE.values(), ids=AS_THEY_ARE)
def test_most_tokens_are_sent_as_they_are(tokens: Tokens, web: WebServer, token: str, header: str) -> None:
    assert tokens.header(token) == header
    assert not tokens.forget(token, header)
    assert web.seen == []


def test_a_personal_token_is_exchanged_once_and_again_before_it_ends(
    tokens: Tokens, web: WebServer, clock: Clock
) -> None:
    first = tokens.header(REFRESH)
    assert first.startswith("Bearer ")
    assert REFRESH not in first
    clock.now += 200
    assert tokens.header(REFRESH) == first
    clock.now += 75
    assert tokens.header(REFRESH) != first
    assert [(seen.method, json.loads(seen.body)) for seen in web.seen] == [("POST", {"refresh": REFRESH})] * 2
    assert web.authorizations() == [None, None]


def test_many_downloads_that_begin_together_ask_once(tokens: Tokens, web: WebServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(tokens.header, [REFRESH] * 16))) == 1
    assert len(web.seen) == 1


def test_two_tokens_do_not_mix(tokens: Tokens) -> None:
    other = jwt(token_type="refresh", user=2)
    assert tokens.header(REFRESH) != tokens.header(other)


def test_a_refused_access_token_is_forgotten_unless_it_was_renewed_meanwhile(tokens: Tokens, web: WebServer) -> None:
    first = tokens.header(REFRESH)
    assert tokens.forget(REFRESH, first)
    second = tokens.header(REFRESH)
    assert second != first
    assert tokens.forget(REFRESH, first), "a late report of the first one"
    assert tokens.header(REFRESH) == second
    assert len(web.seen) == 2


def test_an_access_token_without_an_end_is_kept_a_minute(tokens: Tokens, web: WebServer, clock: Clock) -> None:
    web.replies["/api/token/refresh/"] = Reply(body=b'{"access": "opaque"}')
    assert tokens.header(REFRESH) == "Bearer opaque"
    clock.now += 59
    tokens.header(REFRESH)
    clock.now += 2
    tokens.header(REFRESH)
    assert len(web.seen) == 2


REFUSED = {
    "ended": (Reply(401, b'{"detail": "Token is invalid or expired"}'), "unauthorized", "make a new one"),
    "not allowed": (Reply(403), "unauthorized", "make a new one"),
    "down": (Reply(502), "download", "HTTP 502"),
    "redirect": (Reply(302, headers={"Location": "/user/login"}), "download", "HTTP 302"),
    "HTML": (Reply(body=b"<html>"), "download", "expected an access token"),
    "no token in it": (Reply(body=b"{}"), "download", "expected an access token"),
    "a list": (Reply(body=b"[1]"), "download", "expected an access token"),
    "a number": (Reply(body=b'{"access": 7}'), "download", "expected an access token"),
    "a header in it": (Reply(body=b'{"access": "a\\r\\nX: y"}'), "download", "expected an access token"),
    "too long": (Reply(body=b" " * 100_001), "too-large", "at most 100,000 bytes"),
}


@pytest.mark.parametrize(("reply", "reason", "message"), REFUSED.values(), ids=REFUSED)
def test_what_goes_wrong_is_said_without_the_token(
    tokens: Tokens, web: WebServer, reply: Reply, reason: str, message: str
) -> None:
    web.replies["/api/token/refresh/"] = reply
    with pytest.raises(TaskError, match=message) as caught:
        tokens.header(REFRESH)
    assert caught.value.reason == reason
    assert REFRESH not in str(caught.value)
