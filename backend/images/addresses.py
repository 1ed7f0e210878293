"""Addresses that somebody else wrote: taken apart, and shown without their secrets. Pure."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from backend.errors import TaskError

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origin:
    """Scheme, host (in lower case) and port of an address."""

    scheme: str
    host: str
    port: int

    def serves(self, other: "Origin") -> bool:
        """Whether the other is this one, or this one's https where this one is plain http."""
        return other == self or (self.scheme == "http" and other == Origin("https", self.host, 443))


def split_url(url: str) -> tuple[SplitResult, Origin]:
    """Take an address apart.

    Raises:
        TaskError: `unsupported-source` if it is no http or https address with a host; `refused` if it holds a user name
            or password.
    """
    try:
        url.encode()
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError as err:
        raise TaskError("unsupported-source", "the address is malformed") from err
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise TaskError("unsupported-source", f"expected an http or https address with a host, got {show_url(url)}")
    if "@" in parts.netloc:
        raise TaskError("refused", f"an address with a user name in it is not fetched: {show_url(url)}")
    return parts, Origin(parts.scheme, host, port if port is not None else _DEFAULT_PORTS[parts.scheme])


def origin_of(url: str) -> Origin | None:
    """Return an address's origin, `None` if it is no address: what a Label Studio says of itself can be anything."""
    try:
        return split_url(url)[1]
    except TaskError:
        return None


def is_at(origin: Origin, url: str | None) -> bool:
    """Whether an origin is that of an address."""
    known = origin_of(url) if url else None
    return known is not None and known.serves(origin)


def show_url(url: str, most: int = 200) -> str:
    """Return an address fit for a message: without user name, query and fragment, which may hold secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a malformed address"
    text = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return text if len(text) <= most else text[: most - 3] + "..."
