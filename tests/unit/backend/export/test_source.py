"""From a project's tasks to pictures with masks."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from data_sets import (
    SIZE_HW,
    FakeApi,
    annotation,
    box,
    encoded,
    maps_of_five,
    pixels,
    prediction,
    project_of_five,
    region,
    source,
    task,
)

from backend.errors import ExportError
from backend.export import source as module
from backend.export.chosen import Rules
from backend.export.classes import IGNORED
from backend.export.split import split_of
from backend.images.host import LabelStudioHost


def test_every_picture_comes_with_what_is_said_of_it():
    told = []
    found = {one.task: one for one in source(project_of_five(), told=told, ignore=("Unsure",), val_share=0).pictures()}
    assert told == []
    assert [*found] == [11, 12, 13, 14, 15]
    for number, label_map in maps_of_five().items():
        assert (found[number].label_map == label_map).all(), number
    assert found[13].label_map is None
    assert {number: one.split for number, one in found.items()} == {
        **dict.fromkeys((11, 12, 14, 15), "train"),
        13: "unlabelled",
    }
    assert [one.origin for one in found.values()] == ["annotation", "annotation", None, "prediction", "annotation"]
    assert [one.score for one in found.values()] == [None, None, None, 0.9, None]
    assert [one.image_id for one in found.values()] == [11, 12, 13, 14, 15]
    assert found[11].name == "000011-picture11"
    assert found[11].numbers == (1, 2)
    assert found[15].numbers == (1,)
    assert found[12].numbers == found[13].numbers == ()
    assert found[11].size_hw == SIZE_HW
    assert found[11].file.data == encoded(pixels(11))


def test_the_split_is_by_the_file_as_it_was_fetched():
    tasks = [task(i, annotations=[annotation()]) for i in range(1, 21)]
    for one in source(tasks, val_share=0.5).pictures():
        assert one.split == split_of(encoded(pixels(one.task)), 0.5)


def test_a_picture_that_is_not_there_is_told_and_left_out():
    told = []
    tasks = [task(1), task(2, image="gone"), {"id": 3, "data": {}}]
    made = source(tasks, files={"picture1": encoded(pixels())}, told=told)
    assert [one.task for one in made.pictures()] == [1]
    assert sorted(told) == [
        "task 2: the picture is left out: no gone",
        "task 3: the picture is left out: the task's data has no 'image'; it has no field at all",
    ]


@pytest.mark.parametrize(
    "broken",
    [
        region(box(0, 0, 5, 5), value={"rle": [1], "brushlabels": ["Cat"]}),
        region(box(0, 0, 5, 5, (40, 40))),
        region(box(0, 0, 5, 5), original_width=None),
    ],
    ids=["damaged", "another picture", "no size"],
)
def test_an_annotation_that_cannot_be_read_to_the_end_is_none(broken):
    told = []
    [one] = source([task(1, annotations=[annotation(region(box(9, 9, 20, 20)), broken)])], told=told).pictures()
    assert one.label_map is None
    assert (one.split, one.origin, one.instances) == ("unlabelled", None, ())
    [sentence] = told
    assert sentence.startswith("task 1: the picture counts as unlabelled: region 'r0'")


def test_a_majority():
    same, other = region(box(0, 0, 9, 9)), region(box(20, 20, 30, 30), "Dog")
    several = [
        annotation(*regions, number=i, completed_by=i) for i, regions in enumerate([[same, other], [same], [same]])
    ]
    [one] = source([task(1, annotations=several)], rules=Rules(several="majority")).pictures()
    assert (one.label_map == box(0, 0, 9, 9)).all()
    [two] = source([task(1, annotations=several[:2])], rules=Rules(several="majority")).pictures()
    assert (two.label_map[20:30, 20:30] == IGNORED).all()


def test_scores_are_of_predictions_only():
    kept = region(box(0, 0, 9, 9), score=0.7, origin="prediction")
    said, guessed = source(
        [task(1, annotations=[annotation(kept)]), task(2, predictions=[prediction(kept)])]
    ).pictures()
    assert [one.score for one in said.instances] == [None]
    assert [one.score for one in guessed.instances] == [0.7]


@pytest.mark.parametrize(("described", "expected"), [({"task_number": 7}, 7), ({}, None), ({"task_number": "7"}, None)])
def test_how_many_tasks_there_are(described, expected):
    made = source([task(1)])
    made._api.described = described
    assert made.expected == expected


PAGES = """<View><Image name="img" valueList="$pages"/>
<BrushLabels name="brush" toName="img"><Label value="Cat"/></BrushLabels></View>"""


def test_pages():
    files = {name: encoded(pixels(i)) for i, name in enumerate(["a.png", "b.png"])}
    regions = [region(box(0, 0, 5, 5), item_index=1), region(box(8, 8, 12, 12), item_index=0)]
    tasks = [{"id": 6, "data": {"pages": ["a.png", "b.png"]}, "annotations": [annotation(*regions)]}]
    first, second = source(tasks, config=PAGES, files=files).pictures()
    assert (first.label_map == box(8, 8, 12, 12)).all()
    assert (second.label_map == box(0, 0, 5, 5)).all()
    assert [first.name, second.name] == ["000006-p0-a", "000006-p1-b"]
    assert [first.image_id, second.image_id] == [600, 601]
    assert [first.page, second.page] == [0, 1]


def test_a_region_that_names_no_page_is_on_the_first():
    tasks = [{"id": 6, "data": {"pages": ["a.png", "b.png"]}, "annotations": [annotation(region(box(0, 0, 5, 5)))]}]
    files = {name: encoded(pixels(i)) for i, name in enumerate(["a.png", "b.png"])}
    first, second = source(tasks, config=PAGES, files=files).pictures()
    assert (first.numbers, second.numbers) == ((1,), ())


TWO = """<View><Image name="left" value="$l"/><Image name="right" value="$r"/>
<BrushLabels name="brush" toName="left,right"><Label value="Cat"/></BrushLabels></View>"""


def test_one_control_on_two_images():
    files = {name: encoded(pixels(i)) for i, name in enumerate(["a.png", "b.png"])}
    regions = [region(box(0, 0, 5, 5), to_name="right"), region(box(8, 8, 12, 12), to_name="left")]
    tasks = [{"id": 6, "data": {"l": "a.png", "r": "b.png"}, "annotations": [annotation(*regions)]}]
    left, right = source(tasks, config=TWO, files=files).pictures()
    assert (left.label_map == box(8, 8, 12, 12)).all()
    assert (right.label_map == box(0, 0, 5, 5)).all()
    assert [left.name, right.name] == ["000006-i0-a", "000006-i1-b"]
    assert [left.image_id, right.image_id] == [1200, 1300]


FROM_TASKS = """<View><Image name="img" value="$image"/>
<BrushLabels name="brush" toName="img" value="$labels"/></View>"""


def test_labels_that_stand_in_the_tasks():
    told = []
    tasks = [
        task(1, labels=["zebra", "ant"], annotations=[annotation(region(box(0, 0, 5, 5), "zebra"))]),
        task(2, labels=[{"value": "bee"}, {"value": "ant"}]),
        task(3),
    ]
    made = source(tasks, config=FROM_TASKS, told=told)
    assert made.classes.names == ("ant", "bee", "zebra")
    assert told == ["task 3: expected a list of labels in the task's 'labels', got nothing"]
    first, *_ = made.pictures()
    assert first.numbers == (3,)
    with pytest.raises(ExportError, match="no task has any"):
        source([task(1)], config=FROM_TASKS).classes  # noqa: B018


def test_regions_of_other_controls_are_not_asked_about():
    other = region(box(0, 0, 9, 9), from_name="else", original_width=None)
    text = {"id": "t", "from_name": "note", "to_name": "img", "type": "textarea", "value": {"text": ["x"]}}
    [one] = source([task(1, annotations=[annotation(other, text, region(box(1, 1, 4, 4)))])]).pictures()
    assert (one.label_map == box(1, 1, 4, 4)).all()


def test_it_asks_for_pages_with_annotations_when_they_are_wanted(monkeypatch):
    monkeypatch.setattr(module, "PAGE", 2)
    monkeypatch.setattr(module, "AHEAD", 2)
    made = source([task(i) for i in range(1, 8)])
    pictures = made.pictures()
    next(pictures)
    assert sorted(made._api.asked, key=str) == [("all", 0), "project"]
    assert len([*pictures]) == 6
    assert [one for one in made._api.asked if one != "project"] == [("all", 0), ("all", 2), ("all", 4), ("all", 6)]
    assert made._api.asked.count("project") == 1
    assert made.title == "A project"


def test_the_loader_is_told_of_which_task_and_label_studio():
    made = source([task(5)])
    made._host = LabelStudioHost("http://here")
    [*_] = made.pictures()
    assert made._loader.fetched == [("picture5", 5, LabelStudioHost("http://here"))]


def test_tasks_without_a_number_are_none():
    assert [one.number for one in source([{"data": {}, "id": None}, task(2)], files={"a": b""}).tasks()] == [2]


def test_jobs_are_done_ahead_but_not_far_and_come_in_their_order():
    begun, gate = [], threading.Event()

    def work(job):
        if job == 0:
            gate.wait(10)
        return job * 10

    def jobs():
        for job in range(10):
            begun.append(job)
            if job == 3:
                gate.set()
            yield job

    with ThreadPoolExecutor(3) as pool:
        found = module.in_order(pool, work, jobs(), 3)
        gate.set()
        assert next(found) == (0, 0)
        assert begun == [0, 1, 2]
        assert [*found] == [(job, job * 10) for job in range(1, 10)]


def test_jobs_that_nobody_takes_are_not_begun():
    gate, done = threading.Event(), []

    def work(job):
        if job:
            gate.wait(10)
        done.append(job)

    with ThreadPoolExecutor(1) as pool:
        found = module.in_order(pool, work, iter(range(100)), 50)
        assert next(found) == (0, None)
        found.close()
        gate.set()
    assert len(done) <= 2, "one that had begun is finished"


def test_the_api_is_enough_for_a_source():
    api: module.Api = FakeApi([])
    assert np.array_equal([*api.task_pages(1, fields="all", page_size=2)], [])
