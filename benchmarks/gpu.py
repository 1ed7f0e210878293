"""On a GPU: photos a second by batch, against the plain reading on the same GPU, and the share of its matmul rate.

    python -m benchmarks.gpu [--repeats N] [--architectures ViT-B-32,ViT-B-16] [--batches 1,8,32]
        [--ways eager,compiled]

Photos a second are given twice: label maps after the encoding, and, as in the service, in a few threads of their own
while the next photos are encoded. And how long one picture of a megapixel takes over HTTP, with the service as it runs.
Random weights of the published shapes. Without a GPU it prints its rows with "not yet measured"; `--device cpu` runs
all of it on the CPU instead, to see that it works.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import requests
import torch

from backend.demo.server_process import backend_process
from backend.service import finish_threads
from benchmarks.asking import brush_config, data_uri, jpeg
from benchmarks.networks import random_config, random_weights, reference_of
from clipdiy.build import build_segmenter
from clipdiy.cli.bench import matmul_gflops, median_ms
from clipdiy.config import Pamr
from clipdiy.photo import Photo
from clipdiy.profile import segmenter_gflop
from clipdiy.segmenter import Segmenter
from clipdiy.starter.scenes import compose_scene
from clipdiy.vocabulary import Vocabulary, make_vocabulary

NOT_YET = "not yet measured"
SIZE_HW = (480, 640)
MEGAPIXEL_HW = (866, 1155)
WARM_UP = 3
LABELS = [f"thing {i}" for i in range(20)]


def wait() -> None:
    """Wait until a GPU has done everything it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def stage_seconds(url: str) -> dict[str, float]:
    """Return how long the service has spent on each stage so far, by its own count."""
    text = requests.get(f"{url}/metrics", timeout=60).text
    return {
        name: float(value)
        for name, value in re.findall(r'^clipdiy_stage_seconds_sum{stage="(\w+)"} (\S+)$', text, re.M)
    }


def http_ms(architecture: str, device: str, repeats: int, *, compiled: bool) -> tuple[float, dict[str, float]]:
    """Measure /predict with one new picture of a megapixel, once the service is warm.

    Returns:
        The median time, and the mean time of each stage.
    """
    config = brush_config(LABELS)
    settings = {f"CLIPDIY_{name.upper()}": value for name, value in random_weights(architecture).items()}
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        settings |= {
            "CLIPDIY_DEVICE": device,
            "CLIPDIY_DATA_DIR": f"{folder}/data",
            "CLIPDIY_COMPILE": str(compiled).lower(),
        }
        with backend_process(settings, log_path=Path(folder) / "backend.log", ready_timeout_s=600) as server:
            before: dict[str, float] = {}
            for seed in range(repeats + WARM_UP):
                if seed == WARM_UP:
                    before = stage_seconds(server.url)
                image = data_uri(jpeg(compose_scene(seed, size_hw=MEGAPIXEL_HW).image, quality=90))
                body = {"tasks": [{"id": seed, "data": {"image": image}}], "label_config": config, "project": "1.1"}
                begun = time.perf_counter()
                answer = requests.post(f"{server.url}/predict", json=body, timeout=600)
                taken.append((time.perf_counter() - begun) * 1e3)
                assert answer.json()["results"][0], "no prediction"
            stages = {name: (spent - before[name]) / repeats * 1e3 for name, spent in stage_seconds(server.url).items()}
    return statistics.median(taken[WARM_UP:]), stages


def side_by_side_s(segmenter: Segmenter, photos: Sequence[Photo], vocabulary: Vocabulary) -> float:
    """Return how long photos take one batch after the other, while earlier ones get their label maps; of one batch."""
    batches = max(4, 32 // len(photos))
    begun = time.perf_counter()
    with ThreadPoolExecutor(finish_threads()) as finishing:
        for _ in range(batches):
            for features in segmenter.encode(photos):
                finishing.submit(segmenter.segment, features, vocabulary)
    wait()
    return (time.perf_counter() - begun) / batches


def measure(architecture: str, ways: list[str], batches: list[int], repeats: int, device: str) -> None:
    """Print the rows of one architecture."""
    config = random_config(architecture, device=device, pamr=Pamr())
    vocabulary = make_vocabulary(LABELS)
    prompts = [prompts[0] for prompts in vocabulary.prompts]
    photos = [Photo.from_array(compose_scene(seed, size_hw=SIZE_HW).image) for seed in range(max(batches))]
    plain = build_segmenter(config)
    rate = matmul_gflops(plain.device, plain.clip.dtype, wait)
    work = segmenter_gflop(plain, photos[0])
    reference = reference_of(build_segmenter(random_config(architecture, device="cpu", dtype="float32")))
    for part in (reference.clip, reference.vit, reference.head):
        part.to(device)
    with torch.device(device):
        slow = median_ms(lambda: reference.segment(photos[0].pixels, prompts), max(1, repeats // 3), wait) / 1e3
    print(
        f"{architecture}: reference {1 / slow:.2f} photos/s, matmul {rate / 1e3:.0f} TFLOP/s, {work:.0f} GFLOP a photo"
    )
    for way in ways:
        segmenter = plain if way == "eager" else build_segmenter(replace(config, compiled=True))
        for count in batches:
            encode = median_ms(lambda count=count, it=segmenter: it.encode(photos[:count]), repeats, wait) / 1e3
            features = segmenter.encode(photos[:count])
            label_maps = lambda features=features, it=segmenter: [it.segment(one, vocabulary) for one in features]  # noqa: E731
            answer = median_ms(label_maps, repeats, wait) / 1e3
            all_s = encode + answer
            beside = statistics.median(side_by_side_s(segmenter, photos[:count], vocabulary) for _ in range(3))
            print(
                f"{architecture}, {way}, {count} at once: {count / all_s:.1f} photos/s, {slow * count / all_s:.1f} x "
                f"reference, encoding at {work * count / encode / rate:.0%} of the matmul rate, "
                f"label maps {answer / count * 1e3:.1f} ms each; side by side {count / beside:.1f} photos/s, "
                f"{slow * count / beside:.1f} x reference, {count / beside * 86_400 / 1e6:.2f} million a day"
            )
        p50, stages = http_ms(architecture, device, repeats, compiled=way == "compiled")
        of_it = ", ".join(f"{name} {spent:.0f} ms" for name, spent in stages.items())
        print(f"{architecture}, {way}: one picture of a megapixel over HTTP, p50 {p50:.0f} ms; of it, {of_it}")


def main() -> None:
    """Run the benchmark and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--architectures", default="ViT-B-32,ViT-B-16")
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--ways", default="eager,compiled", help="eager, compiled, or both with a comma")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    batches = [int(count) for count in options.batches.split(",")]
    ways = options.ways.split(",")
    available = torch.cuda.is_available()
    print(torch.cuda.get_device_name() if available else "no GPU on this machine")
    for architecture in options.architectures.split(","):
        if available or options.device == "cpu":
            measure(architecture, ways, batches, options.repeats, options.device)
            continue
        for way in ways:
            for count in batches:
                print(f"{architecture}, {way}, {count} at once: {NOT_YET}")
            print(f"{architecture}, {way}: one picture of a megapixel over HTTP: {NOT_YET}")


if __name__ == "__main__":
    main()
