"""The one thread in which the networks run, and how all others compute beside it.

One, and always the same: torch computes with a team of threads for each thread that calls it, and teams of more threads
than there are cores keep each other waiting. So the networks' thread has a team as large as the machine, and whoever
else computes does so alone (`computing_alone`).
"""

from backend.predicting.fair_pool import FairPool


def network_thread() -> FairPool:
    """Return the thread for one process: one job after the other, in turns among those who ask."""
    return FairPool(1, "networks")


def computing_alone() -> None:
    """Let every thread that has not computed yet do so by itself. Call it when the networks' thread has its team."""
    import torch

    torch.set_num_threads(1)
