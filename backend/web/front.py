"""What can be said of a request when only its headers are there: who may ask, and how large a body may be.

Pure. The app asks it before it looks at a body, and the server before it waits for one, so that nobody who would be
refused anyway costs memory or time.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

from backend.settings import Settings
from backend.web.page.asked import PIN, TRY, is_address, is_of_page

Environ = Mapping[str, Any]

SETUP_BYTES = 4_000_000
WEBHOOK_BYTES = 64_000_000
"""An annotation is sent whole, with its brush masks."""
FORM_BYTES = 10_000
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"

_BODIES = ("POST", "PUT", "PATCH", "DELETE")
_UNAUTHORIZED = "user or password is missing or wrong"


class Refusal(Exception):
    """A request is refused for what stands in its headers; the message is meant for its sender."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.status = status


class AppFront:
    """What the app says before it sees a body."""

    def __init__(self, settings: Settings) -> None:
        """Read who may ask, and how much."""
        self._user, self._password = settings.basic_auth_user, settings.basic_auth_password
        largest = settings.max_request_bytes
        # A picture in base64, with the labels beside it.
        trial = settings.max_image_bytes * 4 // 3 + FORM_BYTES
        self._limits = {
            "/predict": largest,
            "/setup": min(SETUP_BYTES, largest),
            "/webhook": min(WEBHOOK_BYTES, largest),
            TRY: min(trial, largest),
            PIN: min(FORM_BYTES, largest),
        }

    def check(self, environ: Environ) -> None:
        """Refuse who may not ask.

        Raises:
            Refusal: 401 without the right user and password; 403 or 415 for what a page of another site can make a
                browser send: its author is a stranger, even if the browser's owner is not.
        """
        if environ["PATH_INFO"] != "/health" and not self._may_pass(environ):
            raise Refusal(HTTPStatus.UNAUTHORIZED, _UNAUTHORIZED)
        if environ["REQUEST_METHOD"] in _BODIES:
            self._check_site(environ)
        if environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] in self._limits:
            kind = str(environ.get("CONTENT_TYPE") or "").partition(";")[0].strip().lower()
            expected = _FORM if environ["PATH_INFO"] == PIN else _JSON
            if kind != expected:
                raise Refusal(
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                    f"expected Content-Type: {expected}, got {kind[:100] or 'none'}",
                )

    def body_limit(self, environ: Environ) -> int:
        """Return how many bytes of a body are looked at; 0 if the request is answered without."""
        try:
            self.check(environ)
        except Refusal:
            return 0
        return self._limits.get(environ["PATH_INFO"], 0) if environ["REQUEST_METHOD"] == "POST" else 0

    def lane(self, environ: Environ) -> Literal["health", "light", "page", "heavy"]:
        """Return which threads answer a request."""
        path = environ["PATH_INFO"]
        if path == "/health":
            return "health"
        if path in ("/predict", TRY):
            return "heavy"
        return "page" if is_of_page(environ) else "light"

    def _may_pass(self, environ: Environ) -> bool:
        """Compare the credentials in constant time; True where none are asked for."""
        if self._user is None or self._password is None:
            return True
        kind, _, given = str(environ.get("HTTP_AUTHORIZATION") or "").partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(given.strip().encode("latin-1"), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        right_user = hmac.compare_digest(user, self._user.encode())
        right_password = hmac.compare_digest(password, self._password.get_secret_value().encode())
        return right_user and right_password

    def _check_site(self, environ: Environ) -> None:
        """Let through what no browser sends, or what a page of this service's own makes it send."""
        message = "this service does not take what pages of other sites send"
        if environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
            raise Refusal(HTTPStatus.FORBIDDEN, message)
        origin = environ.get("HTTP_ORIGIN")
        if origin is None:
            return
        here = str(environ.get("HTTP_HOST") or "")
        try:
            parts = urlsplit(str(origin))
            host = parts.hostname or ""
        except ValueError as err:
            raise Refusal(HTTPStatus.FORBIDDEN, message) from err
        if parts.scheme not in ("http", "https") or parts.netloc.lower() != here.lower():
            raise Refusal(HTTPStatus.FORBIDDEN, message)
        # A name can be made to mean this machine by whoever owns it, after its page was loaded from elsewhere.
        if self._user is None and host != "localhost" and not is_address(host):
            raise Refusal(HTTPStatus.FORBIDDEN, message)
