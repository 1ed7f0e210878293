"""The corrections' file: damage is survived, a newer one left alone, and what does not end well was never begun."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from webhooks import KEY, annotated, project

from backend.corrections.events import SentAnnotation, read_project
from backend.corrections.layout import MIGRATIONS
from backend.corrections.store import CorrectionStore


@pytest.fixture
def store(tmp_path):
    return CorrectionStore(tmp_path)


def keep(store, number):
    """Keep an annotation, each of a task of its own."""
    with store.change() as change:
        change.see(read_project(project()))
        change.keep(KEY, SentAnnotation(number, number, {"image": "ok"}, [], 90.0, 100.0), (), (), {})


def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(store, caplog):
    keep(store, 1)
    store.path.write_bytes(b"not a database at all" * 500)
    for ending in ("-wal", "-shm"):
        store.path.with_name(store.path.name + ending).unlink(missing_ok=True)
    with pytest.raises(sqlite3.DatabaseError):
        store.projects()
    assert store.needs_rebuilding
    assert "moved to corrections.damaged-" in caplog.text
    keep(store, 2)
    assert [one.number for one in store.annotations(KEY)] == [2]
    [aside] = store.path.parent.glob("corrections.damaged-*")
    assert aside.read_bytes().startswith(b"not a database")


def test_a_file_of_a_newer_release_is_left_alone(store):
    keep(store, 1)
    with sqlite3.connect(store.path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(sqlite3.OperationalError, match="newer release"):
        store.projects()
    assert not store.needs_rebuilding
    assert store.path.exists()


def test_a_file_of_the_first_layout_is_brought_to_this_one_and_read_once_more(tmp_path):
    store = CorrectionStore(tmp_path)
    with sqlite3.connect(store.path) as database:
        for statement in MIGRATIONS[0].split(";"):
            database.execute(statement)
        database.execute(
            "INSERT INTO project (key, number, title, label_config, changed) VALUES (?, 1, '', '', 0)", (KEY,)
        )
        database.execute(
            "INSERT INTO annotation VALUES (?, 1, 1, 90, 100, NULL, NULL, 0, 0, NULL, 'v', '[]', NULL)", (KEY,)
        )
        database.execute("PRAGMA user_version = 1")
    assert [(one.number, one.version) for one in store.annotations(KEY)] == [(1, "v")]
    assert (store.digests(KEY), store.beside_words(KEY)) == ({}, {})
    with store.change() as change:
        assert change.is_newer(KEY, SentAnnotation(1, 1, {"image": "ok"}, [], 90.0, 100.0), b"what it says")


def test_a_full_disk_is_told_and_nothing_is_half_written(store, tmp_path):
    # A limit on the size of files stands for a disk that fills up.
    keep(store, 1)
    script = """
import resource, sys
from pathlib import Path
from backend.corrections.store import CorrectionStore
store = CorrectionStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2)
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import os
try:
    store.receive({"action": "x", "rest": os.urandom(200_000).hex()})
except Exception as err:
    print(type(err).__name__)
"""
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=180)
    assert ended.stdout == "OperationalError\n", ended.stderr
    assert store.waiting() == 0
    store.receive(annotated(2))
    assert len(store.annotations(KEY)) == 1


def test_a_process_that_is_killed_in_a_change_leaves_none_of_it(store, tmp_path):
    keep(store, 1)
    script = """
import sys
from pathlib import Path
from backend.corrections.store import CorrectionStore
store = CorrectionStore(Path(sys.argv[1]))
with store.change() as change:
    change.annotation_gone(sys.argv[2], 1)
    print("in it", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(tmp_path), KEY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"in it\n"
        os.kill(process.pid, signal.SIGKILL)
    assert len(store.annotations(KEY)) == 1
    keep(store, 2)
    assert len(store.annotations(KEY)) == 2


def test_threads_do_not_lose_each_others_changes(store):
    def work(first):
        for number in range(first, first + 10):
            keep(store, number)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.annotations(KEY)) == 40
