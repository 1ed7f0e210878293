"""Who gets the page, and under which name."""

import pytest

from backend.web.page.asked import is_by_address, is_of_page, wants_page

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param(CHROMIUM, True, id="a browser"),
        pytest.param("text/html", True, id="nothing else"),
        pytest.param("TEXT/HTML", True, id="in capitals"),
        pytest.param("application/json, text/html", True, id="both alike"),
        pytest.param("text/html;q=0.5, application/json;q=0.4", True, id="rather HTML"),
        pytest.param("application/json, text/html;q=0.5", False, id="rather JSON"),
        pytest.param("text/html;q=0.5, */*", False, id="rather anything else"),
        pytest.param("text/html;q=0", False, id="not HTML"),
        pytest.param("*/*", False, id="curl and Label Studio"),
        pytest.param("text/*", False, id="some text"),
        pytest.param("application/json", False, id="JSON"),
        pytest.param("application/json, text/plain, */*", False, id="a script"),
        pytest.param("", False, id="empty"),
        pytest.param(None, False, id="not said"),
        pytest.param(",;;=\xff;q=,text/html;q=x", False, id="nonsense"),
    ],
)
def test_the_page_is_for_whoever_names_html(accept, expected):
    environ = {"PATH_INFO": "/"} | ({} if accept is None else {"HTTP_ACCEPT": accept})
    assert wants_page(environ) is expected
    assert is_of_page(environ) is expected
    assert is_of_page({**environ, "PATH_INFO": "/page/now"})
    assert not is_of_page({**environ, "PATH_INFO": "/metrics"})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:9090", True),
        ("10.1.2.3", True),
        ("[::1]:9090", True),
        ("localhost:9090", True),
        ("LocalHost", True),
        ("evil.example:9090", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("anna@127.0.0.1:9090", True),
        ("[", False),
        ("", False),
        (None, False),
    ],
)
def test_a_name_is_no_address(host, expected):
    assert is_by_address({} if host is None else {"HTTP_HOST": host}) is expected
