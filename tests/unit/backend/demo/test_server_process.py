import os
import socket
import sys
import time
from pathlib import Path

import pytest

from backend.demo.server_process import ServerError, ServerProcess, free_port

# Starts a child of its own, writes down its number, and answers /health as Label Studio and our backend do.
SERVER = """
import http.server, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "UP"}')
print("child", child.pid, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def _server(tmp_path: Path, code: str, *, port: int | None = None, **options: object) -> ServerProcess:
    port = free_port() if port is None else port
    return ServerProcess(
        "the server",
        [sys.executable, "-c", code, str(port)],
        environment=dict(os.environ),
        url=f"http://127.0.0.1:{port}",
        log_path=tmp_path / "server.log",
        **{"ready_timeout_s": 20.0, **options},
    )


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be buried does not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status


def test_a_server_is_ready_inside_the_block_and_gone_with_its_children_after_it(tmp_path: Path) -> None:
    with _server(tmp_path, SERVER) as server:
        assert server.running
        assert server.is_healthy()
        child = int(server.log_text().split()[1])
        assert _is_alive(child)
    assert not server.running
    assert not server.is_healthy()
    deadline = time.monotonic() + 5
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(child)


def test_the_end_of_the_log_says_why_it_ended(tmp_path: Path) -> None:
    server = _server(tmp_path, "print('no disk'); raise SystemExit(3)")
    with pytest.raises(ServerError, match=r"(?s)the server ended before it was ready.*no disk"):
        server.__enter__()
    assert not server.running


def test_only_the_reason_is_shown_where_the_server_gives_one(tmp_path: Path) -> None:
    code = (
        "print('[10:00] starting\\ncannot start: no weights\\nfetch them\\n[10:01] shutting down'); raise SystemExit(3)"
    )
    with pytest.raises(ServerError) as caught:
        _server(tmp_path, code, reason_after="cannot start: ").__enter__()
    assert str(caught.value) == "cannot start: no weights\nfetch them"


def test_a_server_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    server = _server(tmp_path, "import time; time.sleep(600)", ready_timeout_s=0.5)
    with pytest.raises(ServerError, match="was not ready after"):
        server.__enter__()
    assert not server.running


def test_another_server_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ServerError, match="something else listens"):
            _server(tmp_path, SERVER, port=other.getsockname()[1]).__enter__()


def test_a_program_that_is_missing(tmp_path: Path) -> None:
    server = ServerProcess(
        "the server",
        [str(tmp_path / "missing")],
        environment={},
        url=f"http://127.0.0.1:{free_port()}",
        log_path=tmp_path / "log",
        ready_timeout_s=1,
    )
    with pytest.raises(ServerError, match="cannot be started"):
        server.__enter__()


def test_free_port_takes_the_preferred_one_only_if_it_is_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port
