"""On a GPU: photos a second by batch, against the plain reading on the same GPU, and the share of its matmul rate.

    python -m benchmarks.gpu [--repeats N] [--architectures ViT-B-32,ViT-B-16] [--batches 1,8,32]

Random weights of the published shapes. Without a GPU it prints its rows with "not yet measured".
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.networks import random_config, reference_of
from clipdiy.build import build_segmenter
from clipdiy.cli.bench import segmenter_gflop
from clipdiy.photo import Photo
from clipdiy.starter.scenes import compose_scene
from clipdiy.vocabulary import make_vocabulary

NOT_YET = "not yet measured"
SIZE_HW = (480, 640)
LABELS = [f"thing {i}" for i in range(20)]


def median_s(way: Callable[[], object], repeats: int) -> float:
    """Return the median time of a way with everything it started on the GPU done; the first run prepares."""
    times = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        way()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def matmul_gflops(dtype: torch.dtype, repeats: int) -> float:
    """Return the rate of a large product."""
    side = 8192
    left, right = (torch.randn(side, side, device="cuda", dtype=dtype) for _ in range(2))
    return 2 * side**3 / 1e9 / median_s(lambda: left @ right, repeats)


def measure(architecture: str, batches: list[int], repeats: int) -> None:
    """Print the rows of one architecture."""
    config = random_config(architecture, device="cuda")
    segmenter = build_segmenter(config)
    vocabulary = make_vocabulary(LABELS)
    prompts = [prompts[0] for prompts in vocabulary.prompts]
    photos = [Photo.from_array(compose_scene(seed, size_hw=SIZE_HW).image) for seed in range(max(batches))]
    rate = matmul_gflops(segmenter.clip.dtype, repeats)
    work = segmenter_gflop(segmenter, photos[0])
    reference = reference_of(build_segmenter(random_config(architecture, device="cpu", dtype="float32")))
    for part in (reference.clip, reference.vit, reference.head):
        part.cuda()
    with torch.device("cuda"):
        slow = median_s(lambda: reference.segment(photos[0].pixels, prompts), max(1, repeats // 3))
    print(
        f"{architecture}: reference {1 / slow:.2f} photos/s, matmul {rate / 1e3:.0f} TFLOP/s, {work:.0f} GFLOP a photo"
    )
    for count in batches:
        encode = median_s(lambda count=count: segmenter.encode(photos[:count]), repeats)
        features = segmenter.encode(photos[:count])
        answer = median_s(lambda features=features: [segmenter.segment(one, vocabulary) for one in features], repeats)
        all_s = encode + answer
        print(
            f"{architecture}, {count} at once: {count / all_s:.1f} photos/s, {slow * count / all_s:.1f} x reference, "
            f"encoding at {work * count / encode / rate:.0%} of the matmul rate, "
            f"label maps {answer / count * 1e3:.1f} ms each"
        )


def main() -> None:
    """Run the benchmark and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--architectures", default="ViT-B-32,ViT-B-16")
    parser.add_argument("--batches", default="1,8,32")
    options = parser.parse_args()
    batches = [int(count) for count in options.batches.split(",")]
    available = torch.cuda.is_available()
    print(torch.cuda.get_device_name() if available else "no GPU on this machine")
    for architecture in options.architectures.split(","):
        if available:
            measure(architecture, batches, options.repeats)
        else:
            for count in batches:
                print(f"{architecture}, {count} at once: {NOT_YET}")


if __name__ == "__main__":
    main()
