"""Where the service listens, and which GPU a worker gets."""

import os
import runpy
from types import SimpleNamespace

import pytest

from backend import gunicorn_conf

PASSWORD = {"CLIPDIY_BASIC_AUTH_USER": "anna", "CLIPDIY_BASIC_AUTH_PASSWORD": "gehe!m"}


@pytest.fixture
def read(monkeypatch):
    def _read(**environment):
        for name in (*PASSWORD, "CLIPDIY_BIND", "CLIPDIY_WORKERS", "CLIPDIY_DEVICE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "x")
        monkeypatch.setenv("GOMP_SPINCOUNT", "")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(gunicorn_conf.__file__)

    return _read


@pytest.mark.parametrize(
    ("environment", "bind"),
    [
        ({}, "127.0.0.1:9090"),
        (PASSWORD, "0.0.0.0:9090"),
        ({"CLIPDIY_BASIC_AUTH_USER": "anna"}, "127.0.0.1:9090"),
        ({**PASSWORD, "CLIPDIY_BASIC_AUTH_PASSWORD": ""}, "127.0.0.1:9090"),
        ({"CLIPDIY_BIND": "0.0.0.0:80"}, "0.0.0.0:80"),
        ({"CLIPDIY_BIND": ""}, "127.0.0.1:9090"),
    ],
)
def test_only_this_machine_unless_there_is_a_password_or_it_is_said(read, environment, bind):
    assert read(**environment)["bind"] == bind


def test_workers_may_import_torch_at_once(read):
    read()
    assert os.environ["GOMP_SPINCOUNT"] == "4000"


@pytest.mark.parametrize(
    ("bind", "environment", "warned"),
    [
        (["127.0.0.1:9090"], {}, False),
        (["localhost:9090", "[::1]:9090", "unix:/run/x"], {}, False),
        (["0.0.0.0:9090"], {}, True),
        (["127.0.0.1:9090", "10.1.2.3:9090"], {}, True),
        (["[::]:9090"], {}, True),
        (["0.0.0.0:9090"], PASSWORD, False),
    ],
)
def test_who_is_open_to_others_is_told_so(read, bind, environment, warned):
    said = []
    log = SimpleNamespace(warning=said.append)
    read(**environment)["on_starting"](SimpleNamespace(cfg=SimpleNamespace(bind=bind), log=log))
    assert bool(said) == warned
    assert all("CLIPDIY_BASIC_AUTH_USER" in text and bind[-1] in text for text in said)


def test_a_worker_that_replaces_another_gets_its_gpu(read, monkeypatch):
    hooks = read(CLIPDIY_WORKERS="2")
    assert hooks["workers"] == 2
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    server = SimpleNamespace(cfg=SimpleNamespace(workers=2), WORKERS={})
    given = []

    def begin(pid):
        worker = SimpleNamespace(age=pid)
        hooks["pre_fork"](server, worker)
        server.WORKERS[pid] = worker
        monkeypatch.setenv("CLIPDIY_DEVICE", "auto")
        hooks["post_fork"](server, worker)
        given.append(__import__("os").environ["CLIPDIY_DEVICE"])

    for pid in (1, 2):
        begin(pid)
    for lost, pid in ((1, 3), (3, 4), (2, 5)):
        del server.WORKERS[lost]
        begin(pid)
    assert given == ["cuda:0", "cuda:1", "cuda:0", "cuda:0", "cuda:1"]


@pytest.mark.parametrize(("text", "count"), [("", 1), ("1", 1), ("8", 8)])
def test_workers(read, text, count):
    assert read(CLIPDIY_WORKERS=text)["workers"] == count


@pytest.mark.parametrize("text", ["all", "0", "-1", "1.5"])
def test_no_number_of_workers_is_a_message(read, text):
    with pytest.raises(SystemExit, match="CLIPDIY_WORKERS"):
        read(CLIPDIY_WORKERS=text)
