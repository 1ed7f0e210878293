"""FOUND with fused attention and its last block cut short, against the form that writes attention out.

    python -m benchmarks.found [--repeats N] [--clock wall|cpu] [--sides 256,448] [--dtype float32]

ViT-S/8 with random weights, both run in turns. Memory is that of one call in a process of its own.
"""

import argparse
import subprocess
import sys

import torch

from benchmarks.networks import random_config, reference_of
from benchmarks.timing import CLOCKS, add_options, extra_memory_mb, machine, medians_ms
from clipdiy.build import build_segmenter


def main() -> None:
    """Run the benchmark and print its lines; with `--memory-of`, one number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--sides", default="256,448")
    parser.add_argument("--memory-of", choices=("explicit", "fused"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    segmenter = build_segmenter(random_config(device="cpu", dtype="float32"), warm_up=False)
    reference, found = reference_of(segmenter), segmenter._objectness_network
    sides = [int(side) for side in options.sides.split(",")]
    with torch.inference_mode():
        ways = {"explicit": reference.keys, "fused": lambda images: found(images).keys}
        if options.memory_of:
            images = torch.randn(1, 3, sides[0], sides[0])
            ways[options.memory_of](torch.randn(1, 3, 64, 64))
            print(extra_memory_mb(lambda: ways[options.memory_of](images)))
            return
        print(f"{machine()}, {options.clock} clock")
        for side in sides:
            images = torch.randn(1, 3, side, side)
            ms = medians_ms(
                {name: lambda way=way, images=images: way(images) for name, way in ways.items()},
                options.repeats,
                clock=CLOCKS[options.clock],
            )
            memory = {name: memory_mb(name, side) for name in ways}
            cosine = torch.cosine_similarity(ways["explicit"](images), ways["fused"](images)).min()
            print(
                f"{side} x {side}: explicit {ms['explicit']:7.0f} ms, {memory['explicit']:5.0f} MB | "
                f"fused {ms['fused']:7.0f} ms, {memory['fused']:5.0f} MB | {ms['explicit'] / ms['fused']:.2f}x, "
                f"{memory['fused'] / memory['explicit']:.2f} of the memory | smallest cosine of a key {cosine:.6f}"
            )


def memory_mb(way: str, side: int) -> float:
    """Return the extra memory of one call, measured in a new process."""
    command = [sys.executable, "-m", "benchmarks.found", "--memory-of", way, "--sides", str(side)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
