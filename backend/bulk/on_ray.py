"""The runner of many machines: Ray Data hands chunks to actors with weights of their own, and lost ones to others.

What moves through Ray is names and short reports: pictures are read, and shards are written, where the networks are. So
memory is bounded by what one actor needs, and back pressure, retries and placement are Ray's.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Event
from types import TracebackType
from typing import Any, Self, TypeVar

from backend.bulk.making import ShardReport
from backend.bulk.running import MakeMaker
from backend.bulk.shards import Chunk
from backend.errors import BackendError
from clipdiy.errors import ClipDiyError

logger = logging.getLogger(__name__)

HERE = "local"
"""Instead of an address: a Ray of this run's own, on this machine."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class RayOptions:
    """Where Ray is, and what an actor takes.

    Attributes:
        address: Of the cluster; `auto` for the one that this machine belongs to; or `HERE`.
        cores: CPU cores of an actor without a GPU.
        most: Most actors; as many as there is room for, if left out. A cluster that starts machines on demand has room
            for few until it is asked for more.
        gpus: Each actor takes a GPU; if left out, where the cluster has any.
    """

    address: str = HERE
    cores: int = 2
    most: int | None = None
    gpus: bool | None = None

    def __post_init__(self) -> None:
        """Raise `BackendError` for what is no address: Ray would say less."""
        if not self.address:
            raise BackendError(f"--ray takes an address: {HERE}, auto, HOST:PORT or ray://HOST:PORT")


class Actor:
    """Makes shards in a process of its own. What goes wrong is told, not raised: Ray would wrap it up and say less."""

    def __init__(self, make_maker: MakeMaker) -> None:
        """Load the weights."""
        self._problem = ""
        try:
            self._maker = make_maker()
        except Exception as err:  # noqa: BLE001 (told by whoever asks next)
            self._problem = _told(err)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Make the shard of a chunk.

        Args:
            row: Its `name` and `sources`.

        Returns:
            JSON with the fields of a `ShardReport`, or with what went wrong.
        """
        report = None
        if not self._problem:
            try:
                chunk = Chunk(str(row["name"]), tuple(str(source) for source in row["sources"]))
                report = asdict(self._maker.make(chunk))
            except Exception as err:  # noqa: BLE001 (told by the driver, which ends the run)
                self._problem = _told(err)
        return {"said": json.dumps({"report": report, "problem": self._problem})}


def _told(err: Exception) -> str:
    if isinstance(err, BackendError | ClipDiyError):
        return str(err)
    logger.exception("making a shard")
    return f"a process that makes shards failed: {type(err).__name__}: {err}"


def report_of(said: str) -> ShardReport:
    """Return what an actor reported.

    Raises:
        BackendError: If it reported that something went wrong.
    """
    fields = json.loads(said)
    if fields["problem"]:
        raise BackendError(fields["problem"])
    report = fields["report"]
    failures = tuple((source, reason, message) for source, reason, message in report.pop("failures"))
    return ShardReport(**report, failures=failures)


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
        address = self._options.address
        # A Ray of this run's own has nobody who would look at a dashboard; one that is there cannot be asked for less.
        own = {"include_dashboard": False} if address == HERE else {}
        try:
            self._is_ours = not ray.is_initialized()
            if self._is_ours:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
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
            found: Found = ray.get(ray.remote(**self.needs())(_call).remote(look))
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
        rows = [{"name": chunk.name, "sources": list(chunk.sources)} for chunk in chunks]
        actors = ray.data.ActorPoolStrategy(min_size=1, max_size=self.most_actors(len(chunks)))
        reports = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Actor, fn_constructor_args=(make_maker,), compute=actors, **self.needs()
        )
        try:
            for row in reports.iter_rows():
                yield report_of(str(row["said"]))
                if stop is not None and stop.is_set():
                    return
        except ray.exceptions.RayError as err:
            raise BackendError(f"Ray gave up: {_cause(err)}") from err

    def most_actors(self, chunks: int) -> int:
        """Return how many actors there may be for so many chunks."""
        import ray

        there, needs = ray.cluster_resources(), self.needs()
        room = int(there.get("GPU", 0)) if needs["num_gpus"] else int(there.get("CPU", 1)) // needs["num_cpus"]
        return min(self._options.most or max(1, room), chunks)

    def needs(self) -> dict[str, int]:
        """Return what an actor takes: a GPU, or some cores."""
        import ray

        gpus = self._options.gpus
        if ray.cluster_resources().get("GPU", 0) >= 1 if gpus is None else gpus:
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
