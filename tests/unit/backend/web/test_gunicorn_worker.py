"""Slow senders against the real gunicorn: they lose their connection, and nobody else waits."""

import contextlib
import os
import socket
import sys
import textwrap
import time
from pathlib import Path

import fakes
import pytest
import requests

from backend import gunicorn_conf
from backend.demo.server_process import ServerProcess, free_port
from backend.web.gunicorn_worker import SlowSenders, Worker

THREADS = 4
TRANSFER_S = 3.0

# As the service is configured, with less patience, few threads and an app whose networks are a fake.
CONFIGURATION = f"""
from backend.gunicorn_conf import *
from backend.web.gunicorn_worker import Worker

class Impatient(Worker):
    transfer_s = {TRANSFER_S}

worker_class = Impatient
threads = {THREADS}
"""
APP = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from fakes import FakeCore, FakeLoader
from backend.web.app import create_app
from backend.metrics import Metrics
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.service import Service
from backend.settings import Settings
from backend.webhooks import WebhookStore

folder = Path({folder!r})
metrics = Metrics()
predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(), metrics)
app = create_app(Service(Settings(data_dir=folder, max_requests=2), predictor, WebhookStore(folder), metrics))

@app.get("/long")
def long():
    return "x" * 50_000_000
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gunicorn")
    (folder / "configuration.py").write_text(CONFIGURATION)
    (folder / "slow_app.py").write_text(
        textwrap.dedent(APP).format(path=[str(Path(fakes.__file__).parent)], folder=str(folder))
    )
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--config", str(folder / "configuration.py"), "--chdir", str(folder)]
    with ServerProcess(
        "the backend",
        [*command, "--bind", f"127.0.0.1:{port}", "slow_app:app"],
        environment=dict(os.environ),
        url=f"http://127.0.0.1:{port}",
        log_path=folder / "log.txt",
        ready_timeout_s=60,
    ) as running:
        yield running


def connect(server):
    sock = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=20)
    return contextlib.closing(sock)


def trickle(sock, data, every_s=0.2):
    """Send byte for byte until the other side hangs up or answers."""
    sock.settimeout(every_s)
    for byte in data:
        try:
            sock.sendall(bytes([byte]))
            return sock.recv(10_000)
        except TimeoutError:
            continue
        except OSError:
            return b""
    raise AssertionError("everything was taken, however slowly it came")


def test_the_service_runs_under_this_worker():
    assert gunicorn_conf.worker_class == f"{Worker.__module__}.{Worker.__qualname__}"


def test_a_body_that_trickles_in_is_refused_and_the_place_is_free_again(server):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with connect(server) as one, connect(server) as other:
        for sock in (one, other):
            sock.sendall(head)
        refused = (requests.post(f"{server.url}/predict", json={}, timeout=10).status_code == 503 for _ in range(50))
        assert any(refused), "both places are taken"
        answer = trickle(one, b"{" + b" " * 999)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"did not come in time" in answer
        described = requests.get(f"{server.url}/openapi.json", timeout=10).json()["paths"]["/predict"]["post"]
        assert "408" in described["responses"]
        assert other.recv(10_000).startswith(b"HTTP/1.1 408 "), "who sends nothing has as long, and no longer"
    assert requests.post(f"{server.url}/predict", json={}, timeout=10).status_code == 400


def test_headers_that_trickle_in_leave_a_thread_for_health(server):
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(server)) for _ in range(THREADS)]
        for sock in socks:
            sock.sendall(b"GET /health HTTP/1.1\r\nX-Slow: ")
        # No thread is left now, so this waits; without an end it would wait as long as they send.
        assert server.is_healthy(timeout_s=60)
        for sock in socks:
            with contextlib.suppress(ConnectionError):
                assert sock.recv(100) == b"", "hung up"


def test_an_answer_that_is_not_taken_ends(server):
    with contextlib.ExitStack() as stack:
        for _ in range(THREADS):
            stack.enter_context(connect(server)).sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.5)
        assert server.is_healthy(timeout_s=60)
    assert "Traceback" not in server.log_text()


def test_a_patient_sender_is_served(server):
    """Slow, but within the time."""
    body = b'{"tasks": [], "label_config": "<View/>"}'
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with connect(server) as sock:
        for part in (head, body[:5], body[5:20], body[20:]):
            sock.sendall(part)
            time.sleep(0.05)
        assert sock.recv(10_000).startswith(b"HTTP/1.1 400 ")
    chunks = (part for part in (body[:10], body[10:]))
    assert requests.post(f"{server.url}/predict", data=chunks, timeout=10).status_code == 400


def test_only_who_is_too_late_is_cut_off():
    slow = SlowSenders(look_s=0.05)
    slow.start()
    here, there = socket.socketpair()
    with here, there:
        slow.watch(here, time.monotonic() + 60)
        assert slow.forget(here)
        there.sendall(b"x")
        assert here.recv(1) == b"x"
        slow.watch(here, time.monotonic() + 0.1)
        assert here.recv(1) == b""
        assert not slow.forget(here)
