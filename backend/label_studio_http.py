"""How Label Studio's API is asked: with a token that may end, and again where it was not there for a while.

Label Studio is restarted, its proxy answers 502 meanwhile, its data base is locked, there are too many requests: all of
that passes. What only reads is asked again until it is answered or patience ends. What writes is asked again only where
it cannot have been done; else the error says that it may have been, and whoever asked has to look.
"""

import email.utils
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import requests
from requests.adapters import ConnectionError as RequestsConnectionError
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from backend.errors import BackendError
from backend.tokens import EXCHANGE_PATH, KeptTokens, access_token_in

_UNAUTHORIZED = 401
_TOO_MANY = 429
_SHOWN_CHARS = 500
_READ_ONLY = frozenset(("GET", "HEAD"))
# Done twice they leave what they left when done once.
_REPEATABLE = _READ_ONLY | {"PUT", "PATCH", "DELETE"}

Pause = Callable[[float], bool]
"""Waits some seconds; True if there is no use in going on. `threading.Event.wait` is one."""


class LabelStudioApiError(BackendError):
    """Label Studio refused a request, or did not answer. The message names the request and what it said.

    Attributes:
        status: HTTP status; `None` if there was no answer.
        is_passing: The same may succeed later: there was no answer, too many requests, or an error of the server.
        may_be_done: What was asked for may have been done all the same.
    """

    def __init__(
        self, message: str, *, status: int | None = None, is_passing: bool = False, may_be_done: bool = False
    ) -> None:
        """Keep what a handler needs to know beside the message."""
        super().__init__(message)
        self.status = status
        self.is_passing = is_passing
        self.may_be_done = may_be_done


@dataclass(frozen=True)
class Patience:
    """How long what passes is waited for.

    Attributes:
        for_s: A request is begun again for so long; 0 tries once.
        first_s: Pause before the second try; each further one is twice as long.
        most_s: Longest pause, but where Label Studio says how long it wants to be left alone.
    """

    for_s: float = 600.0
    first_s: float = 0.5
    most_s: float = 30.0


IMPATIENT = Patience(for_s=0.0)


class Credentials(Protocol):
    """What goes into the Authorization header."""

    def authorization(self) -> str:
        """Return the header's value, or raise `LabelStudioApiError`."""

    def refused(self, authorization: str) -> bool:
        """Take note that a value was refused; True if another try makes sense."""


@dataclass(frozen=True)
class FixedCredentials:
    """A header that stays as it is: `Token <legacy token>` or `Bearer <access token>`."""

    value: str

    def authorization(self) -> str:
        """Return it."""
        return self.value

    def refused(self, authorization: str) -> bool:
        """There is no other."""
        return False


class TokenCredentials:
    """A token as a person copied it out of Label Studio, legacy or personal; access tokens are renewed as they end."""

    def __init__(self, url: str, token: str, *, timeout_s: float = 30.0, now: Callable[[], float] = time.time) -> None:
        """Ask nothing yet.

        Args:
            url: Address of Label Studio.
            token: Not empty.
            timeout_s: For one exchange.
            now: Seconds since 1970, as tokens count.
        """
        self._url = url.rstrip("/")
        self._token = token.strip()
        self._timeout_s = timeout_s
        self._kept = KeptTokens(now=now)

    def authorization(self) -> str:
        """Return the header's value; a personal access token is exchanged first, if the last one has ended.

        Raises:
            LabelStudioApiError: If the token is refused, or there is no answer.
        """
        return self._kept.authorization(self._url, self._token, self._exchange)

    def refused(self, authorization: str) -> bool:
        """Drop an access token that was refused; True if another try with a new one makes sense."""
        return self._kept.forget(self._url, self._token, authorization)

    def _exchange(self) -> str:
        try:
            answer = requests.post(
                self._url + EXCHANGE_PATH, json={"refresh": self._token}, timeout=self._timeout_s, allow_redirects=False
            )
        except requests.RequestException as err:
            raise _no_answer("POST", EXCHANGE_PATH, err, writes=False) from err
        if answer.status_code in (400, 401, 403):
            raise LabelStudioApiError(
                f"Label Studio refused the personal access token (HTTP {answer.status_code}): it has ended or was "
                "revoked; make a new one under Account & Settings",
                status=answer.status_code,
            )
        access = access_token_in(answer.content)
        if access is None:
            # Not what it said: an answer without a token may hold one in another place.
            raise LabelStudioApiError(
                f"POST {EXCHANGE_PATH}: expected an access token, got HTTP {answer.status_code}",
                status=answer.status_code,
                is_passing=_passes(answer.status_code),
            )
        return access


class LabelStudioHttp:
    """Asks one Label Studio. May be used by any number of threads."""

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        *,
        timeout_s: float,
        patience: Patience = IMPATIENT,
        pause: Pause | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nothing yet.

        Args:
            url: Its address.
            credentials: What goes with every request.
            timeout_s: How long one try may take.
            patience: How long what passes is waited for.
            pause: How to wait between tries; `Event.wait` of an event that ends it all.
            clock: Seconds that only go up.
        """
        self.url = url.rstrip("/")
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._patience = patience
        self._pause = pause or threading.Event().wait
        self._clock = clock

    def request(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool | None = None,
        headers: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> requests.Response:
        """Ask, and again as long as that helps.

        Args:
            method: Of HTTP.
            path: Behind the address; begins with a slash.
            repeatable: Done twice it leaves what it left when done once; by the method, if left out.
            headers: Besides Authorization.
            arguments: For `requests.request`. What is sent must be there for a second time: no open files.

        Raises:
            LabelStudioApiError: If it was refused, patience has ended, or the pause said that there is no use.
        """
        until = self._clock() + self._patience.for_s
        wait_s = self._patience.first_s
        repeatable = method in _REPEATABLE if repeatable is None else repeatable
        is_renewed = False
        while True:
            authorization, wished_s = "", None
            try:
                authorization = self._credentials.authorization()
                answer = self._once(method, path, {**(headers or {}), "Authorization": authorization}, arguments)
                if answer.ok:
                    return answer
                failure = _refusal(method, path, answer)
                wished_s = retry_after_s(answer.headers.get("Retry-After"))
            except LabelStudioApiError as err:
                failure = err
            is_refused = failure.status == _UNAUTHORIZED and bool(authorization)
            if is_refused and not is_renewed and self._credentials.refused(authorization):
                is_renewed = True
                continue
            pause_s = wait_s if wished_s is None else max(wait_s, wished_s)
            helps = failure.is_passing and (repeatable or not failure.may_be_done)
            if not helps or self._clock() + pause_s > until or self._pause(pause_s):
                raise failure
            wait_s = min(2 * wait_s, self._patience.most_s)

    def _once(
        self, method: str, path: str, headers: Mapping[str, str], arguments: Mapping[str, Any]
    ) -> requests.Response:
        try:
            # A new connection each time: Label Studio's own server closes the old ones without notice.
            return requests.request(method, self.url + path, headers=headers, timeout=self._timeout_s, **arguments)
        except requests.RequestException as err:
            raise _no_answer(method, path, err, writes=method not in _READ_ONLY) from err


def retry_after_s(value: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Read how long a server wants to be left alone, seconds; `None` if it did not say, or nothing readable.

    Args:
        value: Of the header, seconds or a date.
        now: Seconds since 1970.
    """
    if value is None:
        return None
    try:
        return max(0.0, float(int(value.strip())))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now())
    except (ValueError, TypeError, OverflowError):
        return None


def json_of(method: str, path: str, answer: requests.Response) -> Any:
    """Decode an answer.

    Raises:
        LabelStudioApiError: If it is something else, such as the page of a proxy.
    """
    try:
        return json.loads(answer.content)
    except ValueError as err:
        kind = answer.headers.get("Content-Type", "nothing that has a name")
        raise LabelStudioApiError(
            f"{method} {path}: expected JSON, got {kind}; is this the address of a Label Studio?",
            status=answer.status_code,
        ) from err


def _passes(status: int) -> bool:
    return status == _TOO_MANY or status >= 500


def _refusal(method: str, path: str, answer: requests.Response) -> LabelStudioApiError:
    status = answer.status_code
    return LabelStudioApiError(
        f"{method} {path}: {status} {answer.text[:_SHOWN_CHARS]}",
        status=status,
        is_passing=_passes(status),
        # Who asked too often was not heard; an error of the server may come behind the work, or from before it.
        may_be_done=status >= 500 and method not in _READ_ONLY,
    )


def _no_answer(method: str, path: str, err: requests.RequestException, *, writes: bool) -> LabelStudioApiError:
    passes = isinstance(err, RequestsConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)
    # A certificate that is not trusted stays so.
    passes = passes and not isinstance(err, requests.exceptions.SSLError)
    return LabelStudioApiError(
        f"{method} {path}: {err}", is_passing=passes, may_be_done=writes and passes and not _was_never_sent(err)
    )


def _was_never_sent(err: requests.RequestException) -> bool:
    """Whether there was no connection to send anything over."""
    cause = err.args[0] if err.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)
