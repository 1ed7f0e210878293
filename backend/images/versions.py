"""How a source names the version of a file, so that one that is known need not be fetched again. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_MAX_VALIDATOR_CHARS = 500
_STRONG_AGE_S = 60


@dataclass(frozen=True)
class Validator:
    """How a source names the version of a file that it gave, to be asked whether it still has that one.

    Attributes:
        etag: Entity tag of an HTTP answer, or size and time of a file on disk.
        modified: Last-Modified of an HTTP answer; only kept if it is old enough to tell versions apart.
    """

    etag: str | None = None
    modified: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The conditional headers of the next request."""
        if self.etag is not None:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.modified} if self.modified is not None else {}


@dataclass(frozen=True)
class Fetched:
    """A file as its source gave it.

    Attributes:
        data: Its bytes; `None` if the source says that it still is the version asked about.
        validator: To ask about this version next time; `None` if the source names no versions.
    """

    data: bytes | None
    validator: Validator | None = None


def validator_of(headers: Mapping[str, str]) -> Validator | None:
    """Read a version out of an answer's headers (names in lower case); `None` if they name none to rely on."""
    etag, modified = headers.get("etag"), headers.get("last-modified")
    if etag and len(etag) <= _MAX_VALIDATOR_CHARS:
        return Validator(etag=etag)
    if not modified or len(modified) > _MAX_VALIDATOR_CHARS:
        return None
    try:
        age = parsedate_to_datetime(headers.get("date", "")) - parsedate_to_datetime(modified)
    except (TypeError, ValueError):
        return None
    # Times have whole seconds: a file changed again within the same one would look the same (RFC 9110, 8.8.2.2).
    return Validator(modified=modified) if age.total_seconds() >= _STRONG_AGE_S else None
