"""How bytes are fetched from an address that somebody else chose, without becoming a hole in the network.

The address stands in a task, so whoever can import tasks chooses it. Therefore, on every hop of a redirect:

- only http and https, only hosts that the policy allows;
- the name is resolved once, every address is checked, and the connection goes to the address that was checked: there
  is no second look-up that could answer differently (DNS rebinding);
- addresses that are not public are refused (this machine, the local network, the cloud's metadata service), unless
  the host is Label Studio as the operator configured it, or is allowed by name;
- credentials go to Label Studio's own origin and nowhere else.

Size and time are limited while the answer streams in, the time for all hops together: a server that sends one byte a
second gains nothing. Proxies named in the environment are not used, since behind one there is no address to check.

Nothing here knows what a task or a picture is.
"""

import http.client
import io
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import certifi

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.addresses import Origin, show_url, split_url
from backend.images.host import LabelStudioHost
from backend.images.policy import HostPolicy
from backend.images.versions import Fetched, Validator, digest_of, validator_of

_CHUNK_BYTES = 1 << 16
_USER_AGENT = "clip-diy-label-studio"
_REDIRECTS = (301, 302, 303, 307, 308)
# What may stand in a path or query as it is; the rest is percent-encoded, and what is encoded stays so.
_SAFE_PATH = "/%:@!$&'()*+,;=~"
_SAFE_QUERY = _SAFE_PATH + "?[]"

Resolve = Callable[[str, int], Iterable[tuple[int, tuple[Any, ...]]]]


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes:
        status: Of HTTP.
        headers: Names in lower case.
        body: Of a 200; empty otherwise.
        is_known: It is about the version that is known, whose body was not read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_known: bool = False


def resolve_host(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    """Look a name up: address families with socket addresses."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(int(family), address) for family, _, _, _, address in found]


class Outbound:
    """Fetches within a policy. Holds no state between calls; any number of threads may use one."""

    def __init__(
        self,
        policy: HostPolicy,
        *,
        connect_timeout_s: float = 5.0,
        max_redirects: int = 5,
        resolve: Resolve = resolve_host,
    ) -> None:
        """Keep the policy; nothing is opened yet.

        Args:
            policy: Which hosts may be asked.
            connect_timeout_s: For one connection to be made.
            max_redirects: Hops that are followed, each checked like the first.
            resolve: How names are looked up.
        """
        self._policy = policy
        self._connect_timeout_s = connect_timeout_s
        self._max_redirects = max_redirects
        self._resolve = resolve

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # The system's certificates (and SSL_CERT_FILE) besides the usual ones: a company's own authority counts.
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        return context

    def get(
        self,
        url: str,
        *,
        max_bytes: int,
        deadline: Deadline,
        home: LabelStudioHost | None = None,
        authorization: str | None = None,
    ) -> bytes:
        """Download a file whatever its version; see `get_if_changed`."""
        fetched = self.get_if_changed(
            url, max_bytes=max_bytes, deadline=deadline, home=home, authorization=authorization
        )
        assert fetched.data is not None, "a 304 was not asked for"
        return fetched.data

    def get_if_changed(
        self,
        url: str,
        *,
        max_bytes: int,
        deadline: Deadline,
        home: LabelStudioHost | None = None,
        authorization: str | None = None,
        known: Validator | None = None,
    ) -> Fetched:
        """Download a file, following redirects, unless it still is the version that is known.

        Args:
            url: Its address.
            max_bytes: Largest file that is taken.
            deadline: For everything together.
            home: The Label Studio that is meant. If it is configured, the policy does not apply to it.
            authorization: Value of that header, for `home` only.
            known: Version that the same address gave before. It counts only where the same address answers again.

        Raises:
            TaskError: `unsupported-source`, `refused`, `unauthorized`, `not-found`, `too-many-redirects`,
                `too-large`, `timeout` or `download`.
        """
        for _ in range(self._max_redirects + 1):
            answer = self._ask("GET", url, None, max_bytes, deadline, home, authorization, known)
            if answer.is_known:
                return Fetched(None, known)
            if answer.status not in _REDIRECTS:
                _check_status(url, answer.status)
                return Fetched(answer.body, validator_of(answer.headers, url))
            location = answer.headers.get("location")
            if not location:
                raise TaskError("download", f"{show_url(url)} redirects to nowhere")
            target = urljoin(url, location)
            if _is_at(home, split_url(url)[1]) and _is_login(target):
                raise TaskError("unauthorized", _UNAUTHORIZED.format(show_url(url), "a redirect to its login page"))
            url = target
        raise TaskError("too-many-redirects", f"more than {self._max_redirects} redirects, the last to {show_url(url)}")

    def post_json(self, url: str, body: bytes, *, max_bytes: int, deadline: Deadline, home: LabelStudioHost) -> Answer:
        """Send JSON to Label Studio and return its answer, whatever its status; redirects are not followed.

        Raises:
            TaskError: `refused`, `too-large`, `timeout` or `download`.
        """
        return self._ask("POST", url, body, max_bytes, deadline, home)

    def _ask(
        self,
        method: str,
        url: str,
        body: bytes | None,
        max_bytes: int,
        deadline: Deadline,
        home: LabelStudioHost | None,
        authorization: str | None = None,
        known: Validator | None = None,
    ) -> Answer:
        """Make one request, to one checked address."""
        parts, origin = split_url(url)
        at_home = _is_at(home, origin)
        trusted = at_home and home is not None and home.is_configured
        if not trusted:
            self._policy.check(origin)
        headers = {"User-Agent": _USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
        if at_home and authorization is not None:
            headers["Authorization"] = authorization
        asked = known if known is not None and known.at == digest_of(url) else None
        if asked is not None:
            headers.update(asked.headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        target = quote(parts.path or "/", safe=_SAFE_PATH)
        if parts.query:
            target += "?" + quote(parts.query, safe=_SAFE_QUERY)
        try:
            near = at_home and home is not None and home.is_neighbour
            sock = self._connect(origin, deadline, trusted=trusted, near=near)
            try:
                connection = http.client.HTTPConnection(origin.host, origin.port)
                connection.sock = _DeadlineSocket(sock, deadline)
                connection.request(method, target, body, headers)
                response = connection.getresponse()
                names = {name.lower(): value for name, value in response.getheaders()}
                is_known = asked is not None and _is_unchanged(asked, response.status, names, url)
                has_body = response.status < 300 and not is_known
                content = _read(response, url, max_bytes, deadline) if has_body else b""
            finally:
                sock.close()
        except TimeoutError as err:
            raise TaskError(
                "timeout",
                f"{show_url(url)} took too long: at most {self._connect_timeout_s:g} s to connect, "
                f"{deadline.seconds:g} s in all",
            ) from err
        except socket.gaierror as err:
            raise TaskError("download", f"the host name {origin.host} cannot be resolved") from err
        except ssl.SSLCertVerificationError as err:
            raise TaskError(
                "download",
                f"the certificate of {origin.host} is not trusted ({err.verify_message}); if it is your own "
                "authority's, name its file in SSL_CERT_FILE",
            ) from err
        except (OSError, http.client.HTTPException, ValueError) as err:
            raise TaskError(
                "download", f"{show_url(url)} cannot be downloaded: {type(err).__name__}{_localhost_hint(origin)}"
            ) from err
        return Answer(response.status, names, content, is_known)

    def _connect(self, origin: Origin, deadline: Deadline, *, trusted: bool, near: bool) -> socket.socket:
        """Resolve the name, and connect to the first of its addresses that is allowed and answers."""
        found = list(self._resolve(origin.host, origin.port))
        refusals = [
            None
            if trusted or (near and ip_address(str(address[0])).is_loopback)
            else self._policy.refusal(origin.host, str(address[0]))
            for _, address in found
        ]
        allowed = [place for place, refusal in zip(found, refusals, strict=True) if refusal is None]
        if refusals and not allowed:
            raise TaskError("refused", str(refusals[0]))
        problem: Exception = OSError("no address")
        for family, address in allowed:
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(min(self._connect_timeout_s, deadline.remaining_s()))
                sock.connect(address)
                if origin.scheme == "https":
                    sock.settimeout(deadline.remaining_s())
                    return self._tls.wrap_socket(sock, server_hostname=origin.host)
                return sock
            except (OSError, ValueError) as err:
                sock.close()
                problem = err
        raise problem


class _DeadlineSocket:
    """What `http.client` needs of a socket, with the time that is left as the limit of every single wait."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._deadline.remaining_s())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._sock, self._deadline))

    def close(self) -> None:
        """The one who connected closes."""


class _DeadlineReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.remaining_s())
        return self._sock.recv_into(buffer)


_UNAUTHORIZED = "{} is not open to us ({}): check the access token, and that its user may see the project"


def _check_status(url: str, status: int) -> None:
    if status in (200, 203):
        return
    shown = show_url(url)
    if status in (401, 403):
        raise TaskError("unauthorized", _UNAUTHORIZED.format(shown, f"HTTP {status}"))
    if status in (404, 410):
        raise TaskError("not-found", f"{shown} does not exist (HTTP {status})")
    raise TaskError("download", f"expected HTTP 200 from {shown}, got {status}")


def _read(response: http.client.HTTPResponse, url: str, max_bytes: int, deadline: Deadline) -> bytes:
    """Read a body piece by piece, and stop as soon as it is too large."""
    encoding = response.getheader("Content-Encoding", "identity").lower()
    if encoding not in ("identity", ""):
        raise TaskError("download", f"{show_url(url)} came compressed ({encoding[:20]}), which was not asked for")
    announced = response.length
    too_large = f"expected at most {max_bytes:,} bytes, {show_url(url)} has "
    if announced is not None and announced > max_bytes:
        raise TaskError("too-large", too_large + f"{announced:,}")
    body = bytearray()
    while piece := response.read1(_CHUNK_BYTES):
        body += piece
        if len(body) > max_bytes:
            raise TaskError("too-large", too_large + "more")
        deadline.remaining_s()
    if announced is not None and len(body) < announced:
        raise TaskError("download", f"{show_url(url)} broke off after {len(body):,} of {announced:,} bytes")
    return bytes(body)


def _is_unchanged(known: Validator, status: int, headers: Mapping[str, str], url: str) -> bool:
    """Whether an answer says, or shows by its date, that the file is the one that is known."""
    if known.etag is not None:
        return status == http.client.NOT_MODIFIED
    return status == http.client.OK and validator_of(headers, url) == known


def _localhost_hint(origin: Origin) -> str:
    if origin.host != "localhost" and not origin.host.startswith("127."):
        return ""
    return (
        f"; inside a container {origin.host} is the container itself: configure the address under which this service "
        "reaches the other one"
    )


def _is_at(home: LabelStudioHost | None, origin: Origin) -> bool:
    """Whether an origin is that Label Studio's own, which alone gets credentials."""
    return home is not None and home.url is not None and split_url(home.url)[1].serves(origin)


def _is_login(url: str) -> bool:
    """Whether this is the page to which Label Studio sends those it does not know."""
    return urlsplit(url).path.rstrip("/").endswith("/user/login")
