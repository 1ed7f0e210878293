"""How many threads compute, and how they wait for each other. Decided before torch is imported, and without it.

PyPI's torch carries GNU's OpenMP (libgomp), which reads its variables once, when it is loaded. Two things are wrong
with what it does by itself:

- A thread that is done with its share of a product spins until the others are, in the hope that this is soon. Beside
  other work it is not: the spinning thread keeps the core that the last one is waiting for. `GOMP_SPINCOUNT=4000`
  lets it sleep soon (`benchmarks/busy.py` has what that costs and gains).
- It starts a thread for every core of the machine, also in a container that may use two of 64. What is over the quota
  is taken away from all of its threads, for most of every tenth of a second.

Nothing here reads the environment by itself: programs hand over theirs, first thing.
"""

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

WAITING = "GOMP_SPINCOUNT"
ROUNDS = 4000
"""Some microseconds: what products that follow each other closely are apart, so that alone nothing is lost."""
SPINNING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Whoever has set one of these has said how threads are to wait."""
COUNT = "OMP_NUM_THREADS"

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def prepare_threads(environ: MutableMapping[str, str]) -> None:
    """Add to an environment what OpenMP is to do here; what a person has set stays. Call it before torch is imported.

    Args:
        environ: Of this process; those of its children are made from it.
    """
    if not any(environ.get(name) for name in SPINNING):
        environ[WAITING] = str(ROUNDS)
    cores = usable_cores()
    if not environ.get(COUNT) and cores < scheduled_cores():
        environ[COUNT] = str(cores)


def usable_cores(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return on how many cores this process can compute at once: those it may run on, or its container's quota.

    A quota of one and a half is two: one thread would leave a third of it unused.

    Args:
        groups: Where the kernel shows its control groups.
        membership: Where it says in which of them this process is.
    """
    quota = quota_cores(groups, membership)
    return scheduled_cores() if quota is None else max(1, min(scheduled_cores(), math.ceil(quota)))


def scheduled_cores() -> int:
    """Return on how many cores the kernel may run this process; of a quota it knows nothing."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def quota_cores(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Return how much of the machine's processors the control group of this process may use, in cores.

    Every group that it lies in may set a quota; the smallest holds. Both kinds of control groups are read: version 2
    (`cpu.max`: quota and period, or `max`) and version 1 (`cpu.cfs_quota_us`, -1 for none, and `cpu.cfs_period_us`).
    In a container the group is shown under its own name, or, as the root, without one: names that are not there are
    passed over.

    Args:
        groups: Where the kernel shows its control groups.
        membership: Where it says in which of them this process is.

    Returns:
        `None` where there is no quota.
    """
    quotas = []
    for line in _read(membership).splitlines():
        _number, controllers, name = [*line.split(":", 2), "", ""][:3]
        kinds = controllers.split(",")
        if controllers and "cpu" not in kinds:
            continue
        root = groups / controllers if controllers else groups
        roots = (root, groups / "cpu") if controllers else (root, groups / "unified")
        for top in roots:
            inner = top / name.strip("/")
            if ".." in inner.parts:  # a group outside of what is shown here
                inner = top
            for folder in (inner, *inner.parents):  # from the process's own group upwards
                if folder == top or top in folder.parents:
                    quotas += _quota(folder)
    return min(quotas, default=None)


def _quota(folder: Path) -> list[float]:
    """Return the quota of one group in cores, if it has one."""
    words = _read(folder / "cpu.max").split() or [
        _read(folder / "cpu.cfs_quota_us").strip(),
        _read(folder / "cpu.cfs_period_us").strip(),
    ]
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # `max`, or no such files
        return []
    return [quota / period] if quota > 0 and period > 0 else []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
