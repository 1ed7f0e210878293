"""The runner of many machines: Ray Data hands chunks to actors with weights of their own, and lost ones to others.

What moves through Ray is names and short reports: pictures are read, and shards are written, where the networks are. So
memory is bounded by what one actor needs, and back pressure, retries and placement are Ray's.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from threading import Event
from types import TracebackType
from typing import Any, Self, TypeVar

from backend.bulk.making import ShardReport
from backend.bulk.running import MakeMaker
from backend.bulk.shards import Chunk
from backend.errors import BackendError
from clipdiy.errors import ClipDiyError

HERE = "local"
"""Instead of an address: a Ray of this run's own, on this machine."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class RayOptions:
    """Where Ray is, and what an actor takes.

    Attributes:
        address: Of the cluster; `auto` for the one that this machine belongs to; or `HERE`.
        cores: CPU cores of an actor where there are no GPUs.
        most: Most actors; as many as there is room for, if left out.
    """

    address: str = HERE
    cores: int = 2
    most: int | None = None


class _Actor:
    """Makes shards in a process of its own. What our own code refuses is told, not raised: Ray would wrap it up."""

    def __init__(self, make_maker: MakeMaker) -> None:
        self._problem = ""
        try:
            self._maker = make_maker()
        except (BackendError, ClipDiyError) as err:
            self._problem = str(err)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        report = None
        try:
            if not self._problem:
                chunk = Chunk(str(row["name"]), tuple(str(source) for source in row["sources"]))
                report = asdict(self._maker.make(chunk))
        except BackendError as err:
            self._problem = str(err)
        return {"said": json.dumps({"report": report, "problem": self._problem})}


class RayRunner:
    """Makes shards on a Ray cluster. Use it as a context: it is connected meanwhile."""

    def __init__(self, options: RayOptions) -> None:
        """Connect to nothing yet."""
        self._options = options
        self._is_ours = False

    def __enter__(self) -> Self:
        """Connect, or start.

        Raises:
            BackendError: If Ray is not installed, or cannot be reached.
        """
        try:
            import ray
        except ImportError as err:
            raise BackendError("--ray needs Ray: pip install 'clip-diy-label-studio[ray]'") from err
        address = None if self._options.address == HERE else self._options.address
        try:
            self._is_ours = not ray.is_initialized()
            if self._is_ours:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as err:
            raise BackendError(
                f"Ray at {self._options.address} cannot be reached: {(str(err).splitlines() or ['no reason given'])[0]}"
            ) from err
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect, and end what was started."""
        import ray

        if self._is_ours:
            ray.shutdown()

    def ask(self, look: Callable[[], Found]) -> Found:
        """Return what is found where shards will be made: weights may compute otherwise there than here.

        Raises:
            BackendError: If that fails.
        """
        import ray

        try:
            found: Found = ray.get(ray.remote(**self._needs())(_call).remote(look))
        except ray.exceptions.RayError as err:
            raise BackendError(f"Ray gave up: {_cause(err)}") from err
        return found

    def run(self, chunks: Sequence[Chunk], make_maker: MakeMaker, stop: Event | None = None) -> Iterator[ShardReport]:
        """Make shards, and yield what became of each as they end.

        Args:
            chunks: Which.
            make_maker: Called once in each actor.
            stop: Ends it; shards that are under way are lost.

        Raises:
            BackendError: If one cannot be made or written.
        """
        import ray

        if not chunks:
            return
        needs = self._needs()
        there = ray.cluster_resources()
        room = int(there.get("GPU", 0)) if needs["num_gpus"] else int(there.get("CPU", 1)) // self._options.cores
        most = min(max(1, self._options.most or room), len(chunks))
        rows = [{"name": chunk.name, "sources": list(chunk.sources)} for chunk in chunks]
        actors = ray.data.ActorPoolStrategy(min_size=1, max_size=most)
        reports = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Actor, fn_constructor_args=(make_maker,), compute=actors, **needs
        )
        try:
            for row in reports.iter_rows():
                said = json.loads(str(row["said"]))
                if said["problem"]:
                    raise BackendError(said["problem"])
                report = said["report"]
                failures = tuple((source, reason, message) for source, reason, message in report.pop("failures"))
                yield ShardReport(**report, failures=failures)
                if stop is not None and stop.is_set():
                    return
        except ray.exceptions.RayError as err:
            raise BackendError(f"Ray gave up: {_cause(err)}") from err

    def _needs(self) -> dict[str, int]:
        """Return what an actor takes: a GPU where the cluster has any, else cores."""
        import ray

        if ray.cluster_resources().get("GPU", 0) >= 1:
            return {"num_gpus": 1, "num_cpus": 1}
        return {"num_gpus": 0, "num_cpus": self._options.cores}


def _call(look: Callable[[], Found]) -> Found:
    return look()


def _cause(err: BaseException) -> str:
    """Return the innermost reason: what our own code said, where it did."""
    while err.__cause__ is not None or isinstance(getattr(err, "cause", None), BaseException):
        err = err.__cause__ or err.cause  # type: ignore[attr-defined]
    if isinstance(err, BackendError | ClipDiyError):
        return str(err)
    return (str(err).splitlines() or [type(err).__name__])[-1][:500]
