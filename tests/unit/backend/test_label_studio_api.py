"""Projects of any size, page by page; what is written in bulk."""

import itertools

import pytest
from fake_label_studio import LEGACY_TOKEN, PERSONAL_TOKEN, FakeLabelStudio, Fault
from web_server import Reply, WebServer

from backend.label_studio_api import LabelStudioApi, LabelStudioApiError, Patience, TaskFilter


@pytest.fixture
def studio():
    with FakeLabelStudio() as server:
        yield server


@pytest.fixture
def api(studio):
    return LabelStudioApi(studio.url, f"Token {LEGACY_TOKEN}")


def images(count):
    return [{"image": str(i)} for i in range(count)]


def ids(pages):
    return [[task["id"] for task in page] for page in pages]


class TestPages:
    def test_every_task_is_in_one_page(self, studio, api):
        project = studio.add_project("<View/>", images(7))
        studio.add_project("<View/>", images(3))
        pages = [*api.task_pages(project, page_size=3)]
        assert [len(page) for page in pages] == [3, 3, 1]
        assert [task["data"]["image"] for page in pages for task in page] == list("0123456")
        assert len(studio.requests) == 3, "nobody asks behind the end"

    @pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (3, [3]), (6, [3, 3])])
    def test_the_end_is_found(self, studio, api, count, sizes):
        project = studio.add_project("<View/>", images(count))
        assert [len(page) for page in api.task_pages(project, page_size=3)] == sizes

    def test_pages_are_asked_for_when_they_are_wanted(self, studio, api):
        project = studio.add_project("<View/>", images(9))
        assert len([*itertools.islice(api.task_pages(project, page_size=3), 2)]) == 2
        assert len(studio.requests) == 2

    def test_a_label_studio_that_gives_fewer_than_asked_for(self, studio, api):
        studio.most_in_a_page = 2
        project = studio.add_project("<View/>", images(5))
        assert [len(page) for page in api.task_pages(project)] == [2, 2, 1]

    def test_tasks_that_come_and_go_meanwhile_shift_no_other(self, studio, api):
        project = studio.add_project("<View/>", images(6))
        tasks = studio.projects[project].tasks
        seen = []
        for page in api.task_pages(project, page_size=2):
            seen += page
            first = page[0]["id"]
            tasks.pop(first)
            if len(seen) == 2:
                studio.add_task(project, {"image": "new"})
        assert [task["data"]["image"] for task in seen] == [*"012345", "new"]

    def test_those_without_a_version_while_it_is_written(self, studio, api):
        project = studio.add_project("<View/>", images(6))
        done = [*studio.projects[project].tasks][1]
        studio.add_prediction(done, "clip-diy-2")
        seen = []
        for page in api.task_pages(project, page_size=2, filters=[TaskFilter.without_version("clip-diy-2")]):
            for task in page:
                seen.append(task["data"]["image"])
                studio.add_prediction(task["id"], "clip-diy-2")
        assert seen == [*"02345"]

    def test_a_task_with_two_predictions_is_there_once(self, studio, api):
        project = studio.add_project("<View/>", images(3))
        first, second, _ = studio.projects[project].tasks
        for _ in range(3):
            studio.add_prediction(first, "v")
        studio.add_prediction(second, "v")
        pages = ids(api.task_pages(project, page_size=2, filters=[TaskFilter.with_version("v")]))
        assert pages == [[first, second]]

    def test_filters_hold_together(self, studio, api):
        project = studio.add_project("<View/>")
        plain, annotated = (studio.add_task(project, {}, annotations=count) for count in (0, 2))
        both = [TaskFilter.among([annotated])]
        assert ids(api.task_pages(project, filters=[TaskFilter.unannotated()])) == [[plain]]
        assert ids(api.task_pages(project, filters=[TaskFilter.annotated()])) == [[annotated]]
        assert ids(api.task_pages(project, filters=[TaskFilter.unannotated(), *both])) == []
        assert api.count_tasks(project) == 2
        assert api.count_tasks(project, [TaskFilter.annotated(), *both]) == 1

    def test_all_fields_have_annotations_and_predictions(self, studio, api):
        project = studio.add_project("<View/>")
        task = studio.add_task(project, {}, annotations=1)
        studio.add_prediction(task, "v")
        [[bare]] = api.task_pages(project)
        [[full]] = api.task_pages(project, fields="all")
        assert "annotations" not in bare
        assert len(full["annotations"]) == len(full["predictions"]) == 1

    def test_all_at_once(self, studio, api):
        project = studio.add_project("<View/>", images(3))
        assert [task["data"]["image"] for task in api.tasks(project)] == [*"012"]


class TestPredictions:
    def test_many_are_written_in_one_request(self, studio, api):
        project = studio.add_project("<View/>", images(2))
        first, second = studio.projects[project].tasks
        made = [{"task": task, "result": [], "score": 0.5, "model_version": "v"} for task in (first, second)]
        assert api.import_predictions(project, made) == 2
        assert studio.versions(project) == {first: ["v"], second: ["v"]}
        assert studio.batches == [2]

    def test_one_for_a_task_that_is_gone_refuses_all(self, studio, api):
        project = studio.add_project("<View/>", images(1))
        made = [{"task": task, "result": [], "model_version": "v"} for task in (*studio.projects[project].tasks, 999)]
        with pytest.raises(LabelStudioApiError) as caught:
            api.import_predictions(project, made)
        assert not caught.value.may_be_done
        assert not studio.predictions

    def test_one_that_is_gone_need_not_be_deleted(self, studio, api):
        number = studio.add_prediction(1, "v")
        api.delete_prediction(number)
        api.delete_prediction(number)
        assert not studio.predictions
        studio.fail("DELETE", ".*", Fault(403))
        with pytest.raises(LabelStudioApiError):
            api.delete_prediction(number)


def test_with_a_token_it_is_patient(studio):
    project = studio.add_project("<View/>")
    studio.fail("GET", ".*", Fault(502))
    pauses = []
    api = LabelStudioApi.with_token(studio.url, PERSONAL_TOKEN, pause=pauses.append)
    assert api.project(project)["id"] == project
    assert api.label_config(project) == "<View/>"
    assert pauses == [0.5]
    studio.fail("GET", ".*", Fault(502))
    hurried = LabelStudioApi.with_token(studio.url, PERSONAL_TOKEN, patience=Patience(for_s=0), pause=pauses.append)
    with pytest.raises(LabelStudioApiError):
        hurried.whoami()


def test_without_patience_it_asks_once(studio, api):
    studio.fail("GET", ".*", Fault(502))
    with pytest.raises(LabelStudioApiError):
        api.whoami()
    assert len(studio.requests) == 1


def test_a_project_is_found_by_its_title_on_any_page():
    first = b'{"next": "more", "results": [{"id": 5, "title": "Cats"}, {"id": 9, "title": "Dogs"}]}'
    second = b'{"next": null, "results": [{"id": 4, "title": "Dogs"}]}'
    with WebServer() as web:
        web.replies["/api/projects/"] = lambda seen: Reply(body=second if "page=2" in seen.path else first)
        api = LabelStudioApi(web.url, "Token x")
        assert api.find_project("Dogs") == 4
        assert api.find_project("Birds") is None
