"""The one thread in which the networks run, one batch at a time over all requests.

One, and always the same: torch computes with a team of threads for each thread that calls it, and teams of more threads
than there are cores keep each other waiting. So the networks' thread has a team as large as the machine, and whoever
else computes does so alone (`computing_alone`).
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

Result = TypeVar("Result")


class NetworkThread:
    """Runs one job after the other. May be asked from any thread but its own."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="networks")

    def run(self, job: Callable[[], Result], until: float | None = None) -> tuple[Result] | None:
        """Run a job and wait for it.

        Args:
            job: What to run.
            until: When it must have begun, by the monotonic clock; what has begun is waited for.

        Returns:
            What the job returned, alone in a tuple; `None` if its turn did not come in time.
        """
        future = self._thread.submit(job)
        wait([future], None if until is None else max(0.0, until - time.monotonic()))
        if future.cancel():  # what has begun cannot be
            return None
        return (future.result(),)

    def close(self) -> None:
        """End the thread; a job that has begun is finished, the others never begin."""
        self._thread.shutdown(cancel_futures=True)


def computing_alone() -> None:
    """Let every thread that has not computed yet do so without a team. Call it when the networks' thread has one."""
    import torch

    torch.set_num_threads(1)
