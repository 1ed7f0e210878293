"""How a source names the version of a file, so that one that is known need not be fetched again. Pure.

A version is only ever compared with that of the same file: an entity tag means nothing anywhere but at the address that
gave it (many servers count from 1), so the address that a redirect led to is part of it. Dates are compared exactly, by
us: a server that is asked `If-Modified-Since` says "unchanged" of an older file too, which is what one gets who puts a
copy back.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, urlencode, urlsplit

_MAX_VALIDATOR_CHARS = 500
_STRONG_AGE_S = 60
# Parameters of signed addresses, in small letters: they change with every signature, and name no other file.
_SIGNED = ("x-amz-", "x-goog-")
_SIGNED_AWS_2 = ("awsaccesskeyid", "googleaccessid", "signature", "expires")
_SIGNED_AZURE = (
    "sv",
    "ss",
    "srt",
    "sr",
    "sp",
    "st",
    "se",
    "spr",
    "sip",
    "sig",
    "skoid",
    "sktid",
    "skt",
    "ske",
    "sks",
    "skv",
)


@dataclass(frozen=True)
class Validator:
    """How a source names the version of a file that it gave, to find out whether it still has that one.

    Attributes:
        etag: Entity tag of an HTTP answer, or device, number, size and time of a file on disk.
        modified: Last-Modified of an HTTP answer; only kept if it is old enough to tell versions apart.
        length: Content-Length of an HTTP answer with `modified`.
        at: Digest of the address that answered, after all redirects; empty for a file on disk. See `digest_of`.
    """

    etag: str | None = None
    modified: str | None = None
    length: str | None = None
    at: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The conditional headers of the next request to the same address."""
        return {"If-None-Match": self.etag} if self.etag is not None else {}


@dataclass(frozen=True)
class Fetched:
    """A file as its source gave it.

    Attributes:
        data: Its bytes; `None` if the source still has the version asked about.
        validator: To ask about this version next time; `None` if the source names no versions.
    """

    data: bytes | None
    validator: Validator | None = None


def validator_of(headers: Mapping[str, str], url: str) -> Validator | None:
    """Read a version out of an answer.

    Args:
        headers: Of the answer, names in lower case.
        url: The address that gave it, after all redirects.

    Returns:
        The version; `None` if the answer names none that can be relied on.
    """
    etag, modified = headers.get("etag"), headers.get("last-modified")
    if etag and len(etag) <= _MAX_VALIDATOR_CHARS:
        return Validator(etag=etag, at=digest_of(url))
    if not modified or len(modified) > _MAX_VALIDATOR_CHARS:
        return None
    try:
        age = parsedate_to_datetime(headers.get("date", "")) - parsedate_to_datetime(modified)
    except (TypeError, ValueError):
        return None
    # Times have whole seconds: a file changed again within the same one would look the same (RFC 9110, 8.8.2.2).
    if age.total_seconds() < _STRONG_AGE_S:
        return None
    return Validator(modified=modified, length=headers.get("content-length"), at=digest_of(url))


def digest_of(url: str) -> str:
    """Return what stands for an address: a SHA-256 of it without fragment and signature.

    An object store's signed address is another one each time. What is left out is what its signature consists of (AWS
    and Google, versions 2 and 4; Azure's shared access); all other parameters may name another file, and count.
    """
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    names = {name.lower() for name, _ in pairs}
    left_out: tuple[str, ...] = ()
    if "signature" in names and names & {"awsaccesskeyid", "googleaccessid"}:
        left_out = _SIGNED_AWS_2
    elif {"sv", "sig"} <= names:
        left_out = _SIGNED_AZURE
    kept = [
        (name, value) for name, value in pairs if name.lower() not in left_out and not name.lower().startswith(_SIGNED)
    ]
    plain = parts._replace(query=urlencode(kept, errors="surrogatepass"), fragment="").geturl()
    return hashlib.sha256(plain.encode(errors="surrogatepass")).hexdigest()
