"""Which Authorization header an access token of Label Studio asks for; exchanges go out as pictures' requests do.

`backend.tokens` knows the kinds of tokens and keeps what was exchanged.
"""

import json
import time
from collections.abc import Callable

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.addresses import show_url
from backend.images.host import LabelStudioHost
from backend.images.outbound import Outbound
from backend.tokens import EXCHANGE_PATH, KeptTokens, access_token_in

_MAX_ANSWER_BYTES = 100_000


class AccessTokens:
    """Makes Authorization headers, and remembers access tokens. May be used by any number of threads."""

    def __init__(self, outbound: Outbound, *, now: Callable[[], float] = time.time) -> None:
        """Start with nothing remembered.

        Args:
            outbound: How the exchange is made.
            now: Seconds since 1970, as tokens count.
        """
        self._outbound = outbound
        self._kept = KeptTokens(now=now)

    def authorization(self, host: LabelStudioHost, deadline: Deadline) -> str | None:
        """Return the header's value for a Label Studio's token; `None` if it has none.

        Args:
            host: Where it is and its token, as a person copied it out of Label Studio, or as Label Studio sent it; the
                exchange goes there only.
            deadline: For the exchange, if one is needed.

        Raises:
            TaskError: `unauthorized` if the token is refused or has ended; else as `Outbound.post_json`.
        """
        token = (host.token or "").strip()
        if not token:
            return None
        return self._kept.authorization(host.base_url, token, lambda: self._exchange(token, host, deadline))

    def forget(self, host: LabelStudioHost, authorization: str) -> bool:
        """Drop an access token that was refused; True if another try with a new one makes sense."""
        return self._kept.forget(host.base_url, (host.token or "").strip(), authorization)

    def _exchange(self, token: str, host: LabelStudioHost, deadline: Deadline) -> str:
        """Return a new access token."""
        url = host.base_url + EXCHANGE_PATH
        body = json.dumps({"refresh": token}).encode()
        answer = self._outbound.post_json(url, body, max_bytes=_MAX_ANSWER_BYTES, deadline=deadline, home=host)
        if answer.status in (400, 401, 403):
            raise TaskError(
                "unauthorized",
                f"Label Studio refused the personal access token (HTTP {answer.status} from {show_url(url)}): it has "
                "ended or was revoked; make a new one under Account & Settings",
            )
        access = access_token_in(answer.body)
        if access is None:
            raise TaskError("download", f"expected an access token from {show_url(url)}, got HTTP {answer.status}")
        return access
