"""What do ten thousand annotations cost, and does anybody notice that a thousand pictures are learned from?

    python -m benchmarks.corrections [--annotations N] [--pictures N]

First part: N webhooks with a brush of a picture of 640x480 each are received and read, a project of which each of them
had been predicted is reported on, by the page and `clipdiy-ls quality` too, and is read again as Label Studio's API
gives it (without the network): as it is, when its config has gained a label, and once more.
Second part: a real service (random weights of the published shapes, embeddings of 512 numbers) learns from N corrected
pictures, with what competes with their labels, while /health and /predict of another project's known picture are asked
all the time. Their times are beside those of the same service at rest.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import requests

from backend.corrections.events import ProjectFacts, SentAnnotation
from backend.corrections.evidence import ControlShares
from backend.corrections.intake import Intake
from backend.corrections.store import Agreement, CorrectionStore
from backend.demo.server_process import backend_process
from backend.labeling.reader import parse_label_config
from backend.learning.reports import StoredReports
from backend.learning.sync import sync
from backend.outputs.brush import encode_mask
from backend.predicting.feature_cache import FeatureCache
from backend.service import build_service
from backend.settings import Settings
from backend.web.app import create_app
from benchmarks.learning import invented_pictures
from benchmarks.networks import random_weights
from benchmarks.timing import machine
from clipdiy.method import build_method

CLASSES = 16
PROJECT = ProjectFacts("1.1767323045", 1, "benchmark")
LABELS = tuple(f"class {i}" for i in range(CLASSES))
CONFIG = (
    '<View><Image name="img" value="$image"/><BrushLabels name="brush" toName="img">'
    + "".join(f'<Label value="{label}"/>' for label in LABELS)
    + "</BrushLabels></View>"
)


def webhook(number: int, rle: list[int]) -> dict[str, Any]:
    """One annotation of one task, as Label Studio sends it."""
    value = {"format": "rle", "rle": rle, "brushlabels": [LABELS[number % CLASSES]]}
    region = {
        **{"id": "r", "from_name": "brush", "to_name": "img", "type": "brushlabels", "image_rotation": 0},
        **{"original_width": 640, "original_height": 480, "value": value},
    }
    when = f"2026-01-03T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z"
    return {
        "action": "ANNOTATION_CREATED",
        "project": {"id": 1, "title": "benchmark", "label_config": CONFIG, "created_at": "2026-01-02T03:04:05Z"},
        "task": {"id": number, "data": {"image": f"https://example.org/{number}.jpg"}},
        "annotation": {"id": number, "task": number, "result": [region], "created_at": when, "updated_at": when},
    }


def percentiles_ms(times_s: list[float]) -> str:
    """Say median, 99 % and the worst, in milliseconds."""
    median, most = np.quantile(times_s, (0.5, 0.99))
    worst = f"worst {1000 * max(times_s):.0f} ms"
    return f"p50 {1000 * median:.1f} ms, p99 {1000 * most:.1f} ms, {worst}, {len(times_s)} times"


def measure_store(count: int) -> list[str]:
    """Receive, read and report on many annotations."""
    rows, cols = np.mgrid[:480, :640]
    rle = encode_mask((rows - 200) ** 2 + (cols - 300) ** 2 < 120**2)
    with TemporaryDirectory() as folder:
        store = CorrectionStore(Path(folder))
        received = []
        for number in range(1, count + 1):
            body = webhook(number, rle)
            begun = time.perf_counter()
            store.receive(body)
            received.append(time.perf_counter() - begun)
        intake = Intake(store, parse_label_config)
        begun = time.perf_counter()
        while intake.read_first() is not None:
            pass
        read_s = time.perf_counter() - begun
        with store.change() as change:
            for number in range(1, count + 1):
                rest = (number % 10 / 10, 0.5, number // 1000)
                row = Agreement("brush", None, LABELS[number % CLASSES], "changed", *rest)
                change.is_examined(PROJECT.key, number, "a version", [row])
        begun = time.perf_counter()
        report = StoredReports(store, when="auto", several="latest").report(PROJECT.key)
        report_s = time.perf_counter() - begun
        assert report is not None
        assert report.pictures == sum(one.pictures for one in report.classes) == count
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        looked = measure_looks(Path(folder))
        synced = measure_sync(intake, count, rle)
    return [
        f"{count:,} webhooks received: {percentiles_ms(received)}",
        f"read: {1000 * read_s / count:.1f} ms each; reported on in {report_s:.2f} s; "
        f"{size / count / 1000:.1f} kB each on disk",
        *looked,
        *synced,
    ]


def measure_looks(folder: Path) -> list[str]:
    """Ask for what people look at: the page, and the command."""
    settings = Settings(preset="starter", device="cpu", data_dir=folder, show_pictures=True)
    client = create_app(build_service(settings, learns=False)).test_client()
    lines = []
    of_class = f"/page/class?project={PROJECT.key}&control=brush&label={LABELS[0].replace(' ', '%20')}"
    for what, path in (("the page", "/"), ("pictures of a class, none of them kept", of_class)):
        times_s = []
        for _ in range(5):
            begun = time.perf_counter()
            answer = client.get(path, headers={"Accept": "text/html"}, base_url="http://127.0.0.1:9090")
            times_s.append(time.perf_counter() - begun)
            assert answer.status_code == 200
            assert LABELS[0] in answer.get_data(as_text=True)
        lines.append(f"{what}: {times_s[0]:.2f} s, then {', '.join(f'{each:.2f}' for each in times_s[1:])} s")
    environment = {**os.environ, "CLIPDIY_DATA_DIR": str(folder)}
    for options in (["--help"], ["--project", "1"], ["--project", "1", "--json"]):
        command = [sys.executable, "-m", "backend.ls", "quality", *options]
        begun = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        lines.append(f"`clipdiy-ls quality {' '.join(options)}`: {time.perf_counter() - begun:.2f} s")
    return lines


class AnsweringApi:
    """Answers as Label Studio's API does, from texts of JSON."""

    def __init__(self, count: int, rle: list[int], config: str) -> None:
        """Take the project's config; tasks are those of the webhooks."""
        self._count, self._rle, self._config = count, rle, config

    def project(self, _number: int) -> Mapping[str, Any]:
        """Return how Label Studio describes the project."""
        return {**webhook(1, self._rle)["project"], "label_config": self._config}

    def task_pages(self, _number: int, *, fields: str, page_size: int) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield all tasks with their annotations."""
        assert fields == "all"
        for first in range(1, self._count + 1, page_size):
            bodies = [webhook(number, self._rle) for number in range(first, min(first + page_size, self._count + 1))]
            page = [{**body["task"], "annotations": [body["annotation"]]} for body in bodies]
            yield json.loads(json.dumps(page))


def measure_sync(intake: Intake, count: int, rle: list[int]) -> list[str]:
    """Make the store equal to what Label Studio has: unchanged, and with another label in its config."""
    gained = CONFIG.replace("</BrushLabels>", '<Label value="one more"/></BrushLabels>')
    lines = []
    for what, config in (("unchanged", CONFIG), ("with one more label", gained), ("unchanged since", gained)):
        begun, worked = time.perf_counter(), time.process_time()
        assert sync(AnsweringApi(count, rle, config), intake, 1).annotations == count
        wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - worked
        lines.append(f"sync of {count:,}, {what}: {wall_s:.1f} s, {cpu_s:.1f} s of processor time")
    return lines


def prepare(folder: Path, encoder: str, count: int) -> None:
    """Put corrected pictures and their features into a data folder."""
    pictures, _ = invented_pictures(count, 512, CLASSES)
    cache = FeatureCache(folder / "features", memory_bytes=0, disk_bytes=20_000_000_000)
    store = CorrectionStore(folder)
    with store.change() as change:
        change.see(replace(PROJECT, label_config=CONFIG))
        for number, picture in enumerate(pictures, 1):
            cache.put(picture.identity, encoder, replace(picture.features, made_by=encoder))
            annotation = SentAnnotation(number, number, {"image": f"https://example.org/{number}.jpg"}, [], 1.0, 1.0)
            shares = ControlShares("brush", None, LABELS, picture.shares, (480, 640))
            change.keep(PROJECT.key, annotation, [("image", shares)], (), {})
            change.is_picture(PROJECT.key, number, "image", None, picture.identity)


class Asking(threading.Thread):
    """Asks the same thing all the time, and keeps how long each answer took."""

    def __init__(self, ask: Any) -> None:
        """Take what asks."""
        super().__init__(daemon=True)
        self._ask = ask
        self._ended = threading.Event()
        self.times_s: list[float] = []

    def run(self) -> None:
        """Ask until it is ended."""
        while not self._ended.is_set():
            begun = time.perf_counter()
            self._ask().raise_for_status()
            self.times_s.append(time.perf_counter() - begun)
            time.sleep(0.02)

    def end(self) -> list[float]:
        """Stop, and return the times."""
        self._ended.set()
        self.join()
        return self.times_s


def measure_service(count: int) -> list[str]:
    """Let a real service learn, and ask it meanwhile."""
    weights = random_weights()
    encoder = build_method(Settings(**weights, device="cpu").core_config(), warm_up=False).encoder_identity
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, encoder, count)
        settings = {f"CLIPDIY_{key.upper()}": value for key, value in weights.items()}
        settings |= {"CLIPDIY_DATA_DIR": name, "CLIPDIY_DEVICE": "cpu", "CLIPDIY_LEARN": "on-training"}
        with backend_process(settings, log_path=Path("build") / "corrections.log") as service:
            picture = "data:image/png;base64," + (
                "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
            )
            body = {
                "tasks": [{"id": 1, "data": {"image": picture}}],
                "project": "2.7",
                "label_config": CONFIG,
                "params": {},
            }

            def predict() -> requests.Response:
                return requests.post(f"{service.url}/predict", json=body, timeout=120)

            predict()
            lines = []
            for state in ("at rest", "while it learns"):
                asking = [
                    Asking(lambda: requests.get(f"{service.url}/health", timeout=30)),
                    Asking(predict),
                ]
                for each in asking:
                    each.start()
                begun = time.perf_counter()
                if state == "at rest":
                    time.sleep(15)
                else:
                    project = {"id": 1, "label_config": CONFIG, "created_at": "2026-01-02T03:04:05Z"}
                    sent = {"action": "START_TRAINING", "project": project}
                    requests.post(f"{service.url}/webhook", json=sent, timeout=30).raise_for_status()
                    store = CorrectionStore(folder)
                    while (stored := store.project(PROJECT.key)) is None or not stored.tried_pictures:
                        time.sleep(0.2)
                    lines.append(f"learned in {time.perf_counter() - begun:.1f} s: {stored.state}")
                health, predicted = (each.end() for each in asking)
                lines.append(f"{state}: /health {percentiles_ms(health)}; /predict {percentiles_ms(predicted)}")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=int, default=10_000)
    parser.add_argument("--pictures", type=int, default=1000, help="0 leaves the second part out")
    chosen = parser.parse_args()
    print(machine())
    print("\n".join(measure_store(chosen.annotations)), flush=True)
    if chosen.pictures:
        print("\n".join(measure_service(chosen.pictures)))


if __name__ == "__main__":
    main()
