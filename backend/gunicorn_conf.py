"""How gunicorn runs the service: one process per GPU, with threads.

Weights are loaded once per process. Threads wait for downloads and for the networks; the networks run for one batch at
a time, so more processes on one device only cost memory.
"""

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from backend.web.listening import GRACE_S, THREADS, default_bind, open_warning, worker_count
from clipdiy.threads import prepare_threads

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

prepare_threads(os.environ)  # for the workers, which may import torch before the app does (`post_fork`)

bind = os.environ.get("CLIPDIY_BIND") or default_bind()
workers = worker_count(os.environ.get("CLIPDIY_WORKERS"))
worker_class = "backend.web.gunicorn_worker.Worker"  # an event loop in front of threads
threads = THREADS
timeout = 600  # loading the weights counts as silence
graceful_timeout = GRACE_S
accesslog = None
errorlog = "-"
control_socket_disable = True  # one socket in the user's home would be shared by every instance

if workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    # Metrics of several processes are put together through files.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="clipdiy-metrics-")


def on_starting(server: "Arbiter") -> None:
    """Warn where others can reach the service and nobody is asked for a password."""
    bound = [server.cfg.bind] if isinstance(server.cfg.bind, str) else server.cfg.bind
    warning = open_warning(bound)
    if warning:
        server.log.warning(warning)


def pre_fork(server: "Arbiter", worker: "Worker") -> None:
    """Give a worker the lowest number that no living one has: one that replaces another gets its number."""
    taken = {getattr(other, "slot", None) for other in server.WORKERS.values()}
    worker.slot = next(number for number in range(len(taken) + 1) if number not in taken)


def post_fork(server: "Arbiter", worker: "Worker") -> None:
    """Give every worker a GPU of its own."""
    if server.cfg.workers > 1 and (os.environ.get("CLIPDIY_DEVICE") or "auto") in ("auto", "cuda"):
        import torch

        count = torch.cuda.device_count()
        if count:
            os.environ["CLIPDIY_DEVICE"] = f"cuda:{worker.slot % count}"


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
