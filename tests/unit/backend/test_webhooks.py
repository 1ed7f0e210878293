"""The file of webhooks: private, bounded, whole lines whoever writes."""

import fcntl
import json
import os
import stat
import subprocess
import sys

import pytest

from backend.errors import RequestError
from backend.webhooks import WebhookStore


def numbers(path):
    return [json.loads(line)["number"] for line in path.read_text().splitlines()]


def test_nobody_else_may_read_it(tmp_path):
    before = os.umask(0)
    try:
        store = WebhookStore(tmp_path)
        store.append({"action": "A"})
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_the_newest_are_kept_within_the_limit(tmp_path):
    store = WebhookStore(tmp_path, max_bytes=2000)
    for number in range(100):
        store.append({"number": number})
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    kept = numbers(store.older_path) + numbers(store.path)
    assert kept == list(range(100 - len(kept), 100))
    assert len(kept) > 10


def test_one_that_is_larger_than_all_is_kept_alone(tmp_path):
    store = WebhookStore(tmp_path, max_bytes=1000)
    store.append({"number": 1})
    store.append({"number": 2, "text": "x" * 5000})
    store.append({"number": 3})
    assert (numbers(store.older_path), numbers(store.path)) == ([2], [3])


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_what_is_no_json_is_refused(tmp_path, value):
    with pytest.raises(RequestError, match="number"):
        WebhookStore(tmp_path).append({"action": "A", "value": [value]})
    assert not list(tmp_path.iterdir())


def test_several_processes_write_whole_lines_and_lose_none(tmp_path):
    script = """
import sys
from pathlib import Path
from backend.webhooks import WebhookStore
store = WebhookStore(Path(sys.argv[1]), max_bytes=24_000)
for i in range(100):
    store.append({"number": 1000 * int(sys.argv[2]) + i})
"""
    started = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(number)]) for number in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    store = WebhookStore(tmp_path)
    kept = numbers(store.older_path) + numbers(store.path)
    for number in range(3):
        own = [value for value in kept if value // 1000 == number]
        assert own == list(range(1000 * number + 100 - len(own), 1000 * number + 100))


def test_a_file_that_another_process_has_just_put_aside_is_not_written_to(tmp_path, monkeypatch):
    store = WebhookStore(tmp_path)
    store.append({"number": 1})
    lock, others = fcntl.flock, [lambda: os.replace(store.path, store.older_path), store.path.touch]

    def slow_lock(*arguments):
        while others:
            others.pop(0)()
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", slow_lock)
    store.append({"number": 2})
    assert (numbers(store.older_path), numbers(store.path)) == ([1], [2])
