"""Every prediction once, whatever Label Studio answers."""

import json
from threading import Event

import pytest
from clocks import HandClock
from fake_label_studio import LEGACY_TOKEN, FakeLabelStudio, Fault

from backend.bulk.writing import Encoded, Writer
from backend.label_studio_api import LabelStudioApi, LabelStudioApiError, Patience

VERSION = "clip-diy-x-1234567890"
DOUBTFUL = [Fault(500), Fault(502), Fault(503), Fault(504), Fault(0)]


class Stop(Event):
    """An event that is waited for by a clock of the test's own."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        self.waits = []

    def wait(self, timeout=None):
        self.waits.append(timeout)
        self.clock.now += timeout
        return self.is_set()


class Room:
    def __init__(self, studio, tasks):
        self.studio = studio
        self.project = studio.add_project("<View/>", [{"image": str(i)} for i in range(tasks)])
        self.ids = [*studio.projects[self.project].tasks]
        self.clock = HandClock()
        self.stop = Stop(self.clock)
        self.refused = {}

    def writer(self, **options):
        self.api = LabelStudioApi(self.studio.url, f"Token {LEGACY_TOKEN}")
        options = {"patience": Patience(), "stop": self.stop, "clock": self.clock, **options}
        return Writer(self.api, self.project, VERSION, **options)

    def write(self, ids=None, **options):
        batch = [Encoded(task, 0.5, b'[{"id": "%d"}]' % task) for task in (self.ids if ids is None else ids)]
        return self.writer(**options).write(batch, self.refused.__setitem__)

    def each_once(self):
        return all(versions == [VERSION] for versions in self.studio.versions(self.project).values())


@pytest.fixture
def studio():
    with FakeLabelStudio() as server:
        yield server


@pytest.fixture
def room(studio):
    return Room(studio, 5)


def test_all_in_one_request(room):
    assert room.write() == 5
    assert room.each_once()
    assert room.studio.batches == [5]
    stored = min(room.studio.predictions.values(), key=lambda one: one["task"])
    assert stored["result"] == [{"id": str(room.ids[0])}]
    assert stored["score"] == 0.5


def test_what_is_there_is_left_alone(room):
    for task in room.ids[:2]:
        room.studio.add_prediction(task, VERSION)
    room.studio.add_prediction(room.ids[2], "another")
    assert room.write() == 3
    assert room.studio.batches == [3]
    assert room.write() == 0
    assert room.studio.batches == [3]


def test_nothing_needs_no_request(room):
    assert room.write([]) == 0
    assert not room.studio.requests


@pytest.mark.parametrize("fault", DOUBTFUL)
@pytest.mark.parametrize("is_done", [False, True])
def test_in_doubt_it_is_asked_which_are_there(room, fault, is_done):
    room.studio.fail("POST", ".*", *[Fault(fault.status, is_done=is_done)] * 2)
    assert room.write() == 5
    assert room.each_once()
    assert room.studio.batches == [5]
    assert room.stop.waits == ([0.5] if is_done else [0.5, 1])


def test_some_of_them_may_be_there(room):
    """The first half was written when Label Studio died."""

    def die_half_way(method, path):
        if method == "POST":
            for task in room.ids[:2]:
                room.studio.add_prediction(task, VERSION)
            room.studio.before = lambda method, path: None

    room.studio.before = die_half_way
    room.studio.fail("POST", ".*", Fault(0))
    assert room.write() == 5
    assert room.each_once()
    assert room.studio.batches == [3]


def test_too_many_requests_are_no_doubt(room):
    room.studio.fail("POST", ".*", Fault(429), Fault(429))
    assert room.write() == 5
    assert room.each_once()


def test_patience_ends(room):
    room.studio.fail("POST", ".*", *[Fault(502)] * 20)
    with pytest.raises(LabelStudioApiError, match="502"):
        room.write(patience=Patience(for_s=4))
    assert room.stop.waits == [0.5, 1, 2]


def test_stop_ends_waiting(room):
    room.stop.set()
    room.studio.fail("POST", ".*", *[Fault(502)] * 20)
    with pytest.raises(LabelStudioApiError):
        room.write()
    assert len(room.stop.waits) == 1


def test_a_token_that_may_not_write_ends_it(room):
    room.studio.fail("POST", ".*", Fault(403))
    with pytest.raises(LabelStudioApiError, match="403"):
        room.write()
    assert room.stop.waits == []
    assert not room.refused


@pytest.mark.parametrize("status", [400, 413])
def test_one_that_is_refused_costs_no_other(room, status):
    bad = room.ids[3]
    room.studio.refuses = lambda prediction: prediction["task"] == bad
    if status == 413:
        room.studio.fail("POST", ".*", Fault(413))
    assert room.write() == 4
    assert [*room.refused] == [bad]
    assert "a prediction that is none" in room.refused[bad]
    versions = room.studio.versions(room.project)
    assert versions == {task: [] if task == bad else [VERSION] for task in room.ids}


def test_a_task_that_was_deleted_meanwhile_costs_no_other(room):
    gone = room.ids[0]
    del room.studio.projects[room.project].tasks[gone]
    assert room.write() == 4
    assert [*room.refused] == [gone]


def test_large_ones_go_in_several_requests(room):
    assert room.write(max_bytes=len(b'[{"id": "1"}]') * 2) == 5
    assert room.studio.batches == [2, 2, 1]
    room.studio.predictions.clear()
    assert room.write(max_bytes=1) == 5
    assert room.studio.batches[3:] == [1] * 5


def test_many_are_looked_up_in_several_questions(room, monkeypatch):
    monkeypatch.setattr("backend.bulk.writing.LOOKED_UP", 2)
    for task in room.ids[1:4]:
        room.studio.add_prediction(task, VERSION)
    assert room.writer().there(room.ids) == set(room.ids[1:4])
    assert len(room.studio.requests) == 3


def test_the_body_is_what_label_studio_takes(room):
    bodies = []
    send = room.writer()._api.import_predictions
    room.api.import_predictions = lambda project, predictions: bodies.append(predictions) or send(project, predictions)
    writer = Writer(room.api, room.project, VERSION, stop=room.stop)
    writer.write([Encoded(room.ids[0], 0.25, b"[]")], room.refused.__setitem__)
    [[sent]] = bodies
    assert {**sent, "result": None} == {"task": room.ids[0], "score": 0.25, "model_version": VERSION, "result": None}
    assert json.loads(json.dumps([*room.studio.predictions.values()]))[0]["result"] == []
