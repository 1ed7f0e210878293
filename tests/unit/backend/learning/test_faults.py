"""What goes wrong while a project learns, and what is left of it."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fakes import FakeCore, FakeLoader
from learned import made_up
from webhooks import KEY, LABELS, annotated, brushed, left_half, train

from backend.corrections.store import Change, CorrectionStore
from backend.labeling.reader import parse_label_config
from backend.learning.learner import Learner, Wishes
from backend.learning.learning import Learning
from backend.metrics import Metrics
from backend.predicting.feature_cache import FeatureCache
from backend.predicting.predictor import Predictor, PredictorOptions

SUPPORT = Path(__file__).parents[3] / "support"


@pytest.fixture
def make(tmp_path):
    predictors, rooms = [], []

    def _make(learn=lambda lesson: made_up(lesson.vocabulary), **options):
        cache = FeatureCache(None, memory_bytes=10**7, disk_bytes=0)
        predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(), Metrics(), cache)
        predictors.append(predictor)
        wishes = Wishes("on-training")
        rooms.append(
            Learning(
                tmp_path,
                predictor,
                parse_label_config,
                encoder="fake",
                learn=learn,
                evidence=lambda features: features,
                wishes=wishes,
                **options,
            )
        )
        return rooms[-1]

    yield _make
    for room in rooms:
        room.close()
    for predictor in predictors:
        predictor.close()


def test_a_process_that_is_killed_while_it_learns_leaves_the_work_to_the_next(make, tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
from pathlib import Path
from fakes import FakeCore, FakeLoader
from webhooks import annotated, brushed, left_half, train
from backend.labeling.reader import parse_label_config
from backend.learning.learner import Learner, Wishes
from backend.learning.learning import Learning
from backend.metrics import Metrics
from backend.predicting.predictor import Predictor, PredictorOptions

def learn(lesson):
    print("learning", flush=True)
    sys.stdin.read()

predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(), Metrics())
room = Learning(
    Path({str(tmp_path)!r}), predictor, parse_label_config, encoder="fake", learn=learn,
    evidence=lambda features: features, wishes=Wishes("on-training"),
)
room.receive(annotated(1, 1, [brushed(left_half(), "Dog")]))
room.receive(train())
room.start()
room.learner._thread.join()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"learning\n"
        other = make()
        assert not other.learner._is_leader(), "one process learns"
        os.kill(process.pid, signal.SIGKILL)
    assert other.store.fits(KEY) == []
    assert other.store.project(KEY).asked > 0, "what was asked for is not forgotten"
    assert other.learner._is_leader()
    other.learner.step()
    assert other.store.project(KEY).used == 1


def fail_twice(monkeypatch, owner, name, error):
    """Let a method fail the first two times; return what notes its calls."""
    whole, tries = getattr(owner, name), []

    def failing(self, *arguments):
        tries.append(arguments)
        if len(tries) <= 2:
            raise error
        return whole(self, *arguments)

    monkeypatch.setattr(owner, name, failing)
    return tries


def test_a_full_disk_is_said_once_and_tried_again(make, monkeypatch, caplog):
    done = threading.Event()
    learning = make(on_new_version=lambda key: done.set())
    learning.receive(annotated(1, 1, [brushed(left_half(), "Dog")]))
    learning.receive(train())
    fail_twice(monkeypatch, Change, "add_fit", sqlite3.OperationalError("database or disk is full"))
    learning.start()
    assert done.wait(30)
    assert [record.message for record in caplog.records].count(
        "learning: OperationalError: database or disk is full; trying again"
    ) == 1
    assert [fit.number for fit in learning.store.fits(KEY)] == [1]


def test_a_folder_that_refuses_for_a_while_does_not_end_the_thread(make, monkeypatch, caplog):
    done = threading.Event()
    learning = make(on_new_version=lambda key: done.set())
    learning.receive(annotated(1, 1, [brushed(left_half(), "Dog")]))
    learning.receive(train())
    tries = fail_twice(monkeypatch, Learner, "_is_leader", PermissionError(13, "Permission denied"))
    learning.start()
    assert done.wait(30)
    assert len(tries) > 2
    assert "learning: PermissionError: [Errno 13] Permission denied; trying again" in caplog.messages


def test_what_the_core_refuses_is_said_and_the_thread_lives_on(make, caplog):
    def refuses(lesson):
        raise RuntimeError("no")

    learning = make(refuses)
    learning.receive(annotated(1, 1))
    learning.receive(train())
    with pytest.raises(RuntimeError):
        learning.learner.step()
    assert learning.store.project(KEY).used == 0
    assert learning.teach(parse_label_config(LABELS), KEY).version == 0


@pytest.mark.parametrize(
    "result",
    [
        [{**brushed(left_half()), "value": {"format": "rle", "rle": [255] * 60, "brushlabels": ["Cat"]}}],
        [{**brushed(left_half()), "original_width": 10**9}],
        [{**brushed(left_half()), "original_width": float(7)}],
        [{**brushed(left_half()), "type": "polygonlabels", "value": {"points": [[i, i] for i in range(10**5)]}}],
        "nonsense",
        [None, 5, {"type": "brushlabels"}],
    ],
    ids=["rle of gigabytes", "a width of billions", "another size", "a long polygon", "no list", "no regions"],
)
def test_a_hostile_annotation_costs_itself_only(make, result):
    learning = make()
    learning.receive(annotated(1, 1, result))
    learning.receive(annotated(2, 2, [brushed(left_half(), "Dog")]))
    learning.receive(train())
    learning.learner.step()
    assert [*learning.store.evidence(KEY)] == [2]
    assert learning.store.fit(KEY, 1).pictures == 1
    report = learning.report(KEY)
    assert report.unused == {"not readable": 1}
    assert report.annotations == 2


def test_a_webhook_that_cannot_be_unpacked_is_left_out(make):
    learning = make()
    learning.receive(annotated(1, 1))
    with sqlite3.connect(learning.store.path) as database:
        database.execute("UPDATE inbox SET body = ?", (b"damaged",))
    learning.receive(annotated(2, 2))
    learning.learner.step()
    assert [one.number for one in learning.store.annotations(KEY)] == [2]
    assert learning.store.waiting() == 0


def test_old_webhooks_are_read_once(make, tmp_path):
    import json

    lines = [json.dumps({"received_at": "x", **annotated(number, number)}) for number in (1, 2)]
    (tmp_path / "webhooks.1.jsonl").write_text(lines[0] + '\n{"action": "SOMETHING"}\nhalf a li')
    (tmp_path / "webhooks.jsonl").write_text(lines[1] + "\n[]\n")
    learning = make()
    learning.learner.step()
    assert [one.number for one in learning.store.annotations(KEY)] == [1, 2]
    assert sorted(path.name for path in tmp_path.glob("webhooks*")) == ["webhooks.1.jsonl.read", "webhooks.jsonl.read"]
    again = make()
    again.learner.step()
    assert again.store.waiting() == 0


@pytest.mark.parametrize("first", ["teach", "receive"])
def test_a_damaged_file_is_replaced_while_the_service_runs(make, first):
    learning = make()
    learning.receive(annotated(1, 1))
    path = learning.store.path
    path.write_bytes(b"damage" * 4000)
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    config = parse_label_config(LABELS)
    if first == "teach":
        assert learning.teach(config, KEY) is config, "answering goes on"
    learning.receive(annotated(2, 2))
    learning.learner.step()
    assert [one.number for one in CorrectionStore(path.parent).annotations(KEY)] == [2]
