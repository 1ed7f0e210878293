"""How long until the service answers, and the command line its help?

    python -m benchmarks.start [--repeats N] [--preset-weights ViT-B-32]

Each in a process of its own: `clipdiy --help`; the backend from nothing to a first answer of /health under gunicorn,
with weights of the published shapes (random numbers) on disk and in the file cache.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from benchmarks.networks import random_weights
from benchmarks.timing import machine

LIMIT_S = 300


def help_s() -> float:
    """Return the seconds that `clipdiy --help` takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "clipdiy", "--help"], check=True, capture_output=True)
    return time.perf_counter() - start


def ready_s(weights: dict[str, str]) -> float:
    """Return the seconds until /health says that the service is up."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "CLIPDIY_CLIP": weights["clip"],
            "CLIPDIY_FOUND": weights["found"],
            "CLIPDIY_DEVICE": "cpu",
            "CLIPDIY_DATA_DIR": folder,
        }
        command = ["-m", "gunicorn", "--config", "python:backend.gunicorn_conf", "--bind", f"127.0.0.1:{port}"]
        start = time.perf_counter()
        server = subprocess.Popen([sys.executable, *command, "backend._wsgi:app"], env=environment)
        try:
            while time.perf_counter() - start < LIMIT_S and server.poll() is None:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=LIMIT_S) as answer:
                        if answer.status == 200:
                            return time.perf_counter() - start
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.05)
            raise SystemExit("the service did not come up")
        finally:
            server.terminate()
            server.wait()


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
