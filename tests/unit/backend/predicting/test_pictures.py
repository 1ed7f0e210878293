"""Features of pictures: encoded once, kept the moment they exist, whoever waits for them."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from clocks import HandClock
from fakes import FakeCore, FakeLoader

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.asking import Asker
from backend.images.host import LabelStudioHost
from backend.metrics import Metrics
from backend.predicting.fair_pool import FairPool, Lane
from backend.predicting.feature_cache import FeatureCache, content_of
from backend.predicting.pictures import Pictures
from backend.predicting.segmenting import Segmenting

ASKER = Asker(LabelStudioHost("http://ls"), Deadline.never(), "7")


class GatedCore(FakeCore):
    """Encodes only while its gate is open, and says what it has begun with."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.sizes = []

    def encode(self, photos):
        self.sizes.append([photo.size_hw[1] for photo in photos])
        self.begun.release()
        assert self.gate.wait(10)
        return super().encode(photos)


class Room:
    def __init__(self, image_batch=1, memory_bytes=10**6):
        self.core = GatedCore()
        self.loader = FakeLoader()
        self.cache = FeatureCache(None, memory_bytes=memory_bytes, disk_bytes=0)
        self.networks = FairPool(1, "networks")
        self.metrics = Metrics()
        methods = Segmenting(self.core)
        options = {"image_batch": image_batch}
        self.pictures = Pictures(methods, self.loader, self.cache, self.networks, self.metrics, **options)

    def ask(self, value, owner="7", lane=Lane.REQUEST):
        return self.pictures.encode(self.pictures.load(value, 1, ASKER), owner, lane)

    def hold(self):
        """Keep the networks busy with a picture of their own, until `core.gate` is set."""
        self.core.gate.clear()
        held = self.ask("ok:3x3")
        assert self.core.begun.acquire(timeout=10)
        return held

    def close(self):
        self.core.gate.set()
        self.networks.close()
        self.pictures.close()

    def counted(self, outcome):
        name = "clipdiy_feature_cache_total"
        return self.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0

    def encoded(self, value):
        """How often pictures of this width went through the networks."""
        return sum(sizes.count(value) for sizes in self.core.sizes)


@pytest.fixture
def make():
    made = []

    def _make(**options):
        made.append(Room(**options))
        return made[-1]

    yield _make
    for room in made:
        room.close()


@pytest.fixture
def room(make):
    return make()


def test_a_picture_that_several_wait_for_is_encoded_once(room):
    room.hold()
    futures = [room.ask("ok:8x9", owner=str(i)) for i in range(3)]
    room.core.gate.set()
    features = [future.result(10) for future in futures]
    assert features[0] is features[1] is features[2]
    assert features[0].size_hw == (8, 9)
    assert room.encoded(9) == 1
    assert len({id(future) for future in futures}) == 3, "each may cancel its own"


def test_what_is_encoded_is_kept_though_nobody_waits_any_more(room):
    held = room.hold()
    assert held.cancel()
    room.core.gate.set()
    again = room.ask("ok:3x3").result(10)
    assert again.size_hw == (3, 3)
    assert room.encoded(3) == 1


def test_what_nobody_waits_for_any_more_is_held_once_where_nothing_is_cached(make):
    room = make(memory_bytes=0)
    held = room.hold()
    assert held.cancel()
    room.core.gate.set()
    room.networks.submit(lambda: None).result(10)
    room.pictures._keeping.submit(lambda: None).result(10)
    assert room.ask("ok:3x3").result(0).size_hw == (3, 3)
    assert room.encoded(3) == 1
    assert room.ask("ok:3x3").result(10).size_hw == (3, 3)
    assert room.encoded(3) == 2, "whoever switches the cache off gets none"


def test_features_are_kept_before_anybody_gets_them(room):
    kept_when_told = []
    future = room.ask("ok:8x9")
    future.add_done_callback(lambda _: kept_when_told.append(room.pictures.load("ok:8x9", 1, ASKER).features))
    future.result(10)
    room.close()
    assert kept_when_told[0] is not None


def test_somebody_else_was_quicker_between_loading_and_encoding(room):
    loaded = room.pictures.load("ok:8x9", 1, ASKER)
    assert loaded.photo is not None
    room.ask("ok:8x9").result(10)
    assert room.pictures.encode(loaded, "8").result(0).size_hw == (8, 9)
    room.networks.submit(lambda: None).result(10)
    assert room.encoded(9) == 1


def test_what_nobody_waits_for_any_more_does_not_begin(room):
    room.hold()
    gone = room.ask("ok:8x9")
    both = [room.ask("ok:8x10"), room.ask("ok:8x10")]
    gone.cancel()
    both[0].cancel()
    room.core.gate.set()
    assert both[1].result(10).size_hw == (8, 10)
    assert room.encoded(9) == 0
    assert room.ask("ok:8x9").result(10).size_hw == (8, 9), "asked for again, it is"


def test_pictures_of_all_requests_go_together_and_projects_take_turns(make):
    room = make(image_batch=3)
    room.hold()
    widths = [("a", 11), ("a", 12), ("a", 13), ("b", 21), ("a", 14)]
    futures = [room.ask(f"ok:8x{width}", owner=owner) for owner, width in widths]
    futures.append(room.ask("ok:8x31", owner="c", lane=Lane.INTERACTIVE))
    room.core.gate.set()
    for future in futures:
        future.result(10)
    assert room.core.sizes[1:] == [[31, 11, 21], [12, 13, 14]]


@pytest.mark.parametrize(("first", "then"), [(Lane.BACKGROUND, Lane.REQUEST), (Lane.REQUEST, Lane.INTERACTIVE)])
def test_who_is_in_more_of_a_hurry_does_not_wait_where_the_first_one_stands(room, first, then):
    room.hold()
    nobody = room.ask("ok:8x9", "7", first)
    others = [room.ask(f"ok:8x{width}", "7", then) for width in (11, 12)]
    somebody = room.ask("ok:8x9", "8", then)
    room.core.gate.set()
    for future in (nobody, somebody, *others):
        future.result(10)
    assert [width for widths in room.core.sizes for width in widths] == [3, 11, 9, 12]


def test_who_is_in_less_of_a_hurry_goes_along(room):
    room.hold()
    futures = [room.ask("ok:8x9", "7"), room.ask("ok:8x10", "7"), room.ask("ok:8x9", "8", Lane.BACKGROUND)]
    room.core.gate.set()
    assert futures[0].result(10) is futures[2].result(10)
    futures[1].result(10)
    assert room.core.sizes == [[3], [9], [10]]


def test_who_is_in_less_of_a_hurry_makes_no_batch_longer(make):
    room = make(image_batch=2)
    room.hold()
    futures = [
        room.ask("ok:8x9", "7"),
        room.ask("ok:8x9", "8", Lane.BACKGROUND),
        room.ask("ok:8x20", "8", Lane.BACKGROUND),
    ]
    room.core.gate.set()
    for future in futures:
        future.result(10)
    assert room.core.sizes == [[3], [9], [20]]


def test_where_one_stood_that_was_in_more_of_a_hurry_later_a_batch_goes_on(make):
    room = make(image_batch=2)
    room.hold()
    futures = [room.ask(f"ok:8x{width}", "7", Lane.BACKGROUND) for width in (20, 9, 21)]
    futures.append(room.ask("ok:8x9", "7"))
    room.core.gate.set()
    for future in futures:
        future.result(10)
    assert room.core.sizes == [[3], [9], [20, 21]]


def test_what_nobody_waits_for_is_in_no_batch_of_those_who_do(make):
    room = make(image_batch=4)
    room.hold()
    futures = [room.ask(f"ok:8x{width}", "7", Lane.BACKGROUND) for width in (20, 21)]
    futures += [room.ask(f"ok:8x{width}", "7") for width in (10, 11)]
    room.core.gate.set()
    for future in futures:
        future.result(10)
    assert room.core.sizes == [[3], [10, 11], [20, 21]]


@pytest.mark.parametrize("image_batch", [1, 3])
def test_a_picture_that_breaks_costs_no_other_of_its_batch(make, caplog, image_batch):
    room = make(image_batch=image_batch)
    room.hold()
    futures = {value: room.ask(value) for value in ("ok:8x9", "breaks", "ok:8x10")}
    with caplog.at_level(logging.WARNING):
        room.core.gate.set()
        with pytest.raises(RuntimeError):
            futures["breaks"].result(10)
    assert futures["ok:8x9"].result(10).size_hw == (8, 9)
    assert futures["ok:8x10"].result(10).size_hw == (8, 10)
    assert "secret" not in caplog.text
    if image_batch > 1:
        assert "a batch of 3 pictures failed (unexpected RuntimeError)" in caplog.text
    with pytest.raises(RuntimeError):
        room.ask("breaks").result(10)


def test_features_that_cannot_be_kept_are_given_all_the_same(room, caplog, monkeypatch):
    def full(*_arguments):
        raise MemoryError("secret")

    monkeypatch.setattr(room.cache, "put", full)
    assert room.ask("ok:8x9").result(10).size_hw == (8, 9)
    assert "features could not be kept: unexpected MemoryError" in caplog.text
    assert "secret" not in caplog.text
    assert room.ask("ok:8x9").result(10) is not None, "nothing is left behind that would be waited for"


def test_known_features_need_no_networks(room):
    room.ask("ok:8x9").result(10)
    room.hold()
    assert room.ask("ok:8x9").result(0).size_hw == (8, 9)
    assert room.counted("hit") == 1
    assert room.counted("miss") == 2


def test_an_unchanged_picture_is_not_downloaded(room):
    for _ in range(2):
        room.ask("versioned:a").result(10)
    assert room.counted("not-downloaded") == 1
    assert room.loader.decoded == 1
    assert len(room.loader.seen) == 2, "asked once each time"
    room.loader.versions["a"] = "2"
    room.ask("versioned:a").result(10)
    assert room.counted("miss") == 2


def test_unchanged_but_dropped_features_are_made_again(make):
    room = make(memory_bytes=0)
    for _ in range(2):
        room.ask("versioned:a").result(10)
    assert room.counted("miss") == 2
    assert len(room.core.batches) == 2


def test_a_source_that_says_unchanged_of_what_was_never_there(room, monkeypatch):
    from backend.images.versions import Fetched

    monkeypatch.setattr(room.loader, "fetch_if_changed", lambda *_a, **_k: Fetched(None))
    with pytest.raises(TaskError, match="nothing was known") as caught:
        room.ask("ok")
    assert caught.value.reason == "download"


def test_the_loader_is_told_who_asks_and_until_when(room, monkeypatch):
    told = []
    fetch = room.loader.fetch_if_changed
    monkeypatch.setattr(
        room.loader, "fetch_if_changed", lambda value, **rest: (told.append((value, rest)), fetch(value, **rest))[1]
    )
    room.ask("ok")
    assert told == [
        ("ok", {"task_id": 1, "host": ASKER.host, "known": None, "deadline": ASKER.deadline}),
    ]


def test_the_same_address_at_another_label_studio_is_another_source(room):
    room.ask("versioned:a").result(10)
    other = Asker(LabelStudioHost("http://other"), Deadline.never(), "8")
    room.pictures.load("versioned:a", 1, other)
    assert room.counted("not-downloaded") == 0
    assert room.counted("hit") == 1


def test_what_is_known_with_one_token_is_not_believed_with_another(room):
    room.ask("versioned:a").result(10)
    other = Asker(LabelStudioHost(ASKER.host.url, "another"), Deadline.never(), "8")
    room.pictures.load("versioned:a", 1, other)
    assert room.counted("not-downloaded") == 0


def test_closing_tells_those_who_still_wait(room):
    held = room.hold()
    waiting = [room.ask("ok:8x9"), room.ask("ok:8x9"), room.ask("ok:8x10")]
    room.networks._threads.shutdown(wait=False, cancel_futures=True)  # what has not begun will not begin
    room.close()
    assert held.result(0).size_hw == (3, 3)
    assert [future.cancelled() for future in waiting] == [True] * 3


def test_closing_waits_for_what_is_being_kept_and_is_to_be(make, monkeypatch):
    room = make(image_batch=2)
    put, keep = room.cache.put, room.pictures._keeping
    keeping, go_on = threading.Event(), threading.Event()

    def slow(*arguments):
        keeping.set()
        assert go_on.wait(10)
        put(*arguments)

    monkeypatch.setattr(room.cache, "put", slow)
    held = room.hold()
    asked = [room.ask("ok:8x9"), room.ask("ok:8x10")]
    room.core.gate.set()
    assert keeping.wait(10)
    room.networks.submit(lambda: None).result(10)  # both are encoded, and the first picture of all is being kept
    close = keep.close
    monkeypatch.setattr(keep, "close", lambda **options: (go_on.set(), close(**options)))
    room.close()
    assert [future.result(0).size_hw for future in (held, *asked)] == [(3, 3), (8, 9), (8, 10)]


def test_it_is_measured_how_long_a_picture_takes_in_the_networks_and_before(make, monkeypatch):
    room = make(image_batch=2)
    clock = HandClock()
    monkeypatch.setattr("backend.predicting.pictures.time", SimpleNamespace(monotonic=clock))
    encode = room.core.encode

    def takes_eight_seconds(photos):
        clock.now += 8
        return encode(photos)

    room.hold()
    room.core.encode = takes_eight_seconds
    futures = [room.ask(f"ok:8x{width}") for width in (9, 10)]
    room.core.gate.set()
    for future in futures:
        future.result(10)
    room.pictures.bring_file(b"ok:8x9", ASKER)

    def measured(what, stage):
        return room.metrics.registry.get_sample_value(f"clipdiy_stage_seconds_{what}", {"stage": stage})

    assert (measured("sum", "encode"), measured("count", "encode")) == (8, 3)
    assert measured("count", "load") == 4


def test_what_nobody_waits_for_is_brought_behind_what_somebody_does(room):
    room.hold()
    brought = []
    with ThreadPoolExecutor(1) as pool:
        behind = pool.submit(lambda: brought.append(room.pictures.bring_behind("ok:8x9", 1, ASKER)))
        while not room.networks._queue._lanes[Lane.BACKGROUND]:
            time.sleep(0.001)
        asked = room.ask("ok:8x10")
        room.core.gate.set()
        asked.result(10)
        behind.result(10)
    assert room.core.sizes == [[3], [10], [9]]
    [(content, features)] = brought
    assert content == content_of(b"ok:8x9")
    assert features.size_hw == (8, 9)
    with pytest.raises(TaskError) as caught:
        room.pictures.bring_behind("fail:timeout", 1, ASKER)
    assert caught.value.reason == "timeout"


class TestForGestures:
    def test_bring(self, room):
        picture = room.pictures.bring("ok:8x9", 1, ASKER)
        assert picture.features.size_hw == (8, 9)
        window, deadline = (slice(0, 2), slice(3, 9)), Deadline.never()
        assert picture.read(window, deadline).size_hw == (2, 6)
        fetched = len(room.loader.seen)
        picture.read(window, deadline)
        assert len(room.loader.seen) == fetched, "the file is kept"
        assert room.loader.decoding == [(None, ASKER.deadline), (window, deadline), (window, deadline)]

    def test_files_are_kept_within_a_limit(self, make, monkeypatch):
        monkeypatch.setattr("backend.predicting.pictures.FILE_BYTES", 9)
        room = make()
        for value in ("ok:4x4", "ok:5x5", "ok:5x5"):  # six bytes each
            room.pictures.bring(value, 1, ASKER).read((slice(0, 1), slice(0, 1)), Deadline.never())
        fetched = len(room.loader.seen)
        room.pictures.bring("ok:5x5", 1, ASKER).read((slice(0, 1), slice(0, 1)), Deadline.never())
        assert len(room.loader.seen) == fetched + 1, "for the features, not for the pixels"
        room.pictures.bring("ok:4x4", 1, ASKER).read((slice(0, 1), slice(0, 1)), Deadline.never())
        assert len(room.loader.seen) == fetched + 3

    def test_a_picture_that_changed_is_not_read(self, room):
        picture = room.pictures.bring("versioned:c", 1, ASKER)
        for version in "23456":  # some of the digests come before the first in the order of texts, some behind it
            room.loader.versions["c"] = version
            with pytest.raises(TaskError, match="has changed since") as caught:
                picture.read((slice(0, 1), slice(0, 1)), Deadline.never())
            assert caught.value.reason == "download"

    def test_a_picture_that_is_handed_over(self, room):
        for outcomes in ((0, 1), (1, 1)):
            photo, features = room.pictures.bring_file(b"ok:8x9", ASKER)
            assert photo.size_hw == (8, 6), "the fake's, for any address that it does not know"
            assert features.size_hw == (8, 6)
            assert (room.counted("hit"), room.counted("miss")) == outcomes
        assert room.core.sizes == [[6]], "encoded once"
        assert room.loader.decoding == [(None, ASKER.deadline)] * 2
        assert room.loader.seen == []

    def test_networks_that_are_busy_until_the_deadline(self, room):
        room.hold()
        now = Asker(ASKER.host, Deadline.after(0.01), "7")
        with pytest.raises(TaskError) as caught:
            room.pictures.bring("ok:8x9", 1, now)
        assert caught.value.reason == "deadline"
        photo = room.loader.decode(b"", "ok:8x10")
        with pytest.raises(TaskError) as caught:
            room.pictures.encode_piece(photo, now)
        assert caught.value.reason == "deadline"
        room.core.gate.set()
        room.ask("ok:8x11").result(10)
        assert room.encoded(9) == room.encoded(10) == 0, "given up, they do not begin"

    def test_pieces_go_before_requests(self, room):
        room.hold()
        future = room.ask("ok:8x9")
        photo = room.loader.decode(b"", "ok:8x10")
        piece = threading.Thread(target=lambda: room.pictures.encode_piece(photo, ASKER))
        queued = room.networks.submit
        ready = threading.Event()

        def submit(*arguments, **options):
            made = queued(*arguments, **options)
            ready.set()
            return made

        room.networks.submit = submit
        piece.start()
        assert ready.wait(10)
        room.core.gate.set()
        future.result(10)
        piece.join(10)
        assert room.core.sizes[1:] == [[10], [9]]

    def test_a_failing_piece_is_no_deadline(self, room):
        with pytest.raises(RuntimeError):
            room.pictures.encode_piece(room.loader.decode(b"", "breaks"), ASKER)


def test_a_time_limit_of_the_networks_own_is_no_deadline(room, monkeypatch):
    def impatient(_photos):
        raise TimeoutError("mine")

    monkeypatch.setattr(room.core, "encode", impatient)
    with pytest.raises(TimeoutError, match="mine"):
        room.pictures.bring("ok", 1, ASKER)
