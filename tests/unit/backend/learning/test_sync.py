"""What the store holds is what Label Studio has, after webhooks that were lost."""

import pytest
from webhooks import KEY, LABELS, annotated, annotation, brushed, left_half, project

from backend.corrections.intake import Intake
from backend.corrections.store import Agreement, CorrectionStore
from backend.errors import RequestError
from backend.label_studio_api import LabelStudioApiError
from backend.labeling.reader import parse_label_config
from backend.learning.sync import sync


class FakeApi:
    """Two pages of tasks, of which the second may fail."""

    def __init__(self, *pages, fails=False, described=None):
        self.pages = pages
        self.fails = fails
        self.described = project() if described is None else described

    def project(self, number):
        assert number == 1
        return self.described

    def task_pages(self, number, *, fields, page_size):
        assert (number, fields) == (1, "all")
        yield from self.pages
        if self.fails:
            raise LabelStudioApiError("GET /api/tasks/: 502")


def task(number, *annotations):
    # As a list of tasks has them: without the task's id.
    return {
        "id": number,
        "data": {"image": f"ok:{number}"},
        "annotations": [{k: v for k, v in one.items() if k != "task"} for one in annotations],
    }


@pytest.fixture
def store(tmp_path):
    return CorrectionStore(tmp_path)


def run(store, api):
    return sync(api, Intake(store, parse_label_config), 1)


def test_all_pages_are_read(store):
    found = run(
        store,
        FakeApi(
            [task(1, annotation(1, result=[brushed(left_half())])), task(2)], [task(3, annotation(2), annotation(3))]
        ),
    )
    assert (found.annotations, found.forgotten, found.project.key) == (3, 0, KEY)
    assert [(one.number, one.task) for one in store.annotations(KEY)] == [(1, 1), (2, 3), (3, 3)]
    assert store.task_data(KEY, 1) == {"image": "ok:1"}
    assert store.project(KEY).facts.label_config == LABELS
    assert store.evidence(KEY)[1][0].shares.shares.positions == (0, 1)


def test_what_is_no_more_is_forgotten_and_what_is_newer_replaces(store):
    run(store, FakeApi([task(1, annotation(1), annotation(2))]))
    later = annotation(1, at=1_800_000_500, lead_time=99.0)
    found = run(store, FakeApi([task(1, later)]))
    assert (found.annotations, found.forgotten) == (1, 1)
    assert [(one.number, one.lead_time_s) for one in store.annotations(KEY)] == [(1, 99.0)]


def test_nothing_is_forgotten_where_reading_broke_off(store):
    run(store, FakeApi([task(1, annotation(1))], [task(2, annotation(2))]))
    with pytest.raises(LabelStudioApiError):
        run(store, FakeApi([task(3, annotation(3))], fails=True))
    assert [one.number for one in store.annotations(KEY)] == [1, 2, 3]


def test_drafts_and_predictions_are_no_annotations(store):
    draft = {"id": 7, "annotation": None, "result": [brushed(left_half())], "user": "anna"}
    of_another = {**draft, "id": 8, "annotation": 1}
    listed = {**task(1, annotation(1)), "drafts": [draft, of_another], "predictions": [annotation(9)]}
    assert run(store, FakeApi([listed, {**task(2), "drafts": [draft]}])).annotations == 1
    assert [one.number for one in store.annotations(KEY)] == [1]
    assert store.evidence(KEY)[1][0].shares.shares.positions == (0,), "what was submitted, not what is being drawn"


def test_an_odd_annotation_is_left_out(store, caplog):
    found = run(store, FakeApi([task(1, {**annotation(1), "id": "x"}, annotation(2))]))
    assert found.annotations == 1
    assert "an annotation is left out" in caplog.text


def test_a_project_that_says_too_little(store):
    with pytest.raises(RequestError, match="when project 1 was made"):
        run(store, FakeApi(described={"id": 1}))


def test_another_project_of_the_same_number_is_not_believed(store):
    api = FakeApi([task(1, annotation(1))])
    intake = Intake(store, parse_label_config)
    with pytest.raises(RequestError, match="not the one that was expected"):
        sync(api, intake, 1, expected="1.5")
    assert store.projects() == []
    assert sync(api, intake, 1, expected=KEY).annotations == 1


class Counting:
    """Reads configs, and counts how often: once for each annotation that is read."""

    def __init__(self):
        self.read = 0

    def __call__(self, xml):
        self.read += 1
        return parse_label_config(xml)


def run_counting(store, api):
    counting = Counting()
    sync(api, Intake(store, counting), 1)
    return counting.read


def kept(store):
    return {number: [one.shares.shares.to_bytes() for one in rows] for number, rows in store.evidence(KEY).items()}


def test_what_has_not_changed_is_not_read_again_and_stays_as_it_was_compared(store):
    api = FakeApi([task(1, annotation(1, result=[brushed(left_half(), origin="prediction")])), task(2, annotation(2))])
    assert run_counting(store, api) == 2
    with store.change() as change:
        change.is_examined(KEY, 1, "v", [Agreement("brush", None, "Cat", "changed", 0.5, 0.5, 0)])
    before = store.annotations(KEY), store.agreements(KEY), kept(store), store.project(KEY)
    assert run_counting(store, api) == 0
    assert (store.annotations(KEY), store.agreements(KEY), kept(store), store.project(KEY)) == before
    assert store.unexamined(KEY) == []


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"lead_time": 5.0}, id="an annotation"),
        pytest.param({"ground_truth": True}, id="a flag"),
        pytest.param({"result": [brushed(left_half(), "Dog")]}, id="regions"),
    ],
)
def test_what_has_changed_is_read_again_also_within_one_moment(store, changed):
    run(store, FakeApi([task(1, annotation(1)), task(2, annotation(2))]))
    assert run_counting(store, FakeApi([task(1, annotation(1, **changed)), task(2, annotation(2))])) == 1


def test_annotations_are_read_again_where_their_tasks_data_have_changed(store):
    run(store, FakeApi([task(1, annotation(1))]))
    assert run_counting(store, FakeApi([{**task(1, annotation(1)), "data": {"image": "ok:other"}}])) == 1
    assert store.task_data(KEY, 1) == {"image": "ok:other"}


def test_annotations_are_read_again_by_a_config_that_has_gained_a_label(store):
    pages = [task(1, annotation(1, result=[brushed(left_half(), "Bird")]))]
    run(store, FakeApi(pages))
    before = store.evidence(KEY)[1][0].shares
    assert before.labels == ("Cat", "Dog")
    gained = LABELS.replace("</BrushLabels>", '<Label value="Bird"/></BrushLabels>')
    api = FakeApi(pages, described=project(config=gained))
    assert run_counting(store, api) == 1
    after = store.evidence(KEY)[1][0].shares
    assert after.labels == ("Cat", "Dog", "Bird")
    assert after.shares.positions != before.shares.positions
    assert run_counting(store, api) == 0
    assert run_counting(store, FakeApi(pages, described=project(config=""))) == 0, "as it was heard last"


def test_what_webhooks_said_is_known_to_sync(store):
    intake = Intake(store, parse_label_config)
    store.receive(annotated(1, 1, [brushed(left_half())], data={"image": "ok:1"}))
    assert intake.read_first() is not None
    assert run_counting(store, FakeApi([task(1, annotation(1, result=[brushed(left_half())]))])) == 0
