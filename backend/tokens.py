"""Which kind of token somebody copied out of Label Studio, and the short-lived ones that are made of it.

Label Studio has two kinds. A legacy token (40 hexadecimal digits) is sent as it is: `Token ...`. A personal access
token is a JWT of type `refresh`, which opens nothing itself: it is exchanged at `/api/token/refresh/` for an access
token that lives some minutes and is sent as `Bearer ...`. Access tokens are kept until shortly before they end.

How the exchange is made is for whoever asks: nothing here touches a network.
"""

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from clipdiy.recent import Recent

EXCHANGE_PATH = "/api/token/refresh/"
_EARLY_S = 30.0
"""An access token is renewed this long before it ends: clocks differ, and downloads take time."""
_UNKNOWN_LIFE_S = 60.0
_MAX_KEPT = 1000

Exchange = Callable[[], str]
"""Gets a new access token for a personal one, or raises."""


class KeptTokens:
    """Makes Authorization headers, and remembers access tokens. May be used by any number of threads."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        """Start with nothing remembered.

        Args:
            now: Seconds since 1970, as tokens count.
        """
        self._now = now
        self._lock = threading.Lock()
        self._kept: Recent[tuple[str, str], tuple[str, float]] = Recent(_MAX_KEPT)

    def authorization(self, url: str, token: str, exchange: Exchange) -> str:
        """Return the header's value for a token.

        Args:
            url: Of the Label Studio that it is for.
            token: As a person copied it out of Label Studio, or as Label Studio sent it; not empty.
            exchange: Called if a new access token is needed; what it raises comes through.
        """
        claims = _claims(token)
        if claims is None:
            return f"Token {token}"
        if claims.get("token_type") != "refresh":
            return f"Bearer {token}"
        # One exchange at a time: a hundred downloads that begin together ask once.
        with self._lock:
            access, until = self._kept.get((url, token)) or ("", 0.0)
            if self._now() >= until:
                access = exchange()
                until = self._good_until(access)
                self._kept.put((url, token), (access, until))
        return f"Bearer {access}"

    def forget(self, url: str, token: str, authorization: str) -> bool:
        """Drop an access token that was refused; True if another try with a new one makes sense."""
        claims = _claims(token)
        if claims is None or claims.get("token_type") != "refresh":
            return False
        with self._lock:
            # Unless another thread has renewed it meanwhile.
            access, _until = self._kept.get((url, token)) or ("", 0.0)
            if f"Bearer {access}" == authorization:
                self._kept.pop((url, token))
        return True

    def _good_until(self, access: str) -> float:
        ends = (_claims(access) or {}).get("exp")
        return float(ends) - _EARLY_S if isinstance(ends, int | float) else self._now() + _UNKNOWN_LIFE_S


def access_token_in(answer: bytes) -> str | None:
    """Read the access token in the answer to an exchange; `None` if there is none that can be sent in a header."""
    try:
        access = json.loads(answer)["access"]
    except (ValueError, KeyError, TypeError):
        return None
    return access if isinstance(access, str) and access and access.isascii() and access.isprintable() else None


def _claims(token: str) -> dict[str, Any] | None:
    """Read what a JWT says about itself, unchecked; `None` if it is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None
