"""How long until the service answers, and the command line its help?

    python -m benchmarks.start [--repeats N] [--preset-weights ViT-B-32]

Each in a process of its own: `clipdiy --help`; the backend from nothing to a first answer of /health under gunicorn,
with weights of the published shapes (random numbers) on disk and in the file cache.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from backend.demo.server_process import backend_process
from benchmarks.networks import random_weights
from benchmarks.timing import machine


def help_s() -> float:
    """Return the seconds that `clipdiy --help` takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "clipdiy", "--help"], check=True, capture_output=True)
    return time.perf_counter() - start


def ready_s(weights: dict[str, str]) -> float:
    """Return the seconds until /health says that the service is up; asked five times a second."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {f"CLIPDIY_{name.upper()}": value for name, value in weights.items()}
        settings |= {"CLIPDIY_DEVICE": "cpu", "CLIPDIY_DATA_DIR": folder}
        start = time.perf_counter()
        with backend_process(settings, log_path=Path(folder) / "backend.log", ready_timeout_s=300):
            return time.perf_counter() - start


def main() -> None:
    """Run the benchmark and print its lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--architecture", default="ViT-B-32")
    options = parser.parse_args()
    weights = random_weights(options.architecture)
    helps = [help_s() for _ in range(options.repeats + 1)][1:]
    starts = [ready_s(weights) for _ in range(options.repeats + 1)][1:]
    print(machine())
    print(f"clipdiy --help: median {statistics.median(helps):.2f} s, best {min(helps):.2f} s")
    print(f"backend ready, {options.architecture}: median {statistics.median(starts):.1f} s, best {min(starts):.1f} s")


if __name__ == "__main__":
    main()
