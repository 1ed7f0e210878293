"""Which pictures are meant by what was typed: a folder, a pattern, a list, a column of a table, a bucket."""

import glob
import os
import re
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyarrow import csv, fs, parquet

from backend.bulk.places import SCHEMES, Stores, absolute, join, known_ending, plain, scheme_of
from backend.errors import BackendError
from clipdiy.cli.photos import PHOTO_ENDINGS

LIST_ENDINGS = (".txt", ".lst")
TABLE_ENDINGS = (".parquet", ".csv", ".tsv")
_MAGIC = re.compile(r"[*?\[]")


def list_pictures(source: str, stores: Stores, column: str | None = None) -> list[str]:
    """Return the names of pictures, each once: sorted, but those of a list or table in its order.

    Args:
        source: A folder (the pictures in it and below, but for hidden ones), a pattern (`*`, `?`, `[...]`, `**`), a
            text file with a name a line, a Parquet or CSV file, a picture; each of them may be in a bucket.
        stores: Opens them.
        column: Of a table, in which the names stand. Names that are no whole addresses count from where the list or
            table lies.

    Returns:
        Paths as they are from the root, so that other machines and later runs name the same picture the same.

    Raises:
        BackendError: If there is nothing of the kind.
    """
    source = absolute(source)
    bare = plain(source)
    if known_ending(bare, TABLE_ENDINGS):
        found: Iterable[str] = _beside(bare, _column(bare, stores, column))
    elif column is not None:
        raise BackendError(f"{bare}: a column is for tables ({', '.join(TABLE_ENDINGS)})")
    elif known_ending(bare, LIST_ENDINGS):
        found = _beside(bare, _lines(bare, stores))
    else:
        found = sorted(_pictures(bare, stores))
    names = [*dict.fromkeys(found)]
    if not names:
        raise BackendError(f"{bare}: no pictures there")
    return names


def _pictures(place: str, stores: Stores) -> Iterator[str]:
    is_local = scheme_of(place) is None
    if is_local and not os.path.exists(place) and _MAGIC.search(place):
        yield from (name for name in glob.iglob(place, recursive=True) if _is_picture(name, _fixed(place)))
        return
    if not is_local and _MAGIC.search(place):
        root = _fixed(place)
        pattern = _pattern(place)
        yield from (name for name in stores.files(root) if pattern.fullmatch(name) and _is_picture(name, root))
        return
    kind = stores.kind(place)
    if kind == fs.FileType.File:
        yield place
    elif kind == fs.FileType.NotFound:
        raise BackendError(f"{place}: no such file or folder")
    else:
        yield from (name for name in stores.files(place) if _is_picture(name, place))


def _is_picture(name: str, root: str) -> bool:
    below = name[len(root.rstrip("/")) :].split("/")
    return known_ending(name, PHOTO_ENDINGS) and not any(part.startswith(".") for part in below)


def _fixed(place: str) -> str:
    """Return the folders before the first that is a pattern."""
    parts = place.split("/")
    first = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    return "/".join(parts[:first]) or "/"


def _pattern(place: str) -> re.Pattern[str]:
    """Translate a pattern as `glob` understands it: `*` within a folder's name, `**/` any number of folders."""
    out = []
    position = 0
    while position < len(place):
        rest = place[position:]
        if rest.startswith("**/"):
            out.append("(?:[^/]+/)*")
            position += 3
            continue
        bracket = re.match(r"\[(!?)([^\]/]+)\]", rest)
        if bracket:
            inside = bracket[2].replace("\\", "\\\\")
            out.append(f"[{'^' if bracket[1] else ''}{inside}]")
            position += bracket.end()
            continue
        out.append({"*": "[^/]*", "?": "[^/]"}.get(rest[0]) or re.escape(rest[0]))
        position += 1
    return re.compile("".join(out))


def _beside(listing: str, names: Iterable[str]) -> Iterator[str]:
    """Make whole names of those that count from where the list lies."""
    folder = listing.rpartition("/")[0] or "/"
    for name in names:
        scheme = scheme_of(name)
        if scheme in SCHEMES:
            yield plain(name)
        elif scheme is not None or (os.path.isabs(name) and scheme_of(listing) is None):
            yield name
        else:
            yield join(folder, name.lstrip("/"))


def _lines(name: str, stores: Stores) -> Iterator[str]:
    store, path = stores.find(name)
    try:
        with store.open_input_stream(path) as stream:
            text = stream.read().decode()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as err:
        raise BackendError(f"{name} cannot be read as a list: {str(err).splitlines()[0][:300]}") from err
    for line in text.splitlines():
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield entry


def _column(name: str, stores: Stores, column: str | None) -> Iterator[str]:
    store, path = stores.find(name)
    try:
        if known_ending(name, (".parquet",)):
            with store.open_input_file(path) as file:
                table = parquet.ParquetFile(file)
                wanted = _choose(name, column, table.schema_arrow.names)
                for batch in table.iter_batches(columns=[wanted]):
                    yield from _texts(name, batch.column(0))
            return
        with store.open_input_stream(path) as stream:
            delimiter = "\t" if known_ending(name, (".tsv",)) else ","
            reader = csv.open_csv(stream, parse_options=csv.ParseOptions(delimiter=delimiter))
            wanted = _choose(name, column, reader.schema.names)
            for batch in reader:
                yield from _texts(name, batch.column(wanted))
    except (OSError, pa.ArrowException) as err:
        raise BackendError(f"{name} cannot be read as a table: {str(err).splitlines()[0][:300]}") from err


def _choose(name: str, column: str | None, there: list[str]) -> str:
    if column is None and len(there) == 1:
        return there[0]
    if column is None or column not in there:
        asked = "name the column with the pictures" if column is None else f"there is no column {column!r}"
        raise BackendError(f"{name}: {asked} (--column); there are: {', '.join(there[:50])}")
    return column


def _texts(name: str, values: pa.Array) -> Iterator[str]:
    for value in values.to_pylist():
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise BackendError(f"{name}: expected addresses of pictures as texts, got {type(value).__name__}")
        yield value
