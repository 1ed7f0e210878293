"""HTTP/1.1 over real sockets, as the event loop in front of the app speaks it; the app is a function here."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from backend.web.connection import FREE_BYTES, MAX_HEAD_BYTES, Patience
from backend.web.gunicorn_worker import PAGE_THREADS, LoopServer
from benchmarks.attacks import Attackers, Siege

QUICK = Patience(head_s=1.0, idle_s=1.0, body_s=1.0, piece_s=1.0, answer_s=5.0, linger_s=1.0)
LIMIT = 1_000_000


class App:
    """`/echo` gives the body back, `/wait` when it may, `/long` 50 MB, `/lost` fails, `/env` the environment."""

    def __init__(self) -> None:
        self.extensions = {"clipdiy": self}
        self.may_go_on = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.closed = threading.Semaphore(0)
        self.taken = 0

    def body_limit(self, environ: dict[str, Any]) -> int:
        return 0 if environ["PATH_INFO"] == "/refused" else LIMIT

    def lane(self, environ: dict[str, Any]) -> str:
        return {"/health": "health", "/echo": "light", "/look": "page"}.get(environ["PATH_INFO"], "heavy")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Any:
        path, body = environ["PATH_INFO"], environ["wsgi.input"].read()
        headers = [("Content-Type", "text/plain")]
        if path == "/lost":
            raise KeyError("secret")
        if path in ("/wait", "/look"):
            self.waiting.release()
            assert self.may_go_on.wait(30)
        if path == "/long":
            start_response("200 OK", headers)
            return Pieces(self)
        if path == "/env":
            shown = {name: value for name, value in environ.items() if isinstance(value, str)}
            body = json.dumps(shown).encode()
        if path == "/broken":
            start_response("200 OK", [("Content-Length", "10")])
            return [b"123"]
        status = "413 Too large" if int(environ.get("CONTENT_LENGTH") or 0) > LIMIT else "200 Fine with us"
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [body[:7], body[7:]]


class Pieces:
    """An answer that says how much of it was taken, and when it is forgotten."""

    def __init__(self, app: App) -> None:
        self.app = app

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(50):
            self.app.taken += 1
            yield b"x" * 1_000_000

    def close(self) -> None:
        self.app.closed.release()


class Running:
    """A server on a free port of the loopback interface."""

    def __init__(self, app: Any, **options: Any) -> None:
        self.app = app
        self.server = LoopServer(app, threads=4, **options)
        self.alive = True
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self.port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        served = self.server.serve([listening], lambda: self.alive, grace_s=20)
        self.thread = threading.Thread(target=lambda: asyncio.run(served))
        self.thread.start()

    def stop(self) -> None:
        self.alive = False
        self.thread.join()
        self.server.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def say(self, data: bytes) -> bytes:
        """Send, and return everything that comes until the server hangs up."""
        with self.connect() as sock:
            sock.sendall(data)
            return read_all(sock)

    def health(self) -> int:
        return requests.get(f"{self.url}/health", timeout=20).status_code


def read_all(sock: socket.socket) -> bytes:
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(65536):
            data += piece
    return bytes(data)


@contextlib.contextmanager
def run(app: Any | None = None, **options: Any) -> Iterator[Running]:
    running = Running(app or App(), **options)
    try:
        yield running
    finally:
        if isinstance(running.app, App):
            running.app.may_go_on.set()
        running.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with run(patience=QUICK) as running:
        yield running


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("length", [0, 1, 7, 8, FREE_BYTES, LIMIT])
def test_a_body_comes_back(server: Running, length: int) -> None:
    body = bytes(range(256)) * (length // 256 + 1)
    answer = requests.post(f"{server.url}/echo", data=body[:length], timeout=20)
    assert (answer.status_code, answer.reason, answer.content) == (200, "Fine with us", body[:length])
    assert answer.headers["Date"].endswith("GMT")


def test_a_body_in_chunks_comes_back_with_its_length(server: Running) -> None:
    assert requests.post(f"{server.url}/echo", data=iter([b"ab", b"cd"]), timeout=20).content == b"abcd"
    shown = requests.post(f"{server.url}/env", data=iter([b"ab", b"cd"]), timeout=20).json()
    assert shown["CONTENT_LENGTH"] == "4"
    assert "HTTP_TRANSFER_ENCODING" not in shown


def test_one_connection_serves_many_requests_also_sent_at_once(server: Running) -> None:
    with server.connect() as sock:
        for _ in range(2):
            sock.sendall(post("/echo", b"one") + post("/echo", b"two"))
            sock.sendall(post("/echo", b"three", "Connection: close") if _ else b"")
            if not _:
                time.sleep(0.1)
        data = read_all(sock)
    assert [part.partition(b"\r\n\r\n")[2][:5] for part in data.split(b"HTTP/1.1 200 ")[1:]] == [
        *(b"one", b"two") * 2,
        b"three",
    ]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /health HTTP/1.0\r\n\r\n", b"200"),
        (b"HEAD /env HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET http://elsewhere/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET /health\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (post("/echo", b"x").replace(b"Content-Length: 1", b"Content-Length: one"), b"400"),
        (post("/echo", b"x", "Transfer-Encoding: gzip"), b"501"),
        (post("/echo", b"x").replace(b"Content-Length: 1", b"Transfer-Encoding: chunked") + b"y\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 2 * MAX_HEAD_BYTES, b"431"),
        (post("/lost", b""), b"500"),
    ],
    ids=[
        "1.0",
        "head",
        "whole address",
        "0.9",
        "TLS",
        "no number",
        "unknown coding",
        "no chunk",
        "long",
        "failing app",
    ],
)
def test_other_requests(server: Running, data: bytes, status: bytes) -> None:
    answer = server.say(data)
    assert answer.split()[1] == status
    assert b"secret" not in answer
    if status != b"200":
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    if data.startswith(b"HEAD"):
        assert answer.endswith(b"\r\n\r\n")


def test_no_header_passes_for_a_variable_of_the_server(server: Running) -> None:
    headers = {"SCRIPT_NAME": "/x", "Remote_Addr": "1.2.3.4", "X-Good": "a"}
    shown = requests.get(f"{server.url}/env?a=b%20c", headers=headers, timeout=20).json()
    assert (shown["SCRIPT_NAME"], shown["REMOTE_ADDR"], shown["HTTP_X_GOOD"]) == ("", "127.0.0.1", "a")
    assert "HTTP_REMOTE_ADDR" not in shown
    assert (shown["PATH_INFO"], shown["QUERY_STRING"]) == ("/env", "a=b%20c")


def test_who_asks_whether_to_send_is_told_so(server: Running) -> None:
    with server.connect() as sock:
        sock.sendall(
            post("/echo", b"", "Connection: close", "Expect: 100-continue").replace(b"Length: 0", b"Length: 5")
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"hello")
        assert read_all(sock).endswith(b"hello")


@pytest.mark.parametrize("path", ["/refused", "/echo"])
def test_a_body_that_is_not_wanted_is_answered_before_it_comes(server: Running, path: str) -> None:
    head = post(path, b"").replace(b"Length: 0", b"Length: 900000000")
    with server.connect() as sock:
        sock.sendall(head + b"x" * 1000)
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_who_goes_on_sending_what_is_not_wanted_still_gets_the_answer(server: Running) -> None:
    with server.connect() as sock:
        # More than is read at once, so that something is always unread when the answer is there.
        sock.sendall(post("/refused", b"").replace(b"Length: 0", b"Length: 900000000") + b"x" * 900_000)
        time.sleep(0.3)
        answer = bytearray()
        while piece := sock.recv(65536):  # no reset: on other systems that would throw the answer away
            answer += piece
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_who_never_stops_sending_what_is_not_wanted_is_cut_off(server: Running) -> None:
    def send_everything() -> None:
        with server.connect() as sock:
            sock.sendall(post("/refused", b"").replace(b"Length: 0", b"Length: 900000000"))
            for _ in range(1000):
                sock.sendall(b"x" * 100_000)

    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        send_everything()


def test_who_says_that_it_sends_no_more_gets_its_answer(server: Running) -> None:
    with server.connect() as sock:
        sock.sendall(post("/echo", b"hello"))
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).endswith(b"hello")


def test_a_body_in_chunks_ends_at_the_limit(server: Running) -> None:
    pieces = (b"x" * 100_000 for _ in range(LIMIT // 100_000 + 2))
    assert requests.post(f"{server.url}/echo", data=pieces, timeout=20).status_code == 413


def trickle(sock: socket.socket, byte: bytes) -> bytes:
    """Send byte for byte until something comes back."""
    sock.settimeout(0.1)
    for _ in range(100):
        with contextlib.suppress(TimeoutError):
            sock.sendall(byte)
            return read_all(sock)
    raise AssertionError("everything was taken, however slowly it came")


def test_headers_that_trickle_in_are_answered_and_cut_off(server: Running) -> None:
    with server.connect() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nX-Slow: ")
        assert trickle(sock, b"x").startswith(b"HTTP/1.1 408 ")


def test_a_body_that_trickles_in_is_answered_and_cut_off(server: Running) -> None:
    with server.connect() as sock:
        sock.sendall(post("/echo", b"").replace(b"Length: 0", b"Length: 1000"))
        answer = trickle(sock, b"x")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not come in time" in answer


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["at once", "after a request"])
def test_who_says_nothing_is_cut_off(server: Running, sent: bytes) -> None:
    with server.connect() as sock:
        sock.sendall(sent)
        assert bool(read_all(sock)) == bool(sent)


def test_an_answer_that_is_not_read_is_given_up_and_forgotten() -> None:
    with run(patience=QUICK) as server, server.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        assert server.app.closed.acquire(timeout=20)
        assert 0 < server.app.taken < 4, "pieces are made as they are read"


def test_an_answer_that_is_read_comes_whole(server: Running) -> None:
    assert len(requests.get(f"{server.url}/long", timeout=60).content) == 50_000_000


def test_an_answer_that_lies_about_its_length_is_no_answer(server: Running) -> None:
    with pytest.raises(requests.RequestException):
        requests.get(f"{server.url}/broken", timeout=20)


def test_who_hangs_up_while_it_is_computed_costs_nobody_anything() -> None:
    with run(patience=QUICK) as server:
        with server.connect() as sock:
            sock.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            assert server.app.waiting.acquire(timeout=20)
        server.app.may_go_on.set()
        assert server.health() == 200


def test_a_slow_computation_has_no_limit_and_health_is_answered_meanwhile() -> None:
    with run(patience=QUICK) as server, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(server.connect()) for _ in range(8)]  # twice as many as threads
        for sock in socks:
            sock.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert server.app.waiting.acquire(timeout=20)
        until = time.monotonic() + 2 * QUICK.head_s
        while time.monotonic() < until:
            assert server.health() == 200
        server.app.may_go_on.set()
        assert [read_all(sock)[:12] for sock in socks] == [b"HTTP/1.1 200"] * 8


def test_one_connection_too_many_ends_the_one_that_was_waited_for_longest() -> None:
    with run(max_connections=3) as server, contextlib.ExitStack() as stack:
        busy = stack.enter_context(server.connect())
        busy.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert server.app.waiting.acquire(timeout=20)
        first = stack.enter_context(server.connect())
        time.sleep(0.1)
        second = stack.enter_context(server.connect())
        assert server.health() == 200
        assert read_all(first) == b""
        second.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_all(second).startswith(b"HTTP/1.1 200 ")
        server.app.may_go_on.set()
        assert read_all(busy).startswith(b"HTTP/1.1 200 ")


def test_who_looks_at_the_page_keeps_nobody_else_waiting() -> None:
    with run() as server, contextlib.ExitStack() as open_socks:
        socks = [open_socks.enter_context(server.connect()) for _ in range(PAGE_THREADS + 3)]
        for sock in socks:
            sock.sendall(b"GET /look HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for _ in range(PAGE_THREADS):
            assert server.app.waiting.acquire(timeout=20)
        assert requests.post(f"{server.url}/echo", data=b"hello", timeout=20).content == b"hello"
        assert server.health() == 200
        server.app.may_go_on.set()
        assert all(read_all(sock).startswith(b"HTTP/1.1 200") for sock in socks)


def test_bodies_have_a_limit_together_and_small_ones_always_pass() -> None:
    # Nobody who is refused is cut off while it still sends, however slow the machine is just now.
    with run(bodies_bytes=500_000, patience=Patience(linger_s=20)) as server, server.connect() as sock:
        held, reserve = Held(400_000), server.server.reserve
        server.server.reserve = lambda count: held.count(count) and reserve(count)  # type: ignore[method-assign]
        sock.sendall(post("/echo", b"").replace(b"Length: 0", b"Length: 750000") + b"x" * (FREE_BYTES + 400_000))
        assert held.all.wait(20)  # else others could have it first, and this one would be refused
        large = b"x" * (FREE_BYTES + 300_000)
        refused = requests.post(f"{server.url}/echo", data=large, timeout=20)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.json()["error"]
        assert requests.post(f"{server.url}/echo", data=b"x" * FREE_BYTES, timeout=20).status_code == 200
        sock.sendall(b"x" * (750_000 - FREE_BYTES - 400_000))
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
        for _ in range(3):  # what was reserved has been given back
            assert requests.post(f"{server.url}/echo", data=large, timeout=20).status_code == 200


class Held:
    """Says when so many bytes are reserved."""

    def __init__(self, wanted: int) -> None:
        self.left = wanted
        self.all = threading.Event()

    def count(self, reserved: int) -> bool:
        self.left -= reserved
        if self.left <= 0:
            self.all.set()
        return True


def test_the_end_waits_for_answers_but_not_for_those_who_say_nothing() -> None:
    with run() as server, server.connect() as idle, server.connect() as busy:
        busy.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert server.app.waiting.acquire(timeout=20)
        server.alive = False
        assert read_all(idle) == b""
        server.app.may_go_on.set()
        assert read_all(busy).startswith(b"HTTP/1.1 200 ")


def test_health_and_work_under_siege() -> None:
    """A few seconds of `python -m benchmarks.attacks`."""
    siege = Siege(idle=150, half_headers=32, slow_bodies=32, deaf=32, lingering=20)
    with run() as server:
        with Attackers(server.port, siege) as attackers:
            until = time.monotonic() + 3
            while time.monotonic() < until:
                assert server.health() == 200
                assert requests.post(f"{server.url}/echo", data=b"x" * 1000, timeout=20).content == b"x" * 1000
        assert all(attackers.opened[kind] >= wanted for kind, wanted in siege.wanted().items() if kind != "lingering")
