"""Between HTTP and a WSGI app (PEP 3333): the environment of a request, and the answer in pieces. No sockets."""

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

PIECE_BYTES = 256_000
"""An answer is taken from the app in parts of about this size."""

Headers = Sequence[tuple[bytes, bytes]]
Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
_OWN_NAMES = {"CONTENT_TYPE", "CONTENT_LENGTH"}


def make_environ(
    method: bytes,
    target: bytes,
    version: bytes,
    headers: Headers,
    *,
    server: tuple[str, int],
    client: str,
    scheme: str = "http",
) -> Environ:
    """Return the environment of a request whose body has not come.

    Args:
        method: Such as `POST`.
        target: What stands behind it: a path with a query, or a whole address.
        version: Such as `1.1`.
        headers: Names in lower case. Names with an underscore are left out: they would pass for others with a hyphen,
            and `SCRIPT_NAME` for a variable of the server.
        server: Address and port that were connected to.
        client: Address of the sender; anything is possible behind a proxy.
        scheme: `http` or `https`.
    """
    path, _, query = target.partition(b"?")
    if not path.startswith(b"/"):
        # The absolute form, which proxies send: scheme://host/path; or "*".
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    environ: Environ = {
        "REQUEST_METHOD": method.decode("latin-1"),
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{version.decode('latin-1')}",
        "REMOTE_ADDR": client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in headers:
        if b"_" in name:
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        key = key if key in _OWN_NAMES else f"HTTP_{key}"
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


def set_body(environ: Environ, body: bytes) -> None:
    """Put a whole body into a request's environment; how it was cut on the way is nobody's business any more."""
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)


@dataclass
class Answer:
    """What an app answers, taken piece by piece. For one thread at a time.

    Attributes:
        status: Code.
        reason: The words behind it.
        headers: As they are sent.
    """

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    _pieces: Iterator[bytes]
    _close: Callable[[], None]
    _closed: bool = False

    def take(self) -> tuple[bytes, bool]:
        """Return the next part of about `PIECE_BYTES`, and whether it is the last. After the last one it is closed."""
        taken: list[bytes] = []
        length = 0
        try:
            while length < PIECE_BYTES:
                piece = next(self._pieces, None)
                if piece is None:
                    self.close()
                    return b"".join(taken), True
                taken.append(piece)
                length += len(piece)
        except BaseException:
            self.close()
            raise
        return b"".join(taken), False

    def close(self) -> None:
        """Let the app forget what the answer needed; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._close()


def call(app: WsgiApp, environ: Mapping[str, Any]) -> Answer:
    """Ask the app.

    Raises:
        Exception: Whatever the app lets through.
    """
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _exc_info: object = None
    ) -> Callable[[bytes], object]:
        started.append((status, headers))
        return written.append

    iterable = app(dict(environ), start_response)
    pieces = iter(iterable)
    first: list[bytes] = []
    if not started:  # it may wait for the first piece to be asked for
        first = [piece for piece in (next(pieces, None),) if piece is not None]
    status, headers = started[-1]
    code, _, reason = status.partition(" ")

    def everything() -> Iterator[bytes]:
        yield from written
        yield from first
        yield from pieces

    return Answer(
        int(code),
        (reason or HTTPStatus(int(code)).phrase).encode("latin-1"),
        [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        everything(),
        getattr(iterable, "close", lambda: None),
    )
