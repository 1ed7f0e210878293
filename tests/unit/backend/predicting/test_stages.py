"""What is done with a task, for whom and how urgently; pictures, words and threads are fakes that write it down."""

import threading
from concurrent.futures import Future

import pytest

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.asking import Asker
from backend.images.host import LabelStudioHost
from backend.labeling.reader import parse_label_config
from backend.predicting.fair_pool import Lane
from backend.predicting.pictures import LoadedPicture
from backend.predicting.stages import RequestStages

ASKER = Asker(LabelStudioHost("http://ls"), Deadline.never(), "7")
VIEW = '<View><Image name="i" {}/><BrushLabels name="b" toName="i" {}</BrushLabels></View>'
CONFIG = parse_label_config(VIEW.format('value="$image"', '><Label value="Cat"/>'))
PAGES = parse_label_config(VIEW.format('valueList="$pages"', '><Label value="Cat"/>'))
LABELS_IN_TASKS = parse_label_config(VIEW.format('value="$image"', 'value="$labels">'))


def done(value=None):
    future = Future()
    future.set_result(value)
    return future


class Pictures:
    """Loads what `loading` lets it, and says who asked."""

    def __init__(self):
        self.loaded = []
        self.encoded = []
        self.loading = lambda value: None

    def load(self, value, task_id, asker):
        self.loaded.append((value, task_id, asker))
        self.loading(value)
        return LoadedPicture(f"content of {value}")

    def encode(self, picture, owner, lane):
        self.encoded.append((picture, owner, lane))
        return done("features")


class Words:
    def __init__(self):
        self.learned = []

    def learn(self, config, owner, lane):
        self.learned.append((config, owner, lane))
        return [done()]


class Finishing:
    """Runs what it is given at once."""

    def __init__(self):
        self.asked = []

    def submit(self, job, *, owner, lane):
        self.asked.append((owner, lane))
        return done(job())


class Room:
    def __init__(self, config, load_threads, **options):
        self.pictures, self.words, self.finishing = Pictures(), Words(), Finishing()
        works = {"pictures": self.pictures, "words": self.words, "finishing": self.finishing}
        make = lambda task, features: ("answer", task, features)  # noqa: E731
        self.stages = RequestStages(config, ASKER, make, load_threads=load_threads, **works, **options)


@pytest.fixture
def make():
    made = []

    def _make(config=CONFIG, load_threads=1, **options):
        made.append(Room(config, load_threads, **options))
        return made[-1]

    yield _make
    for room in made:
        room.stages.__exit__(None, None, None)


def task(number=1, **data):
    return {"id": number, "data": data}


def test_the_pictures_of_a_task_come_by_field_and_page(make):
    room = make(PAGES)
    pictures = room.stages.load(task(5, pages=["a", "b"])).result(10)
    assert pictures == {("pages", 0): LoadedPicture("content of a"), ("pages", 1): LoadedPicture("content of b")}
    assert room.pictures.loaded == [("a", 5, ASKER), ("b", 5, ASKER)]


@pytest.mark.parametrize("data", [{"image": "a"}, {"labels": ["Cat"]}], ids=["labels", "picture"])
def test_what_is_missing_is_known_before_anything_is_downloaded(make, data):
    room = make(LABELS_IN_TASKS)
    with pytest.raises(TaskError) as caught:
        room.stages.load(task(**data)).result(10)
    assert caught.value.reason == "missing-data"
    assert room.pictures.loaded == []


def test_a_task_without_data_is_refused_by_itself(make):
    with pytest.raises(TaskError):
        make().stages.load({"id": 1}).result(10)


def test_words_of_a_config_are_asked_for_once_in_a_request(make):
    room = make()
    first, second = room.stages.words(task(1, image="a")), room.stages.words(task(2, image="b"))
    assert [future.done() for future in first] == [True]
    assert first is second
    assert room.words.learned == [(CONFIG, "7", Lane.REQUEST)]


def test_words_that_stand_in_tasks_are_asked_for_with_each(make):
    room = make(LABELS_IN_TASKS)
    for labels in (["Cat"], ["Dog"]):
        room.stages.words(task(image="a", labels=labels))
    assert [[label.value for label in config.controls[0].drawn] for config, _, _ in room.words.learned] == [
        ["Cat"],
        ["Dog"],
    ]


def test_the_answer_is_made_of_the_task_and_its_features(make):
    room, asked = make(), task(image="a")
    assert room.stages.finish(asked, {("image", None): "features"}).result(10) == (
        *("answer", asked, {("image", None): "features"}),
    )


@pytest.mark.parametrize(
    ("options", "lane"),
    [({}, Lane.REQUEST), ({"lane": Lane.BACKGROUND}, Lane.BACKGROUND), ({"lane": Lane.INTERACTIVE}, Lane.INTERACTIVE)],
    ids=["left out", "behind", "in front"],
)
def test_everything_takes_turns_as_the_request_does(make, options, lane):
    room = make(**options)
    picture = LoadedPicture("content")
    assert room.stages.encode(picture).result(10) == "features"
    room.stages.words(task(image="a"))
    room.stages.finish(task(image="a"), {})
    assert room.pictures.encoded == [(picture, "7", lane)]
    assert room.words.learned == [(CONFIG, "7", lane)]
    assert room.finishing.asked == [("7", lane)]


def test_as_many_are_downloaded_at_once_as_are_asked_for(make):
    room = make(load_threads=2)
    both = threading.Barrier(2)
    room.pictures.loading = lambda _value: both.wait(10)
    for future in [room.stages.load(task(image=value)) for value in "ab"]:
        future.result(10)


def test_leaving_waits_for_no_download_and_begins_no_more(make):
    room = make()
    begun, go_on = threading.Event(), threading.Event()

    def hang(_value):
        begun.set()
        assert go_on.wait(10)

    room.pictures.loading = hang
    with room.stages as stages:
        assert stages is room.stages
        under_way, queued = stages.load(task(image="a")), stages.load(task(image="b"))
        assert begun.wait(10)
    assert not under_way.done()
    assert queued.cancelled()
    go_on.set()
    under_way.result(10)
    assert [value for value, _, _ in room.pictures.loaded] == ["a"]
