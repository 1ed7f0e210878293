"""A real web server on a free port, told by each test what to answer."""

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server answers. A callable body writes by itself, until it returns or the server ends."""

    status: int = 200
    body: bytes | Callable[[Callable[[bytes], object], threading.Event], None] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    announce_length: bool = True


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class WebServer:
    """Answers each path with its reply, 404 for the rest, and remembers what was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply | Callable[[Seen], Reply]] = {}
        self.seen: list[Seen] = []
        self.ending = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def __enter__(self) -> "WebServer":
        return self

    def __exit__(self, *error: object) -> None:
        self.ending.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return self.url_as("127.0.0.1")

    def url_as(self, host: str) -> str:
        """Return the server's address under another name."""
        return f"http://{host}:{self.port}"

    def authorizations(self) -> list[str | None]:
        return [seen.headers.get("authorization") for seen in self.seen]

    def _handler(web) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.command, self.path, headers, self.rfile.read(length))
                web.seen.append(seen)
                reply = web.replies.get(self.path.partition("?")[0], Reply(404))
                if callable(reply):
                    reply = reply(seen)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if isinstance(reply.body, bytes) and reply.announce_length:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                try:
                    if isinstance(reply.body, bytes):
                        self.wfile.write(reply.body)
                    else:
                        reply.body(self.wfile.write, web.ending)
                except OSError:
                    pass  # the client has hung up, as it should where it was given too much

            do_GET = do_POST = answer

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        return Handler


class Names:
    """Looks names up in a table, and counts."""

    def __init__(self, **addresses: str | list[str]) -> None:
        self.addresses = {name.replace("_", "."): found for name, found in addresses.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
        self.asked.append(host)
        if host not in self.addresses:
            raise socket.gaierror(f"no {host}")
        found = self.addresses[host]
        texts = [found] if isinstance(found, str) else found
        return [(socket.AF_INET6 if ":" in text else socket.AF_INET, (text, port)) for text in texts]
