"""Keeps every webhook, one line of JSON each, for whoever learns from them later."""

import errno
import fcntl
import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class WebhookStore:
    """A file that only grows. Safe with several threads and processes: a line is one write, whole or not at all."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made with the first webhook."""
        self.path = folder / "webhooks.jsonl"
        self._lock = threading.Lock()

    def append(self, body: Mapping[str, Any]) -> None:
        """Keep one webhook.

        Args:
            body: What Label Studio sent, with its `action`.

        Raises:
            OSError: If it cannot be written.
        """
        line = json.dumps({"received_at": datetime.now(UTC).isoformat(), **body}, separators=(",", ":")) + "\n"
        data = line.encode()
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                written = file.write(data)
                if written != len(data):
                    # The disk is full: half a line would spoil the next one too.
                    os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size - written)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
