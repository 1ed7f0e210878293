import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from clocks import HandClock
from fakes import CONFIG, FakeCore, FakeLoader, tasks

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.host import LabelStudioHost
from backend.labeling.reader import parse_label_config
from backend.labeling.taught import Taught
from backend.metrics import Metrics
from backend.predicting.failures import Failures
from backend.predicting.fair_pool import Lane
from backend.predicting.feature_cache import FeatureCache, content_of
from backend.predicting.predictor import Predictor, PredictorOptions, Running
from backend.predicting.request import Window

PARSED = parse_label_config(CONFIG)


@pytest.fixture
def make():
    made = []

    def _make(core=None, **options):
        loader = FakeLoader()
        predictor = Predictor(core or FakeCore(), loader, PredictorOptions(**options), Metrics())
        predictor.loader = loader
        made.append(predictor)
        return predictor

    yield _make
    for predictor in made:
        predictor.close()


def outcome(predictor, name):
    return predictor.metrics.registry.get_sample_value("clipdiy_tasks_total", {"outcome": name}) or 0


def test_every_task_in_order(make):
    predictor = make()
    results = predictor.predict(tasks(*(f"ok:{8 + i}x6" for i in range(30))), PARSED)
    assert [result["result"][0]["original_height"] for result in results] == list(range(8, 38))
    assert all(result["model_version"] == predictor.model_version(PARSED) for result in results)
    assert all(result["score"] == 0.75 for result in results)
    assert outcome(predictor, "predicted") == 30
    assert predictor.metrics.registry.get_sample_value("clipdiy_tasks_waiting") == 0


def test_no_tasks(make):
    assert make().predict([], PARSED) == []


@pytest.mark.parametrize("image_batch", [1, 3, 8])
def test_one_failing_task_never_costs_another(make, caplog, image_batch):
    predictor = make(image_batch=image_batch)
    values = ["ok", "fail:not-found", "ok", "breaks", "odd", "ok", "ok", "fail:timeout", "ok"]
    with caplog.at_level(logging.INFO):
        results = predictor.predict([*tasks(*values), {"id": 10, "data": {}}, {"id": 11}], PARSED)
    assert [bool(result) for result in results] == [
        True,
        False,
        True,
        False,
        False,
        True,
        True,
        False,
        True,
        False,
        False,
    ]
    assert [result for result in results if not result] == [[]] * 6
    assert outcome(predictor, "predicted") == 5
    assert outcome(predictor, "not-found") == 1
    assert outcome(predictor, "timeout") == 1
    assert outcome(predictor, "inference") == 2
    assert outcome(predictor, "missing-data") == 2
    for task_id in (2, 4, 5, 8, 10, 11):
        assert f"task {task_id}:" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("image_batch", [1, 8])
def test_over_several_deadlines_every_picture_is_encoded_once(image_batch):
    """Networks and regions each take so long, by the request's clock, that eight pictures need several requests."""
    clock = HandClock()
    core = FakeCore()
    encode, segment = core.encode, core.segment

    def encoding(photos):
        clock.now += 25 * len(photos)
        return encode(photos)

    def segmenting(features, vocabulary, _options):
        clock.now += 15
        return segment(features, vocabulary)

    core.encode, core.segment = encoding, segmenting
    options = PredictorOptions(deadline_s=90, image_batch=image_batch)
    cache = FeatureCache(None, memory_bytes=10**6, disk_bytes=0)
    predictor = Predictor(core, FakeLoader(), options, Metrics(), cache, clock=clock)
    waiting = tasks(*(f"ok:8x{width}" for width in range(5, 13)))
    requests = 0
    while waiting:
        results = predictor.predict(waiting, PARSED)
        assert len(results) == len(waiting)
        # Label Studio leaves out what has been stored.
        waiting = [task for task, result in zip(waiting, results, strict=True) if not result]
        requests += 1
        assert requests < 50
    predictor.close()
    assert requests > 1
    assert sum(core.batches) == 8
    assert outcome(predictor, "predicted") == 8


def test_a_deadline_too_short_for_anything_still_gets_on(make):
    """Whatever was begun is held, so the next request finds it, also where nothing is cached."""
    gate = threading.Event()
    core = FakeCore()
    encode = core.encode
    core.encode = lambda photos: gate.wait(10) and encode(photos)
    predictor = make(core, deadline_s=0.05)
    assert predictor.predict(tasks("ok"), PARSED) == [[]]
    gate.set()
    predictor._networks.submit(lambda: None).result(10)
    predictor._pictures._keeping.submit(lambda: None).result(10)
    [result] = predictor.predict(tasks("ok"), PARSED, deadline=Deadline.never())
    assert result["result"]
    assert core.batches == [1]


def test_a_hanging_download_holds_up_neither_the_answer_nor_other_requests(make):
    """Each request downloads in threads of its own, and its downloads are told its deadline."""
    predictor = make(load_threads=1, deadline_s=60)
    hanging = threading.Event()
    fetch = predictor.loader.fetch_if_changed

    def fetching(value, *, deadline, **rest):
        if value == "hangs":
            hanging.set()
            assert deadline.left_s < 60
            time.sleep(min(deadline.left_s, 5))
        return fetch(value if value != "hangs" else "ok", deadline=deadline, **rest)

    predictor.loader.fetch_if_changed = fetching
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(predictor.predict, tasks("hangs"), PARSED, deadline=Deadline.after(0.5))
        assert hanging.wait(10)
        assert all(predictor.predict(tasks("ok"), PARSED))
        assert first.result(10) == [[]]
    assert predictor.predict(tasks("hangs", "ok:9x9"), PARSED, deadline=Deadline.after(0.5))[0] == []


def test_tasks_that_were_put_off_go_last_the_next_time(make):
    predictor = make(load_threads=1)
    batch = tasks("hangs", "ok", "ok:9x9")
    fetch = predictor.loader.fetch_if_changed
    free = threading.Event()

    def fetching(value, **rest):
        if value == "hangs":
            free.wait(10)
        return fetch("ok" if value == "hangs" else value, **rest)

    predictor.loader.fetch_if_changed = fetching
    assert predictor.predict(batch, PARSED, deadline=Deadline.after(1)) == [[], [], []]
    free.set()
    predictor.loader.seen.clear()
    assert all(predictor.predict(batch, PARSED))
    assert predictor.loader.seen[-1][1] == 1


def test_words_are_embedded_before_masks_are_made_and_by_the_deadline(make):
    core = FakeCore()
    order = []
    embed, segment = core.embed_prompts, core.segment
    core.embed_prompts = lambda prompts: (order.append("words"), embed(prompts))
    core.segment = lambda features, vocabulary, _options: (order.append("regions"), segment(features, vocabulary))[1]
    predictor = make(core)
    assert all(predictor.predict(tasks("ok", "ok:9x9"), PARSED))
    assert order == ["words", "regions", "regions"]
    assert core.embedded == [["a photo of a background", "a photo of a Cat", "a photo of a Dog"]]
    free = threading.Event()
    predictor._networks.submit(lambda: free.wait(10))
    other = parse_label_config(CONFIG.replace("Cat", "Apple"))
    assert predictor.predict(tasks("ok"), other, deadline=Deadline.after(0.05)) == [[]]
    free.set()


def test_failed_tasks_go_last_the_next_time(make):
    predictor = make(load_threads=1)
    batch = tasks("fail:timeout", "ok", "ok")
    predictor.predict(batch, PARSED)
    predictor.loader.seen.clear()
    predictor.predict(batch, PARSED)
    assert [task_id for _, task_id, _ in predictor.loader.seen] == [2, 3, 1]


def test_a_picture_is_downloaded_while_another_is_in_the_networks_and_a_third_becomes_regions(make, monkeypatch):
    """Each step of a picture waits until the next picture has begun the step before."""
    pictures = 5
    begun = {"download": 0, "networks": 0, "regions": 0}
    changed = threading.Condition()
    met = []

    def begin(step, before=None):
        with changed:
            begun[step] += 1
            changed.notify_all()
            if before is not None:
                wanted = min(begun[step] + 1, pictures)
                met.append(changed.wait_for(lambda: begun[before] >= wanted, timeout=5))

    core = FakeCore()
    encode, segment, fetch = core.encode, core.segment, FakeLoader.fetch_if_changed

    def fetching(self, value, **options):
        begin("download")
        return fetch(self, value, **options)

    def encoding(photos):
        begin("networks", before="download")
        return encode(photos)

    def segmenting(features, vocabulary, _options):
        begin("regions", before="networks")
        return segment(features, vocabulary)

    monkeypatch.setattr(FakeLoader, "fetch_if_changed", fetching)
    core.encode, core.segment = encoding, segmenting
    batch = tasks(*(f"ok:8x{width}" for width in range(5, 5 + pictures)))
    assert all(make(core, load_threads=1, finish_threads=1).predict(batch, PARSED))
    assert met == [True] * 2 * pictures


def test_photos_go_through_the_networks_together(make):
    core = FakeCore()
    predictor = make(core, image_batch=8, load_threads=8)
    predictor.predict(tasks("slow:100", *(f"ok:8x{width}" for width in range(6, 21))), PARSED)
    assert sum(core.batches) == 16
    assert max(core.batches) > 1
    assert max(core.batches) <= 8


def test_two_projects_at_once_get_their_own_labels(make):
    predictor = make()
    other = parse_label_config(CONFIG.replace("Cat", "Apple").replace("brush", "other"))

    def work(config):
        return [
            (region["from_name"], region["value"]["brushlabels"])
            for result in predictor.predict(tasks(*["slow:5"] * 20), config)
            for region in result["result"]
        ]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(work, [PARSED, other] * 4))
    for config, answer in zip([PARSED, other] * 4, answers, strict=True):
        label = config.controls[0].drawn[0].value
        assert answer == [(config.controls[0].from_name, [label])] * 20


def test_two_images_in_one_task(make):
    config = parse_label_config(
        """<View><Image name="a" value="$left"/><Image name="b" value="$right"/>
        <BrushLabels name="x" toName="a"><Label value="Cat"/></BrushLabels>
        <BrushLabels name="y" toName="b"><Label value="Cat"/></BrushLabels></View>"""
    )
    predictor = make()
    task = {"id": 1, "data": {"left": "ok:10x10", "right": "ok:20x30"}}
    [result] = predictor.predict([task], config)
    assert [(r["to_name"], r["original_height"]) for r in result["result"]] == [("a", 10), ("b", 20)]
    assert len({r["id"] for r in result["result"]}) == 2
    [broken] = predictor.predict([{"id": 2, "data": {"left": "ok"}}], config)
    assert broken == []


def test_model_version_changes_exactly_when_it_should(make):
    predictor = make()
    version = predictor.model_version(PARSED)
    assert version == make().model_version(parse_label_config(CONFIG))
    assert version == predictor.model_version(parse_label_config(CONFIG.replace("<Label", '<Label background="#f00"')))
    assert version != predictor.model_version(parse_label_config(CONFIG.replace("Cat", "Cow")))
    assert version != predictor.model_version(
        parse_label_config(CONFIG.replace('"Cat"', '"Cat" predicted_values="kitten"'))
    )
    assert version != predictor.model_version(parse_label_config(CONFIG, templates=("a {}",)))
    assert version != make(FakeCore("fake-2")).model_version(PARSED)


def test_a_model_version_names_the_weights_and_what_was_learned(make):
    core = FakeCore()
    core.name = "ViT-B/16 (mine).onnx, " + "x" * 40
    predictor = make(core)
    assert re.fullmatch(r"clip-diy-ViT-B-16--mine-\.onnx--x{18}-[0-9a-f]{10}", predictor.model_version(PARSED))
    learned = replace(PARSED, controls=(replace(PARSED.controls[0], taught=Taught(3)),))
    assert re.fullmatch(
        r"clip-diy-ViT-B-16--mine-\.onnx--x{18}-learned3-[0-9a-f]{10}", predictor.model_version(learned)
    )


def test_tasks_enough_to_keep_every_stage_busy_are_under_way():
    options = PredictorOptions(load_threads=5, image_batch=3, finish_threads=3)
    assert options.window == Window(unfinished=8, finishing=8 + 6)


def test_failures_are_kept_where_they_are_to_be(tmp_path):
    failures = Failures(tmp_path)
    predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(), Metrics(), failures=failures)
    predictor.predict(tasks("fail:timeout"), PARSED, project="7")
    predictor.close()
    assert predictor.failures is failures
    [failure] = failures.recent(9)
    assert (failure.project, failure.task, failure.reason) == ("7", "1", "timeout")


def test_region_ids_are_stable(make):
    first, second = (make().predict(tasks("ok"), PARSED)[0]["result"][0]["id"] for _ in range(2))
    assert first == second


def test_the_loader_is_told_who_asks(make):
    predictor = make()
    host = LabelStudioHost("http://ls", "secret")
    predictor.predict(tasks("ok"), PARSED, host=host)
    assert predictor.loader.seen == [("ok", 1, host)]
    assert "secret" not in repr(host)


def test_unknown_words_are_warned_of_once(make, caplog):
    predictor = make(FakeCore(unknown=("Dog",)))
    for _ in range(3):
        predictor.predict(tasks("ok"), PARSED)
    assert caplog.text.count("unknown: Dog") == 1
    assert predictor.look_at(PARSED) == ("unknown: Dog",), "said to whoever asks, however often"


def test_predictions_are_handed_over_as_they_are_finished(make):
    taken = []

    def keep(prediction):
        taken.append(prediction)
        return len(prediction["result"][0]["value"]["rle"])

    answers = make().predict(tasks("ok", "fail:not-found", "ok:100x9"), PARSED, keep=keep)
    assert len(taken) == 2
    assert answers[1] == []
    assert sorted(answers[::2]) == sorted(len(prediction["result"][0]["value"]["rle"]) for prediction in taken)


def test_a_prediction_that_cannot_be_handed_over_costs_its_task_only(make):
    def keep(prediction):
        if prediction["result"][0]["original_height"] == 10:
            raise OSError("no space in /secret")
        return "kept"

    assert make().predict(tasks("ok", "ok:10x10", "ok"), PARSED, keep=keep) == ["kept", [], "kept"]


@pytest.mark.parametrize("known", [False, True], ids=["new pictures", "known pictures"])
def test_only_a_window_of_tasks_is_under_way(tmp_path, known):
    """However many there are; also where the last step is the slowest, and where the networks have nothing to do."""
    cache = FeatureCache(tmp_path, memory_bytes=10**6, disk_bytes=10**6)
    options = PredictorOptions(load_threads=2, finish_threads=1, image_batch=1)
    loader = FakeLoader()
    predictor = Predictor(FakeCore(), loader, options, Metrics(), cache)
    if known:
        predictor.predict(tasks("ok"), PARSED)
        loader.seen.clear()
    under_way = []

    def keep(_prediction):
        time.sleep(0.01)
        under_way.append(len(loader.seen) - len(under_way))

    predictor.predict(tasks(*["ok"] * 60), PARSED, keep=keep)
    predictor.close()
    assert len(under_way) == 60
    assert max(under_way) <= 2 * (2 + 1) + 2 * 1 + 1


class TestKeptFeatures:
    @pytest.fixture
    def predictor(self, tmp_path):
        cache = FeatureCache(tmp_path, memory_bytes=10**6, disk_bytes=10**6)
        loader = FakeLoader()
        predictor = Predictor(FakeCore(), loader, PredictorOptions(), Metrics(), cache)
        predictor.loader = loader
        yield predictor
        predictor.close()

    def test_a_picture_is_encoded_once_whatever_is_asked_of_it(self, predictor):
        batch = tasks("ok:10x12", "ok:20x30")
        first = predictor.predict(batch, PARSED)
        other = parse_label_config(CONFIG.replace("Cat", "Apple"))
        second = predictor.predict(batch, other)
        assert sum(predictor._method.batches) == 2
        assert predictor.loader.decoded == 2
        assert [r["result"][0]["value"]["brushlabels"] for r in second] == [["Apple"]] * 2
        for a, b in zip(first, second, strict=True):
            assert a["result"][0]["value"]["rle"] == b["result"][0]["value"]["rle"]
            assert a["score"] == b["score"]

    def test_the_same_picture_in_many_tasks_is_encoded_once(self, predictor):
        results = predictor.predict(tasks(*["ok"] * 5), PARSED)
        results += predictor.predict(tasks(*["ok"] * 5, first=6), PARSED)
        assert all(results)
        assert len({result["result"][0]["id"] for result in results}) == 10
        assert sum(predictor._method.batches) == 1

    def test_an_unchanged_picture_is_not_downloaded(self, predictor):
        outcome = predictor.metrics.registry.get_sample_value
        for _ in range(2):
            assert all(predictor.predict(tasks("versioned:a"), PARSED))
        assert outcome("clipdiy_feature_cache_total", {"outcome": "not-downloaded"}) == 1
        predictor.loader.versions["a"] = "2"
        assert all(predictor.predict(tasks("versioned:a"), PARSED))
        assert outcome("clipdiy_feature_cache_total", {"outcome": "miss"}) == 2
        assert sum(predictor._method.batches) == 2

    def test_another_core_does_not_take_them(self, predictor):
        predictor.predict(tasks("ok"), PARSED)
        predictor._method.encoder_identity = "other"
        predictor.predict(tasks("ok"), PARSED)
        assert sum(predictor._method.batches) == 2


class TestBehind:
    """What nobody waits for is predicted behind everything else, and says what failed."""

    def behind(self, predictor, these, failures, **options):
        return predictor.predict_behind(
            these, PARSED, keep=lambda prediction: prediction["score"], on_failure=failures.append3, **options
        )

    class Failures(list):
        def append3(self, *failure):
            self.append(failure)

    def test_answers_and_reasons(self, make):
        failures = self.Failures()
        these = [*tasks("ok", "fail:not-found", "breaks", "ok"), {"id": 9}]
        assert self.behind(make(), these, failures) == [0.75, [], [], 0.75, []]
        assert sorted(failures) == [
            (1, "not-found", "this one fails with not-found"),
            (2, "inference", "unexpected RuntimeError"),
            (4, "missing-data", "expected the task's data as fields with names, got NoneType"),
        ]

    def test_it_is_as_urgent_as_work_ahead(self, make):
        """A request that comes later goes first, in the networks and where regions are made."""
        gate = threading.Event()
        core = FakeCore()
        encode, begun = core.encode, []

        def encoding(photos):
            begun.extend(photo.size_hw[1] for photo in photos)
            assert gate.wait(10)
            return encode(photos)

        core.encode = encoding
        predictor = make(core, load_threads=3, finish_threads=1)
        lanes = []
        submit = predictor._finishing.submit
        predictor._finishing.submit = lambda job, **options: lanes.append(options["lane"]) or submit(job, **options)
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(self.behind, predictor, tasks("ok:8x1", "ok:8x2", "ok:8x3"), self.Failures())
            while not begun:
                time.sleep(0.001)
            while len(predictor._networks._queue._lanes[Lane.BACKGROUND].get("", ())) < 2:
                time.sleep(0.001)
            quick = pool.submit(predictor.predict, tasks("ok:8x9"), PARSED, project="8", deadline=Deadline.never())
            while not predictor._networks._queue._lanes[Lane.REQUEST]:
                time.sleep(0.001)
            gate.set()
            assert all(quick.result(10))
            assert slow.result(10) == [0.75] * 3
        assert begun[1] == 9
        assert sorted(lanes) == [Lane.REQUEST] + [Lane.BACKGROUND] * 3

    def test_it_gives_nobody_way_and_leaves_nothing_to_do_ahead(self, make):
        predictor = make(ahead=10)
        ended = HandClock()
        deadline = Deadline.after(0, ended)
        assert self.behind(predictor, tasks("ok", "ok"), self.Failures(), deadline=deadline) == [[], []]
        assert len(predictor._ahead) == 0
        name = "clipdiy_predict_seconds_count"
        assert predictor.metrics.registry.get_sample_value(name) == 0, "no request took so long"


class TestWhatOthersAskOfIt:
    """Steps of a prediction for those that do not answer a request: learning, bulk runs, the page."""

    def test_pictures_are_brought_and_answered_as_a_request_would(self, make):
        predictor = make()
        [task] = tasks("ok:8x6")
        brought = predictor.bring(task, PARSED, project="7", host=LabelStudioHost("http://ls"))
        [(key, (content, features))] = brought.items()
        assert key == ("image", None)
        assert content == content_of(b"ok:8x6")
        assert features.size_hw == (8, 6)
        assert predictor.loader.seen == [("ok:8x6", 1, LabelStudioHost("http://ls"))]
        version = predictor.model_version(PARSED)
        assert [predictor.answer(task, PARSED, {key: features}, version=version)] == predictor.predict([task], PARSED)

    def test_bringing_is_given_up_at_the_deadline_of_a_request(self, make):
        told = []
        predictor = make(deadline_s=5)
        bring = predictor._pictures.bring_behind
        predictor._pictures.bring_behind = lambda value, task_id, asker: (
            told.append(asker),
            bring(value, task_id, asker),
        )
        own = Deadline.after(60)
        for deadline in (None, own):
            predictor.bring(tasks("ok")[0], PARSED, project="7", deadline=deadline)
        assert [(asker.owner, asker.deadline.seconds) for asker in told] == [("7", 5), ("7", 60)]

    def test_features_that_are_kept_are_known(self):
        cache = FeatureCache(None, memory_bytes=10**6, disk_bytes=0)
        predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(), Metrics(), cache)
        predictor.predict(tasks("ok:8x6"), PARSED)
        assert predictor.known_features(content_of(b"ok:8x6")).size_hw == (8, 6)
        assert predictor.known_features(content_of(b"other")) is None
        predictor.close()

    def test_tasks_are_taken_as_far_as_segmentation(self, make):
        failures = []
        [control] = PARSED.controls

        def made(task, features, segment):
            return task["id"], {key: segment(one, control).label_map.shape for key, one in features.items()}

        def told(*failure):
            failures.append(failure)

        predictor = make(deadline_s=0)
        these = tasks("ok:8x6", "fail:timeout", "ok:4x5")
        found = predictor.segment_behind(these, PARSED, make=made, on_failure=told)
        assert found == [(1, {("image", None): (8, 6)}), [], (3, {("image", None): (4, 5)})]
        assert failures == [(1, "timeout", "this one fails with timeout")]
        over = Deadline.after(0)
        assert predictor.segment_behind(these, PARSED, make=made, on_failure=told, deadline=over) == [[], [], []]

    def test_features_that_were_kept_are_segmented_in_their_places(self, make):
        predictor = make()
        [control] = PARSED.controls
        kept = [predictor.bring(one, PARSED)["image", None][1] for one in tasks("ok:8x6", "ok:4x5")]
        found = predictor.segment_known(
            [kept[0], None, kept[1]], PARSED, lambda place, one, segment: (place, segment(one, control).label_map.shape)
        )
        assert found == [(0, (8, 6)), None, (2, (4, 5))]

    def test_nothing_is_segmented_with_words_that_could_not_be_embedded(self, make):
        core = FakeCore()

        def broken(_prompts):
            raise RuntimeError("no")

        core.embed_prompts = broken
        with pytest.raises(RuntimeError):
            make(core).segment_known([None], PARSED, lambda *_: None)

    def test_a_picture_is_tried_out(self, make):
        predictor = make(FakeCore(unknown=("Dog",)))
        tried = predictor.try_out(b"ok", PARSED, deadline=Deadline.never())
        assert tried.photo.size_hw == tried.segmentation.label_map.shape == (8, 6)
        assert tried.vocabulary.names == ("background", "Cat", "Dog")
        assert tried.doubts == ("unknown: Dog",)
        assert predictor.metrics.registry.get_sample_value("clipdiy_predict_seconds_count") == 1

    def test_a_trial_that_is_given_up_leaves_nothing_to_do(self, make):
        predictor, free = make(), threading.Event()
        before = predictor._method.embedded[:]
        predictor._networks.submit(lambda: free.wait(10))
        with pytest.raises(TaskError, match="deadline"):
            predictor.try_out(b"ok", PARSED, deadline=Deadline.after(0.01))
        free.set()
        predictor._networks.submit(lambda: None).result(10)
        assert predictor._method.embedded == before

    def test_others_are_looked_at_before_anybody_asks(self, make):
        core, chosen = FakeCore(), []
        core.choose_others = lambda vocabulary, words=None: chosen.append(vocabulary.names)
        predictor = make(core)
        predictor.learn_others()
        predictor._networks.submit(lambda: None).result(10)
        assert chosen == [("background", "object")]

    def test_what_computes_is_named(self, make):
        core = FakeCore()
        assert make(core).method is core
        assert make(FakeCore("core-2")).runs == Running("fake", "clip-diy", "cpu", "float32", "core-2")


def test_a_gesture_waits_for_its_words_until_the_deadline(make, caplog):
    predictor = make()
    answered, free = [], threading.Event()
    predictor._interactor.answer = lambda *_, **__: (
        answered.append(predictor._method.embedded[:]) or {"result": ["some"]}
    )
    predictor._networks.submit(lambda: free.wait(10))
    before = predictor._method.embedded[:]
    nothing = predictor.interact(tasks("ok")[0], PARSED, CLICK, project="7", deadline=Deadline.after(0.01))
    assert nothing == {"result": [], "score": 0, "model_version": predictor.model_version(PARSED)}
    assert answered == []
    assert outcome(predictor, "deadline") == 1
    assert "project 7, task 1, interactive: deadline: no time was left" in caplog.text
    free.set()
    predictor._networks.submit(lambda: None).result(10)
    assert predictor._method.embedded == before, "nobody needs the words of a gesture that was given up"
    assert predictor.interact(tasks("ok")[0], PARSED, CLICK, deadline=Deadline.never()) == {"result": ["some"]}
    [embedded] = answered
    assert embedded[-1] == ["a photo of a background", "a photo of a Cat", "a photo of a Dog"]


def test_no_gesture_is_no_question(make, caplog):
    predictor = make()
    assert predictor.interact(tasks("ok")[0], PARSED, {"result": []})["result"] == []
    assert caplog.text == ""
    assert predictor.metrics.registry.get_sample_value("clipdiy_predict_seconds_count") == 0


def test_why_a_gesture_failed_shows_its_place_where_it_is_asked_for(make, caplog):
    predictor = make()
    predictor._interactor.answer = lambda *_, **__: 1 / 0
    with caplog.at_level(logging.DEBUG, "backend.predicting.predictor"):
        predictor.interact(tasks("ok")[0], PARSED, CLICK, project="7")
    assert caplog.messages == ["project 7, task 1, interactive: inference: unexpected ZeroDivisionError", "task 1"]
    assert [record.exc_info is not None for record in caplog.records] == [False, True]
    assert outcome(predictor, "inference") == 1


def test_a_gesture_that_comes_too_late_begins_nothing(make):
    predictor = make()
    predictor._interactor.answer = lambda *_, **__: pytest.fail("there was no time left")
    assert predictor.interact(tasks("ok")[0], PARSED, CLICK, deadline=Deadline.after(0))["result"] == []
    assert predictor._method.embedded == []
    assert outcome(predictor, "deadline") == 1


def test_closing_ends_every_thread():
    before = {*threading.enumerate()}
    predictor = Predictor(FakeCore(), FakeLoader(), PredictorOptions(ahead=10), Metrics())
    predictor.predict(tasks("ok"), PARSED)
    predictor.work_ahead(tasks("ok:8x9"), PARSED)
    begun = [one for one in {*threading.enumerate()} - before if not one.name.startswith("load")]
    assert begun
    predictor.close()
    assert [one.name for one in begun if one.is_alive()] == []


CLICK = {
    "result": [
        {
            "type": "keypointlabels",
            "from_name": "kp",
            "to_name": "img",
            "is_positive": True,
            "value": {"x": 50, "y": 50, "width": 1, "keypointlabels": ["Cat"]},
        }
    ]
}


class TestAhead:
    """What is left at a deadline is encoded while nobody asks, behind everybody who does."""

    class Core(FakeCore):
        """Says what it has begun with (by its width), and encodes when it is let; each takes 30 s by the clock."""

        def __init__(self, clock):
            super().__init__()
            self.clock = clock
            self.begun = []
            self.starts = threading.Semaphore(0)
            self.lets = threading.Semaphore(0)

        def encode(self, photos):
            self.begun += [photo.size_hw[1] for photo in photos]
            self.starts.release()
            assert self.lets.acquire(timeout=10)
            self.clock.now += 30
            return super().encode(photos)

        def let_all(self):
            for _ in range(1000):
                self.lets.release()

        def is_at(self, count):
            while len(self.begun) < count:
                assert self.starts.acquire(timeout=10)

    @pytest.fixture
    def clock(self):
        return HandClock()

    @pytest.fixture
    def predictor(self, clock):
        core = self.Core(clock)
        cache = FeatureCache(None, memory_bytes=10**6, disk_bytes=0)
        options = PredictorOptions(deadline_s=90, load_threads=1, ahead=100)
        made = Predictor(core, FakeLoader(), options, Metrics(), cache, clock=clock)
        made.core = core
        yield made
        core.let_all()
        made.close()

    def waiting(self, predictor):
        return predictor.metrics.registry.get_sample_value("clipdiy_pictures_ahead")

    def test_the_next_press_finds_features(self, predictor):
        """Tasks 1 to 12: what was left is encoded though nobody asks, and the next press encodes nothing."""
        predictor.core.let_all()
        these = tasks(*(f"ok:8x{width}" for width in range(1, 13)))
        first = predictor.predict(these, PARSED, project="7")
        left = [task for task, answer in zip(these, first, strict=True) if not answer]
        assert left, "the deadline came before the end"
        predictor.core.is_at(12)
        predictor._networks.submit(lambda: None).result(10)
        predictor._pictures._keeping.submit(lambda: None).result(10)
        assert all(predictor.predict(left, PARSED, project="7"))
        assert sorted(predictor.core.begun) == list(range(1, 13)), "each once"
        assert self.waiting(predictor) == 0

    def test_gestures_and_requests_go_first(self, predictor, clock):
        """The networks hold one picture ahead, more wait; then a request comes, and then a gesture."""
        core = predictor.core

        def answering(task, config, gesture, *, asker, model_version):
            predictor._pictures.bring(task["data"]["image"], task["id"], asker)
            return {"result": []}

        predictor._interactor.answer = answering
        core.lets.release()
        predictor.predict(tasks("ok:8x1"), PARSED)  # words are known from here on
        ahead = tasks(*(f"ok:8x{width}" for width in (100, 101, 102, 103)))
        predictor.work_ahead(ahead, PARSED, project="7", host=LabelStudioHost("http://ls"))
        core.is_at(2)
        with ThreadPoolExecutor(2) as pool:
            request = pool.submit(
                predictor.predict, tasks("ok:8x10", "ok:8x11"), PARSED, project="8", deadline=Deadline.never()
            )
            while len(predictor._networks._queue._lanes[Lane.REQUEST]) < 1:
                time.sleep(0.001)
            gesture = pool.submit(
                predictor.interact, tasks("ok:8x20")[0], PARSED, CLICK, project="9", deadline=Deadline.never()
            )
            while len(predictor._networks._queue._lanes[Lane.INTERACTIVE]) < 1:
                time.sleep(0.001)
            core.let_all()
            assert gesture.result(10) == {"result": []}
            assert all(request.result(10))
        core.is_at(8)
        assert core.begun[2] == 20, "the gesture before all others"
        assert core.begun[3:5] == [10, 11], "the request before what nobody waits for"
        assert sorted([core.begun[1], *core.begun[5:]]) == [100, 101, 102, 103]

    @pytest.mark.parametrize("asking", ["a request", "a gesture"])
    def test_nothing_is_brought_while_somebody_waits(self, predictor, asking):
        core = predictor.core
        predictor._interactor.answer = lambda *_, **__: core.encode([]) and {}
        with ThreadPoolExecutor(1) as pool:
            if asking == "a request":
                asked = pool.submit(predictor.predict, tasks("ok:8x1"), PARSED, deadline=Deadline.never())
            else:
                core.lets.release()
                predictor.predict(tasks("ok:8x1"), PARSED)
                asked = pool.submit(predictor.interact, tasks("ok")[0], PARSED, CLICK, deadline=Deadline.never())
                assert core.starts.acquire(timeout=10)
            assert core.starts.acquire(timeout=10)
            predictor.work_ahead(tasks("ok:8x2", "ok:8x3"), PARSED)
            assert not core.starts.acquire(timeout=0.05)
            assert self.waiting(predictor) == 2
            core.let_all()
            asked.result(10)
        assert core.starts.acquire(timeout=10)
        assert core.starts.acquire(timeout=10)

    def test_what_a_request_has_answered_does_not_wait_any_more(self, predictor):
        predictor.core.let_all()
        with predictor._ahead.giving_way():
            predictor.work_ahead(tasks("ok:8x1", "ok:8x2", "fail:not-found", "ok:8x3"), PARSED, project="7")
            assert self.waiting(predictor) == 4
            predictor.predict(tasks("ok:8x1", "ok:8x2", "fail:not-found"), PARSED, project="7")
            assert self.waiting(predictor) == 1

    def test_what_has_no_picture_is_left_out(self, predictor):
        with predictor._ahead.giving_way():
            predictor.work_ahead([{"id": 1}, {"id": 2, "data": {"image": ""}}, *tasks("ok")], PARSED)
            assert self.waiting(predictor) == 1

    def test_it_comes_from_where_it_is_found_out_to_be(self, predictor):
        predictor.core.let_all()
        host = LabelStudioHost("http://elsewhere")
        predictor.work_ahead(tasks("ok"), PARSED, host=lambda: host)
        predictor.core.is_at(1)
        assert predictor._pictures._loader.seen == [("ok", 1, host)]

    def test_the_end_ends_it(self, predictor):
        predictor.core.let_all()
        predictor.work_ahead(tasks("ok"), PARSED)
        predictor.close()
        assert not any(thread.is_alive() for thread in predictor._ahead._running)

    @pytest.mark.parametrize("image_batch", [1, 3])
    def test_one_more_is_brought_than_go_through_the_networks_together(self, make, image_batch):
        predictor = make(ahead=10, image_batch=image_batch)
        predictor.work_ahead(tasks("ok"), PARSED)
        assert len(predictor._ahead._running) == image_batch + 1

    def test_without_room_nothing_is_done(self, make):
        predictor = make(deadline_s=60)
        predictor.work_ahead(tasks("ok"), PARSED)
        assert not predictor._ahead._running
