"""Which versions of a file are the same, and which addresses."""

import pytest

from backend.images.versions import Validator, digest_of, validator_of

URL = "https://store.test/x.png"
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
HOUR_BEFORE = "Fri, 15 Jan 2027 07:00:00 GMT"
MINUTE_BEFORE = "Fri, 15 Jan 2027 07:59:00 GMT"
LESS_BEFORE = "Fri, 15 Jan 2027 07:59:01 GMT"
AT = digest_of(URL)

VERSIONS: dict[str, tuple[dict[str, str], Validator | None]] = {
    "nothing": ({}, None),
    "entity tag": ({"etag": '"1"'}, Validator(etag='"1"', at=AT)),
    "entity tag before date": ({"etag": '"1"', "last-modified": HOUR_BEFORE, "date": DATE}, Validator('"1"', at=AT)),
    "endless entity tag": ({"etag": "x" * 501}, None),
    "old enough": (
        {"last-modified": MINUTE_BEFORE, "date": DATE, "content-length": "7"},
        Validator(modified=MINUTE_BEFORE, length="7", at=AT),
    ),
    "too young": ({"last-modified": LESS_BEFORE, "date": DATE}, None),
    "no date to compare with": ({"last-modified": HOUR_BEFORE}, None),
    "no date at all": ({"last-modified": "yesterday", "date": DATE}, None),
    "endless date": ({"last-modified": HOUR_BEFORE + " " * 500, "date": DATE}, None),
}


@pytest.mark.parametrize(("headers", "version"), VERSIONS.values(), ids=VERSIONS)
def test_which_version_an_answer_names(headers: dict[str, str], version: Validator | None) -> None:
    assert validator_of(headers, URL) == version


def test_only_entity_tags_are_asked_about() -> None:
    assert Validator(etag='"1"').headers == {"If-None-Match": '"1"'}
    assert Validator(modified=HOUR_BEFORE).headers == {}, "an older file would be called unchanged"


V4 = "X-Amz-Algorithm=A&X-Amz-Credential=k%2F20270115&X-Amz-Date=20270115T080000Z&X-Amz-Expires=60&X-Amz-Signature={}"
GOOGLE_V4 = "X-Goog-Algorithm=A&X-Goog-Date=20270115T080000Z&X-Goog-SignedHeaders=host&x-goog-signature={}"
V2 = "AWSAccessKeyId=k&Expires={0}&Signature=s{0}"
GOOGLE_V2 = "GoogleAccessId=k&Expires={0}&Signature=s{0}"
AZURE = "sv=2024-11-04&st={0}&se={0}&sr=b&sp=r&sig={0}"
SIGNED = {"AWS": V4, "Google": GOOGLE_V4, "AWS, version 2": V2, "Google, version 2": GOOGLE_V2, "Azure": AZURE}


@pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED)
def test_an_address_signed_again_is_the_same(query: str) -> None:
    first, second = (f"{URL}?versionId=3&{query.format(number)}" for number in (1, 2))
    assert digest_of(first) == digest_of(second) == digest_of(f"{URL}?versionId=3#top")
    assert digest_of(first) != digest_of(first.replace("versionId=3", "versionId=4"))
    assert digest_of(first) != digest_of(first.replace("x.png", "y.png"))


OTHERS = {
    "host": "https://other.test/x.png",
    "port": "https://store.test:8443/x.png",
    "scheme": "http://store.test/x.png",
    "path": "https://store.test/y.png",
    "query": "https://store.test/x.png?id=1",
    "other query": "https://store.test/x.png?id=2",
    "an empty parameter": "https://store.test/x.png?id=",
    "signature of nothing known": "https://store.test/x.png?Signature=1",
    "expiry of nothing known": "https://store.test/x.png?Expires=1",
    "a parameter of Azure without its signature": "https://store.test/x.png?sv=1",
    "and its signature without a version": "https://store.test/x.png?sig=1",
    "a bucket's token": "https://store.test/x.png?st=1",
}


def test_other_addresses_are_others() -> None:
    assert len({digest_of(url) for url in (URL, *OTHERS.values())}) == len(OTHERS) + 1
