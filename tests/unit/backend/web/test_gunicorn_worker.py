"""The real gunicorn with our worker: slow senders hold no place, and the end waits for answers."""

import concurrent.futures
import os
import signal
import socket
import sys
import textwrap
from pathlib import Path

import fakes
import pytest
import requests
import webhooks
from servers import eventually

from backend import gunicorn_conf
from backend.demo.server_process import ServerProcess, free_port
from backend.web.gunicorn_worker import PlainFront, Worker, raise_file_limit

PLACES = 2
CONFIGURATION = """
from dataclasses import replace
from backend.gunicorn_conf import *
from backend.web.gunicorn_worker import Worker

class Impatient(Worker):
    patience = replace(Worker.patience, body_s=2.0)

worker_class = Impatient
workers = {workers}
"""
APP = """
import os
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from fakes import FakeCore, FakeLoader
from learned import made_up
from services import make_service
from backend.web.app import create_app
from backend.metrics import Metrics
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.settings import Settings

folder = Path({folder!r})
metrics = Metrics()

class Telling(FakeLoader):
    def fetch_if_changed(self, value, *, host, **others):
        with (folder / "asked").open("a") as file:
            file.write(f"{{os.getpid()}} {{host.url}} {{host.token}}\\n")
        return super().fetch_if_changed(value, host=host, **others)

predictor = Predictor(FakeCore(), Telling(), PredictorOptions(), metrics)
settings = Settings(data_dir=folder, max_requests={places})

def learn(lesson):
    with (folder / "learned").open("a") as file:
        print(os.getpid(), file=file)
    return made_up(lesson.vocabulary, seed=len(lesson.pictures))

app = create_app(make_service(settings, predictor, metrics, learn=learn, start=True))

@app.after_request
def tell(answer):
    answer.headers["X-Process"] = str(os.getpid())
    return answer
"""


@pytest.fixture(scope="module", params=[1])
def server(request, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("gunicorn")
    (tmp_path / "configuration.py").write_text(CONFIGURATION.format(workers=request.param))
    path = [str(Path(fakes.__file__).parent)]
    (tmp_path / "slow_app.py").write_text(textwrap.dedent(APP).format(path=path, folder=str(tmp_path), places=PLACES))
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--config", str(tmp_path / "configuration.py")]
    with ServerProcess(
        "the backend",
        [*command, "--chdir", str(tmp_path), "--bind", f"127.0.0.1:{port}", "slow_app:app"],
        environment=dict(os.environ),
        url=f"http://127.0.0.1:{port}",
        log_path=tmp_path / "log.txt",
        ready_timeout_s=60,
    ) as running:
        yield running


def predict(server, *values):
    body = {"tasks": fakes.tasks(*values), "label_config": fakes.CONFIG}
    return requests.post(f"{server.url}/predict", json=body, timeout=60)


def test_the_service_runs_under_this_worker():
    assert gunicorn_conf.worker_class == f"{Worker.__module__}.{Worker.__qualname__}"


def test_bodies_that_trickle_in_hold_no_place(server):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    socks = [socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), 20) for _ in range(40)]
    try:
        for sock in socks:
            sock.sendall(head)
        assert predict(server, "ok").status_code == 200
        for sock in socks:
            assert sock.recv(10_000).startswith(b"HTTP/1.1 408 ")
    finally:
        for sock in socks:
            sock.close()
    described = requests.get(f"{server.url}/openapi.json", timeout=10).json()["paths"]["/predict"]["post"]
    assert {"408", "413", "415"} <= set(described["responses"])


@pytest.mark.parametrize("server", [2], indirect=True)
def test_all_workers_use_what_one_has_learned_and_the_other_learns_on_when_it_dies(server):
    def processes():
        """Return those that have learned, each once, in the order in which they began."""
        return [*dict.fromkeys(map(int, server.log_path.with_name("learned").read_text().split()))]

    def versions(path):
        """Return what each process says, by its id."""
        setup = {"project": webhooks.KEY, "schema": webhooks.LABELS, "hostname": "", "access_token": ""}
        predict = {"project": webhooks.KEY, "label_config": webhooks.LABELS, "tasks": fakes.tasks("ok")}
        said = {}
        for _ in range(20):
            # A connection of its own each time: any of the workers may take it.
            body = {"/setup": setup, "/predict": predict}[path]
            answer = requests.post(f"{server.url}{path}", json=body, timeout=20)
            said[int(answer.headers["X-Process"])] = answer.json()["model_version"]
        return said

    def send(*bodies):
        for body in bodies:
            assert requests.post(f"{server.url}/webhook", json=body, timeout=20).status_code == 201

    def correct(number):
        region = webhooks.brushed(webhooks.left_half(), "Dog")
        return webhooks.annotated(number, number, [region], data={"image": f"ok:50x{50 + number}"})

    def all_name(number, count):
        """Ask until so many processes have answered, and every one of them by this version."""

        def names(path):
            said = versions(path)
            return len(said) == count and all(f"-learned{number}-" in version for version in said.values()) and said

        return [eventually(lambda path=path: names(path)) for path in ("/setup", "/predict")]

    before = eventually(lambda: len(said := versions("/setup")) == 2 and said)
    assert len(set(before.values())) == 1
    assert "-learned" not in next(iter(before.values()))
    send(correct(1), webhooks.train())
    assert [said and set(said) for said in all_name(1, count=2)] == [set(before)] * 2
    [first] = processes()
    assert first in before

    os.kill(server.pid, signal.SIGSTOP)  # whoever starts a new worker waits, so that it can only be the other one
    try:
        os.kill(first, signal.SIGKILL)
        send(correct(2), webhooks.train())
        [other] = set(before) - {first}
        assert [said and set(said) for said in all_name(2, count=1)] == [{other}] * 2
        assert processes() == [first, other]
    finally:
        os.kill(server.pid, signal.SIGCONT)
    # The one that comes in place of the dead one finds what is in use.
    assert all(said and other in said for said in all_name(2, count=2))
    assert processes() == [first, other], "one learns for all"


@pytest.mark.parametrize("server", [2], indirect=True)
def test_all_workers_know_what_was_said_to_one(server):
    seen = server.log_path.with_name("asked")

    def asked():
        return {tuple(line.split()) for line in seen.read_text().splitlines()}

    body = {"project": "7.1", "schema": fakes.CONFIG, "hostname": "http://ls:8080", "access_token": "t"}
    for token in ("first", "second"):
        seen.write_text("")
        assert requests.post(f"{server.url}/setup", json={**body, "access_token": token}, timeout=20).ok
        for _ in range(500):
            body_of = {"tasks": fakes.tasks("ok"), "label_config": fakes.CONFIG, "project": "7.1"}
            assert requests.post(f"{server.url}/predict", json=body_of, timeout=20).ok
            if len({pid for pid, *_ in asked()}) == 2:
                break
        assert len({pid for pid, *_ in asked()}) == 2, "both have been asked"
        assert {tuple(host) for _, *host in asked()} == {("http://ls:8080", token)}


def test_an_app_that_says_nothing_is_served_too():
    assert PlainFront().body_limit({}) > 0
    assert PlainFront().lane({}) == "heavy"


def test_the_limit_of_open_files_is_no_smaller_afterwards():
    assert raise_file_limit() >= 256


def test_an_answer_under_way_is_given_before_the_end(server):
    # The last: it ends the server.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(predict, server, "wait:3000", "ok")
        assert eventually(lambda: "requests_running 1.0" in requests.get(f"{server.url}/metrics", timeout=10).text)
        os.kill(server.pid, signal.SIGTERM)
        answer = running.result()
    assert answer.status_code == 200
    assert all(answer.json()["results"])
    assert "Traceback" not in server.log_text()
