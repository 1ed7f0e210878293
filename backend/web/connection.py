"""One connection of the service: HTTP/1.1 read and written in an event loop, so that who is slow holds no thread.

A request goes to the app when all of it is there, and its answer is taken from the app as fast as it is read, piece by
piece. Between the two nothing waits but a socket, and every wait has an end: for headers, for a body, for the next
request, for somebody to read the answer, and for the other side to hang up.
"""

import asyncio
import json
import logging
import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Literal, Protocol

import h11

from backend.web.wsgi import Answer, Environ, make_environ, set_body

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64_000
WRITE_HIGH_BYTES = 256_000
LINGER_BYTES = 1_000_000
FREE_BYTES = 256_000
"""A body's first bytes, which are not counted in what all bodies may take together."""
RETRY_AFTER_S = 10

Piece = tuple[bytes, bool]
"""A part of an answer, and whether it is the last."""

Stage = Literal["idle", "head", "body", "answering", "ending"]


@dataclass(frozen=True)
class Patience:
    """How long the other side is waited for, in seconds.

    Attributes:
        head_s: For a connection's first request to begin, and for the headers of each.
        idle_s: For another request on the same connection.
        body_s: For all of a body.
        piece_s: For a piece of an answer to be read.
        answer_s: For all of it.
        linger_s: For the other side to hang up if it still sends what is not wanted.
    """

    head_s: float = 20.0
    idle_s: float = 5.0
    body_s: float = 60.0
    piece_s: float = 30.0
    answer_s: float = 600.0
    linger_s: float = 2.0


class Server(Protocol):
    """What a connection needs of the process that it is in. All but `ask` and `take` are called in the event loop."""

    patience: Patience
    stopping: bool

    def admit(self, connection: "Connection") -> None:
        """Count a new connection, and close another one if there are too many."""

    def drop(self, connection: "Connection") -> None:
        """Forget a connection."""

    def body_limit(self, environ: Environ) -> int:
        """Return how many bytes of a request's body the app wants; 0 if it answers without looking at it."""

    def reserve(self, count: int) -> bool:
        """Take so many bytes for bodies, or give them back if negative; False if there are not so many left."""

    def ask(self, environ: Environ, then: Callable[[tuple[Answer, Piece] | None], None]) -> None:
        """Ask the app in a thread, and go on in the event loop with its answer's beginning; `None` if it failed."""

    def take(self, answer: Answer, then: Callable[[Piece | None], None]) -> None:
        """Take the next piece of an answer in a thread, and go on in the event loop with it; `None` if it failed."""

    def close_answer(self, answer: Answer) -> None:
        """Close an answer in a thread."""


class Connection(asyncio.Protocol):
    """Reads requests, has them answered, writes the answers, one after the other."""

    def __init__(self, server: Server, scheme: str = "http") -> None:
        """Wait for the event loop to connect it."""
        self._server = server
        self._scheme = scheme
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self.stage: Stage = "idle"
        self.since = time.monotonic()
        self._until = self.since + server.patience.head_s
        self._early = bytearray()
        self._writable = True
        self._lingered = 0
        # Of the request that is read or answered.
        self._environ: Environ = {}
        self._parts: list[bytes] = []
        self._size = 0
        self._limit = 0
        self._reserved = 0
        self._unread = False
        self._answer: Answer | None = None
        self._answer_until = math.inf
        self._taking = False
        self._ended = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport), "a stream of bytes"
        self._transport = transport
        transport.set_write_buffer_limits(WRITE_HIGH_BYTES)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            # Else the system lets it grow to megabytes for each of those who do not read.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WRITE_HIGH_BYTES)
        self._server.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; what is being computed is computed to its end, for nobody."""
        self.stage = "ending"
        self._ended = True
        self._release()
        if self._answer is not None and not self._taking:
            self._server.close_answer(self._answer)
        self._server.drop(self)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self.stage == "ending":
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.abort()
        elif self.stage == "answering":
            self._early += data  # no more than was on its way when reading was paused
        else:
            if self.stage == "idle":
                self._wait("head", self._server.patience.head_s)
            self._http.receive_data(data)
            self._read_on()

    def pause_writing(self) -> None:
        """Too much waits to be read by the other side."""
        self._writable = False

    def resume_writing(self) -> None:
        """It has read."""
        self._writable = True
        if self.stage == "answering":
            self._send_on()

    # What the server calls.

    def look(self, now: float) -> None:
        """End the wait if it is over."""
        if now < self._until:
            return
        if self.stage == "head":
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the headers did not come in time")
        elif self.stage == "body":
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time; send it at once")
        elif self.stage == "idle":
            self._end(linger=False)
        else:
            self.abort()

    def stop(self) -> None:
        """Close if nothing is being answered or sent."""
        if self.stage in ("idle", "head"):
            self._end(linger=False)

    def abort(self) -> None:
        """Close at once."""
        assert self._transport is not None
        self._transport.abort()

    # A request.

    def _read_on(self) -> None:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as err:
                status = HTTPStatus(err.error_status_hint or 400)
                self._refuse(status, "the headers are too long" if status == 431 else "not a request of HTTP/1.1")
                return
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
                return
            if isinstance(event, h11.Request):
                if not self._begin(event):
                    return
            elif isinstance(event, h11.Data):
                if not self._add(bytes(event.data)):
                    return
            elif isinstance(event, h11.EndOfMessage):
                set_body(self._environ, b"".join(self._parts))
                self._parts.clear()
                self._ask()
                return
            else:  # they closed, or what came behind a request waits for its answer
                if isinstance(event, h11.ConnectionClosed):
                    self._end(linger=False)
                return

    def _begin(self, request: h11.Request) -> bool:
        """Take the headers; False if the answer does not wait for the body."""
        assert self._transport is not None
        here, there = (self._transport.get_extra_info(name) for name in ("sockname", "peername"))
        self._environ = make_environ(
            request.method,
            request.target,
            request.http_version,
            list(request.headers),
            server=(str(here[0]), int(here[1])) if isinstance(here, tuple) else ("localhost", 0),
            client=str(there[0]) if isinstance(there, tuple) else "",
            scheme=self._scheme,
        )
        self._limit = self._server.body_limit(self._environ)
        self._wait("body", self._server.patience.body_s)
        announced = int(self._environ.get("CONTENT_LENGTH") or 0)
        has_body = announced > 0 or "HTTP_TRANSFER_ENCODING" in self._environ
        if announced > self._limit or (has_body and not self._limit):
            self._ask_without_body()
            return False
        return True

    def _add(self, data: bytes) -> bool:
        """Take a part of the body; False if no more of it is wanted."""
        self._size += len(data)
        if self._size > self._limit:
            self._environ["CONTENT_LENGTH"] = str(self._size)
            self._environ.pop("HTTP_TRANSFER_ENCODING", None)
            self._ask_without_body()
            return False
        wanted = max(0, self._size - FREE_BYTES) - self._reserved
        if wanted > 0:
            if not self._server.reserve(wanted):
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many large requests at once; try again")
                return False
            self._reserved += wanted
        self._parts.append(data)
        return True

    def _ask_without_body(self) -> None:
        """Let the app refuse a request whose body it does not want."""
        self._parts.clear()
        self._unread = True
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self.stage, self._until = "answering", math.inf
        self._transport.pause_reading()
        environ, self._environ = self._environ, {"REQUEST_METHOD": self._environ["REQUEST_METHOD"]}
        self._server.ask(environ, self._begin_answer)

    # Its answer.

    def _begin_answer(self, begun: tuple[Answer, Piece] | None) -> None:
        self._release()
        if self._ended:
            if begun is not None:
                self._server.close_answer(begun[0])
            return
        if begun is None:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the backend's log says more")
            return
        self._answer = answer = begun[0]
        self._answer_until = time.monotonic() + self._server.patience.answer_s
        headers = [*answer.headers, (b"Date", formatdate(usegmt=True).encode())]
        if self._unread or self._server.stopping:
            headers.append((b"Connection", b"close"))
        try:
            head = self._http.send(h11.Response(status_code=answer.status, reason=answer.reason, headers=headers))
        except h11.LocalProtocolError:
            logger.error("an answer has headers that cannot be sent")
            self.abort()
            return
        self._send(begun[1], head or b"")

    def _send_on(self) -> None:
        """Take the next piece, if all before are on their way."""
        if self._answer is not None and self._writable:
            self._until = math.inf
            self._taking = True
            self._server.take(self._answer, self._send)
        elif self._answer is None and self._writable:
            self._finish()

    def _send(self, piece: Piece | None, head: bytes = b"") -> None:
        self._taking = False
        if self._ended:
            if self._answer is not None:
                self._server.close_answer(self._answer)
            return
        if piece is None:
            self.abort()  # the other side must not take a part for the whole
            return
        data, is_last = piece
        written = [head]
        try:
            if data and self._environ["REQUEST_METHOD"] != "HEAD":
                written.append(self._http.send(h11.Data(data=data)) or b"")
            if is_last:
                written.append(self._http.send(h11.EndOfMessage()) or b"")
        except h11.LocalProtocolError:
            logger.error("an answer has another length than it announced")
            self.abort()
            return
        if is_last:
            self._answer = None
        self._write(b"".join(written))
        self._send_on()

    def _finish(self) -> None:
        """Go on with the next request, or close."""
        assert self._transport is not None
        unread, self._unread = self._unread, False
        if self._server.stopping or self._http.our_state is not h11.DONE:
            self._end(linger=unread)
            return
        try:
            self._http.start_next_cycle()
        except h11.LocalProtocolError:
            self._end(linger=True)
            return
        self._parts, self._size, self._environ = [], 0, {}
        self._wait("idle", self._server.patience.idle_s)
        early, self._early = bytes(self._early), bytearray()
        self._transport.resume_reading()
        if early or self._http.trailing_data[0]:
            self._wait("head", self._server.patience.head_s)
            if early:
                self._http.receive_data(early)
            self._read_on()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer without the app, and close."""
        self._release()
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.abort()
            return
        body = json.dumps({"error": message}).encode() + b"\n"
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Date", formatdate(usegmt=True)),
            ("Connection", "close"),
        ]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(("Retry-After", str(RETRY_AFTER_S)))
        response = h11.Response(status_code=status, reason=status.phrase, headers=headers)
        self._write(self._http.send(response) + self._http.send(h11.Data(data=body)))
        self._end(linger=True)

    def _end(self, *, linger: bool) -> None:
        """Close when everything is written; if there may be more to come, only after the other side has had a chance.

        Whoever closes with something unread makes the other side's system throw the answer away.
        """
        assert self._transport is not None
        patience = self._server.patience
        if linger and self._transport.can_write_eof():
            self._wait("ending", patience.linger_s)
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._wait("ending", patience.piece_s)
            self._transport.close()

    def _write(self, data: bytes | None) -> None:
        assert self._transport is not None
        if data:
            if self.stage == "answering":
                self._until = min(time.monotonic() + self._server.patience.piece_s, self._answer_until)
            self._transport.write(data)

    def _wait(self, stage: Stage, seconds: float) -> None:
        self.stage = stage
        self.since = time.monotonic()
        self._until = self.since + seconds

    def _release(self) -> None:
        self._parts = []
        if self._reserved:
            self._server.reserve(-self._reserved)
            self._reserved = 0
