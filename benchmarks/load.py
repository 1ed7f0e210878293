"""Many annotators at once: is the service right, quick to say that it lives, and does its memory stay where it is?

    python -m benchmarks.load [--clients N] [--seconds S] [--predictions N]

Starts the service under gunicorn on a free port of the loopback interface, with the starter weights and a cache
for 5 of the 16 pictures, so that most go through the networks. Each client is a Label Studio with a project of its own
(brush, polygons, choices, labels from tasks) and does what Label Studio does before every retrieval: /health, /setup,
/predict. Every answer is compared with what the task gets alone. Beside them somebody asks /health every 50 ms.

After the clients, requests go on one after the other until there were so many predictions in all, and the memory of the
worker process is read on the way.
"""

import argparse
import json
import os
import random
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import requests

from backend.demo.server_process import ServerProcess, backend_process
from tests.oracles.fuzz import CONFIGS, nameless, picture

PICTURES = 16
TASKS = 3  # a request
PROBE_EVERY_S = 0.05
SETTINGS = {
    "preset": "starter",
    "device": "cpu",
    "cache_memory_bytes": "100000",
    "cache_disk_bytes": "0",
    "log_level": "WARNING",
}


@dataclass
class Tally:
    """What happened, over all threads."""

    predictions: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    health_s: list[float] = field(default_factory=list)
    predict_s: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client:
    """A Label Studio with one project."""

    def __init__(self, number: int, url: str, pictures: list[str], expected: dict[tuple[str, int], Any]) -> None:
        self._url = url
        self._config = CONFIGS[number % len(CONFIGS)]
        self._project = f"{number}.1795331629"
        self._pictures = pictures
        self._expected = expected
        self._rng = random.Random(number)
        self._ids = count(1000 * number)

    def retrieve(self, tally: Tally) -> None:
        """Do what happens when somebody presses Retrieve, and look at what came."""
        chosen = [self._rng.randrange(len(self._pictures)) for _ in range(TASKS)]
        setup = {"project": self._project, "schema": self._config, "hostname": "", "access_token": ""}
        for path, body in (("/health", None), ("/setup", setup), ("/predict", self._body(chosen))):
            begun = time.monotonic()
            try:
                if body is None:
                    answer = requests.get(self._url + path, timeout=100)
                else:
                    answer = requests.post(self._url + path, json=body, timeout=100)
            except requests.RequestException as err:
                with tally.lock:
                    tally.errors.append(f"{path}: {type(err).__name__}")
                return
            seconds = time.monotonic() - begun
            with tally.lock:
                tally.requests[f"{path} {answer.status_code}"] += 1
                if answer.status_code != 200:
                    tally.errors.append(f"{path}: {answer.status_code} {answer.text[:100]}")
                    return
                if path == "/predict":
                    tally.predict_s.append(seconds)
                    tally.predictions += TASKS
        results = answer.json()["results"]
        for number, result in zip(chosen, results, strict=True):
            if nameless(result) != self._expected[self._config, number]:
                with tally.lock:
                    tally.errors.append(f"project {self._project}: wrong answer for picture {number}")

    def _body(self, chosen: list[int]) -> dict[str, Any]:
        return {
            "tasks": [{"id": next(self._ids), "data": task_data(self._pictures[i])} for i in chosen],
            "label_config": self._config,
            "project": self._project,
            "params": {"login": None, "password": None, "context": None},
        }


def task_data(image: str) -> dict[str, Any]:
    """Return the data of a task, with labels for the config that takes them from there."""
    return {"image": image, "labels": ["dog", {"value": "car"}]}


def alone(url: str, pictures: list[str]) -> dict[tuple[str, int], Any]:
    """Ask for every picture and config, one at a time."""
    expected = {}
    for config in CONFIGS:
        for number, image in enumerate(pictures):
            body = {"tasks": [{"id": 1, "data": task_data(image)}], "label_config": config}
            (result,) = requests.post(f"{url}/predict", json=body, timeout=100).json()["results"]
            assert result, "every picture of the benchmark can be predicted"
            expected[config, number] = nameless(result)
    return expected


def worker_memory_mb(server: ServerProcess) -> float:
    """Return the resident memory of gunicorn's worker."""
    (worker,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    pages = int(Path(f"/proc/{worker}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def probe_health(url: str, ending: threading.Event, tally: Tally) -> None:
    """Ask whether the service is up, again and again."""
    while not ending.wait(PROBE_EVERY_S):
        begun = time.monotonic()
        try:
            ok = requests.get(f"{url}/health", timeout=10).status_code == 200
        except requests.RequestException:
            ok = False
        with tally.lock:
            tally.health_s.append(time.monotonic() - begun)
            if not ok:
                tally.errors.append("/health of the probe")


def run_clients(server: ServerProcess, clients: list[Client], seconds: float, tally: Tally) -> None:
    """Let all clients work at once for a while."""
    ending = threading.Event()
    prober = threading.Thread(target=probe_health, args=(server.url, ending, tally))
    prober.start()
    until = time.monotonic() + seconds

    def work(client: Client) -> None:
        while time.monotonic() < until:
            client.retrieve(tally)

    try:
        with ThreadPoolExecutor(len(clients)) as pool:
            list(pool.map(work, clients))
    finally:
        ending.set()
        prober.join()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--predictions", type=int, default=2000)
    chosen = parser.parse_args()
    pictures = [picture(number, 240) for number in range(PICTURES)]
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        settings = {f"CLIPDIY_{name.upper()}": value for name, value in SETTINGS.items()}
        settings["CLIPDIY_DATA_DIR"] = f"{folder}/data"
        with backend_process(settings, log_path=Path(folder) / "log") as server:
            expected = alone(server.url, pictures)
            clients = [Client(number, server.url, pictures, expected) for number in range(chosen.clients)]
            begun = time.monotonic()
            run_clients(server, clients, chosen.seconds, tally)
            _print_clients(chosen.clients, time.monotonic() - begun, tally)
            print("memory of the worker while one request follows the other:", flush=True)
            for number in count():
                if number % 60 == 0 or tally.predictions >= chosen.predictions or tally.errors:
                    print(f"  {worker_memory_mb(server):.0f} MB after {tally.predictions:,} predictions", flush=True)
                if tally.predictions >= chosen.predictions or tally.errors:
                    break
                clients[number % len(clients)].retrieve(tally)
    print(f"errors in all: {len(tally.errors)}", *tally.errors[:10], sep="\n  ")


def _print_clients(clients: int, seconds: float, tally: Tally) -> None:
    rate = tally.predictions / seconds
    print(f"{clients} clients for {seconds:.0f} s: {tally.predictions} predictions, {rate:.1f} a second")
    print(f"requests: {json.dumps(dict(sorted(tally.requests.items())))}, errors: {len(tally.errors)}")
    health_ms = np.array(tally.health_s) * 1000
    print(
        f"/predict of {TASKS} tasks: median {np.median(tally.predict_s):.2f} s, largest {max(tally.predict_s):.2f} s; "
        f"/health: {len(health_ms)} times, median {np.median(health_ms):.1f} ms, "
        f"p99 {np.percentile(health_ms, 99):.1f} ms, largest {health_ms.max():.0f} ms"
    )


if __name__ == "__main__":
    main()
