"""Where pictures and shards lie: a folder, or a bucket that pyarrow opens. Nothing else here knows the difference.

A place is written as a path, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container@account/prefix`. Who may
open a bucket is found as the cloud's own programs find it: environment, profile, the machine's role. A store of your
own: `s3://bucket/prefix?endpoint_override=http%3A%2F%2Fhost%3A9000&region=us-east-1`. What stands behind the question
mark holds for everything of that kind, and is in no name that is written down.
"""

import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

from pyarrow import ArrowException, fs

from backend.deadline import Deadline
from backend.errors import BackendError, TaskError, TaskFailure

SCHEMES = ("s3", "gs", "az")
_STALE_S = 3600.0
_OPTIONS = re.compile(r"\?(?=[A-Za-z_]+=)")
# What the clouds' own messages say, in pyarrow's words.
_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|HTTP (?:status )?40[13]|Forbidden|40[13] "
)
_MISSING = re.compile(r"NO_SUCH_KEY|NO_SUCH_BUCKET|RESOURCE_NOT_FOUND|HTTP (?:status )?404|does not exist")
_SLOW = re.compile(r"[Tt]imeout|[Tt]imed out")


def scheme_of(name: str) -> str | None:
    """Return the kind of a bucket that a name begins with; `None` for a path."""
    scheme, found, _ = name.partition("://")
    return scheme.lower() if found and scheme.isalnum() else None


class Stores:
    """Opens folders and buckets, each once. Any number of threads may use one; it can be sent to other processes."""

    def __init__(self, queries: Mapping[str, str] | None = None) -> None:
        """Open nothing yet.

        Args:
            queries: What stands behind the question mark, by kind of bucket.
        """
        self._queries = dict(queries or {})
        self._open: dict[str, tuple[fs.FileSystem, str]] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, str]:
        """Leave what is open behind."""
        return self._queries

    def __setstate__(self, queries: dict[str, str]) -> None:
        """Open nothing yet."""
        self.__init__(queries)  # type: ignore[misc]

    @classmethod
    def of(cls, *places: str) -> "Stores":
        """Return what opens these places.

        Raises:
            BackendError: If two of one kind have different queries.
        """
        queries: dict[str, str] = {}
        for place in places:
            scheme, query = scheme_of(place), place[len(plain(place)) + 1 :]
            if scheme in SCHEMES and query and queries.setdefault(scheme, query) != query:
                raise BackendError(f"two {scheme}:// places have different options behind their question marks")
        return cls(queries)

    def find(self, name: str) -> tuple[fs.FileSystem, str]:
        """Return what opens a name, and the name's path in it.

        Raises:
            BackendError: If nothing here opens it, or it makes no sense.
        """
        scheme = scheme_of(name)
        if scheme is None:
            return fs.LocalFileSystem(), name
        if scheme not in SCHEMES:
            raise BackendError(f"{scheme}:// is not opened here; there are: {', '.join(SCHEMES)}, and paths")
        bare = plain(name)
        bucket, _, path = bare.partition("://")[2].partition("/")
        if scheme == "s3" and "@" in bucket:
            # A name is written into shards, lists and messages.
            raise BackendError(
                "s3://KEY:SECRET@BUCKET: keys are taken from the environment or a profile, not from a name"
            )
        if not bucket:
            raise BackendError(f"{bare}: expected {scheme}://BUCKET/PATH")
        root = f"{scheme}://{bucket}"
        with self._lock:
            if root not in self._open:
                self._open[root] = self._make(scheme, bucket)
            store, base = self._open[root]
        return store, f"{base}/{path}".strip("/")

    def _make(self, scheme: str, bucket: str) -> tuple[fs.FileSystem, str]:
        if scheme == "az":
            container, _, account = bucket.partition("@")
            if not account:
                raise BackendError(f"az://{bucket}: expected az://CONTAINER@ACCOUNT/PATH")
            host = account if "." in account else f"{account}.dfs.core.windows.net"
            uri = f"abfs://{container}@{host}/"
        else:
            uri = f"{scheme}://{bucket}/"
        query = self._queries.get(scheme)
        try:
            store, base = fs.FileSystem.from_uri(f"{uri}?{query}" if query else uri)
        except (ArrowException, OSError, ValueError) as err:
            raise BackendError(f"{scheme}://{bucket} cannot be opened: {_first_line(err)}") from err
        return store, base.strip("/")

    def read(self, name: str, *, max_bytes: int, deadline: Deadline) -> bytes:
        """Read a file.

        Args:
            name: Its name.
            max_bytes: Largest that is taken.
            deadline: When it is given up, whatever the store's own client still tries.

        Raises:
            TaskError: `not-found`, `unauthorized`, `too-large`, `timeout` or `download`.
        """

        def whole() -> bytes:
            store, path = self.find(name)
            with store.open_input_file(path) as file:
                size = file.size()
                if size > max_bytes:
                    raise TaskError("too-large", f"expected at most {max_bytes:,} bytes, {name} has {size:,}")
                data: bytes = file.read()
                return data

        try:
            return _within(deadline, whole)
        except TimeoutError as err:
            raise TaskError("timeout", f"{name} took longer than {deadline.seconds:g} s") from err
        except BackendError as err:
            if isinstance(err, TaskError):
                raise
            raise TaskError("unsupported-source", str(err)) from err
        except (OSError, ArrowException) as err:
            raise TaskError(_reason(err), f"{name} cannot be read: {_first_line(err)}") from err

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all: who looks meanwhile sees nothing, or what was there before.

        Raises:
            BackendError: If it cannot be written.
        """
        try:
            store, path = self.find(name)
            if isinstance(store, fs.LocalFileSystem):
                _write_local(Path(path), data)
                return
            # An object comes to be when its last part has arrived.
            with store.open_output_stream(path) as stream:
                stream.write(data)
        except (OSError, ArrowException) as err:
            raise BackendError(f"{plain(name)} cannot be written: {_first_line(err)}") from err

    def files(self, place: str) -> Iterator[str]:
        """Yield the names of all files in a place and below it, in no order; none if it is not there.

        Raises:
            BackendError: If it cannot be looked at.
        """
        store, path = self.find(place)
        root = plain(place).rstrip("/")
        try:
            selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
            for info in store.get_file_info(selector):
                if info.type == fs.FileType.File:
                    yield f"{root}/{info.path[len(path) :].lstrip('/')}"
        except (OSError, ArrowException) as err:
            raise BackendError(f"{root} cannot be listed: {_first_line(err)}") from err

    def kind(self, name: str) -> fs.FileType:
        """Return whether a name is a file, a directory, or nothing.

        Raises:
            BackendError: If it cannot be looked at.
        """
        store, path = self.find(name)
        try:
            return store.get_file_info(path).type
        except (OSError, ArrowException) as err:
            raise BackendError(f"{plain(name)} cannot be looked at: {_first_line(err)}") from err


def _within(deadline: Deadline, read: Callable[[], bytes]) -> bytes:
    """Return what is read, or raise `TimeoutError`: then its thread ends when the client of the store has given up.

    The client for S3 tries one silent object for 99 s, and nothing ends it before. Where no time is left, nothing is
    begun.
    """
    deadline.remaining_s()
    result: Future[bytes] = Future()

    def run() -> None:
        try:
            result.set_result(read())
        except BaseException as err:  # noqa: BLE001 (whoever waits raises it)
            result.set_exception(err)

    threading.Thread(target=run, name="read", daemon=True).start()
    return result.result(deadline.remaining_s())


def plain(name: str) -> str:
    """Return a name without its options, where it is a bucket's; a question mark of a pattern begins none."""
    return _OPTIONS.split(name, maxsplit=1)[0] if scheme_of(name) in SCHEMES else name


def join(place: str, *parts: str) -> str:
    """Return the name of something in a place."""
    return "/".join((plain(place).rstrip("/") or "/", *parts))


def absolute(place: str) -> str:
    """Return a place as other processes can find it."""
    return place if scheme_of(place) else os.path.abspath(place)


def remove_stale(place: str) -> None:
    """Remove what a process left that was killed while it wrote into a folder; buckets keep nothing of the kind."""
    if scheme_of(place) is not None:
        return
    for path in Path(place).glob(".*.tmp"):
        if time.time() - path.stat().st_mtime > _STALE_S:
            path.unlink(missing_ok=True)


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o666 & ~_umask())
        os.replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def _reason(err: Exception) -> TaskFailure:
    text = str(err)
    if isinstance(err, FileNotFoundError) or _MISSING.search(text):
        return "not-found"
    if isinstance(err, PermissionError) or _REFUSED.search(text):
        return "unauthorized"
    return "timeout" if _SLOW.search(text) else "download"


def _first_line(err: Exception) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0][:300]


def known_ending(name: str, endings: Iterable[str]) -> bool:
    """Whether a file's name ends in one of these, in capitals or not."""
    return name.lower().endswith(tuple(endings))
