"""Keeps every webhook, one line of JSON each, for whoever learns from them later."""

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class WebhookStore:
    """A file that only grows. Safe with several threads and processes: one line is one write."""

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
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                file.write(line.encode())
