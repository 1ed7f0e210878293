"""How predictions come into Label Studio, each once, whatever happens on the way.

Label Studio takes many in one request and says how many it has written. If it does not answer, nobody knows: they may
be there, all, some or none. So it is asked which are there, always, and only the others are sent. What is refused as a
whole for the sake of one (a task that has been deleted, a value that it does not like) is halved until that is found.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Protocol

import orjson

from backend.deadline import Clock
from backend.label_studio_api import LabelStudioApiError, Patience, TaskFilter

MAX_BYTES = 50_000_000
"""Of one request. Label Studio takes 250 MB, proxies before it mostly less."""
LOOKED_UP = 500
"""Ids in one question: they go into an address."""
_REFUSED = (400, 404, 413, 422)


class PredictionsApi(Protocol):
    """What is used of `backend.label_studio_api.LabelStudioApi`."""

    def task_pages(
        self, project_id: int, *, fields: str = ..., page_size: int = ..., filters: Sequence[TaskFilter] = ...
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield tasks in lists, in the order of their ids."""

    def import_predictions(self, project_id: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        """Write predictions in one request."""


@dataclass(frozen=True)
class Encoded:
    """A prediction on its way.

    Attributes:
        task: Id of its task.
        score: Its score.
        result: Its regions as JSON.
    """

    task: int
    score: float
    result: bytes


class Writer:
    """Writes the predictions of one version into one project."""

    def __init__(
        self,
        api: PredictionsApi,
        project: int,
        version: str,
        *,
        patience: Patience | None = None,
        stop: Event | None = None,
        max_bytes: int = MAX_BYTES,
        clock: Clock = time.monotonic,
    ) -> None:
        """Write nothing yet.

        Args:
            api: Of the Label Studio; patient where it only reads.
            project: Which project.
            version: Under which they are stored.
            patience: How long writing is tried again.
            stop: Ends waiting.
            max_bytes: Of one request.
            clock: Seconds that only go up.
        """
        self._clock = clock
        self._api = api
        self._project = project
        self._version = version
        self._patience = patience or Patience()
        self._stop = stop or Event()
        self._max_bytes = max_bytes

    def write(self, batch: Iterable[Encoded], refused: Callable[[int, str], object]) -> int:
        """Write predictions, and return how many were; those that are there already are left alone.

        Args:
            batch: For different tasks.
            refused: Told of each that Label Studio does not take: its task, and why.

        Raises:
            LabelStudioApiError: If Label Studio was away for longer than there is patience, or refuses everything.
        """
        return sum(self._write(part, refused) for part in _parts([*batch], self._max_bytes))

    def there(self, tasks: Iterable[int]) -> set[int]:
        """Return which tasks have a prediction of this version."""
        ids = [*tasks]
        version = TaskFilter.with_version(self._version)
        found: set[int] = set()
        for start in range(0, len(ids), LOOKED_UP):
            some = TaskFilter.among(ids[start : start + LOOKED_UP])
            for page in self._api.task_pages(self._project, page_size=LOOKED_UP, filters=[some, version]):
                found |= {int(task["id"]) for task in page}
        return found

    def _write(self, batch: list[Encoded], refused: Callable[[int, str], object]) -> int:
        """Look which are there and write the others, again and again, until all are there."""
        until, wait_s, written = self._clock() + self._patience.for_s, self._patience.first_s, 0
        is_in_doubt = False
        while True:
            there = self.there(one.task for one in batch)
            # What an attempt has written whose answer was lost counts as written by us.
            written += len(there) if is_in_doubt else 0
            batch = [one for one in batch if one.task not in there]
            if not batch:
                return written
            try:
                self._api.import_predictions(self._project, [self._sent(one) for one in batch])
            except LabelStudioApiError as err:
                if err.status in _REFUSED:
                    return written + self._halve(batch, err, refused)
                if not err.is_passing or self._clock() + wait_s > until or self._stop.wait(wait_s):
                    raise
                wait_s = min(2 * wait_s, self._patience.most_s)
                is_in_doubt = err.may_be_done
            else:
                return written + len(batch)

    def _halve(self, batch: list[Encoded], err: LabelStudioApiError, refused: Callable[[int, str], object]) -> int:
        if len(batch) == 1:
            refused(batch[0].task, str(err))
            return 0
        middle = len(batch) // 2
        return self._write(batch[:middle], refused) + self._write(batch[middle:], refused)

    def _sent(self, one: Encoded) -> dict[str, Any]:
        result = orjson.Fragment(one.result)
        return {"task": one.task, "result": result, "score": one.score, "model_version": self._version}


def _parts(batch: list[Encoded], max_bytes: int) -> Iterator[list[Encoded]]:
    """Cut a batch so that no part is too large; one that is too large by itself is tried by itself."""
    part: list[Encoded] = []
    size = 0
    for one in batch:
        if part and size + len(one.result) > max_bytes:
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one.result)
    if part:
        yield part
