"""How gunicorn runs the service: one process per GPU, with threads.

Weights are loaded once per process. Threads wait for downloads and for the networks; the networks run for one batch at
a time, so more processes on one device only cost memory.
"""

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

bind = "0.0.0.0:9090"
workers = int(os.environ.get("CLIPDIY_WORKERS", "1"))
worker_class = "backend.web.gunicorn_worker.Worker"  # an event loop in front of threads
threads = 32  # for /predict; other requests have threads of their own
timeout = 600  # loading the weights counts as silence
graceful_timeout = 100  # a request may take as long as Label Studio waits
accesslog = None
errorlog = "-"
control_socket_disable = True  # one socket in the user's home would be shared by every instance

if workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    # Metrics of several processes are put together through files.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="clipdiy-metrics-")


def post_fork(server: "Arbiter", worker: "Worker") -> None:
    """Give every worker a GPU of its own."""
    if server.cfg.workers > 1 and os.environ.get("CLIPDIY_DEVICE", "auto") in ("auto", "cuda"):
        import torch

        count = torch.cuda.device_count()
        if count:
            os.environ["CLIPDIY_DEVICE"] = f"cuda:{(worker.age - 1) % count}"


def child_exit(_server: "Arbiter", worker: "Worker") -> None:
    """Drop the gauges of a worker that ended."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)


def on_exit(_server: "Arbiter") -> None:
    """Remove the folder of the metrics."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    if os.path.basename(folder).startswith("clipdiy-metrics-"):
        shutil.rmtree(folder, ignore_errors=True)
