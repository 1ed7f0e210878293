"""Keeps webhooks, one line of JSON each, for whoever learns from them later."""

import errno
import fcntl
import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.errors import RequestError

MAX_BYTES = 1_000_000_000


class WebhookStore:
    """A file that grows. Safe with several threads and processes: a line is one write, whole or not at all.

    Annotations are nobody's business but the project's: only the service's own user may read the file. When it would
    become larger than half of what is allowed it becomes `webhooks.1.jsonl`, in place of the one before.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Name the folder; it is made with the first webhook."""
        self.path = folder / "webhooks.jsonl"
        self.older_path = folder / "webhooks.1.jsonl"
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def append(self, body: Mapping[str, Any]) -> None:
        """Keep one webhook.

        Args:
            body: What Label Studio sent, with its `action`.

        Raises:
            RequestError: If it holds a number that JSON does not have, such as 1e999.
            OSError: If it cannot be written.
        """
        kept = {"received_at": datetime.now(UTC).isoformat(), **body}
        try:
            line = json.dumps(kept, separators=(",", ":"), allow_nan=False) + "\n"
        except ValueError as err:
            raise RequestError("body: a number is too large") from err
        data = line.encode()
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while not self._write(data):
                pass

    def _write(self, data: bytes) -> bool:
        """Write a line to the file; False if it was full, and there is a new one now."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(descriptor, "ab", buffering=0) as file:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            facts = os.fstat(descriptor)
            if not self._is_current(facts):
                return False  # another process has begun a new one meanwhile
            if facts.st_size and facts.st_size + len(data) > self._max_bytes // 2:
                os.replace(self.path, self.older_path)
                return False
            written = file.write(data)
            if written != len(data):
                # The disk is full: half a line would spoil the next one too.
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return True

    def _is_current(self, facts: os.stat_result) -> bool:
        try:
            return os.path.samestat(facts, self.path.stat())
        except FileNotFoundError:
            return False
