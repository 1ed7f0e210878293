"""How much faster is a picture answered whose features are known? End to end, over HTTP, with the service as it runs.

    python -m benchmarks.feature_cache

Networks of the published shapes (ViT-B/32, DINO ViT-S/8) with random weights. For each size of picture: the first
prediction, then predictions after one more label was added to the config each time. A second service without a cache
answers the same; every region (mask, score, id) must be the same byte for byte.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import requests
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from backend.demo.server_process import ServerProcess, backend_process
from benchmarks.asking import brush_config, jpeg, serve_files
from benchmarks.networks import random_weights
from benchmarks.timing import machine
from clipdiy.starter.scenes import NOUNS, compose_scene

SIZES_HW = {"640x480": (480, 640), "12 MP": (3000, 4000)}
LABELS = 20


def _predict(server: ServerProcess, url: str, labels: int) -> tuple[float, list[dict[str, object]]]:
    config = brush_config(NOUNS[:labels])
    body = {"tasks": [{"id": 1, "data": {"image": url}}], "label_config": config, "project": "1.1", "params": {}}
    # Label Studio asks /setup before every retrieval.
    begun = time.perf_counter()
    version = requests.post(f"{server.url}/setup", json={"schema": config, "project": "1.1"}, timeout=60).json()
    answer = requests.post(f"{server.url}/predict", json=body, timeout=600).json()
    seconds = time.perf_counter() - begun
    [prediction] = answer["results"]
    assert prediction["model_version"] == version["model_version"]
    return seconds, prediction["result"]


def main(repeats: int = typer.Option(5, help="How many labels are added, one after the other.")) -> None:
    """Measure, and print a table."""
    console = Console()
    weights = {f"CLIPDIY_{key.upper()}": value for key, value in random_weights().items()}
    table = Table("picture", "first", "label added (median)", "times faster", "same regions without a cache")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        common = {**weights, "CLIPDIY_ALLOW_PRIVATE_ADDRESSES": "true", "CLIPDIY_DEVICE": "cpu"}
        cached = backend_process({**common, "CLIPDIY_DATA_DIR": f"{root}/data"}, log_path=root / "cached.log")
        none = {"CLIPDIY_CACHE_MEMORY_BYTES": "0", "CLIPDIY_CACHE_DISK_BYTES": "0"}
        plain = backend_process({**common, **none, "CLIPDIY_DATA_DIR": f"{root}/none"}, log_path=root / "plain.log")
        with cached, plain, serve_files(root) as files:
            # Both have answered once, so that neither first prediction pays for starting threads.
            for name, (height, width) in {"warm-up": (60, 80), **SIZES_HW}.items():
                scene = compose_scene(7, size_hw=(min(height, 750), min(width, 1000)))
                whole = Image.fromarray(scene.image).resize((width, height), Image.Resampling.BICUBIC)
                (root / f"{name}.jpg").write_bytes(jpeg(np.asarray(whole)))
                url = f"{files}/{name}.jpg"
                first, _ = _predict(cached, url, LABELS)
                again, same = [], True
                for added in range(1, (repeats if name != "warm-up" else 1) + 1):
                    seconds, regions = _predict(cached, url, LABELS + added)
                    again.append(seconds)
                _, expected = _predict(plain, url, LABELS + added)
                same = json.dumps(regions) == json.dumps(expected)
                median = statistics.median(again)
                if name != "warm-up":
                    ratio = f"{first / median:.0f}"
                    table.add_row(name, f"{first:.2f} s", f"{median * 1000:.0f} ms", ratio, "yes" if same else "NO")
                assert np.isfinite(median)
        kept = [file.stat().st_size for file in (root / "data" / "features").rglob("*") if file.stat().st_size > 10_000]
    console.print(table)
    console.print(f"features kept on disk: {', '.join(f'{size / 1e3:.0f} kB' for size in sorted(kept))} a picture")
    console.print(machine())


if __name__ == "__main__":
    typer.run(main)
