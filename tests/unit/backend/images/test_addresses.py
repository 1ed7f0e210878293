"""Addresses that somebody else wrote: taken apart, brought to one form, shown."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import TaskError
from backend.images.addresses import Origin, normal_host, show_url, split_url


def test_origins_differ_by_scheme_host_and_port() -> None:
    plain = Origin("http", "ls.test", 8080)
    assert plain.serves(Origin("http", "ls.test", 8080))
    for other in (
        Origin("http", "ls.test", 8081),
        Origin("https", "ls.test", 8080),
        Origin("https", "ls.test", 443),
        Origin("http", "other.test", 8080),
        Origin("http", "ls.test.evil.test", 8080),
    ):
        assert not plain.serves(other)
    on_80 = Origin("http", "ls.test", 80)
    assert on_80.serves(Origin("https", "ls.test", 443)), "the one upgrade that goes without saying"
    assert not on_80.serves(Origin("https", "other.test", 443))
    assert not on_80.serves(Origin("https", "ls.test", 8443))
    assert not Origin("https", "ls.test", 443).serves(Origin("http", "ls.test", 80))


URLS = {
    "plain": ("http://Host.TEST/x", Origin("http", "host.test", 80)),
    "https": ("https://host.test", Origin("https", "host.test", 443)),
    "port": ("HTTP://host.test:81/", Origin("http", "host.test", 81)),
    "IPv6": ("http://[::1]:81/", Origin("http", "::1", 81)),
    "IPv6, written out": ("http://[0:0:0:0:0:0:0:1]/", Origin("http", "::1", 80)),
    "full-width letters": ("http://ｈｏｓｔ．ｔｅｓｔ/", Origin("http", "host.test", 80)),
    "soft hyphen": ("http://ho\N{SOFT HYPHEN}st.test/", Origin("http", "host.test", 80)),
    "a full stop at the end": ("http://host.test./", Origin("http", "host.test", 80)),
    "fewer numbers": ("http://127.1/", Origin("http", "127.0.0.1", 80)),
    "hexadecimal": ("http://0x7F000001:81/", Origin("http", "127.0.0.1", 81)),
    "underscore": ("http://label_studio:8080/", Origin("http", "label_studio", 8080)),
    "another alphabet": ("http://bücher.test/", Origin("http", "xn--bcher-kva.test", 80)),
}


@pytest.mark.parametrize(("url", "origin"), URLS.values(), ids=URLS)
def test_addresses_are_taken_apart(url: str, origin: Origin) -> None:
    assert split_url(url)[1] == origin


NO_URLS = [
    "",
    "x.png",
    "http://",
    "http:x",
    "ftp://a/b",
    "http://[::1/",
    "http://a:b/",
    "http://a..b/",
    "http://\ud800/",
    "http://./",
    "http://a b/",
    "http://%31.test/",
    "http://[1:2]/",
    "http://\N{SOFT HYPHEN}/",
]


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(TaskError) as caught:
        split_url(url)
    assert caught.value.reason == "unsupported-source"


def test_shown_addresses_hold_no_secrets() -> None:
    assert show_url("https://user:pw@host.test:81/a/b.png?sig=secret#x") == "https://host.test:81/a/b.png"
    assert len(show_url("https://host.test/" + "a" * 1000)) == 200
    assert show_url("http://[::1/secret") == "a malformed address"


def test_which_local_file_is_shown():
    shown = show_url("http://ls.test/lab/data/local-files/?d=a/b%20c.png&token=secret")
    assert shown == "http://ls.test/lab/data/local-files/?d=a/b%20c.png"
    assert show_url("/data/local-files?token=secret&d=x.png") == "/data/local-files?d=x.png"
    assert show_url("http://ls.test/data/upload/1/x.png?d=secret") == "http://ls.test/data/upload/1/x.png"


@settings(max_examples=300)
@given(st.text(max_size=20))
def test_the_one_form_of_a_host_is_its_own(text: str) -> None:
    try:
        host = normal_host(text)
    except ValueError:
        return
    assert host.isascii()
    assert normal_host(host) == host
