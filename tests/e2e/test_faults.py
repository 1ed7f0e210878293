"""What happens when something around the service, or the service itself, breaks in the middle of the work."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from pictures import LABEL_COLOURS, data_uri, label_config, png, scene
from servers import LOGIN, ROOT, Backend, LabelStudio, eventually, run_backend
from webhooks import annotated

from backend.demo.server_process import backend_process, free_port

pytestmark = pytest.mark.e2e

CONFIG = label_config(*LABEL_COLOURS)


def _predict(backend: Backend, *images: str, first_id: int = 1, timeout_s: float = 100) -> requests.Response:
    tasks = [{"id": first_id + i, "data": {"image": image}} for i, image in enumerate(images)]
    body = {"tasks": tasks, "label_config": CONFIG, "project": "1.1"}
    return requests.post(f"{backend.url}/predict", json=body, timeout=timeout_s)


def _is_discreet(log: str) -> bool:
    return "Traceback" not in log and LOGIN.token not in log and str(ROOT) not in log


# --- the service dies -------------------------------------------------------------------------------------------------


def test_killed_in_the_middle_and_started_again(label_studio: LabelStudio, tmp_path: Path, artifacts: Path) -> None:
    api = label_studio.api
    log = artifacts / "backend-killed.log"
    log.unlink(missing_ok=True)
    port = free_port()
    settings = {"CLIPDIY_PRESET": "starter", "CLIPDIY_DEVICE": "cpu", "CLIPDIY_DATA_DIR": str(tmp_path)}
    images = [{"image": data_uri(png(scene(7000 + i).image))} for i in range(40)]
    with ThreadPoolExecutor(1) as pool:
        with backend_process(settings, log_path=log, port=port) as server:
            backend = Backend(server, tmp_path)
            project_id = label_studio.project("Killed", CONFIG, backend)
            task_ids = api.import_tasks(project_id, images)
            retrieval = pool.submit(api.retrieve_predictions, project_id)
            assert eventually(lambda: backend.tasks_by_outcome().get("predicted", 0) >= 3), "it is at work"
            assert server.pid is not None
            os.killpg(server.pid, signal.SIGKILL)
            retrieval.result(timeout=60)  # Label Studio goes on; it says that all is well, whatever happened
        assert api.predictions(project_id) == [], "nothing half done is stored"
        assert requests.get(f"{label_studio.url}/health", timeout=10).json() == {"status": "UP"}
        with backend_process(settings, log_path=log, port=port) as server:
            backend = Backend(server, tmp_path)
            api.retrieve_predictions(project_id)
            predictions = api.predictions(project_id)
            metrics = requests.get(f"{backend.url}/metrics", timeout=10).text
    assert sorted(prediction["task"] for prediction in predictions) == sorted(task_ids), "every task once"
    kept = re.search(r'clipdiy_feature_cache_total\{outcome="hit"\} (\S+)', metrics)
    assert kept is not None
    assert float(kept[1]) >= 3, "what was encoded before is not encoded again"
    assert "damaged" not in log.read_text()


# --- too much to do ---------------------------------------------------------------------------------------------------


def test_one_request_too_many_is_answered_at_once(tmp_path: Path, artifacts: Path) -> None:
    images = [data_uri(png(scene(7100 + i).image)) for i in range(30)]
    settings = {"max_requests": "1", "deadline_s": "8"}
    with run_backend(tmp_path, artifacts / "backend-busy.log", **settings) as busy, ThreadPoolExecutor(1) as pool:
        first = pool.submit(_predict, busy, *images)
        assert eventually(lambda: "requests_running 1.0" in requests.get(f"{busy.url}/metrics", timeout=10).text)
        begun = time.monotonic()
        # 8 MB: the answer has to reach a client that is still sending.
        as_json = {"Content-Type": "application/json"}
        second = requests.post(f"{busy.url}/predict", data=b"x" * 8_000_000, headers=as_json, timeout=30)
        assert second.status_code == 503
        assert int(second.headers["Retry-After"]) > 0
        assert time.monotonic() - begun < 4, "at once, not when the first is done"
        for _ in range(5):
            begun = time.monotonic()
            assert requests.get(f"{busy.url}/health", timeout=10).status_code == 200
            assert time.monotonic() - begun < 1, "Label Studio waits one second"
        assert first.result().status_code == 200
        assert _predict(busy, images[0]).status_code == 200


def test_slow_and_broken_senders_hold_nobody_up(tmp_path: Path, artifacts: Path) -> None:
    settings = {"max_requests": "4", "max_request_bytes": "100000"}
    with run_backend(tmp_path, artifacts / "backend-slow-senders.log", **settings) as backend:
        address, small = urlsplit(backend.url), data_uri(png(scene(7150, (64, 64)).image))
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        slow = [socket.create_connection((address.hostname, address.port or 0)) for _ in range(20)]
        try:
            for one in slow:
                one.sendall(head + b"Content-Length: 1000\r\n\r\n{")
            time.sleep(0.5)
            assert requests.get(f"{backend.url}/health", timeout=1).status_code == 200
        finally:
            for one in slow:
                one.close()
        chunk = b"4e20\r\n" + b"[" * 20_000 + b"\r\n"
        answers = {"no chunks": b"zz\r\nnonsense\r\n\r\n", "too large": chunk * 7 + b"0\r\n\r\n"}
        assert eventually(lambda: _predict(backend, small).status_code == 200), "who went away holds no place"
        statuses = {}
        for name, body in answers.items():
            with socket.create_connection((address.hostname, address.port or 0), timeout=10) as raw:
                raw.sendall(head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
                statuses[name] = raw.recv(100).split()[1]
        assert statuses == {"no chunks": b"400", "too large": b"413"}
        assert _predict(backend, small).status_code == 200


# --- Label Studio breaks ----------------------------------------------------------------------------------------------


@contextmanager
def _breaking_label_studio() -> Iterator[str]:
    """A Label Studio whose images answer as their names say."""
    good = png(scene(7200).image)
    ending = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            if name == "slow.png":
                ending.wait(30)
            self.send_response(500 if name == "broken.png" else 200)
            self.send_header("Content-Length", str(len(good)))
            self.end_headers()
            if name == "drips.png":
                for byte in good:
                    self.wfile.write(bytes([byte]))
                    if ending.wait(0.2):
                        return
            self.wfile.write(good[: len(good) // 2] if name == "cut.png" else good)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            with suppress(OSError):  # the client has hung up
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        ending.set()
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_label_studio_that_breaks_costs_only_the_tasks_it_breaks(tmp_path: Path, artifacts: Path) -> None:
    names = ["good", "broken", "good", "slow", "drips", "cut", "good"]
    with _breaking_label_studio() as url:
        settings = {"label_studio_url": url, "label_studio_token": LOGIN.token, "download_timeout_s": "2"}
        with run_backend(tmp_path, artifacts / "backend-broken-label-studio.log", **settings) as backend:
            answer = _predict(backend, *(f"/data/upload/1/{name}.png" for name in names))
            assert answer.status_code == 200
            assert [bool(result) for result in answer.json()["results"]] == [name == "good" for name in names]
            assert backend.tasks_by_outcome() == {"predicted": 3, "download": 2, "timeout": 2}
            assert backend.server.is_healthy(timeout_s=1)
            log = backend.server.log_text()
    assert _is_discreet(log)


def test_a_label_studio_that_is_down(tmp_path: Path, artifacts: Path) -> None:
    settings = {"label_studio_url": f"http://127.0.0.1:{free_port()}", "label_studio_token": LOGIN.token}
    with run_backend(tmp_path, artifacts / "backend-no-label-studio.log", **settings) as backend:
        answer = _predict(backend, "/data/upload/1/x.png", data_uri(png(scene(7201).image)))
        first, second = answer.json()["results"]
        assert first == []
        assert second["model_version"]
        assert _is_discreet(backend.server.log_text())


# --- no room on the disk ----------------------------------------------------------------------------------------------


def test_a_full_disk_costs_the_memory_of_the_service_and_nothing_else(tmp_path: Path, artifacts: Path) -> None:
    (tmp_path / "features").write_text("a file where a folder should be made")
    (tmp_path / "corrections.sqlite").mkdir()  # and a folder where a file should be
    with run_backend(tmp_path, artifacts / "backend-full-disk.log") as backend:
        images = [data_uri(png(scene(7300 + i).image)) for i in range(3)]
        assert all(_predict(backend, *images).json()["results"])
        answer = requests.post(f"{backend.url}/webhook", json=annotated(), timeout=30)
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert backend.server.is_healthy()
        (tmp_path / "corrections.sqlite").rmdir()
        assert requests.post(f"{backend.url}/webhook", json=annotated(), timeout=30).status_code == 201
        log = backend.server.log_text()
    assert log.count("features cannot be kept on disk") == 1, "said once"
    assert "a webhook could not be kept: unable to open database file" in log
    assert _is_discreet(log)


# --- what the doctor says about it ------------------------------------------------------------------------------------


def _doctor(project_id: int, data_dir: Path, **settings: str) -> tuple[int, str]:
    given = {"preset": "starter", "device": "cpu", "data_dir": str(data_dir), **settings}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLIPDIY_")}
    ended = subprocess.run(
        [sys.executable, "-m", "backend.doctor", "--project", str(project_id)],
        env={**inherited, **{f"CLIPDIY_{name.upper()}": value for name, value in given.items()}},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.stderr == ""
    assert LOGIN.token not in ended.stdout
    return ended.returncode, ended.stdout


def test_the_doctor(label_studio: LabelStudio, backend: Backend, tmp_path: Path) -> None:
    api = label_studio.api
    access = {"label_studio_url": label_studio.url, "label_studio_token": LOGIN.token}
    project_id = label_studio.project("Doctor", CONFIG, backend)
    assert _doctor(project_id, tmp_path, **access)[0] == 0, "no task is nothing wrong"
    api.upload(project_id, [("upload.png", png(scene(7400).image))])
    code, said = _doctor(project_id, tmp_path, **access)
    assert code == 0, said
    for words in (f"Label Studio: {label_studio.url} is up", "token: of ", "has 320 x 240 pixels"):
        assert words in said
    assert f"Label Studio reaches {backend.url}" in said

    code, said = _doctor(project_id, tmp_path, **{**access, "label_studio_token": "f" * 40})
    assert code == 1
    assert "WRONG token" in said
    alone = label_studio.project("Doctor, not connected", CONFIG)
    code, said = _doctor(alone, tmp_path, **access)
    assert code == 1
    assert "Connect Model" in said


def test_a_backend_that_went_away_is_noticed_by_the_doctor(
    label_studio: LabelStudio, tmp_path: Path, artifacts: Path
) -> None:
    with run_backend(tmp_path / "data", artifacts / "backend-gone.log") as gone:
        project_id = label_studio.project("Doctor, gone", CONFIG, gone)
    access: dict[str, Any] = {"label_studio_url": label_studio.url, "label_studio_token": LOGIN.token}
    code, said = _doctor(project_id, tmp_path, **access)
    assert code == 1
    assert f"Label Studio does not reach {gone.url}" in said
