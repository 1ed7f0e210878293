"""Earlier releases kept webhooks as lines of `webhooks.jsonl`, which nothing read. They are read once."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from backend.corrections.events import read_event
from backend.corrections.store import CorrectionStore
from backend.errors import RequestError

logger = logging.getLogger(__name__)

NAMES = ("webhooks.1.jsonl", "webhooks.jsonl")
"""The older file first."""
DONE = ".read"
LONGEST_LINE = 256_000_000


def read_old_webhooks(folder: Path, store: CorrectionStore) -> int:
    """Put what old files say among the webhooks that wait, and rename the files.

    A process that dies in between reads a file again: that changes nothing, as a webhook says what is so.

    Args:
        folder: The data folder.
        store: Where they go.

    Returns:
        How many webhooks were taken over.
    """
    taken = 0
    for name in NAMES:
        path = folder / name
        if not path.exists():
            continue
        for body in _lines(path):
            store.receive(body)
            taken += 1
        os.replace(path, path.with_name(name + DONE))
        logger.info("%s has been read into the corrections, and is called %s now", name, name + DONE)
    return taken


def _lines(path: Path) -> Iterator[Mapping[str, object]]:
    """Yield what can be used: whole lines of JSON that say something about corrections."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            try:
                body = json.loads(line)
                if isinstance(body, Mapping) and read_event(body) is not None:
                    yield body
            except (ValueError, RequestError, RecursionError):
                continue
