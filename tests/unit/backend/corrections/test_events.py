"""What webhooks say."""

import pytest
from webhooks import KEY, MADE, annotated, annotation, deleted, project, train, when

from backend.corrections.events import Event, ProjectFacts, SentAnnotation, read_event, read_project
from backend.errors import RequestError


def test_an_annotation_with_its_task_and_project():
    body = annotated(5, 3, [{"id": "r"}], data={"image": "x.png"}, parent_prediction=9, prediction={"result": []})
    [read] = read_event(body).annotations
    assert read == SentAnnotation(
        number=5,
        task=3,
        data={"image": "x.png"},
        result=[{"id": "r"}],
        created=1_800_000_000,
        updated=1_800_000_000,
        who=7,
        lead_time_s=12.5,
        started_from=9,
        prediction={"result": []},
    )
    assert read_event(body).project == ProjectFacts(KEY, 1, "project 1", body["project"]["label_config"])


def test_the_key_is_what_label_studio_calls_the_project_on_predict():
    # Its own rule: the id, and the whole seconds of created_at.
    assert read_project({"id": 12, "created_at": "2026-01-02T03:04:05.999999Z"}).key == "12.1767323045"
    assert read_project({"id": 12, "created_at": "2026-01-02T05:04:05+02:00"}).key == "12.1767323045"
    assert read_project({"id": 12}).key == ""


def test_several_annotations_find_their_tasks():
    body = {
        "action": "ANNOTATIONS_CREATED",
        "annotation": [annotation(1, 10), annotation(2, 20), annotation(3, 30)],
        "task": [{"id": 20, "data": {"image": "b"}}, {"id": 10, "data": {"image": "a"}}],
        "project": project(),
    }
    read = read_event(body).annotations
    assert [(one.number, one.data) for one in read] == [(1, {"image": "a"}), (2, {"image": "b"}), (3, None)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (deleted(4, 5), Event(read_project(project()), annotations_gone=(4, 5))),
        (deleted(4, what="tasks"), Event(read_project(project()), tasks_gone=(4,))),
        ({"action": "PROJECT_DELETED", "project": {"id": 8}}, Event(ProjectFacts("", 8), is_project_gone=True)),
        ({"action": "PROJECT_UPDATED", "project": project()}, Event(read_project(project()))),
        (train(), Event(read_project(project()), asks_to_learn=True)),
        ({"action": "TASKS_CREATED", "tasks": [{"id": 1}], "project": project()}, None),
        ({"action": "LABEL_LINK_CREATED"}, None),
        ({"action": "ANNOTATION_DRAFT_CREATED", "annotation": annotation(1), "project": project()}, None),
        ({"action": None}, None),
    ],
    ids=lambda value: value.get("action") if isinstance(value, dict) else "",
)
def test_what_each_action_says(body, expected):
    assert read_event(body) == expected


def test_flags_and_people():
    [read] = read_event(
        annotated(was_cancelled=True, ground_truth=True, completed_by={"id": 3, "email": "x"})
    ).annotations
    assert (read.is_cancelled, read.is_ground_truth, read.who) == (True, True, 3)
    [read] = read_event(annotated(completed_by=None, lead_time=None, updated_at=when(1_800_000_009.5))).annotations
    assert (read.who, read.lead_time_s, read.updated) == (None, None, 1_800_000_009.5)


@pytest.mark.parametrize("lead_time", [float("nan"), float("inf"), -1, "12", [1]])
def test_a_lead_time_that_is_none(lead_time):
    [read] = read_event(annotated(lead_time=lead_time)).annotations
    assert read.lead_time_s is None


@pytest.mark.parametrize("prediction", [None, {}, [], "x", {"model_version": "v"}])
def test_a_prediction_that_was_not_sent(prediction):
    [read] = read_event(annotated(prediction=prediction)).annotations
    assert read.prediction is None


@pytest.mark.parametrize(
    "body",
    [
        {"action": "ANNOTATION_CREATED"},
        {"action": "ANNOTATION_CREATED", "annotation": "x", "task": {"id": 1}, "project": project()},
        {**annotated(), "annotation": {"id": "1", "task": 1}},
        {**annotated(), "annotation": {"id": 1, "task": [1]}},
        {**annotated(), "annotation": {"id": True, "task": 1}},
        {**annotated(), "annotation": {"id": 1 << 70, "task": 1}},
        {**annotated(), "annotation": {"id": 1}},
        {**annotated(), "project": None},
        {**annotated(), "project": {"id": -1}},
        {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": None}], "project": project()},
        {"action": "ANNOTATIONS_DELETED", "annotations": [3], "project": project()},
        {"action": "START_TRAINING"},
    ],
)
def test_what_label_studio_would_not_send_is_refused(body):
    with pytest.raises(RequestError):
        read_event(body)


def test_a_task_without_a_number_is_no_reason_to_stop():
    body = {**annotated(), "task": {"id": [1], "data": {"image": "x"}}}
    [read] = read_event(body).annotations
    assert read.data is None


def test_times_that_are_none_are_the_beginning():
    assert read_project({"id": 1, "created_at": "yesterday"}).key == ""
    assert read_project({"id": 1, "created_at": 5}).key == ""
    assert read_project({"id": 1, "created_at": MADE, "title": 5, "label_config": None}) == ProjectFacts(KEY, 1)
