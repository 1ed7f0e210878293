"""What a value in a task's data means, and when two of them lead to the same file."""

import pytest

from backend.images.host import LabelStudioHost
from backend.images.values import source_key

HOST = LabelStudioHost("http://ls.test", "token-1")
URL = "https://site.test/x.png"

SAME = {
    "blanks around": (f" {URL}\n", 7, HOST),
    "another task": (URL, 8, HOST),
    "no task": (URL, None, HOST),
}
OTHERS = {
    "another address": ("https://site.test/y.png", 7, HOST),
    "another Label Studio": (URL, 7, LabelStudioHost("http://other.test", "token-1")),
    "another token": (URL, 7, LabelStudioHost("http://ls.test", "token-2")),
    "no token": (URL, 7, LabelStudioHost("http://ls.test")),
    "another alias": (URL, 7, LabelStudioHost("http://ls.test", "token-1", ("http://alias.test",))),
    "in a cloud": ("s3://bucket/x.png", 7, HOST),
    "in a cloud, for another task": ("s3://bucket/x.png", 8, HOST),
    "in a cloud, big letters": ("GS://bucket/x.png", 7, HOST),
    "in a cloud, big letters, for another task": ("GS://bucket/x.png", 8, HOST),
}


@pytest.mark.parametrize("source", SAME.values(), ids=SAME)
def test_one_source(source: tuple[str, object, LabelStudioHost]) -> None:
    assert source_key(*source) == source_key(URL, 7, HOST)


def test_other_sources() -> None:
    keys = {source_key(*source) for source in ((URL, 7, HOST), *OTHERS.values())}
    assert len(keys) == len(OTHERS) + 1


def test_a_key_holds_no_secret_and_takes_any_text() -> None:
    key = source_key("https://site.test/\ud800?sig=secret", 7, HOST)
    assert len(key) == 64
    assert set(key) <= set("0123456789abcdef")
