"""Addresses that somebody else wrote: taken apart, and shown without their secrets. Pure.

A host has many spellings (other alphabets' letters and full stops, soft hyphens, `127.1`, `0x7f000001`). It is brought
to one form first, and that one is what lists are compared with, what is looked up and what is connected to.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from backend.errors import TaskError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_.-]+")
LOCAL_FILES_PATH = "/data/local-files"
"""Where Label Studio serves files of its own disk; which one stands in the query, as `d`."""


@dataclass(frozen=True)
class Origin:
    """Scheme, host (see `normal_host`) and port of an address."""

    scheme: str
    host: str
    port: int

    def serves(self, other: "Origin") -> bool:
        """Whether the other is this one, or its https where both are on the ports that go without saying.

        On any other port there may be anybody, also on the same host.
        """
        return other == self or (self == Origin("http", self.host, 80) and other == Origin("https", self.host, 443))


def normal_host(host: str) -> str:
    """Bring a host to its one form: a name in ASCII and small letters (IDNA), or an IP address written out.

    Raises:
        ValueError: If it is neither.
    """
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    name = host.encode("idna").decode().lower().removesuffix(".")
    if not _NAME.fullmatch(name):
        raise ValueError("no host name")
    try:
        # As the system's look-up reads numbers: fewer than four, octal, hexadecimal.
        return str(ipaddress.IPv4Address(socket.inet_aton(name)))
    except OSError:
        return name


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
        host = normal_host(host) if host else ""
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
    """Return an address fit for a message: without user name, query and fragment, which may hold secrets.

    Of a local file of Label Studio its path stays, which stands in the query: it is what names the file.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a malformed address"
    query = ""
    if parts.path.rstrip("/").endswith(LOCAL_FILES_PATH):
        query = "&".join(part for part in parts.query.split("&") if part.startswith("d="))
    text = parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment="").geturl()
    return text if len(text) <= most else text[: most - 3] + "..."
