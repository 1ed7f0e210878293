"""Do downloads, decoding, the networks and the encoding of masks go on at the same time?

    python -m benchmarks.overlap [--pictures N] [--download-ms MS] [--repeats N] [--preset starter]

The service as it runs, starter weights, no cache, and a web server that answers every picture after some milliseconds.
The time of one /predict with all pictures is compared with the larger of two bounds, measured in the same run: what all
downloads take at the service's parallelism, and what all computing takes without any download, in one process, one step
after the other (decode, encode, segment, regions, JSON).
"""

import statistics
import tempfile
import time
from pathlib import Path

import requests
import typer

from backend.demo.server_process import ServerProcess, backend_process
from backend.labeling.reader import parse_label_config
from backend.predicting.answer import answer_task
from backend.predicting.segmenting import Segmenting
from backend.service import finish_threads
from backend.settings import Settings
from backend.web.spool import to_json
from benchmarks.asking import brush_config, jpeg, serve_files
from benchmarks.timing import machine
from clipdiy.build import build_segmenter
from clipdiy.photo import decode_photo
from clipdiy.segmenter import Segmenter
from clipdiy.starter.scenes import NOUNS, compose_scene

SIZE_HW = (480, 640)
CONFIG = brush_config(NOUNS[:20])


def computing_s(segmenter: Segmenter, files: list[Path], max_px: int) -> float:
    """Return the seconds that all work without downloads takes, one step after the other."""
    config = parse_label_config(CONFIG)
    segmenting = Segmenting(segmenter)
    begun = time.perf_counter()
    for number, file in enumerate(files):
        photo = decode_photo(
            file.read_bytes(),
            max_px=max_px,
            keep_px=segmenter.keep_long_px,
            keep_short_px=segmenter.keep_short_px,
        )
        [features] = segmenter.encode([photo])
        key = (config.controls[0].data_key, None)
        task = {"id": number, "data": {"image": file.name}}
        to_json(answer_task(task, config, {key: features}, segmenting.segment, model_version="v"))
    return time.perf_counter() - begun


def predicting_s(server: ServerProcess, base_url: str, files: list[Path]) -> float:
    """Return the seconds that one /predict with all pictures takes."""
    tasks = [{"id": i, "data": {"image": f"{base_url}/{file.name}"}} for i, file in enumerate(files)]
    body = {"tasks": tasks, "label_config": CONFIG, "project": "1.1", "params": {}}
    begun = time.perf_counter()
    answer = requests.post(f"{server.url}/predict", json=body, timeout=600)
    seconds = time.perf_counter() - begun
    assert all(answer.json()["results"]), "a prediction is missing: is the deadline too short for this machine?"
    return seconds


def main(
    pictures: int = typer.Option(100, help="How many in one request."),
    download_ms: float = typer.Option(50.0, help="What each download takes."),
    repeats: int = typer.Option(3, help="How often; medians are printed."),
    preset: str = typer.Option("starter", help="Weights."),
) -> None:
    """Measure, and print a line."""
    settings = Settings(preset=preset, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = []
        for seed in range(pictures):
            files.append(root / f"{seed}.jpg")
            files[-1].write_bytes(jpeg(compose_scene(seed, size_hw=SIZE_HW).image))
        environment = {
            "CLIPDIY_PRESET": preset,
            "CLIPDIY_DEVICE": "cpu",
            "CLIPDIY_DATA_DIR": f"{root}/data",
            "CLIPDIY_CACHE_MEMORY_BYTES": "0",
            "CLIPDIY_CACHE_DISK_BYTES": "0",
            "CLIPDIY_DEADLINE_S": "500",
            "CLIPDIY_ALLOW_PRIVATE_ADDRESSES": "true",
        }
        segmenter = build_segmenter(settings.core_config())
        computing, predicting = [], []
        backend = backend_process(environment, log_path=root / "backend.log")
        with backend as server, serve_files(root, download_ms / 1000) as base_url:
            predicting_s(server, base_url, files[:2])
            for _ in range(repeats):
                computing.append(computing_s(segmenter, files, settings.max_image_px))
                predicting.append(predicting_s(server, base_url, files))
    downloads = pictures * download_ms / 1000 / settings.download_threads
    computed, predicted = statistics.median(computing), statistics.median(predicting)
    ratio = predicted / max(downloads, computed)
    print(machine())
    print(
        f"{pictures} pictures of 640x480, weights {preset}: /predict {predicted:.2f} s | all downloads of "
        f"{download_ms:.0f} ms over {settings.download_threads} threads {downloads:.2f} s | all computing "
        f"{computed:.2f} s | {ratio:.2f} times the larger one ({finish_threads()} threads "
        "make regions)"
    )


if __name__ == "__main__":
    typer.run(main)
