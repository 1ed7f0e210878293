"""The file of corrections: whole changes, newest wins, deleting leaves nothing, damage is survived."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from webhooks import KEY, annotated, project

from backend.corrections import store as room
from backend.corrections.events import SentAnnotation, read_event, read_project
from backend.corrections.evidence import ControlShares
from backend.corrections.store import Agreement, BesideWords, CorrectionStore, Full, KeptAnnotation
from clipdiy.learning.evidence import class_shares

SHARES = ControlShares("brush", None, ("Cat", "Dog"), class_shares(np.eye(50, dtype=np.int64)), (50, 50))
FACTS = read_project(project())


@pytest.fixture
def store(tmp_path):
    return CorrectionStore(tmp_path)


def sent(number=1, task=1, *, updated=100.0, **further):
    return SentAnnotation(number, task, {"image": f"ok:{task}"}, [], 90.0, updated, **further)


def keep(store, annotation, waits=None, key=KEY):
    with store.change() as change:
        change.see(FACTS)
        if change.is_newer(key, annotation, b""):
            change.keep(key, annotation, [("image", SHARES)], (), waits or {})


def contents(store):
    """Everything that is stored, but for times and what only says that something is gone."""
    with sqlite3.connect(store.path) as database:
        found = {}
        for table in ("annotation", "task", "picture", "evidence", "agreement", "beside_words", "fit", "made_of"):
            found[table] = database.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall()
        found["project"] = database.execute("SELECT key, number, title, label_config, pinned FROM project").fetchall()
    return found


def test_webhooks_wait_in_order_and_only_the_service_may_read_them(store):
    assert (store.waiting(), store.first(), store.exists) == (0, None, False)
    store.receive(annotated(1))
    store.receive(annotated(2))
    assert store.waiting() == 2
    number, _, body = store.first()
    assert body == annotated(1)
    with store.change() as change:
        change.has_read(number)
    assert store.first()[2] == annotated(2)
    for ending in ("", "-wal", "-shm"):
        path = store.path.with_name(store.path.name + ending)
        assert not path.exists() or path.stat().st_mode & 0o077 == 0


def test_too_many_that_wait_are_refused(store, monkeypatch):
    monkeypatch.setattr(room, "MOST_INBOX_BYTES", 2000)
    store.receive(annotated(1))
    store.receive(annotated(2))
    with pytest.raises(Full):
        [*map(store.receive, (annotated(number) for number in range(3, 100)))]
    assert 2 <= store.waiting() < 99
    with closing(sqlite3.connect(store.path)) as database:
        [waiting] = database.execute("SELECT sum(length(body)) FROM inbox").fetchone()
    assert 1500 < waiting <= 2000, "as many as there is room for, and no more"


def test_what_is_kept_is_nothing_that_waits(store, monkeypatch):
    for number in range(1, 101):
        keep(store, sent(number, number))
    assert store.path.stat().st_size > 50_000
    monkeypatch.setattr(room, "MOST_INBOX_BYTES", 5_000)
    store.receive(annotated(1))
    assert store.waiting() == 1


def test_few_that_wait_are_not_counted_each_time(store, monkeypatch):
    store.receive(annotated(1))
    asked = []
    connect = sqlite3.connect

    def told(*arguments, **further):
        database = connect(*arguments, **further)
        database.set_trace_callback(asked.append)
        return database

    monkeypatch.setattr("backend.corrections.database.sqlite3.connect", told)
    store.receive(annotated(2))
    assert any("INSERT INTO inbox" in one for one in asked)
    assert not any("sum(" in one for one in asked), "ten thousand would have to be looked at"


def test_what_is_kept_of_an_annotation(store):
    keep(
        store,
        sent(5, 3, who=7, lead_time_s=2.0, started_from=9, is_ground_truth=True, prediction={"model_version": "v1"}),
    )
    assert store.annotations(KEY) == [KeptAnnotation(5, 3, 100.0, 90.0, 7, False, True, 9, "v1", (), 2.0)]
    [kept] = store.evidence(KEY)[5]
    assert (kept.data_key, kept.shares.control, kept.shares.page, kept.shares.labels) == (
        "image",
        "brush",
        None,
        ("Cat", "Dog"),
    )
    assert kept.shares.size_hw == (50, 50)
    assert kept.shares.shares.positions == (0, 1)
    assert (kept.shares.shares.shares == SHARES.shares.shares).all()
    assert store.task_data(KEY, 3) == {"image": "ok:3"}
    assert store.task_data(KEY, 4) is None


def test_twice_late_and_out_of_order(store):
    keep(store, sent(updated=100.0, lead_time_s=1.0))
    keep(store, sent(updated=100.0, lead_time_s=1.0))  # twice
    keep(store, sent(updated=200.0, lead_time_s=2.0))
    keep(store, sent(updated=150.0, lead_time_s=3.0))  # late
    assert [one.lead_time_s for one in store.annotations(KEY)] == [2.0]
    with store.change() as change:
        change.annotation_gone(KEY, 1)
        change.annotation_gone(KEY, 2)  # its creation comes late
        change.task_gone(KEY, 8)
    keep(store, sent(updated=300.0))
    keep(store, sent(2))
    keep(store, sent(3, 8))
    assert store.annotations(KEY) == []


def test_deleting_equals_never_having_had(store, tmp_path):
    (tmp_path / "other").mkdir()
    other = CorrectionStore(tmp_path / "other")
    for each in (store, other):
        keep(each, sent(1, 1))
    keep(store, sent(2, 2), {"result": []})
    with store.change() as change:
        change.is_picture(KEY, 2, "image", None, "abc")
        row = Agreement("brush", None, "Cat", "changed", 0.5, 0.7, 1)
        change.is_examined(KEY, 2, "v", [row], BesideWords(1, 0.5, 0.25))
        change.task_gone(KEY, 2)
    assert contents(store) == contents(other)
    with store.change() as change:
        change.is_picture(KEY, 1, "image", None, "abc")
        change.is_examined(KEY, 1, "v", [row], BesideWords(1, 0.5, 0.25))
        change.project_gone(KEY)
    assert all(not rows for rows in contents(store).values())


def test_a_project_keeps_to_itself(store):
    keep(store, sent(1, 1))
    keep(store, sent(1, 1, updated=999.0), key="2.5")
    with store.change() as change:
        change.annotation_gone("2.5", 1)
    assert [one.updated for one in store.annotations(KEY)] == [100.0]
    assert store.annotations("2.5") == []


def test_pictures_are_of_the_tasks_data(store):
    keep(store, sent(1, 1))
    with store.change() as change:
        change.is_picture(KEY, 1, "image", None, "abc")
        change.is_picture(KEY, 1, "pages", 2, "def")
        change.is_picture(KEY, 99, "image", None, "of no task")
    assert store.pictures(KEY) == {(1, "image", None): "abc", (1, "pages", 2): "def"}
    assert store.pictures(KEY, 1) == store.pictures(KEY)
    assert store.pictures(KEY, 2) == {}
    keep(store, sent(2, 1))  # the same data
    assert len(store.pictures(KEY)) == 2
    changed = SentAnnotation(3, 1, {"image": "another"}, [], 90.0, 100.0)
    keep(store, changed)
    assert store.pictures(KEY) == {}


def test_which_pictures_a_fit_was_learned_from(store):
    keep(store, sent(1, 1))
    keep(store, sent(2, 2))
    with store.change() as change:
        change.is_picture(KEY, 1, "image", None, "abc")
        change.is_picture(KEY, 1, "pages", 2, "def")
        change.is_picture(KEY, 2, "image", None, "ghi")
        one = change.add_fit(KEY, 1, "note", b"x", [1])
        both = change.add_fit(KEY, 2, "note", b"y", [1, 2])
        change.add_fit(KEY, 2, "note", b"z", [])
    assert store.learned_from(KEY) == {one: {"abc", "def"}, both: {"abc", "def", "ghi"}}
    assert store.learned_from("another") == {}


def test_what_waits_to_be_compared(store):
    keep(store, sent(1), {"result": [1], "prediction": {"model_version": "v"}})
    keep(store, sent(2, 2))
    assert store.unexamined(KEY) == [1]
    assert store.waits(KEY, 1) == {"result": [1], "prediction": {"model_version": "v"}}
    row = Agreement("brush", 4, "Cat", "deleted", 0.0, None, 3)
    with store.change() as change:
        change.is_examined(KEY, 1, "v3", [row], BesideWords(3, 0.0, 0.25))
        change.is_examined(KEY, 77, "v3", [row], BesideWords(3, 0.0, 0.25))  # gone meanwhile
    assert (store.unexamined(KEY), store.waits(KEY, 1)) == ([], None)
    assert store.agreements(KEY) == {1: [row]}
    assert store.beside_words(KEY) == {1: BesideWords(3, 0.0, 0.25)}
    assert store.annotations(KEY)[0].version == "v3"
    keep(store, sent(1, updated=101.0), {"result": []})
    assert (store.unexamined(KEY), store.agreements(KEY), store.beside_words(KEY)) == ([1], {}, {})


class TestFits:
    def add(self, store, annotations=(1,), data=b"x"):
        with store.change() as change:
            number = change.add_fit(KEY, 5, "note", data, annotations)
            if number is not None:
                change.use(KEY, number)
        return number

    def test_numbers_count_up_and_are_never_used_again(self, store):
        keep(store, sent(1))
        assert [self.add(store), self.add(store)] == [1, 2]
        with store.change() as change:
            change.drop_fit(KEY, 2)
        assert self.add(store) == 3
        assert [fit.number for fit in store.fits(KEY)] == [3, 1]
        assert store.fit(KEY, 3).data == b"x"
        assert store.fit(KEY, 2) is None

    def test_a_deleted_annotation_takes_the_fits_with_it_that_it_was_in(self, store):
        keep(store, sent(1))
        self.add(store, (1,))
        keep(store, sent(2, 2))
        self.add(store, (1, 2))
        self.add(store, (2, 1))
        assert store.project(KEY).used == 3
        with store.change() as change:
            change.is_examined(KEY, 1, "v3", [], BesideWords(3, 0.5, 0.25))
            change.annotation_gone(KEY, 2)
        assert store.beside_words(KEY) == {}, "what was predicted by a fit that was made of it"
        project = store.project(KEY)
        assert [fit.number for fit in store.fits(KEY)] == [1]
        assert (project.used, project.tried_pictures) == (1, -1)
        with store.change() as change:
            change.annotation_gone(KEY, 1)
        assert store.project(KEY).used == 0

    def test_one_that_was_made_with_what_has_gone_meanwhile_is_not_kept(self, store):
        keep(store, sent(1))
        assert self.add(store, (1, 2)) is None
        assert store.fits(KEY) == []

    def test_pinning(self, store):
        keep(store, sent(1))
        self.add(store)
        self.add(store)
        for number, used in ((1, 1), (0, 0), (None, 2)):
            with store.change() as change:
                change.pin(KEY, number)
            assert store.project(KEY).used == used
        with pytest.raises(LookupError, match="no version 7"), store.change() as change:
            change.pin(KEY, 7)
        with pytest.raises(LookupError, match="nothing is known"), store.change() as change:
            change.pin("9.9", 0)
        with store.change() as change:
            change.pin(KEY, 1)
            change.drop_fit(KEY, 1)
        assert (store.project(KEY).pinned, store.project(KEY).used) == (None, 2)

    def test_who_asks_while_it_learns_is_served_next(self, store):
        keep(store, sent(1))
        with store.change() as change:
            change.ask(KEY)
        asked = store.project(KEY).asked
        with store.change() as change:
            change.tried(KEY, 3, "done", begun=asked - 1)
        assert store.project(KEY).asked == asked
        with store.change() as change:
            change.tried(KEY, 3, "done", begun=asked + 1)
        stored = store.project(KEY)
        assert (stored.asked, stored.tried_pictures, stored.state) == (0, 3, "done")


def test_a_change_is_whole_or_not_at_all(store):
    keep(store, sent(1))
    change = store.change()
    change.__enter__().annotation_gone(KEY, 1)
    assert change.__exit__(ZeroDivisionError, ZeroDivisionError(), None) is not True
    assert len(store.annotations(KEY)) == 1


def test_what_a_project_is_called_changes_with_the_project(store):
    with store.change() as change:
        change.see(read_project(project(title="first")))
        change.see(read_project(project(title="second", config="<View/>")))
        change.see(read_project({**project(), "title": None, "label_config": None}))
        assert change.keys_of(1) == [KEY]
    [stored] = store.projects()
    assert (stored.facts.title, stored.facts.label_config) == ("second", "<View/>")


def test_an_event_and_its_webhook_agree():
    assert read_event(annotated()).project == FACTS
