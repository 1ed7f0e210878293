"""How fast is a mask for what a person points at? Over HTTP, with the service as it runs.

    python -m benchmarks.interaction [--preset starter]

The first gesture on a picture pays for the networks; what follows on the same picture is answered from what is kept. A
box is a picture of its own and pays once. Networks of the published shapes (ViT-B/32, DINO ViT-S/8) with random
weights, or with `--preset starter` the bundled ones.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import requests
import typer
from rich.console import Console
from rich.table import Table

from backend.demo.server_process import ServerProcess, backend_process
from benchmarks.asking import brush_config, data_uri, jpeg
from benchmarks.networks import random_weights
from benchmarks.timing import machine
from clipdiy.starter.scenes import NOUNS, compose_scene

SIZE_HW = (480, 640)
CONFIG = brush_config(NOUNS[:20])


def _point(x: float, y: float) -> dict[str, Any]:
    return {"type": "keypointlabels", "to_name": "i", "value": {"x": x, "y": y, "keypointlabels": [NOUNS[0]]}}


def _box(label: str) -> dict[str, Any]:
    value = {"x": 20, "y": 20, "width": 50, "height": 60, "rectanglelabels": [label]}
    return {"type": "rectanglelabels", "to_name": "i", "value": value}


def _phrase(text: str) -> dict[str, Any]:
    return {"type": "textarea", "to_name": "i", "value": {"text": [text]}}


GESTURES: dict[str, dict[str, Any]] = {
    "first point": _point(50, 50),
    "second point": _point(30, 60),
    "first phrase": _phrase("red ellipse"),
    "same phrase": _phrase("red ellipse"),
    "first box": _box(NOUNS[0]),
    "same box, other label": _box(NOUNS[1]),
}


def _ask(server: ServerProcess, image: str, entry: dict[str, Any]) -> float:
    body = {
        "tasks": [{"id": 1, "data": {"image": image}}],
        "label_config": CONFIG,
        "project": "1.1",
        "params": {"context": {"result": [entry]}},
    }
    begun = time.perf_counter()
    answer = requests.post(f"{server.url}/predict", json=body, timeout=600)
    answer.raise_for_status()
    return time.perf_counter() - begun


def _picture(seed: int) -> str:
    return data_uri(jpeg(compose_scene(seed, size_hw=SIZE_HW).image))


def main(
    pictures: int = typer.Option(5, help="How many pictures the medians are taken over."),
    preset: str = typer.Option("random", help="random or starter."),
) -> None:
    """Measure, and print a table."""
    weights = {"preset": "starter"} if preset == "starter" else random_weights()
    with tempfile.TemporaryDirectory() as folder:
        settings = {f"CLIPDIY_{key.upper()}": value for key, value in weights.items()}
        settings |= {"CLIPDIY_DEVICE": "cpu", "CLIPDIY_DATA_DIR": f"{folder}/data"}
        with backend_process(settings, log_path=Path(folder) / "backend.log") as server:
            _ask(server, _picture(0), GESTURES["first point"])
            seconds: dict[str, list[float]] = {name: [] for name in GESTURES}
            for seed in range(1, pictures + 1):
                image = _picture(seed)
                for name, entry in GESTURES.items():
                    seconds[name].append(_ask(server, image, entry))
    first = statistics.median(seconds["first point"])
    table = Table("gesture", "median", "times faster than the first")
    for name, measured in seconds.items():
        median = statistics.median(measured)
        table.add_row(name, f"{median * 1000:.0f} ms", f"{first / median:.1f}")
    console = Console()
    console.print(table)
    console.print(machine())


if __name__ == "__main__":
    typer.run(main)
