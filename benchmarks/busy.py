"""How long does a picture take beside other work? Ways for OpenMP's threads to wait, and fewer of them.

    python -m benchmarks.busy [--starts N] [--repeats N] [--weights starter|random] [--neighbours N] [--size WxH]
        [--dtype float32] [--only "WAY;WAY"]

Each way is a process of its own, as libgomp, the OpenMP that PyPI's torch carries, reads the environment when it is
loaded, and is started `--starts` times, as where its memory lies is chance. They encode the same photo in turns,
another first each time: alone at first, then beside neighbours, processes that do nothing but compute, one a core. How
many times faster one is: the median over the rounds of what the first way took, divided by what it took itself. A round
alone counts only if nobody else computed meanwhile (less than `--others` of a core); it is tried again until then,
`--patience` times. What ways with as many threads encoded must be the same to the byte.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NEIGHBOUR = "while True: pass"
OPENMP = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "MKL_NUM_THREADS")


def ways(cores: int) -> dict[str, dict[str, str]]:
    """Return the variables of every way."""
    return {
        "as it comes": {},
        "PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
        "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
        "spin 2,000": {"GOMP_SPINCOUNT": "2000"},
        "spin 4,000": {"GOMP_SPINCOUNT": "4000"},
        "spin 10,000": {"GOMP_SPINCOUNT": "10000"},
        "a thread fewer": {"OMP_NUM_THREADS": str(max(1, cores - 1))},
        "a thread fewer, PASSIVE": {"OMP_NUM_THREADS": str(max(1, cores - 1)), "OMP_WAIT_POLICY": "PASSIVE"},
    }


def main() -> None:
    """Run the benchmark and print a table; with `--serve`, be one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="rounds after each start")
    parser.add_argument("--starts", type=int, default=1)
    parser.add_argument("--weights", choices=("starter", "random"), default="starter")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--neighbours", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", help="names of ways, with semicolons")
    parser.add_argument("--others", type=float, default=0.15, help="cores that others may take in a quiet round")
    parser.add_argument("--patience", type=int, default=20, help="rounds that are given up for one that is quiet")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options)
        return
    named = ways(len(os.sched_getaffinity(0)))
    if options.only:
        named = {name: named[name.strip()] for name in options.only.split(";")}
    alone: dict[str, list[float]] = {name: [] for name in named}
    beside: dict[str, list[float]] = {name: [] for name in named}
    digests = set()
    for _ in range(options.starts):
        with ExitStack() as stack:
            children = {name: stack.enter_context(child(variables, options)) for name, variables in named.items()}
            digests |= in_turns(children, alone, options.repeats, options.others, options.patience)
            with neighbours(options.neighbours):
                time.sleep(1)
                digests |= in_turns(children, beside, options.repeats)
    rounds = f"{options.starts} starts with {options.repeats} rounds each"
    print(f"{options.weights}, {options.dtype}, {options.size}, {rounds}")
    threads = {name: variables.get("OMP_NUM_THREADS", "all") for name, variables in named.items()}
    kinds = {(threads[name], digest) for name, digest in digests}
    same = len(kinds) == len(set(threads.values()))
    print(f"what was encoded is {'the same to the byte' if same else 'NOT the same'} in ways with as many threads")
    print(f"| | alone | | beside {options.neighbours} that compute | |\n|---|---:|---:|---:|---:|")
    first = next(iter(named))
    for name in named:
        columns = (f"{shown(taken[name])} | {gain(taken[first], taken[name]):.2f}x" for taken in (alone, beside))
        print(f"| {name} | {' | '.join(columns)} |")


def shown(taken: list[float]) -> str:
    """Write a median with the least and the most, seconds."""
    return f"{statistics.median(taken):.3f} s ({min(taken):.3f} to {max(taken):.3f})"


def gain(first: list[float], other: list[float]) -> float:
    """Return how many times faster the other is: the median over rounds, of which each compares neighbours in time."""
    return statistics.median(a / b for a, b in zip(first, other, strict=True))


def in_turns(
    children: "dict[str, subprocess.Popen[str]]",
    taken: dict[str, list[float]],
    repeats: int,
    others: float | None = None,
    patience: int = 0,
) -> set[tuple[str, str]]:
    """Let all encode in turns, another one first each time.

    Args:
        children: By the name of their way.
        taken: Everybody's seconds; these are added.
        repeats: How often each.
        others: How many cores others may take meanwhile, or `None` for any number.
        patience: How many times, for all of them together, one is asked again because others took more.

    Returns:
        (name, digest) of all that was encoded.
    """
    digests = set()
    disturbed = 0
    names = list(children)
    for number in range(repeats):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            process = children[name]
            while True:
                before = busy_s(), own_s(process.pid), time.perf_counter()
                seconds, digest = ask(process)
                after = busy_s(), own_s(process.pid), time.perf_counter()
                busy, own, wall = (b - a for a, b in zip(before, after, strict=True))
                if others is None or busy - own <= others * wall + 0.02:  # the clock ticks every 10 ms
                    break
                disturbed += 1
                if disturbed > patience * repeats:
                    print("others computed too often: the rounds alone were not alone", file=sys.stderr)
                    others = None
                time.sleep(0.2)
            taken[name].append(seconds)
            digests.add((name, digest))
    return digests


def busy_s() -> float:
    """Return for how long the machine's processors have computed, seconds; what a hypervisor took away included."""
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def own_s(pid: int) -> float:
    """Return for how long a process has computed, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(process: "subprocess.Popen[str]") -> tuple[float, str]:
    """Let one process encode the photo once."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    seconds, digest = json.loads(process.stdout.readline())
    return float(seconds), str(digest)


@contextmanager
def child(variables: dict[str, str], options: argparse.Namespace) -> "Iterator[subprocess.Popen[str]]":
    """Run a process that has loaded its weights and encodes when it is asked to; end it."""
    environment = {name: value for name, value in os.environ.items() if name not in OPENMP} | variables
    command = [sys.executable, "-m", "benchmarks.busy", "--serve", "--weights", options.weights]
    command += ["--dtype", options.dtype, "--size", options.size]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        ask(process)  # loads, and warms up
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Compute beside it, in so many processes of one thread; end them."""
    processes = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def serve(options: argparse.Namespace) -> None:
    """Encode one photo for every line of standard input; write seconds and a digest for each."""
    from benchmarks.networks import random_config
    from clipdiy.build import build_segmenter
    from clipdiy.config import preset
    from clipdiy.photo import Photo
    from clipdiy.starter.scenes import compose_scene

    kept = {"device": "cpu", "dtype": options.dtype}
    segmenter = build_segmenter(preset("starter", **kept) if options.weights == "starter" else random_config(**kept))
    width, height = map(int, options.size.split("x"))
    photo = Photo.from_array(compose_scene(7, size_hw=(height, width)).image)
    for _ in sys.stdin:
        start = time.perf_counter()
        [features] = segmenter.encode([photo])
        taken = time.perf_counter() - start
        print(json.dumps([taken, hashlib.sha256(features.to_bytes()).hexdigest()]), flush=True)


if __name__ == "__main__":
    main()
