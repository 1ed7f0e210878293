"""Gunicorn's worker with threads, in which nobody holds a thread for ever by sending or taking very slowly.

Gunicorn itself expects a proxy in front of it that buffers requests; this service is often reached directly. A sender
has `TRANSFER_S` for the headers and as long again for the body, however the bytes are spread over it; and whoever takes
an answer has that long for each part of it. Then the connection ends, and the thread is there for others again.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RD, socket
from typing import Any

from gunicorn.http.errors import NoMoreData
from gunicorn.workers.gthread import ThreadWorker

TRANSFER_S = 60.0
LOOK_S = 0.5


class SlowSenders:
    """Ends what is sent on connections that take too long. One thread looks at all of them."""

    def __init__(self, look_s: float = LOOK_S) -> None:
        """Watch nothing yet.

        Args:
            look_s: How often the thread looks, in seconds.
        """
        self._look_s = look_s
        self._until: dict[socket, float] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the thread; it ends with the process."""
        threading.Thread(target=self._look, name="slow-senders", daemon=True).start()

    def watch(self, sock: socket, until: float) -> None:
        """Let whoever reads from a connection meet the end of what was sent, once it is `until` (monotonic clock).

        Not a time limit of the socket: that begins anew with every byte.
        """
        with self._lock:
            self._until[sock] = until

    def forget(self, sock: socket) -> bool:
        """Stop watching; True if the end has not been met."""
        with self._lock:
            return self._until.pop(sock, None) is not None

    def _look(self) -> None:
        while True:
            time.sleep(self._look_s)
            now = time.monotonic()
            with self._lock:
                for sock in [sock for sock, until in self._until.items() if until <= now]:
                    del self._until[sock]
                    with suppress(OSError):  # it may be gone already
                        sock.shutdown(SHUT_RD)


class TimedBody:
    """The body of a request as gunicorn gives it (`wsgi.input` of PEP 3333), which must come in time."""

    def __init__(self, body: Any, sock: socket, until: float, slow: SlowSenders) -> None:
        """Take what gunicorn reads from."""
        self._body = body
        self._sock = sock
        self._until = until
        self._slow = slow

    def read(self, size: int | None = None) -> bytes:
        """Read so many bytes, or all; `TimeoutError` if they do not come."""
        with self._in_time():
            data: bytes = self._body.read(size)
        return data

    def readline(self, size: int | None = None) -> bytes:
        """Read a line; `TimeoutError` if it does not come."""
        with self._in_time():
            line: bytes = self._body.readline(size)
        return line

    def readlines(self, size: int | None = None) -> list[bytes]:
        """Read all lines; `TimeoutError` if they do not come."""
        with self._in_time():
            lines: list[bytes] = self._body.readlines(size)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        self._slow.watch(self._sock, self._until)
        try:
            yield
        finally:
            in_time = self._slow.forget(self._sock)
        if not in_time:
            raise TimeoutError("the sender is too slow")


class Worker(ThreadWorker):  # type: ignore[misc]
    """One process of the service."""

    transfer_s = TRANSFER_S

    def init_process(self) -> None:
        """Start what needs a thread, after the fork; then serve until the process ends."""
        self.slow = SlowSenders()
        self.slow.start()
        super().init_process()

    def handle(self, conn: Any) -> Any:
        """Read the headers of a request and answer it; runs in a thread."""
        sock = conn.sock
        self.slow.watch(sock, time.monotonic() + self.transfer_s)
        try:
            return super().handle(conn)
        finally:
            self.slow.forget(sock)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose headers have come."""
        self.slow.forget(conn.sock)
        body = req.body
        req.body = TimedBody(body, conn.sock, time.monotonic() + self.transfer_s, self.slow)
        # For answers: the time that all of one part may take.
        conn.sock.settimeout(self.transfer_s)
        try:
            return super().handle_request(req, conn)
        except TimeoutError as err:
            raise NoMoreData from err  # what gunicorn takes for somebody who went away
        finally:
            req.body = body
