"""From webhooks to a version in use: what is learned when, and what deleting does."""

import zlib

import numpy as np
import pytest
from clocks import HandClock
from fakes import FakeCore, FakeLoader
from learned import made_up, words
from webhooks import KEY, LABELS, annotated, brushed, deleted, key_of, left_half, train

from backend.corrections.store import BesideWords, CorrectionStore
from backend.images.host import LabelStudioHost
from backend.labeling.reader import parse_label_config
from backend.learning import learner as room
from backend.learning.fits import Fit
from backend.learning.learner import Wishes, describe
from backend.learning.learning import Learning
from backend.learning.report import Gain
from backend.learning.when import QUIET_S
from backend.metrics import Metrics
from backend.predicting.feature_cache import FeatureCache
from backend.predicting.predictor import Predictor, PredictorOptions
from clipdiy.learning.calibration import Calibration
from clipdiy.learning.evidence import WHOLE, in_order
from clipdiy.learning.learned import Learned

CONFIG = parse_label_config(LABELS)


class Lessons:
    """Learns by remembering what it was given; a fit that depends on nothing else."""

    def __init__(self):
        self.given = []
        self.helps = True

    def __call__(self, lesson):
        pictures, vocabulary = lesson.pictures, lesson.vocabulary
        self.given.append((pictures, vocabulary))
        if not self.helps or not pictures:
            return words(pictures=len(pictures))
        seen = b"".join(picture.identity.encode() + picture.shares.to_bytes() for picture in in_order(pictures))
        return made_up(vocabulary, pictures=len(pictures), seed=zlib.crc32(seen))


class Room:
    """The learning room on a hand clock, without its thread."""

    time = 1_900_000_000.0

    def __init__(self, folder, cache_bytes=10**7, **wishes):
        self.lessons = Lessons()
        self.loader = FakeLoader()
        self.clock = HandClock()
        cache = FeatureCache(None, memory_bytes=cache_bytes, disk_bytes=0)
        self.predictor = Predictor(FakeCore(), self.loader, PredictorOptions(), Metrics(), cache)
        self.synced = []
        self.announced = []
        self.learning = self.make(folder, **wishes)

    def make(self, folder, learn="own", **wishes):
        return Learning(
            folder,
            self.predictor,
            parse_label_config,
            encoder="fake",
            learn=self.lessons if learn == "own" else learn,
            evidence=None if learn is None else lambda features: features,
            wishes=Wishes(**wishes),
            host_of=lambda key: LabelStudioHost(f"http://ls/{key}"),
            sync=lambda learning, key: self.synced.append(key),
            on_new_version=self.announced.append,
            now=lambda: self.time,
            clock=self.clock,
        )

    def send(self, *bodies):
        for body in bodies:
            assert self.learning.receive(body)

    def step(self, wait=1000.0):
        Room.time += wait
        self.clock.now += 10
        self.learning.learner.step()

    @property
    def store(self):
        return self.learning.store

    @property
    def version(self):
        return self.learning.teach(CONFIG, KEY).version

    def close(self):
        self.predictor.close()


@pytest.fixture
def make(tmp_path, monkeypatch):
    rooms = []
    # What the store calls now is the rooms' clock too.
    monkeypatch.setattr("backend.corrections.store.time.time", lambda: Room.time)

    def _make(**wishes):
        rooms.append(Room(tmp_path / str(len(rooms)), **wishes))
        return rooms[-1]

    yield _make
    for each in rooms:
        each.close()


@pytest.fixture
def learning_room(make):
    return make()


def test_a_correction_is_learned_from_and_used(learning_room):
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]))
    assert learning_room.version == 0
    learning_room.step()
    assert learning_room.version == 1
    [(pictures, vocabulary)] = learning_room.lessons.given
    assert vocabulary.names == ("background", "Cat", "Dog")
    [picture] = pictures
    assert picture.shares.positions == (0, 2)
    assert picture.shares.of(2)[:, :16].min() == WHOLE
    assert picture.shares.of(0)[:, 16:].min() == WHOLE
    assert picture.features.made_by == "fake"
    assert learning_room.announced == [KEY]
    name = learning_room.predictor.model_version(learning_room.learning.teach(CONFIG, KEY))
    assert "-learned1-" in name
    stored = learning_room.store.project(KEY)
    assert stored.state == "learned from 1 pictures: version 1, names of 2 labels"
    assert learning_room.store.fit(KEY, 1).pictures == 1


def test_it_learns_where_no_features_are_kept(make):
    learning_room = make(cache_bytes=0)
    for number in (1, 2):
        learning_room.send(annotated(number, number, [brushed(left_half(), "Dog")]))
        learning_room.step()
    assert [len(pictures) for pictures, _ in learning_room.lessons.given] == [1, 2]


def test_it_waits_until_half_as_many_more_are_there(learning_room):
    for number in range(1, 6):
        learning_room.send(annotated(number, number, [brushed(left_half(), "Dog")]))
        learning_room.step()
    assert [len(pictures) for pictures, _ in learning_room.lessons.given] == [1, 2, 3, 5]
    assert learning_room.version == 4


def test_it_does_not_learn_while_somebody_is_at_work(learning_room):
    learning_room.send(annotated(1, 1), annotated(2, 2))
    learning_room.step()
    learning_room.send(annotated(3, 3))
    learning_room.step(wait=1)
    assert len(learning_room.lessons.given) == 1
    learning_room.step(wait=10)
    assert len(learning_room.lessons.given) == 2


def test_the_button_reads_from_label_studio_and_learns_at_once(make):
    learning_room = make(when="on-training")
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]))
    learning_room.step()
    assert learning_room.lessons.given == []
    learning_room.send(train())
    learning_room.step(wait=0.1)
    assert learning_room.synced == [KEY]
    assert len(learning_room.lessons.given) == 1
    learning_room.step()
    assert len(learning_room.lessons.given) == 1


def test_off_is_today(make):
    learning_room = make(when="off")
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]), train())
    learning_room.step()
    assert learning_room.lessons.given == []
    assert learning_room.learning.teach(CONFIG, KEY) is CONFIG
    assert len(learning_room.store.annotations(KEY)) == 1


def test_nothing_is_used_that_is_not_sure_to_help(learning_room):
    learning_room.lessons.helps = False
    learning_room.send(annotated(1, 1))
    learning_room.step()
    assert learning_room.version == 0
    assert learning_room.store.fits(KEY) == []
    assert "nothing is sure to be better" in learning_room.store.project(KEY).state
    learning_room.lessons.helps = True
    learning_room.send(annotated(2, 2))
    learning_room.step()
    assert learning_room.version == 1
    learning_room.lessons.helps = False
    learning_room.send(annotated(3, 3))
    learning_room.step()
    assert learning_room.version == 0
    assert learning_room.announced == [KEY, KEY]


def test_the_same_again_is_no_new_version(learning_room):
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]))
    learning_room.step()
    learning_room.send(train())
    learning_room.step()
    assert len(learning_room.lessons.given) == 2
    assert [fit.number for fit in learning_room.store.fits(KEY)] == [1]
    assert "the same as version 1" in learning_room.store.project(KEY).state
    assert learning_room.announced == [KEY]


def test_deleting_an_annotation_equals_never_having_had_it(make):
    learning_room, other = make(), make()
    for each in (learning_room, other):
        each.send(annotated(1, 1, [brushed(left_half(), "Dog")]))
    learning_room.send(annotated(2, 2, [brushed(left_half(), "Cat")]))
    learning_room.step()
    learning_room.send(deleted(2))
    learning_room.step(wait=0.5)
    # At once: no mask is made with it any more.
    assert learning_room.version == 0
    learning_room.step()
    other.step()
    assert learning_room.version == 2
    fits = [each.store.fits(KEY)[0].data for each in (learning_room, other)]
    assert fits[0] == fits[1]
    kept = [each.store.evidence(KEY) for each in (learning_room, other)]
    assert list(kept[0]) == list(kept[1]) == [1]


def test_what_is_deleted_in_another_process_while_it_learns_is_learned_again_without(make):
    learning_room = make()
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]), annotated(2, 2))
    lessons, other = learning_room.lessons, []

    def deletes_once(lesson):
        fit = lessons(lesson)
        if not other:
            other.append(CorrectionStore(learning_room.store.path.parent))
            with other[0].change() as change:
                change.annotation_gone(KEY, 2)
        return fit

    learning_room.learning.learner._learn = deletes_once
    learning_room.step()
    assert learning_room.version == 0
    assert learning_room.store.fits(KEY) == []
    assert "learns again without what was deleted meanwhile" in learning_room.store.project(KEY).state
    learning_room.step()
    assert [len(pictures) for pictures, _ in lessons.given] == [2, 1]
    assert learning_room.version == 1


def test_pictures_that_it_would_not_learn_from_are_not_brought_in(make, monkeypatch):
    monkeypatch.setattr(room, "MOST_PICTURES", 2)
    monkeypatch.setattr("backend.learning.lessons.MOST_PICTURES", 2)
    learning_room = make(cache_bytes=0)
    for number in range(1, 5):
        learning_room.send(annotated(number, number, [brushed(left_half(), "Dog")], at=1_800_000_000 + number))
    learning_room.step()
    assert [task for _, task, _ in learning_room.loader.seen] == [4, 3]
    assert [len(pictures) for pictures, _ in learning_room.lessons.given] == [2]


def test_features_are_read_once_in_a_fit(learning_room, monkeypatch):
    asked = []
    known = learning_room.predictor.known_features
    for number in (1, 2):
        learning_room.send(annotated(number, number, [brushed(left_half(), "Dog")]))
    learning_room.step()
    learning_room.send(train())
    monkeypatch.setattr(
        learning_room.predictor, "known_features", lambda content: asked.append(content) or known(content)
    )
    learning_room.step()
    assert len(learning_room.lessons.given) == 2
    assert len(asked) == len(set(asked)) == 2


@pytest.mark.parametrize("what", ["task", "project"])
def test_deleting_a_task_or_a_project_takes_what_was_learned_with_it(learning_room, what):
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]))
    learning_room.step()
    assert learning_room.version == 1
    learning_room.send(
        deleted(1, what="tasks") if what == "task" else {"action": "PROJECT_DELETED", "project": {"id": 1}}
    )
    learning_room.step()
    assert learning_room.version == 0
    assert learning_room.store.annotations(KEY) == []
    assert learning_room.store.fits(KEY) == []


def test_one_projects_corrections_do_not_show_in_another(learning_room):
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]), annotated(1, 1, project_number=2))
    learning_room.step()
    by_project = {key: learning_room.store.fits(key)[0].data for key in (KEY, key_of(2))}
    assert by_project[KEY] != by_project[key_of(2)]
    learning_room.send(deleted(1, project_number=2))
    learning_room.step()
    assert learning_room.store.fits(KEY)[0].data == by_project[KEY]
    assert learning_room.version == 1


def test_a_label_that_is_added_keeps_what_the_others_learned(learning_room):
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]))
    learning_room.step()
    grown = parse_label_config(LABELS.replace('<Label value="Dog"/>', '<Label value="Dog"/><Label value="Fish"/>'))
    taught = learning_room.learning.teach(grown, KEY)
    assert taught.version == 1
    [control] = taught.controls
    assert control.taught.learned.examples_of(control.vocabulary) == (0, 1, 1, 0)


def test_a_control_that_does_not_learn(learning_room):
    config = LABELS.replace("<BrushLabels ", '<BrushLabels learn="false" ')
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")], config=config))
    learning_room.step()
    quiet = parse_label_config(config)
    assert learning_room.learning.teach(quiet, KEY) is quiet
    assert learning_room.store.evidence(KEY) == {}


def test_a_label_that_is_stuff_is_taught_as_stuff(learning_room):
    config = LABELS.replace('<Label value="Dog"/>', '<Label value="Dog" stuff="true"/>')
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")], config=config))
    learning_room.step()
    [([picture], vocabulary)] = learning_room.lessons.given
    assert vocabulary.stuff == (2,)
    assert picture.shares.positions == (0, 2)


def test_names_of_stuff_are_names():
    names = made_up(CONFIG.controls[0].vocabulary).naming
    learned = Learned("core", 1.0, ("a", "b"), (1, 1), 1, None, None, 1.0, 2, names)
    assert describe(Fit({"brush": learned})) == "names of 2 labels"


class TestWhatCounts:
    def given(self, learning_room):
        learning_room.step()
        pictures, _ = learning_room.lessons.given[-1]
        return [tuple(picture.shares.positions) for picture in pictures]

    def test_skipped_ones_never(self, learning_room):
        learning_room.send(annotated(1, 1, [brushed(left_half())], was_cancelled=True), annotated(2, 2))
        assert self.given(learning_room) == [(0,)]
        assert learning_room.learning.report(KEY).unused == {"skipped": 1}

    def test_the_latest_of_several(self, learning_room):
        learning_room.send(
            annotated(1, 1, [brushed(left_half(), "Cat")], at=1_800_000_100),
            annotated(2, 1, [brushed(left_half(), "Dog")], at=1_800_000_000),
        )
        assert self.given(learning_room) == [(0, 1)]
        assert learning_room.learning.report(KEY).unused == {"another of the task counts": 1}

    def test_ground_truth_before_all_others(self, learning_room):
        learning_room.send(
            annotated(1, 1, [brushed(left_half(), "Cat")], at=1_800_000_100),
            annotated(2, 1, [brushed(left_half(), "Dog")], ground_truth=True),
        )
        assert self.given(learning_room) == [(0, 2)]

    def test_the_majority(self, make):
        learning_room = make(several="majority")
        learning_room.send(
            *(annotated(n, 1, [brushed(left_half(), label)]) for n, label in enumerate(("Cat", "Dog", "Dog")))
        )
        assert self.given(learning_room) == [(0, 2)]

    def test_regions_of_another_shape_of_picture(self, learning_room):
        learning_room.send(annotated(1, 3, [brushed(left_half(500, 50))], data={"image": "ok:50x50"}), annotated(2, 4))
        assert self.given(learning_room) == [(0,)]

    def test_one_picture_in_two_tasks_counts_once(self, learning_room):
        same = {"image": "ok:50x50"}
        learning_room.send(
            annotated(1, 1, [brushed(left_half(), "Cat")], data=same, at=1_800_000_100),
            annotated(2, 2, [brushed(left_half(), "Dog")], data=same),
        )
        assert self.given(learning_room) == [(0, 1)]

    def test_a_picture_that_cannot_be_had_is_left_out_and_said(self, learning_room, caplog):
        learning_room.send(annotated(1, 1, data={"image": "fail:not-found"}), annotated(2, 2))
        assert self.given(learning_room) == [(0,)]
        assert "task 1: not learned from" in caplog.text
        assert "1 pictures could not be had" in learning_room.store.project(KEY).state

    def test_pages_are_pictures_of_their_own(self, learning_room):
        config = LABELS.replace('value="$image"', 'valueList="$pages"')
        data = {"pages": ["ok:50x50", "ok:50x51"]}
        learning_room.send(annotated(1, 1, [brushed(left_half(50, 51), page=1)], data=data, config=config))
        assert sorted(self.given(learning_room)) == [(0,), (0, 1)]

    def test_two_controls_with_the_same_labels_learn_together(self, learning_room):
        second = '<PolygonLabels name="p" toName="img"><Label value="Cat"/><Label value="Dog"/></PolygonLabels></View>'
        config = LABELS.replace("</View>", second)
        points = [[50, 0], [100, 0], [100, 100], [50, 100]]
        polygon = {
            **brushed(left_half(), region="r2", control="p"),
            "type": "polygonlabels",
            "value": {"points": points, "polygonlabels": ["Dog"]},
        }
        learning_room.send(
            annotated(1, 1, [brushed(left_half(), "Cat"), polygon], data={"image": "ok:50x50"}, config=config)
        )
        learning_room.step()
        [([picture], _)] = learning_room.lessons.given
        assert picture.shares.positions == (1, 2)
        taught = learning_room.learning.teach(parse_label_config(config), KEY)
        assert [control.taught.number for control in taught.controls] == [1, 1]


class TestWhatBecameOfPredictions:
    def prediction(self, learning_room, task=1):
        body = {"id": task, "data": {"image": f"ok:{task + 20}x50"}}
        [made] = learning_room.predictor.predict([body], learning_room.learning.teach(CONFIG, KEY), project="1")
        return body["data"], made

    def kept(self, learning_room, number=1, task=1, change=lambda regions: regions, **further):
        data, made = self.prediction(learning_room, task)
        regions = [{**region, "origin": "prediction"} for region in made["result"]]
        further.setdefault("parent_prediction", 5)
        learning_room.send(annotated(number, task, change(regions), data=data, **further))
        learning_room.step()
        return learning_room.store.agreements(KEY)

    @pytest.mark.parametrize(("when", "compared"), [("on-training", True), ("off", False)])
    def test_nobody_has_to_press_the_button_for_that(self, make, when, compared):
        learning_room = make(when=when)
        self.kept(learning_room)
        learning_room.step(QUIET_S)
        assert bool(learning_room.store.agreements(KEY)) is compared
        assert learning_room.lessons.given == []
        assert learning_room.version == 0

    def test_not_while_somebody_is_at_work(self, make):
        learning_room = make(when="on-training")
        self.kept(learning_room)
        learning_room.step(QUIET_S - 0.1)
        assert learning_room.store.agreements(KEY) == {}
        learning_room.step(0.2)
        assert set(learning_room.store.agreements(KEY)) == {1}

    def test_what_cannot_be_had_is_asked_for_once_until_it_learns(self, make):
        learning_room = make(when="on-training")
        fails = {"image": "fail:not-found"}
        learning_room.send(annotated(1, 1, data=fails, parent_prediction=5))
        learning_room.step()
        learning_room.step()
        self.kept(learning_room, 2, 2)
        learning_room.step()
        assert [value for value, *_ in learning_room.loader.seen].count("fail:not-found") == 1
        assert set(learning_room.store.agreements(KEY)) == {2}
        with learning_room.store.change() as change:
            change.ask(KEY)
        learning_room.step()
        assert [value for value, *_ in learning_room.loader.seen].count("fail:not-found") == 2

    def test_whoever_wants_to_learn_need_not_wait_for_many(self, make, monkeypatch):
        monkeypatch.setattr("backend.learning.learner.COMPARED_AT_ONCE", 2)
        learning_room = make(when="on-training")
        for number in range(1, 6):
            data, made = self.prediction(learning_room, number)
            learning_room.send(annotated(number, number, made["result"], data=data, parent_prediction=5))
        learning_room.step()
        counts = []
        for _ in range(4):
            learning_room.step()
            counts.append(len(learning_room.store.agreements(KEY)))
        assert counts == [2, 4, 5, 5]

    def test_accepted(self, learning_room):
        [row] = self.kept(learning_room)[1]
        assert (row.control, row.page, row.label, row.state, row.iou, row.number) == (
            "brush",
            None,
            "Cat",
            "accepted",
            1,
            0,
        )
        assert row.score == pytest.approx(0.5)
        assert "learned" not in learning_room.store.annotations(KEY)[0].version

    def test_changed(self, learning_room):
        def half(regions):
            mask = left_half(21, 50)
            mask[:, :13] = False
            return [{**brushed(mask, "Cat", region=regions[0]["id"]), "origin": "prediction-changed"}]

        [row] = self.kept(learning_room, change=half)[1]
        assert (row.state, row.iou) == ("changed", pytest.approx(12 / 25))

    def test_deleted_and_added(self, learning_room):
        rows = self.kept(learning_room, change=lambda _regions: [brushed(left_half(21, 50), "Dog")])[1]
        assert [(row.label, row.state, row.iou) for row in rows] == [("Cat", "deleted", 0), ("Dog", "added", None)]

    def test_made_from_nothing_is_not_compared(self, learning_room):
        learning_room.send(annotated(1, 1, [brushed(left_half(21, 50))], data={"image": "ok:21x50"}))
        learning_room.step()
        assert learning_room.store.agreements(KEY) == {}

    def test_the_version_that_predicted_is_found_by_its_regions(self, learning_room):
        self.kept(learning_room, 1, 1)
        assert learning_room.version == 1
        rows = self.kept(learning_room, 2, 2)
        assert [row.number for row in rows[2]] == [1]
        assert "-learned1-" in learning_room.store.annotations(KEY)[1].version
        versions = {one.number: one.iou for one in learning_room.learning.report(KEY).versions}
        assert versions[1].mean == 1
        assert versions[1].pictures == 1
        assert versions[0].pictures == 1
        # The stand-in for the networks does not listen to what was learned.
        assert learning_room.store.beside_words(KEY) == {2: BesideWords(1, 1.0, 1.0)}
        gains = {one.number: one.gain for one in learning_room.learning.report(KEY).versions}
        assert gains[1] == Gain(1.0, 1.0, 0.0, 0.0, 0.0, 1)
        assert gains[0] is None

    def test_what_a_version_says_of_a_picture_that_it_was_learned_from_is_not_compared(self, learning_room):
        """Corrected once more: as the same task, and in another task that shows it."""
        self.kept(learning_room, 1, 1)
        assert learning_room.version == 1
        self.kept(learning_room, 2, 1, at=1_800_000_500)
        again = {"id": 3, "data": {"image": "ok:21x50"}}
        [made] = learning_room.predictor.predict([again], learning_room.learning.teach(CONFIG, KEY), project="1")
        regions = [{**region, "origin": "prediction"} for region in made["result"]]
        learning_room.send(annotated(3, 3, regions, data=again["data"], at=1_800_000_600, parent_prediction=5))
        learning_room.step()
        learning_room.step()  # nobody has corrected anything since
        assert ["-learned1-" in one.version for one in learning_room.store.annotations(KEY)] == [False, True, True]
        assert learning_room.store.unexamined(KEY) == []
        assert set(learning_room.store.agreements(KEY)) == {1}
        assert learning_room.store.beside_words(KEY) == {}

    def test_what_label_studio_sent_along_is_compared_where_it_cannot_be_made_again(self, learning_room):
        shown = {"model_version": "older-learned7-x", "result": [brushed(left_half(21, 50), "Cat", region="x")]}
        rows = self.kept(learning_room, change=lambda _r: [brushed(left_half(21, 50), "Cat")], prediction=shown)
        [row] = rows[1]
        assert (row.state, row.iou, row.score, row.number) == ("accepted", 1, None, 7)

    def test_scores_are_worth_something_from_thirty_regions_on(self, learning_room):
        for number in range(1, 32):
            data, made = self.prediction(learning_room, number)
            keep = made["result"] if number % 2 else []
            regions = [{**region, "origin": "prediction"} for region in keep]
            learning_room.send(annotated(number, number, regions, data=data, parent_prediction=number))
            if number == 29:
                learning_room.step()
                assert not learning_room.learning.report(KEY).is_calibrated
        learning_room.send(train())
        learning_room.step()
        taught = learning_room.learning.teach(CONFIG, KEY).controls[0].taught
        # All had the score 0.5, and half of them were right.
        assert taught.calibration is None or taught.calibration.expected_iou(np.array([0.5]))[0] == pytest.approx(
            0.5, abs=0.05
        )
        report = learning_room.learning.report(KEY)
        [cat] = report.classes
        assert (cat.accepted, cat.deleted, cat.pictures) == (16, 15, 31)
        assert cat.iou.mean == pytest.approx(16 / 31)
        assert cat.iou.low < cat.iou.mean < cat.iou.high
        assert report.lead_time_s == 12.5
        assert sum(point.iou.pictures for point in report.curve) == 31
        assert report.host == f"http://ls/{KEY}"


def test_pinning_and_going_back(learning_room):
    for number in (1, 2):
        learning_room.send(annotated(number, number, [brushed(left_half(), "Dog")]))
        learning_room.step()
    assert learning_room.version == 2
    learning_room.announced.clear()
    learning_room.learning.pin(KEY, 1)
    assert learning_room.version == 1
    learning_room.learning.pin(KEY, 0)
    assert learning_room.version == 0
    learning_room.send(annotated(3, 3))
    learning_room.step()
    assert learning_room.version == 0, "what a person has pinned stays"
    learning_room.learning.pin(KEY, None)
    assert learning_room.version == 3
    assert learning_room.announced == [KEY] * 4
    with pytest.raises(LookupError):
        learning_room.learning.pin(KEY, 9)


def test_old_versions_go(learning_room, monkeypatch):
    monkeypatch.setattr(room, "FITS_KEPT", 2)
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]))
    learning_room.step()
    learning_room.learning.pin(KEY, 1)
    for number in range(2, 6):
        learning_room.send(annotated(number, number, [brushed(left_half(), "Dog")]), train())
        learning_room.step()
    assert [fit.number for fit in learning_room.store.fits(KEY)] == [5, 4, 1]


def test_another_process_uses_it_within_a_second(learning_room, tmp_path):
    other = learning_room.make(learning_room.store.path.parent)
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]))
    assert other.teach(CONFIG, KEY).version == 0
    learning_room.step()
    learning_room.clock.now += 1
    assert other.teach(CONFIG, KEY).version == 1


def test_only_one_process_learns(learning_room):
    other = learning_room.make(learning_room.store.path.parent)
    learning_room.send(annotated(1, 1))
    assert learning_room.learning.learner._is_leader()
    assert learning_room.learning.learner._is_leader()
    assert not other.learner._is_leader()


def test_a_fit_of_other_weights_is_none(learning_room):
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]))
    learning_room.step()
    with learning_room.store.change() as change:
        fit = Fit({"brush": made_up(CONFIG.controls[0].vocabulary, encoder="other")})
        change.use(KEY, change.add_fit(KEY, 1, "", fit.to_bytes(), [1]))
    learning_room.clock.now += 10
    assert learning_room.version == 0


def test_a_damaged_fit_is_no_reason_to_stop(learning_room, caplog):
    learning_room.send(annotated(1, 1))
    learning_room.step()
    with learning_room.store.change() as change:
        change.use(KEY, change.add_fit(KEY, 1, "", b"damaged", [1]))
    learning_room.clock.now += 10
    assert learning_room.version == 0
    assert "a version cannot be read" in caplog.text


def test_a_method_that_does_not_learn_keeps_corrections(learning_room):
    learning_room.learning = learning_room.make(learning_room.store.path.parent, learn=None)
    learning_room.send(annotated(1, 1))
    learning_room.step()
    assert "does not learn" in learning_room.store.project(KEY).state
    assert len(learning_room.store.annotations(KEY)) == 1


def test_a_damaged_file_is_read_again_from_label_studio(learning_room):
    learning_room.send(annotated(1, 1))
    learning_room.step()
    learning_room.store.needs_rebuilding = True
    learning_room.step()
    assert learning_room.synced == [""]


def test_the_thread(make):
    learning_room = make()
    learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")]))
    Room.time += 1000
    done = []
    learning_room.learning.learner._on_new_version = lambda key: (
        done.append(key),
        learning_room.learning.learner._stop.set(),
    )
    learning_room.learning.start()
    learning_room.learning.learner._thread.join(30)
    assert done == [KEY]
    learning_room.learning.close()


def test_who_takes_over_goes_on_telling(learning_room):
    for number, key in ((1, KEY), (2, key_of(2))):
        learning_room.send(annotated(1, 1, [brushed(left_half(), "Dog")], project_number=number))
        learning_room.step()
        assert learning_room.store.project(key).used == 1
    learning_room.learning.pin(key_of(2), 0)
    learning_room.announced.clear()
    learning_room.learning.learner._go_on()
    assert learning_room.announced == [KEY]


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        (Fit({"b": made_up(CONFIG.controls[0].vocabulary)}), "names of 2 labels"),
        (Fit({"b": words()}, Calibration(((0.0, 0.5),))), "what scores are worth"),
        (Fit({"b": words()}), "nothing"),
    ],
)
def test_what_a_fit_changes_in_words(fit, said):
    assert describe(fit) == said
    again = Fit.from_bytes(fit.to_bytes())
    assert again.same_as(fit)
    assert again.is_words_only == fit.is_words_only == (said == "nothing")
