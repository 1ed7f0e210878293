"""The order to correct in, in a Label Studio as it is installed: the steps that README gives, in the browser."""

import pytest
from pictures import data_uri, label_config, png, scene
from servers import Backend, LabelStudio

from backend.demo.browser import Browser
from backend.demo.demo import ensure_view

pytestmark = pytest.mark.e2e

_ROWS = """() => [...document.querySelectorAll('[data-testid=table-row]')].map(
    row => [...row.querySelectorAll('.lsf-table__cell')].map(cell => cell.innerText)
)"""


def shown_scores(browser: Browser, project_id: int, view_id: int) -> list[tuple[int, float | None]]:
    """Return tasks and what stands in their score column, from above."""
    browser.open_data_manager(project_id, view_id)
    return [(int(task), float(score) if score else None) for _, task, _, score, *_ in browser.page.evaluate(_ROWS)]


def order_by_score(browser: Browser, project_id: int, view_id: int) -> list[tuple[int, list[str]]]:
    """Tick the column and order by it, as README says; return tasks with their cells, from above."""
    browser.open_data_manager(project_id, view_id)
    page = browser.page
    for button in ("Columns", "Order by"):
        page.get_by_role("button", name=button, exact=True).click()
        with page.expect_response(lambda answer: "/api/tasks" in answer.url or "/api/dm/views" in answer.url):
            page.get_by_text("Prediction score", exact=True).last.click()
        page.keyboard.press("Escape")
    page.wait_for_timeout(1000)
    return [(int(cells[1]), cells) for cells in page.evaluate(_ROWS)]


def choose_version(browser: Browser, label_studio: LabelStudio, project_id: int, model_version: str) -> None:
    """Settings, Annotation: choose a version, and save."""
    page = browser.page
    page.goto(f"{label_studio.url}/projects/{project_id}/settings/annotation")
    page.get_by_text("Select which predictions or which model you want to use").wait_for()
    page.locator("button[data-name=model_version]").click()
    page.get_by_role("option").filter(has_text=model_version).click()
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        page.get_by_role("button", name="Save").last.click()


def test_the_chosen_versions_scores_are_shown_lowest_first(
    label_studio: LabelStudio, backend: Backend, browser: Browser
) -> None:
    api = label_studio.api
    project_id = label_studio.project("Scores", label_config("dog", "car"), backend)
    # Whoever opens a task begins with our masks.
    api.update_project(project_id, show_collab_predictions=True)
    pictures = [scene(30 + i, (120, 160), (1, 2)) for i in range(4)]
    tasks = api.import_tasks(project_id, [{"image": data_uri(png(each.image))} for each in pictures])
    view_id = ensure_view(api, project_id)

    def retrieved() -> tuple[str, dict[int, float]]:
        """Return the newest version, and the scores it gave, as the column writes them."""
        api.retrieve_predictions(project_id)
        [connected] = api.backends(project_id)
        version = connected["model_version"]
        mine = [made for made in api.predictions(project_id) if made["model_version"] == version]
        return version, {made["task"]: round(made["score"], 3) for made in mine}

    first, scores = retrieved()
    assert sorted(scores) == sorted(tasks)
    assert {score for _, score in shown_scores(browser, project_id, view_id)} == {None}, "README says: empty at first"

    choose_version(browser, label_studio, project_id, first)
    shown = shown_scores(browser, project_id, view_id)
    assert dict(shown) == scores
    assert [score for _, score in shown] == sorted(scores.values())

    # As in a tab that nobody has changed.
    hidden = {mode: ["tasks:predictions_score"] for mode in ("explore", "labeling")}
    ordered = order_by_score(browser, project_id, api.create_view(project_id, "Unchanged", hiddenColumns=hidden))
    assert [scores[task] for task, _ in ordered] == sorted(scores.values()), "README says how"
    assert all(f"{scores[task]:.3f}".rstrip("0") in cells for task, cells in ordered)

    api.update_project(project_id, label_config=label_config("dog", "elephant", "pizza"))
    second, new_scores = retrieved()
    assert second != first
    assert new_scores != scores
    assert dict(shown_scores(browser, project_id, view_id)) == scores, "README says: the old ones until it is chosen"

    choose_version(browser, label_studio, project_id, second)
    shown = shown_scores(browser, project_id, view_id)
    assert dict(shown) == new_scores
    assert [score for _, score in shown] == sorted(new_scores.values())
