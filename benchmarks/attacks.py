"""Is the service there for others while somebody holds hundreds of connections and does nothing useful with them?

    python -m benchmarks.attacks [--seconds S] [--url URL]

Starts the service under gunicorn on a free port of the loopback interface, with the starter weights (or attacks the one
at URL, which must be on this machine), and for a minute, all at once and again as soon as they are cut off:

- 300 connections that send nothing;
- 64 that send half of their headers, and a byte a second more;
- 64 that announce a body and send a byte of it a second;
- 64 that ask for the description of the service again and again and never read an answer;
- 20 a second that ask for /health with `Connection: close`, and do not hang up.

Beside them somebody asks /health every 50 ms, each time on a new connection, and Label Studio's part is played by a
client that asks for predictions. What counts is how long /health takes, and that every /predict is answered right.
"""

import argparse
import errno
import json
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import requests

from backend.demo.server_process import LOOPBACK, backend_process
from tests.oracles.fuzz import CONFIGS, picture

PROBE_EVERY_S = 0.05
PROBE_TIMEOUT_S = 30.0
TICK_S = 0.05
LINGER_EVERY_S = 0.05
LINGER_S = 3.0
_HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
# What is sent first, and then again every second.
OPENINGS = {
    "idle": (b"", b""),
    "half headers": (b"GET /health HTTP/1.1\r\nX-Slow: ", b"x"),
    "slow bodies": (_HEAD + b"{", b" "),
    "deaf": (b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 50,) * 2,
    "lingering": (b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b""),
}


@dataclass(frozen=True)
class Siege:
    """How many connections of each kind are held at once."""

    idle: int = 300
    half_headers: int = 64
    slow_bodies: int = 64
    deaf: int = 64
    lingering: int = 60

    def wanted(self) -> dict[str, int]:
        """Return the numbers by the names of `OPENINGS`."""
        numbers = (self.idle, self.half_headers, self.slow_bodies, self.deaf, self.lingering)
        return dict(zip(OPENINGS, numbers, strict=True))


@dataclass
class _Held:
    """One connection of the attackers."""

    kind: str
    sock: socket.socket
    opened_at: float
    next_at: float
    unsent: bytes


class Attackers:
    """Holds connections to a server on this machine from one thread, and opens new ones for those that are cut off."""

    def __init__(self, port: int, siege: Siege, *, most_opened: int = 100_000) -> None:
        """Connect to nothing yet; never opens more connections than `most_opened`."""
        self._address = (LOOPBACK, port)
        self._siege = siege
        self._left = most_opened
        self._ending = threading.Event()
        self._held: list[_Held] = []
        self._lingering_at = 0.0
        self.held: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="attackers")

    def __enter__(self) -> "Attackers":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._ending.wait(TICK_S):
                self._open_missing()
                self._held = [held for held in self._held if self._goes_on(held)]
        finally:
            for held in self._held:
                held.sock.close()

    def _open_missing(self) -> None:
        for kind, wanted in self._siege.wanted().items():
            if kind == "lingering" and time.monotonic() < self._lingering_at:
                continue
            for _ in range(min(wanted - self.held[kind], 1 if kind == "lingering" else 50, self._left)):
                now = time.monotonic()
                self._lingering_at = now + LINGER_EVERY_S
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setblocking(False)
                if sock.connect_ex(self._address) not in (0, errno.EINPROGRESS):
                    sock.close()
                    return
                self._held.append(_Held(kind, sock, now, now, OPENINGS[kind][0]))
                self.held[kind] += 1
                self.opened[kind] += 1
                self._left -= 1

    def _goes_on(self, held: _Held) -> bool:
        """Send what is due, and read (but not the deaf); false if the connection has ended."""
        now = time.monotonic()
        try:
            if held.next_at <= now:
                held.next_at = now + 1
                held.unsent = held.unsent or OPENINGS[held.kind][1]
            with suppress(BlockingIOError):
                if held.unsent:
                    held.unsent = held.unsent[held.sock.send(held.unsent) :]
            with suppress(BlockingIOError):
                # Who lingers has read the answer, and the end of it, and stays.
                if held.kind != "deaf" and not held.sock.recv(65536) and held.kind != "lingering":
                    raise ConnectionResetError
            if held.kind == "lingering" and now > held.opened_at + LINGER_S:
                raise ConnectionResetError
        except OSError:
            held.sock.close()
            self.held[held.kind] -= 1
            return False
        return True


@dataclass
class Seen:
    """What the others saw."""

    health_s: list[float] = field(default_factory=list)
    predict_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


@contextmanager
def others(url: str, body: dict[str, object], expected: object, seen: Seen) -> Iterator[None]:
    """Ask for /health and for predictions until the block is left."""
    ending = threading.Event()

    def probe() -> None:
        while not ending.wait(PROBE_EVERY_S):
            seen.health_s.append(
                _timed(seen, "/health", lambda: requests.get(f"{url}/health", timeout=PROBE_TIMEOUT_S))
            )

    def predict() -> None:
        def ask() -> requests.Response:
            answer = requests.post(f"{url}/predict", json=body, timeout=PROBE_TIMEOUT_S)
            if answer.ok and answer.json() != expected:
                seen.errors["/predict: another answer than alone"] += 1
            return answer

        while not ending.wait(PROBE_EVERY_S):
            seen.predict_s.append(_timed(seen, "/predict", ask))

    threads = [threading.Thread(target=probe), threading.Thread(target=predict)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def _timed(seen: Seen, path: str, ask: Callable[[], requests.Response]) -> float:
    begun = time.monotonic()
    try:
        answer = ask()
        if answer.status_code != 200:
            seen.errors[f"{path}: {answer.status_code}"] += 1
    except requests.RequestException as err:
        seen.errors[f"{path}: {type(err).__name__}"] += 1
    return time.monotonic() - begun


def attack(url: str, seconds: float, siege: Siege, body: dict[str, object]) -> tuple[Seen, Attackers]:
    """Attack the service at a URL of this machine, and return what the others saw."""
    address = urlsplit(url)
    if address.hostname != LOOPBACK or address.port is None:
        raise SystemExit(f"only a service on this machine is attacked: http://{LOOPBACK}:PORT")
    expected = requests.post(f"{url}/predict", json=body, timeout=PROBE_TIMEOUT_S).json()
    seen = Seen()
    with Attackers(address.port, siege) as attackers, others(url, body, expected, seen):
        time.sleep(seconds)
    return seen, attackers


def request_body(tasks: int = 2) -> dict[str, object]:
    """Return what the client asks for: scenes as data URIs."""
    made = [{"id": number, "data": {"image": picture(number, 240)}} for number in range(tasks)]
    return {"tasks": made, "label_config": CONFIGS[0], "project": "1.1795331629"}


def report(seen: Seen, attackers: Attackers, seconds: float) -> str:
    """Say in a few lines what happened."""
    health_ms, predict_ms = np.array(seen.health_s) * 1000, np.array(seen.predict_s) * 1000
    lines = [
        f"{seconds:.0f} s; connections opened: {json.dumps(dict(attackers.opened))}",
        f"/health: {len(health_ms)} times, median {np.median(health_ms):.1f} ms, "
        f"p99 {np.percentile(health_ms, 99):.0f} ms, largest {health_ms.max():.0f} ms",
        f"/predict: {len(predict_ms)} times, median {np.median(predict_ms):.0f} ms, largest {predict_ms.max():.0f} ms",
        f"errors: {json.dumps(dict(seen.errors)) if seen.errors else 'none'}",
    ]
    return "\n".join(lines)


def main() -> None:
    """Attack and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--url", help=f"a service that runs already, at http://{LOOPBACK}:PORT")
    chosen = parser.parse_args()
    if chosen.url:
        print(report(*attack(chosen.url, chosen.seconds, Siege(), request_body()), chosen.seconds))
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = {"CLIPDIY_PRESET": "starter", "CLIPDIY_DEVICE": "cpu", "CLIPDIY_DATA_DIR": f"{folder}/data"}
        with backend_process(settings, log_path=Path(folder) / "log") as server:
            print(report(*attack(server.url, chosen.seconds, Siege(), request_body()), chosen.seconds))


if __name__ == "__main__":
    main()
