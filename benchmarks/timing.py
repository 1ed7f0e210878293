"""How the benchmarks measure: ways run in turns, medians, and the machine named beside the figures.

Two clocks. `wall` is what a person waits. `cpu` counts the processor's time that the process got: on a busy machine,
with one thread (`OMP_NUM_THREADS=1`), the only one whose ratios mean anything.
"""

import argparse
import gc
import platform
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


def add_options(parser: argparse.ArgumentParser, repeats: int = 5) -> None:
    """Add what every benchmark takes: how often, and by which clock."""
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")


def medians_ms(
    ways: dict[str, Callable[[], object]], repeats: int, *, warm_up: int = 1, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Run all ways in turns and return each one's median time in milliseconds.

    In turns, because a shared machine is faster in one minute than in the next: ratios of medians then still hold.
    """
    for _ in range(warm_up):
        for way in ways.values():
            way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = clock()
            way()
            taken[name].append((clock() - start) * 1e3)
    return {name: statistics.median(times) for name, times in taken.items()}


def extra_memory_mb(way: Callable[[], object]) -> float:
    """Return by how much the process grew at most while `way` ran, in megabytes; read every millisecond.

    Memory that Python or torch kept from before and uses again is not seen, so run the hungriest way last or each in a
    process of its own.
    """
    gc.collect()
    before = peak = _resident_bytes()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, _resident_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    kept = way()
    peak = max(peak, _resident_bytes())
    done.set()
    watcher.join()
    del kept
    return (peak - before) / 1e6


def machine() -> str:
    """Name the processor and the threads, for the record."""
    flags = Path("/proc/cpuinfo")
    text = flags.read_text() if flags.is_file() else ""
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), "")
    features = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if flag in text.split()]
    return (
        f"{name or platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"{' '.join(features) or 'no vector extensions named'}, torch {torch.__version__}"
    )


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
