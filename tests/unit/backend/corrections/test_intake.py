"""What comes in becomes rows, whatever it holds."""

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from webhooks import KEY, LABELS, annotated, annotation, brushed, deleted, key_of, left_half, project

from backend.corrections.intake import Intake, mask_controls
from backend.corrections.store import Agreement, CorrectionStore
from backend.errors import RequestError
from backend.labeling.reader import parse_label_config
from tests.oracles.fuzz import webhooks


def read(folder, *bodies):
    store = CorrectionStore(folder)
    intake = Intake(store, parse_label_config)
    for body in bodies:
        store.receive(body)
    changed = []
    while (received := intake.read_first()) is not None:
        changed.append(received.projects)
    return store, changed


def test_whose_project_was_changed(tmp_path):
    sent = [
        annotated(1),
        {"action": "OTHER"},
        deleted(1, project_number=2),
        {"action": "PROJECT_DELETED", "project": {"id": 1}},
    ]
    store, changed = read(tmp_path, *sent)
    assert changed == [(KEY,), (), (key_of(2),), (KEY,)]
    assert store.annotations(KEY) == []


def test_pages_without_regions_are_background(tmp_path):
    config = LABELS.replace('value="$image"', 'valueList="$pages"')
    body = annotated(1, 1, [brushed(left_half(), page=1)], data={"pages": ["a", "b", "c"]}, config=config)
    store, _ = read(tmp_path, body)
    found = {one.shares.page: one.shares.shares.positions for one in store.evidence(KEY)[1]}
    assert found == {0: (0,), 1: (0, 1), 2: (0,)}


def test_a_region_on_a_page_that_is_not_there(tmp_path):
    config = LABELS.replace('value="$image"', 'valueList="$pages"')
    store, _ = read(tmp_path, annotated(1, 1, [brushed(left_half(), page=7)], data={"pages": ["a"]}, config=config))
    [kept] = store.annotations(KEY)
    assert "pages that the task does not have" in kept.problems[0]
    assert store.evidence(KEY) == {}


def test_a_config_that_cannot_be_read(tmp_path):
    store, _ = read(tmp_path, annotated(1, config="<View/>"))
    [kept] = store.annotations(KEY)
    assert kept.problems[0].startswith("the project's config cannot be read")


def test_the_config_that_was_sent_last_counts_where_none_is_sent(tmp_path):
    body = annotated(2, 2, [brushed(left_half())])
    del body["project"]["label_config"]
    store, _ = read(tmp_path, annotated(1), body)
    assert store.evidence(KEY)[2][0].shares.labels == ("Cat", "Dog")


def test_one_that_comes_again_as_it_was_stays_as_it_was_compared(tmp_path):
    body = annotated(1, 1, [brushed(left_half(), origin="prediction")])
    store, _ = read(tmp_path, body)
    with store.change() as change:
        change.is_examined(KEY, 1, "v", [Agreement("brush", None, "Cat", "accepted", 1.0, 0.5, 0)])
    before = store.project(KEY)
    read(tmp_path, body)
    assert store.unexamined(KEY) == []
    assert (len(store.agreements(KEY)[1]), store.project(KEY)) == (1, before)


def test_one_that_did_not_begin_as_a_prediction_is_not_compared(tmp_path):
    store, _ = read(
        tmp_path,
        annotated(1, 1, [brushed(left_half())]),
        annotated(2, 2, [brushed(left_half(), origin="prediction")]),
        annotated(3, 3, [], parent_prediction=4),
        annotated(4, 4, [brushed(left_half())], prediction={"result": [], "model_version": "v"}),
    )
    assert store.unexamined(KEY) == [2, 3]


def test_a_project_that_is_in_two_label_studios_is_not_deleted_by_its_number(tmp_path, caplog):
    second = annotated(1)
    second["project"] = project(created_at="2020-01-01T00:00:00Z")
    store, changed = read(tmp_path, annotated(1), second, {"action": "PROJECT_DELETED", "project": {"id": 1}})
    assert len(store.projects()) == 2
    assert changed[-1] == ()
    assert "clipdiy-ls sync" in caplog.text


def test_a_webhook_that_does_not_say_which_project_is_left_out(tmp_path, caplog):
    body = annotated(1)
    del body["project"]["created_at"]
    store, changed = read(tmp_path, body)
    assert changed == [()]
    assert store.projects() == []
    assert "does not say which project" in caplog.text


def test_which_controls_learn():
    config = parse_label_config(
        '<View><Image name="img" value="$image"/><Image name="two" value="$other"/>'
        '<BrushLabels name="a" toName="img"><Label value="Cat"/></BrushLabels>'
        '<BrushLabels name="b" toName="img" learn="false"><Label value="Cat"/></BrushLabels>'
        '<Choices name="c" toName="img" choice="multiple"><Choice value="Cat"/><Choice value="Dog"/></Choices>'
        '<BrushLabels name="d" toName="two" value="$labels"/></View>'
    )
    assert [control.from_name for control in mask_controls(config)] == ["a"]


def finite(value):
    if isinstance(value, float):
        return math.isfinite(value)
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(map(finite, children))


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(body=webhooks())
def test_whatever_a_webhook_holds(body):
    with TemporaryDirectory() as folder:
        good = annotated(99, 99, [brushed(left_half())])
        try:
            store, _ = read(Path(folder), json.loads(json.dumps(body)), good)
        except (RequestError, ValueError):
            assert not finite(body)
            return
        assert 99 in [one.number for one in store.annotations(KEY)]
        assert store.waiting() == 0


def test_an_annotation_of_a_list_has_its_task(tmp_path):
    body = {
        "action": "ANNOTATIONS_CREATED",
        "annotation": [annotation(1, 4), annotation(2, 5)],
        "task": [{"id": 4, "data": {"image": "a"}}, {"id": 5, "data": {"image": "b"}}],
        "project": project(),
    }
    store, _ = read(tmp_path, body)
    assert [store.task_data(KEY, one.task) for one in store.annotations(KEY)] == [{"image": "a"}, {"image": "b"}]
