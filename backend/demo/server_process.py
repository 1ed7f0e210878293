"""How a server runs as a child of this process: started on a free port, waited for, logged, and always ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import requests

from backend.errors import BackendError

LOOPBACK = "127.0.0.1"


class ServerError(BackendError):
    """A server could not be started, or it ended before its time. It no longer runs.

    The message holds the end of the server's own log.
    """


def free_port(preferred: int | None = None) -> int:
    """Return a TCP port of the loopback interface on which nobody listens.

    Args:
        preferred: Taken if it is free; otherwise the system chooses.
    """
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerError(f"no free port on {LOOPBACK}")


class ServerProcess:
    """A server in a process group of its own, ended with all its children when the `with` block is left.

    The group is its own so that Ctrl-C in a terminal reaches only this process, which then ends the server in order.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        url: str,
        log_path: Path,
        ready_timeout_s: float,
        stop_timeout_s: float = 10.0,
        reason_after: str | None = None,
    ) -> None:
        """Describe the server; nothing is started yet.

        Args:
            name: What messages call it.
            command: Program and arguments.
            environment: The whole environment of the server.
            url: Where it will listen; `/health` under it answers `{"status": "UP"}` when the server is ready.
            log_path: What the server prints is appended to this file.
            ready_timeout_s: How long it may take until it is ready.
            stop_timeout_s: How long it may take to end once asked to; then it is killed.
            reason_after: If the server logs these words, the lines from there on say why it does not start.
        """
        self.name = name
        self.url = url
        self.log_path = log_path
        self._command = list(command)
        self._environment = dict(environment)
        self._ready_timeout_s = ready_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._reason_after = reason_after
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        """Start the server and wait until it is ready.

        Raises:
            ServerError: If it cannot be started, ends, or is not ready in time.
        """
        try:
            self._refuse_busy_port()
            self._start()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the server has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process, which leads a process group of its own; `None` if it was not started."""
        return None if self._process is None else self._process.pid

    def is_healthy(self, timeout_s: float = 2.0) -> bool:
        """Ask the server whether it is up."""
        try:
            answer = requests.get(f"{self.url}/health", timeout=timeout_s)
            return answer.status_code == 200 and answer.json().get("status") == "UP"
        except (requests.RequestException, ValueError):
            return False

    def log_text(self) -> str:
        """Return everything the server has printed so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def stop(self) -> None:
        """End the server and every process it started; does nothing if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._stop_timeout_s)
        finally:
            # Also when the leader ended in time: a child of it may not have. And when Ctrl-C is pressed once more.
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()

    def _refuse_busy_port(self) -> None:
        """Fail where somebody listens already: the other server's health would pass for this one's."""
        address = urlsplit(self.url)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if probe.connect_ex((address.hostname, address.port)) == 0:
                raise ServerError(f"{self.name} cannot be started: something else listens at {self.url}")

    def _start(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = len(self.log_text())
        with self.log_path.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as err:
                raise ServerError(f"{self.name} cannot be started: {err}") from err

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._ready_timeout_s
        while time.monotonic() < deadline:
            if not self.running:
                raise ServerError(self._complaint("ended before it was ready"))
            if self.is_healthy():
                return
            time.sleep(0.2)
        raise ServerError(self._complaint(f"was not ready after {self._ready_timeout_s:.0f} s"))

    def _complaint(self, what: str, tail_lines: int = 15) -> str:
        log = self.log_text()[self._log_start :]
        if self._reason_after is not None and self._reason_after in log:
            # Up to the next line that gunicorn stamps with the time.
            reason = log.partition(self._reason_after)[2].partition("\n[")[0]
            return f"{self._reason_after}{reason}".strip()
        tail = "\n".join(log.splitlines()[-tail_lines:])
        return f"{self.name} {what}. The end of its log ({self.log_path}):\n{tail}"


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def backend_process(
    settings: Mapping[str, str], *, log_path: Path, port: int | None = None, ready_timeout_s: float = 120.0
) -> ServerProcess:
    """Describe our own service under gunicorn.

    Args:
        settings: Settings by the name of their environment variable; other `CLIPDIY_` variables are not inherited.
        log_path: Where its log goes.
        port: Port on the loopback interface; a free one if left out.
        ready_timeout_s: How long loading the weights may take.
    """
    port = free_port() if port is None else port
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLIPDIY_")}
    command = [sys.executable, "-m", "gunicorn", "--config", "python:backend.gunicorn_conf"]
    return ServerProcess(
        "the backend",
        [*command, "--bind", f"{LOOPBACK}:{port}", "backend._wsgi:app"],
        environment={**inherited, **settings},
        url=f"http://{LOOPBACK}:{port}",
        log_path=log_path,
        ready_timeout_s=ready_timeout_s,
        reason_after="the backend cannot start: ",
    )
