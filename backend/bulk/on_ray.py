"""The runner of many machines: Ray Data hands chunks to actors with weights of their own, and lost ones to others.

What moves through Ray is names and short reports: pictures are read, and shards are written, where the networks are. So
memory is bounded by what one actor needs, and back pressure, retries and placement are Ray's.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from threading import Event
from typing import Any

from backend.bulk.making import ShardReport
from backend.bulk.running import MakeMaker
from backend.bulk.shards import Chunk
from backend.errors import BackendError

HERE = "local"
"""Instead of an address: a Ray of this run's own, on this machine."""


@dataclass(frozen=True)
class RayOptions:
    """Where Ray is, and what an actor takes.

    Attributes:
        address: Of the cluster (`auto`, `ray://host:10001`), or `HERE`.
        cores: CPU cores of an actor where there are no GPUs.
        most: Most actors; as many as there is room for, if left out.
        on_gpu: An actor takes a GPU; where the cluster has any, if left out.
    """

    address: str = HERE
    cores: int = 2
    most: int | None = None
    on_gpu: bool | None = None


class _Actor:
    """Makes shards in a process of its own."""

    def __init__(self, make_maker: MakeMaker) -> None:
        self._maker = make_maker()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        report = self._maker.make(Chunk(str(row["name"]), tuple(str(source) for source in row["sources"])))
        return {"report": json.dumps(asdict(report))}


def run_on_ray(
    chunks: Sequence[Chunk], make_maker: MakeMaker, options: RayOptions, *, stop: Event | None = None
) -> Iterator[ShardReport]:
    """Make shards on a Ray cluster, and yield what became of each, as they end.

    Args:
        chunks: Which.
        make_maker: Called once in each actor.
        options: Where and how.
        stop: Ends it; shards that are under way are lost.

    Raises:
        BackendError: If Ray is not installed, or cannot be reached, or a shard cannot be written.
    """
    try:
        import ray
    except ImportError as err:
        raise BackendError("--ray needs Ray: pip install 'clip-diy-label-studio[ray]'") from err
    if not chunks:
        return
    try:
        started = not ray.is_initialized()
        if started:
            ray.init(address=None if options.address == HERE else options.address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as err:
        raise BackendError(f"Ray at {options.address} cannot be reached: {str(err).splitlines()[0]}") from err
    try:
        yield from _run(chunks, make_maker, options, stop)
    except ray.exceptions.RayError as err:
        raise BackendError(f"Ray gave up: {_cause(err)}") from err
    finally:
        if started:
            ray.shutdown()


def _run(
    chunks: Sequence[Chunk], make_maker: MakeMaker, options: RayOptions, stop: Event | None
) -> Iterator[ShardReport]:
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    there = ray.cluster_resources()
    on_gpu = there.get("GPU", 0) >= 1 if options.on_gpu is None else options.on_gpu
    needs = {"num_gpus": 1, "num_cpus": 1} if on_gpu else {"num_gpus": 0, "num_cpus": options.cores}
    room = int(there.get("GPU", 0)) if on_gpu else int(there.get("CPU", 1)) // options.cores
    most = min(max(1, options.most or room), len(chunks))
    rows = [{"name": chunk.name, "sources": list(chunk.sources)} for chunk in chunks]
    reports = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _Actor, fn_constructor_args=(make_maker,), concurrency=(1, most) if most > 1 else 1, **needs
    )
    for row in reports.iter_rows():
        report = json.loads(str(row["report"]))
        failures = tuple((source, reason, message) for source, reason, message in report.pop("failures"))
        yield ShardReport(**report, failures=failures)
        if stop is not None and stop.is_set():
            return


def _cause(err: BaseException) -> str:
    """Return the innermost reason: what our own code said, where it did."""
    while err.__cause__ is not None or getattr(err, "cause", None) is not None:
        err = err.__cause__ or err.cause  # type: ignore[attr-defined]
    return (str(err).splitlines() or [type(err).__name__])[-1][:500]
