"""Data sets whose truths are grey PNGs with identifiers of their own: which value means which class?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets.sample import (
    IGNORE,
    Background,
    Sample,
    check_fit,
    read_indexed,
    read_photo,
    require_files,
)

Pair = tuple[Path, Path]  # of a picture: the photo, and its truth


@dataclass(frozen=True)
class MappedSet:
    """Photos and truths, wherever they lie. See `Dataset` for what the other attributes mean.

    Attributes:
        pairs: Of each picture, its photo and its truth.
        positions: By the value in a truth: the position of the class, or `IGNORE`. Values that are not here are errors.
        turned: Whether a photo may be turned by its EXIF orientation.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    background: Background
    pairs: Mapping[str, Pair]
    positions: Mapping[int, int] = field(repr=False)
    published_count: int | None = None
    left_out: int = 0
    turned: bool = True

    @property
    def image_ids(self) -> tuple[str, ...]:
        """One name per picture."""
        return tuple(self.pairs)

    def read(self, image_id: str) -> Sample:
        """Read one picture and its truth."""
        photo, path = self.pairs[image_id]
        truth = read_mapped(path, self.positions)
        return check_fit(photo, read_photo(photo, (truth.shape[0], truth.shape[1]), turned=self.turned), truth)

    def photo_name(self, image_id: str) -> str:
        """Return the name of a picture's file without its ending."""
        return self.pairs[image_id][0].stem

    def files(self) -> Iterator[Path]:
        """Yield every file that a figure depends on, but the lists of names."""
        for pair in self.pairs.values():
            yield from pair


def read_mapped(path: Path, positions: Mapping[int, int]) -> NDArray[np.uint8]:
    """Read a truth and give its classes their positions.

    Args:
        path: The file, indexed or grey with 8 bits.
        positions: By value; see `MappedSet`.

    Raises:
        DatasetError: If it is no such picture, or holds a value that means nothing.
    """
    values = read_indexed(path)
    present = np.unique(values).tolist()
    wrong = [value for value in present if value not in positions]
    if wrong:
        raise DatasetError(f"{path} holds the values {wrong}; expected {_as_ranges(sorted(positions))}")
    table = np.full(256, IGNORE, np.uint8)
    for value in present:
        table[value] = positions[value]
    mapped: NDArray[np.uint8] = table[values]
    return mapped


def _as_ranges(values: Sequence[int]) -> str:
    """Write ascending numbers as `0..10, 12..24, 255`."""
    starts = [value for value in values if value - 1 not in values]
    ends = [value for value in values if value + 1 not in values]
    parts = (f"{start}..{end}" if end > start else f"{start}" for start, end in zip(starts, ends, strict=True))
    return ", ".join(parts)


def find_root(places: Sequence[Path], needed: str, title: str, layout: str) -> Path:
    """Return the first place that holds a file or folder.

    Args:
        places: Folders, the one that a person named first.
        needed: What must be there, relative to them.
        title: What the data set is called.
        layout: What is expected where.

    Raises:
        DatasetError: If it is in none of them.
    """
    for place in places:
        if (place / needed).exists():
            return place
    raise DatasetError(f"no {title} at {places[0]}: there is no {needed}. {layout}")


def listed_names(path: Path, layout: str) -> tuple[str, ...]:
    """Read a list of pictures, one name a line.

    Raises:
        DatasetError: If it names none, or one twice.
    """
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if not names:
        raise DatasetError(f"{path} names no picture. {layout}")
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise DatasetError(f"{path} names {twice} twice. {layout}")
    return names


def names_in(folder: Path, ending: str) -> set[str]:
    """Return the names of the files in a folder that end so, without that ending; nothing of hidden files."""
    return {path.name.removesuffix(ending) for path in folder.glob(f"[!.]*{ending}")}


def require_pairs(root: Path, title: str, pairs: Mapping[str, Pair], layout: str) -> None:
    """Stop unless there are pictures, each with its photo and its truth.

    Raises:
        DatasetError: Naming some of what is missing.
    """
    if not pairs:
        raise DatasetError(f"{title} at {root} has no picture. {layout}")
    wanted = [path for pair in pairs.values() for path in pair]
    require_files(f"{title} at {root}", [path for path in wanted if not path.is_file()], len(wanted), layout)
