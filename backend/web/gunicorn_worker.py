"""Gunicorn's worker in which an event loop reads and writes, and threads only compute.

Gunicorn's own workers expect a proxy in front of them that buffers requests; this service is often reached directly.
With a thread for each connection, or for each request from its headers on, a few dozen senders that do nothing hold all
of them. Here a connection costs a socket and some kilobytes, whatever it does (`backend.web.connection`), and there
are four groups of threads, so that what takes long never keeps what is quick waiting:

- one for /health, which Label Studio expects to be answered within a second;
- `PAGE_THREADS` for the page that people look at: what it shows takes as long as there are projects;
- `LIGHT_THREADS` for everything else that is quick;
- gunicorn's `threads` for the rest. How many requests of that kind there may be is the app's to say.

What the app wants of a body it says in `app.extensions["clipdiy"]`, a `Front`.
"""

import asyncio
import logging
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Literal, Protocol, TypeVar

from gunicorn import sock as gunicorn_sock
from gunicorn.workers.base import Worker as BaseWorker

from backend.web.connection import Connection, Patience, Piece
from backend.web.wsgi import Answer, Environ, WsgiApp, call

logger = logging.getLogger(__name__)

LOOK_S = 0.5
LIGHT_THREADS = 4
PAGE_THREADS = 2
MAX_CONNECTIONS = 1000
BODIES_BYTES = 512_000_000
FILES_WANTED = 8192

Lane = Literal["health", "light", "page", "heavy"]
T = TypeVar("T")


class Front(Protocol):
    """What an app can say of a request when its headers are there. Called in the event loop: quick, and never wrong."""

    def body_limit(self, environ: Environ) -> int:
        """Return how many bytes of the body the app would look at; 0 if it answers without."""

    def lane(self, environ: Environ) -> Lane:
        """Return which threads answer it."""


class PlainFront:
    """For apps that say nothing."""

    def body_limit(self, environ: Environ) -> int:
        """Return a limit for everything."""
        return 1_000_000

    def lane(self, environ: Environ) -> Lane:
        """Return the threads for everything."""
        return "heavy"


class LoopServer:
    """Answers connections with a WSGI app. Everything but the app runs in the event loop's thread."""

    def __init__(
        self,
        app: WsgiApp,
        *,
        threads: int,
        patience: Patience | None = None,
        max_connections: int = MAX_CONNECTIONS,
        bodies_bytes: int = BODIES_BYTES,
    ) -> None:
        """Start the threads when they are needed.

        Args:
            app: The app; a Flask app may have a `Front`.
            threads: For what takes long.
            patience: How long others are waited for.
            max_connections: Beyond these, the one that has been waited for longest is closed.
            bodies_bytes: What bodies may take together, but for the first part of each.
        """
        self.patience = patience or Patience()
        self.stopping = False
        self._app = app
        self._front: Front = getattr(app, "extensions", {}).get("clipdiy") or PlainFront()
        self._lanes: dict[Lane, ThreadPoolExecutor] = {
            "health": ThreadPoolExecutor(1, "health"),
            "light": ThreadPoolExecutor(LIGHT_THREADS, "light"),
            "page": ThreadPoolExecutor(PAGE_THREADS, "page"),
            "heavy": ThreadPoolExecutor(threads, "heavy"),
        }
        self._max_connections = max_connections
        self._bodies_left = bodies_bytes
        self._connections: dict[Connection, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[Any], alive: Callable[[], bool], *, ssl: Any = None, grace_s: float) -> None:
        """Answer who connects to one of the sockets as long as `alive`, then finish what was begun.

        Args:
            sockets: They listen.
            alive: Asked twice a second.
            ssl: Context of TLS, if it is spoken.
            grace_s: How long requests may go on after that.
        """
        self._loop = asyncio.get_running_loop()
        scheme = "https" if ssl else "http"
        servers = [
            await self._loop.create_server(lambda: Connection(self, scheme), sock=sock, ssl=ssl, backlog=1024)
            for sock in sockets
        ]
        while alive():
            await asyncio.sleep(LOOK_S)
            self._look()
        self.stopping = True
        for server in servers:
            server.close()
        until = time.monotonic() + grace_s
        for connection in list(self._connections):
            connection.stop()
        while self._connections and time.monotonic() < until:
            await asyncio.sleep(LOOK_S / 5)
            self._look()
        for connection in list(self._connections):
            connection.abort()

    def close(self) -> None:
        """Begin nothing new in the threads."""
        for lane in self._lanes.values():
            lane.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            connection.look(now)

    # What connections ask for.

    def admit(self, connection: Connection) -> None:
        """Count a new connection; if there are too many, close the one that has been waited for longest."""
        self._connections[connection] = None
        if len(self._connections) > self._max_connections:
            waiting = [other for other in self._connections if other.stage != "answering"]
            min(waiting, key=lambda other: other.since, default=connection).abort()

    def drop(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.pop(connection, None)

    def body_limit(self, environ: Environ) -> int:
        """Ask the app."""
        return self._front.body_limit(environ)

    def reserve(self, count: int) -> bool:
        """Take so many bytes for bodies, or give them back if negative."""
        if count > self._bodies_left:
            return False
        self._bodies_left -= count
        return True

    def ask(self, environ: Environ, then: Callable[[tuple[Answer, Piece] | None], None]) -> None:
        """Ask the app in one of the request's threads."""

        def begin() -> tuple[Answer, Piece]:
            answer = call(self._app, environ)
            return answer, answer.take()

        self._run(self._lanes[self._front.lane(environ)], begin, then)

    def take(self, answer: Answer, then: Callable[[Piece | None], None]) -> None:
        """Take the next piece of an answer; that is always quick."""
        self._run(self._lanes["light"], answer.take, then)

    def close_answer(self, answer: Answer) -> None:
        """Close an answer that nobody waits for."""
        self._run(self._lanes["light"], answer.close, lambda _done: None)

    def _run(self, lane: Executor, work: Callable[[], T], then: Callable[[T | None], None]) -> None:
        assert self._loop is not None, "connections come from the loop"
        loop = self._loop

        def run() -> None:
            result = None
            try:
                result = work()
            except Exception as err:
                logger.error("unexpected %s from the app", type(err).__name__)
                logger.debug("the app failed", exc_info=err)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(then, result)

        with suppress(RuntimeError):  # the threads have ended: the connection goes too
            lane.submit(run)


class Worker(BaseWorker):  # type: ignore[misc]
    """One process of the service."""

    patience = Patience()

    def run(self) -> None:
        """Serve until gunicorn says that it is enough."""
        allowed = raise_file_limit()
        server = LoopServer(
            self.wsgi,
            threads=self.cfg.threads,
            patience=self.patience,
            max_connections=max(16, min(MAX_CONNECTIONS, allowed // 2)),
        )
        sockets = [sock.sock for sock in self.sockets]
        ssl = gunicorn_sock.ssl_context(self.cfg) if self.cfg.is_ssl else None
        try:
            asyncio.run(server.serve(sockets, self._goes_on, ssl=ssl, grace_s=self.cfg.graceful_timeout))
        finally:
            server.close()

    def _goes_on(self) -> bool:
        self.notify()
        return bool(self.alive) and self.ppid == os.getppid()


def raise_file_limit() -> int:
    """Allow this process as many open files as it may ask for, up to what it can use; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return FILES_WANTED if soft == resource.RLIM_INFINITY else soft
