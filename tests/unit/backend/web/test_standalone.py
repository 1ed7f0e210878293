"""What `label-studio-ml start backend` runs, over HTTP: versions that hold, webhooks that start nothing."""

import os
import sys
from pathlib import Path

import pytest
import requests
from servers import eventually
from webhooks import KEY, annotated

from backend.corrections.store import CorrectionStore
from backend.demo.server_process import ServerProcess, free_port
from benchmarks.attacks import request_body
from clipdiy.weights import STARTER_DIR

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standalone")
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CLIPDIY_")},
        "PYTHONPATH": str(ROOT),
        "CLIPDIY_PRESET": "starter",
        "CLIPDIY_DEVICE": "cpu",
        "CLIPDIY_DATA_DIR": str(folder),
        "GOMP_SPINCOUNT": "",
        "OMP_DISPLAY_ENV": "VERBOSE",
    }
    # As label-studio-ml calls it, but for the program's name.
    command = [sys.executable, str(ROOT / "backend" / "_wsgi.py"), "--port", str(port), "--host", "127.0.0.1"]
    with ServerProcess(
        "the backend",
        command,
        environment=environment,
        url=f"http://127.0.0.1:{port}",
        log_path=folder / "log.txt",
        ready_timeout_s=120,
    ) as running:
        yield running, folder


def children(pid):
    return {child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()}


@pytest.mark.skipif(not (STARTER_DIR / "clip").is_dir(), reason="needs the starter weights, and this checkout has none")
def test_repeated_retrievals_and_webhooks(server):
    running, folder = server
    assert "GOMP_SPINCOUNT = '4000'" in (folder / "log.txt").read_text(), "set after torch was imported"
    body = request_body(1)
    setup = {"project": body["project"], "schema": body["label_config"], "hostname": "http://ls", "access_token": "t"}
    versions = set()
    for number in range(3):
        versions.add(requests.post(f"{running.url}/setup", json=setup, timeout=60).json()["model_version"])
        answer = requests.post(f"{running.url}/predict", json=body, timeout=60).json()
        versions |= {answer["model_version"], answer["results"][0]["model_version"]}
        assert requests.post(f"{running.url}/webhook", json=annotated(number), timeout=60).status_code == 201
    [version] = versions
    assert version.startswith("clip-diy-")
    assert children(running.pid) == set(), "no process for a webhook, and no zombie"
    store = CorrectionStore(folder)
    assert eventually(lambda: store.exists and [one.number for one in store.annotations(KEY)] == [0, 1, 2])
    changed = {**setup, "schema": setup["schema"].replace('value="dog"', 'value="wolf"')}
    assert requests.post(f"{running.url}/setup", json=changed, timeout=60).json()["model_version"] != version
