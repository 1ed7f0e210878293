"""Is it the page that is asked for, and may it be shown under this name? By the headers alone. Pure."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

ROOT = "/"
BELOW = "/page/"
TRY = BELOW + "try"
PIN = BELOW + "pin"

_HTML, _JSON = "text/html", "application/json"


def wants_page(environ: Mapping[str, Any]) -> bool:
    """Whether a browser asks, which names HTML; Label Studio and curl take anything and get JSON."""
    accept = parse_accept_header(environ.get("HTTP_ACCEPT"), MIMEAccept)
    is_named = any(kind.partition(";")[0].strip().lower() == _HTML for kind in accept.values())
    return is_named and accept[_HTML] > 0 and accept[_HTML] >= accept[_JSON]


def is_of_page(environ: Mapping[str, Any]) -> bool:
    """Whether a request is about the page, or something on it."""
    path = str(environ["PATH_INFO"])
    return path.startswith(BELOW) or (path == ROOT and wants_page(environ))


def is_by_address(environ: Mapping[str, Any]) -> bool:
    """Whether the service was asked for by an address, or as `localhost`.

    Whoever owns any other name can make it mean this machine, after a page of theirs was loaded from elsewhere: to the
    browser that page then is one of ours.
    """
    try:
        host = urlsplit(f"//{environ.get('HTTP_HOST') or ''}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or is_address(host)


def is_address(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
