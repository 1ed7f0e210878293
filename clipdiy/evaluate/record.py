"""What is kept of each picture, one line of JSON each, so that an evaluation can be stopped and continued."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from clipdiy.errors import ConfigError
from clipdiy.evaluate.confusion import Counts

COUNTING = 2  # raise it when the same answers begin to be counted in another way


@dataclass(frozen=True)
class Outcome:
    """How one variant did on one picture.

    Attributes:
        confusion: (C, C) int64, truth in rows.
        boundary: (C, 2) int64 boundary pixels in both and in any, or `None`.
        segment_ms: What segmenting took, encoding left out: of the processor, or with a GPU by the clock.
    """

    confusion: Counts
    boundary: NDArray[np.int64] | None
    segment_ms: float


@dataclass(frozen=True)
class Record:
    """How every variant did on one picture.

    Attributes:
        image_id: Which.
        outcomes: By the variant's key.
    """

    image_id: str
    outcomes: Mapping[str, Outcome]

    def to_line(self) -> str:
        """Write as one line of JSON, counts without their zeros: a picture shows few of the classes."""
        variants = {
            key: {
                "confusion": _sparse(outcome.confusion),
                "boundary": None if outcome.boundary is None else _sparse(outcome.boundary),
                "ms": round(outcome.segment_ms, 2),
            }
            for key, outcome in self.outcomes.items()
        }
        return json.dumps({"image": self.image_id, "variants": variants}, separators=(",", ":")) + "\n"

    @classmethod
    def from_line(cls, line: str, classes: int) -> "Record":
        """Read what `to_line` wrote.

        Raises:
            ValueError: If it is something else.
        """
        try:
            content = json.loads(line)
            outcomes = {
                key: Outcome(
                    _dense(value["confusion"], (classes, classes)),
                    None if value["boundary"] is None else _dense(value["boundary"], (classes, 2)),
                    float(value["ms"]),
                )
                for key, value in content["variants"].items()
            }
            return cls(str(content["image"]), outcomes)
        except (KeyError, TypeError, AttributeError, IndexError) as err:
            raise ValueError(f"no record: {err}") from err


def _sparse(counts: NDArray[np.int64]) -> list[list[int]]:
    rows, cols = np.nonzero(counts)
    triples: list[list[int]] = np.stack([rows, cols, counts[rows, cols]], axis=1).tolist()
    return triples


def _dense(sparse: Sequence[Sequence[int]], shape: tuple[int, int]) -> NDArray[np.int64]:
    counts = np.zeros(shape, np.int64)
    for row, col, count in sparse:
        counts[row, col] = count
    return counts


class RecordFile:
    """The file of records: a first line that says of what, then a line for each picture, in the data set's order."""

    def __init__(self, path: Path, identity: Mapping[str, Any], image_ids: Sequence[str], classes: int) -> None:
        """Name the file and say what belongs in it.

        Args:
            path: The file.
            identity: What the records are of, as JSON.
            image_ids: The pictures, in order.
            classes: Number of classes with the background.
        """
        self.path = path
        self._header = json.dumps({"clipdiy": f"evaluation {COUNTING}", "of": identity}, sort_keys=True) + "\n"
        self._image_ids = image_ids
        self._classes = classes

    def start(self, *, resume: bool) -> Iterator[Record]:
        """Yield what is there already; what follows an incomplete or strange line is cut off.

        Args:
            resume: Whether to go on; otherwise the file starts anew.

        Raises:
            ConfigError: If the file holds records of something else.
        """
        if not resume or not self.path.is_file():
            self.path.write_text(self._header, encoding="utf-8")
            return
        with self.path.open("r+", encoding="utf-8", newline="\n") as file:
            if file.readline() != self._header:
                raise ConfigError(
                    f"{self.path} holds the records of another evaluation (other pictures, truths, variants, weights "
                    "or settings): name another folder with --out, or leave --resume out to start anew"
                )
            good = file.tell()
            for image_id in self._image_ids:
                record = self._next(file, image_id)
                if record is None:
                    break
                good = file.tell()
                yield record
            file.truncate(good)

    def _next(self, file: IO[str], image_id: str) -> Record | None:
        line = file.readline()
        if not line.endswith("\n"):
            return None
        try:
            record = Record.from_line(line, self._classes)
        except ValueError:
            return None
        return record if record.image_id == image_id else None
