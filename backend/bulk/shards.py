"""Shards: which pictures go into which, which are finished, and how they are written and read.

    DEST/VERSION/labeling.xml            what was asked for
    DEST/VERSION/part-NAME.parquet       some pictures each, whole or not there
    DEST/features-ENCODER/part-NAME.parquet

A shard is named by the pictures that are in it. So what is finished is known by the names alone, whoever made it on
whichever machine, and a shard that is made twice is the same file.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import parquet

from backend.bulk.places import Stores, join
from backend.bulk.rows import Row, from_batch, to_table
from backend.errors import BackendError

SHARD = 200
"""Pictures in a shard: what is lost when a run is killed; a quarter of an hour of two cores, seconds of a GPU."""
_PREFIX, _ENDING = "part-", ".parquet"
_READ_ROWS = 64
_READ_THREADS = 8


@dataclass(frozen=True)
class Chunk:
    """The pictures of one shard.

    Attributes:
        name: Of the shard; the same pictures have the same.
        sources: Their names.
    """

    name: str
    sources: tuple[str, ...]

    @classmethod
    def of(cls, sources: Sequence[str], salt: str = "") -> "Chunk":
        """Name a shard for pictures."""
        digest = hashlib.sha256("\n".join([salt, *sources]).encode())
        return cls(digest.hexdigest()[:20], tuple(sources))


def chunks_of(sources: Sequence[str], size: int, salt: str = "") -> list[Chunk]:
    """Cut pictures into chunks, in order."""
    return [Chunk.of(sources[start : start + size], salt) for start in range(0, len(sources), size)]


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        chunks: Shards to be made.
        done: Pictures that are in finished shards.
        failed: How many of those failed, by reason.
    """

    chunks: tuple[Chunk, ...]
    done: int
    failed: Mapping[str, int]


class Shards:
    """The shards of one version in one place. Can be sent to other processes."""

    def __init__(self, stores: Stores, place: str, version: str) -> None:
        """Look at nothing yet."""
        self._stores = stores
        self.version = version
        self.folder = join(place, version)

    def names(self) -> set[str]:
        """Return the names of the finished shards."""
        found = (name.rpartition("/")[2] for name in self._stores.files(self.folder))
        return {
            name.removeprefix(_PREFIX).removesuffix(_ENDING)
            for name in found
            if name.startswith(_PREFIX) and name.endswith(_ENDING)
        }

    def plan(
        self,
        sources: Sequence[str],
        size: int = SHARD,
        *,
        retry_failed: bool = False,
        together: Iterable[Chunk] = (),
    ) -> Plan:
        """Leave out what is finished.

        Args:
            sources: All pictures, in the order in which they were listed the last time too.
            size: Pictures in a shard.
            retry_failed: Those that failed are not finished.
            together: Chunks that are made as they are where none of their pictures is finished; of several with the
                same picture, the first.

        Raises:
            BackendError: If a shard cannot be read.
        """
        there = self.names()
        # Shards of another list count too: every picture that is in one of them is finished.
        finished: dict[str, str | None] = {}
        for outcomes in self._all_outcomes(there):
            for source, failure in outcomes:
                if failure is None or source not in finished:
                    finished[source] = failure
        wanted = set(sources)
        failed = {source for source, failure in finished.items() if failure is not None and source in wanted}
        left = [one for one in sources if one not in finished or (retry_failed and one in failed)]
        # The same pictures again, but in another shard than the one where they failed.
        salt = hashlib.sha256(" ".join(sorted(there)).encode()).hexdigest() if retry_failed and failed else ""
        counted: Counter[str] = Counter() if retry_failed else Counter(str(finished[source]) for source in failed)
        free = dict.fromkeys(left)
        taken = []
        for chunk in together:
            if chunk.name not in there and all(source in free for source in chunk.sources):
                taken.append(chunk)
                for source in chunk.sources:
                    free.pop(source, None)
        return Plan((*taken, *chunks_of([*free], size, salt)), len(sources) - len(left), counted)

    def _all_outcomes(self, names: Iterable[str]) -> Iterator[list[tuple[str, str | None]]]:
        """Yield sources with their failures for each shard, in the order of the names."""
        # A bucket takes its time for each of thousands of shards, and for several of them at once the same.
        with ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="shards") as pool:
            yield from pool.map(lambda name: [*self._outcomes(name)], sorted(names))

    def _outcomes(self, name: str) -> Iterator[tuple[str, str | None]]:
        with self._opened(name) as table:
            for batch in table.iter_batches(columns=["source", "failure"]):
                yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)

    def write(self, name: str, rows: Iterable[Row], metadata: Mapping[str, str]) -> None:
        """Write a shard.

        Raises:
            BackendError: If it cannot be written.
        """
        self._stores.write(self._file(name), encoded(to_table(rows, self.version, metadata)))

    def write_config(self, xml: str) -> None:
        """Write down what was asked for, as a labeling config for a project.

        Raises:
            BackendError: If it cannot be written.
        """
        self._stores.write(join(self.folder, "labeling.xml"), xml.encode())

    def rows(self) -> Iterator[Row]:
        """Yield every picture once: of several rows the one that did not fail, of several such the first.

        Shards come in the order of their names, and hold some thousand rows at most in memory.
        """
        names = sorted(self.names())
        seen: set[int] = set()
        several: set[int] = set()
        for outcomes in self._all_outcomes(names):
            for source, _ in outcomes:
                # A number stands for a name: there may be millions. Two names with one number cost nothing but time.
                (several if hash(source) in seen else seen).add(hash(source))
        del seen
        good = self._good(names, several) if several else set()
        told: set[str] = set()
        for name in names:
            with self._opened(name) as table:
                for batch in table.iter_batches(batch_size=_READ_ROWS):
                    for row in from_batch(batch):
                        if row.source in told or (row.failure is not None and row.source in good):
                            continue
                        if hash(row.source) in several:
                            told.add(row.source)
                        yield row

    def _good(self, names: Iterable[str], several: set[int]) -> set[str]:
        found = (outcome for outcomes in self._all_outcomes(names) for outcome in outcomes)
        return {source for source, failure in found if failure is None and hash(source) in several}

    def metadata(self) -> dict[str, str]:
        """Return what else is known, from any of the shards.

        Raises:
            BackendError: If there is no shard.
        """
        names = sorted(self.names())
        if not names:
            raise BackendError(f"{self.folder} holds no shards")
        with self._opened(names[0]) as table:
            found = table.schema_arrow.metadata or {}
        return {key.decode(): text.decode() for key, text in found.items() if not key.startswith(b"ARROW")}

    def _file(self, name: str) -> str:
        return join(self.folder, f"{_PREFIX}{name}{_ENDING}")

    def _opened(self, name: str) -> parquet.ParquetFile:
        return open_table(self._stores, self._file(name))


def versions_in(stores: Stores, place: str) -> list[str]:
    """Return the versions of which a place holds shards."""
    root = join(place) + "/"
    found = (name.removeprefix(root).split("/") for name in stores.files(place) if name.endswith(_ENDING))
    return sorted({parts[0] for parts in found if len(parts) == 2 and not parts[0].startswith("features-")})


def open_table(stores: Stores, name: str) -> parquet.ParquetFile:
    """Open a Parquet file for reading; use it as a context.

    Raises:
        BackendError: If it cannot be opened, or is none.
    """
    store, path = stores.find(name)
    try:
        return parquet.ParquetFile(store.open_input_file(path))
    except (OSError, pa.ArrowException) as err:
        raise BackendError(f"{name} cannot be read: {str(err).splitlines()[0][:300]}") from err


def encoded(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file; the same table has the same."""
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
