"""Which Authorization header an access token of Label Studio asks for.

Label Studio has two kinds. A legacy token (40 hexadecimal digits) is sent as it is: `Token ...`. A personal access
token is a JWT of type `refresh`, which opens nothing itself: it is exchanged at `/api/token/refresh/` for an access
token that lives some minutes and is sent as `Bearer ...`. Access tokens are kept until shortly before they end.

"""

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.addresses import show_url
from backend.images.host import LabelStudioHost
from backend.images.outbound import Outbound
from backend.recent import Recent

_EARLY_S = 30.0
"""An access token is renewed this long before it ends: clocks differ, and downloads take time."""
_UNKNOWN_LIFE_S = 60.0
_MAX_ANSWER_BYTES = 100_000
_MAX_KEPT = 1000


class AccessTokens:
    """Makes Authorization headers, and remembers access tokens. May be used by any number of threads."""

    def __init__(self, outbound: Outbound, *, now: Callable[[], float] = time.time) -> None:
        """Start with nothing remembered.

        Args:
            outbound: How the exchange is made.
            now: Seconds since 1970, as tokens count.
        """
        self._outbound = outbound
        self._now = now
        self._lock = threading.Lock()
        self._kept: Recent[tuple[str, str], tuple[str, float]] = Recent(_MAX_KEPT)

    def authorization(self, host: LabelStudioHost, deadline: Deadline) -> str | None:
        """Return the header's value for a Label Studio's token; `None` if it has none.

        Args:
            host: Where it is and its token, as a person copied it out of Label Studio, or as Label Studio sent it; the
                exchange goes there only.
            deadline: For the exchange, if one is needed.

        Raises:
            TaskError: `unauthorized` if the token is refused or has ended; else as `Outbound.post_json`.
        """
        token, base_url = (host.token or "").strip(), host.base_url
        if not token:
            return None
        claims = _claims(token)
        if claims is None:
            return f"Token {token}"
        if claims.get("token_type") != "refresh":
            return f"Bearer {token}"
        # One exchange at a time: a hundred downloads that begin together ask once.
        with self._lock:
            access, until = self._kept.get((base_url, token)) or ("", 0.0)
            if self._now() >= until:
                access, until = self._exchange(token, host, deadline)
                self._kept.put((base_url, token), (access, until))
        return f"Bearer {access}"

    def forget(self, host: LabelStudioHost, authorization: str) -> bool:
        """Drop an access token that was refused; True if another try with a new one makes sense."""
        token, base_url = (host.token or "").strip(), host.base_url
        claims = _claims(token)
        if claims is None or claims.get("token_type") != "refresh":
            return False
        with self._lock:
            # Unless another thread has renewed it meanwhile.
            access, _until = self._kept.get((base_url, token)) or ("", 0.0)
            if f"Bearer {access}" == authorization:
                self._kept.pop((base_url, token))
        return True

    def _exchange(self, token: str, host: LabelStudioHost, deadline: Deadline) -> tuple[str, float]:
        """Return a new access token, and until when it may be used."""
        url = f"{host.base_url}/api/token/refresh/"
        body = json.dumps({"refresh": token}).encode()
        answer = self._outbound.post_json(url, body, max_bytes=_MAX_ANSWER_BYTES, deadline=deadline, home=host)
        if answer.status in (400, 401, 403):
            raise TaskError(
                "unauthorized",
                f"Label Studio refused the personal access token (HTTP {answer.status} from {show_url(url)}): it has "
                "ended or was revoked; make a new one under Account & Settings",
            )
        try:
            access = json.loads(answer.body)["access"]
        except (ValueError, KeyError, TypeError):
            access = None
        if not isinstance(access, str) or not access or not access.isascii() or not access.isprintable():
            raise TaskError("download", f"expected an access token from {show_url(url)}, got HTTP {answer.status}")
        ends = (_claims(access) or {}).get("exp")
        life_s = float(ends) - _EARLY_S - self._now() if isinstance(ends, int | float) else _UNKNOWN_LIFE_S
        return access, self._now() + life_s


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
