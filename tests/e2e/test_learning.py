"""What people correct makes the other pictures better: annotations, webhooks, the button, retrieval, all real."""

import re
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import requests
from on_screen import stored_mask
from pictures import data_uri, png
from servers import LOGIN, Backend, LabelStudio, eventually, run_backend
from visitor import Visitor
from webhooks import brushed

from backend.corrections.store import CorrectionStore
from backend.demo.browser import Browser
from backend.learning.examining import number_in
from clipdiy.evaluate.confusion import confusion_matrix, quality
from clipdiy.starter.scenes import NOUNS, Sprites, compose_scene, load_sprites

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SCENES = 60
CORRECTED = 25
HEADERS = {"Authorization": f"Token {LOGIN.token}", "Content-Type": "application/json"}


def scenes(first_seed):
    """Scenes of 16 nouns, with their truth by position."""
    every = load_sprites()
    nouns = tuple(every.by_noun)[::3][:16]
    sprites = Sprites({noun: every.by_noun[noun] for noun in nouns})
    made = [compose_scene(first_seed + i, size_hw=(192, 256), n_objects=(1, 3), sprites=sprites) for i in range(SCENES)]
    return nouns, made


def config_of(labels, others):
    named = "".join(f'<Label value="{label}"/>' for label in labels)
    brush = f'<BrushLabels name="brush" toName="img" others="{others}">{named}</BrushLabels>'
    return f'<View><Image name="img" value="$image"/>{brush}</View>'


class Project:
    """A project of scenes, some of which are corrected to the truth."""

    def __init__(self, label_studio: LabelStudio, backend: Backend, config, labels, position_of, made):
        self.label_studio = label_studio
        self.labels = labels
        self.truths = [position_of[scene.labels] for scene in made]
        self.id = label_studio.project(f"Learning {labels[1]}", config, backend)
        data = [{"image": data_uri(png(scene.image))} for scene in made]
        self.tasks = label_studio.api.import_tasks(self.id, data)

    def retrieve(self, version=None):
        """Let Label Studio ask, and return each task's newest prediction; of a learned version, 0 for the words."""
        self.label_studio.api.retrieve_predictions(self.id)
        newest = {}
        for prediction in sorted(self.label_studio.api.predictions(self.id), key=lambda one: one["id"]):
            # Where it goes back to the words, it asks for nothing anew: their predictions are there.
            if version is None or number_in(prediction["model_version"]) == version:
                newest[prediction["task"]] = prediction
        return newest

    def miou(self, predictions, corrected=CORRECTED):
        """Over the pictures behind so many that are corrected, in points."""
        counts = np.zeros((len(self.labels) + 1,) * 2, np.int64)
        for task, truth in [*zip(self.tasks, self.truths, strict=True)][corrected:]:
            label_map = np.zeros(truth.shape, np.uint16)
            for region in predictions[task]["result"]:
                [label] = region["value"]["brushlabels"]
                label_map[stored_mask(region)] = self.labels.index(label) + 1
            counts += confusion_matrix(truth.astype(np.uint8), label_map, len(self.labels) + 1)
        return 100 * quality(counts).miou

    def correct(self, predictions, first=0, last=CORRECTED):
        """Leave the truth, as a person would who begins with the prediction."""
        for task, truth in [*zip(self.tasks, self.truths, strict=True)][first:last]:
            result = [
                brushed(truth == position, self.labels[position - 1], region=f"own{position}")
                for position in np.unique(truth[truth > 0])
            ]
            body = {"result": result, "parent_prediction": predictions[task]["id"], "lead_time": 20.0}
            answer = requests.post(
                f"{self.label_studio.url}/api/tasks/{task}/annotations/", json=body, headers=HEADERS, timeout=60
            )
            answer.raise_for_status()

    def press_start_training(self):
        [backend] = self.label_studio.api.backends(self.id)
        answer = requests.post(
            f"{self.label_studio.url}/api/ml/{backend['id']}/train", json={}, headers=HEADERS, timeout=60
        )
        answer.raise_for_status()

    def learned_from(self, store: CorrectionStore, count: int):
        """Return what the store says of this project once it was learned from so many pictures."""

        def learned():
            return next(
                (one for one in store.projects() if one.facts.number == self.id and one.tried_pictures == count), None
            )

        stored = eventually(learned, timeout_s=120)
        assert stored is not None, [one for one in store.projects() if one.facts.number == self.id]
        return stored


def look_at_page(browser: Browser, backend: Backend, key: str, artifacts: Path) -> None:
    """See what the service's page says of a project that has learned, and choose versions there."""
    chromium = browser.page.context.browser
    assert chromium is not None
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    try:
        visitor = Visitor(context.new_page(), backend.url)
        page = visitor.page
        visitor.open(f"/?project={quote(key)}")
        visitor.bring_everything()
        section = page.locator("section.project").first
        assert "Version 1 in use" in re.sub(r"\s+", " ", section.inner_text())
        assert section.locator("svg[role=img]").count() == 1
        assert section.locator("h4", has_text="thing").count() > 0, "what had never been predicted is the worst"
        sizes = section.locator(".comparisons .stack").evaluate_all(
            "stacks => stacks.map(stack => [...stack.children].map(image => [image.naturalWidth, image.naturalHeight]))"
        )
        assert len(sizes) > 6
        assert all(picture == mask for picture, mask in sizes), "a mask lies over its picture"
        section.screenshot(path=artifacts / "page-learned.png")
        visitor.drop("scene.png", png(scenes(first_seed=51_000)[1][1].image))
        visitor.ask("pizza, truck, guitar, penguin")
        visitor.photograph(artifacts / "page.png")
        visitor.check()
        assert page.locator("#try-project option").count() >= 2
        page.select_option("#try-project", key)
        page.fill("#labels", "")
        page.click("#try button")
        page.get_by_text("As the project has learned it: version 1.").wait_for(timeout=60_000)
        page.locator("#answer").screenshot(path=artifacts / "page-try-learned.png")
        visitor.check()

        store = CorrectionStore(backend.data_dir)
        section.get_by_role("button", name="Roll back the words alone").click()
        page.get_by_role("button", name="Unpin the words").first.wait_for()
        assert store.project(key).used == 0
        page.get_by_role("button", name="Unpin the words").first.click()
        page.get_by_role("button", name="Pin version 1").first.wait_for()
        assert store.project(key).used == 1
        visitor.check()
    finally:
        context.close()


def encoded(backend: Backend):
    text = requests.get(f"{backend.url}/metrics", timeout=10).text
    [line] = [one for one in text.splitlines() if one.startswith('clipdiy_stage_seconds_count{stage="encode"}')]
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize(
    ("kind", "others", "least_gain", "least_after"),
    [
        ("half of the labels are words without meaning", "auto", 30, 70),
        ("half of the nouns are none", "none", 10, 60),
        # What competes and stays empty has done the most of it before anybody corrects.
        ("half of the nouns are none", "auto", -0.5, 70),
    ],
)
def test_corrections_make_the_other_pictures_better(
    label_studio: LabelStudio,
    backend: Backend,
    browser: Browser,
    artifacts: Path,
    kind: str,
    others: str,
    least_gain: float,
    least_after: float,
) -> None:
    nouns, made = scenes(first_seed=51_000)
    if "labels" in kind:
        labels = [f"thing {chr(65 + i // 2)}" if i % 2 else noun for i, noun in enumerate(nouns)]
        position_of = np.arange(len(nouns) + 1)
    else:
        labels = [*nouns[::2]]
        position_of = np.array([(i + 1) // 2 if i % 2 else 0 for i in range(len(nouns) + 1)])
    # The scenes know 48 nouns by their numbers.
    of_scene = np.zeros(len(NOUNS) + 1, np.int64)
    for i, noun in enumerate(nouns, 1):
        of_scene[NOUNS.index(noun) + 1] = position_of[i]
    project = Project(label_studio, backend, config_of(labels, others), labels, of_scene, made)

    first = project.retrieve()
    assert len(first) == SCENES
    before = project.miou(first)
    networks = encoded(backend)
    project.correct(first)
    project.press_start_training()
    store = CorrectionStore(backend.data_dir)
    stored = project.learned_from(store, CORRECTED)

    second = project.retrieve()
    after = project.miou(second)
    print(f"{kind}: mIoU {before:.1f} -> {after:.1f}; {stored.state}")
    assert after - before >= least_gain
    assert after >= least_after
    name = second[project.tasks[-1]]["model_version"]
    assert (f"-learned{stored.used}-" in name) == (stored.used > 0)
    assert encoded(backend) == networks, "asking again costs no network"

    # What became of the predictions is known, picture by picture.
    found = store.agreements(stored.facts.key)
    assert 0 < len(found) <= CORRECTED, "what was empty and stayed empty has nothing to compare"
    assert {row.number for rows in found.values() for row in rows} == {0}

    if "labels" in kind:
        look_at_page(browser, backend, stored.facts.key, artifacts)

    # Deleting the annotations deletes what was learned.
    for task in project.tasks[:CORRECTED]:
        for annotation in label_studio.api.task(task)["annotations"]:
            requests.delete(
                f"{label_studio.url}/api/annotations/{annotation['id']}/", headers=HEADERS, timeout=60
            ).raise_for_status()
    assert eventually(lambda: store.project(stored.facts.key).used == 0, timeout_s=60)
    assert eventually(lambda: store.annotations(stored.facts.key) == [], timeout_s=60)


def test_what_is_known_already_is_left_as_it_is(label_studio: LabelStudio, backend: Backend) -> None:
    """Every noun a label that the weights know: corrections have little to teach, and must not spoil anything."""
    nouns, made = scenes(first_seed=52_000)
    of_scene = np.zeros(len(NOUNS) + 1, np.int64)
    for i, noun in enumerate(nouns, 1):
        of_scene[NOUNS.index(noun) + 1] = i
    project = Project(label_studio, backend, config_of(nouns, "auto"), nouns, of_scene, made)
    first = project.retrieve()
    store, told, gains = CorrectionStore(backend.data_dir), 0, []
    for count in (1, 2, 5, 10, 25, 50):
        project.correct(first, told, count)
        told = count
        project.press_start_training()
        stored = project.learned_from(store, count)
        now = project.retrieve(stored.used)
        before, after = (project.miou(predictions, corrected=count) for predictions in (first, now))
        print(f"N = {count}: mIoU {before:.1f} -> {after:.1f}; {stored.state}")
        gains.append(after - before)
    assert min(gains) >= -0.5


def test_what_was_learned_is_pushed_to_what_nobody_has_annotated(
    label_studio: LabelStudio, personal_token: str, tmp_path: Path, artifacts: Path
) -> None:
    """CLIPDIY_PUSH as one chain: correct, learn, and the other tasks have the new masks without anybody pressing."""
    nouns, made = scenes(first_seed=51_000)
    labels = [f"thing {chr(65 + i // 2)}" if i % 2 else noun for i, noun in enumerate(nouns)]
    of_scene = np.zeros(len(NOUNS) + 1, np.int64)
    for i, noun in enumerate(nouns, 1):
        of_scene[NOUNS.index(noun) + 1] = i
    settings = {"label_studio_url": label_studio.url, "label_studio_token": personal_token, "push": "true"}
    settings["learn"] = "on-training"  # with the button, once
    with run_backend(tmp_path, artifacts / "backend-push.log", **settings) as backend:
        project = Project(label_studio, backend, config_of(labels, "auto"), labels, of_scene, made[:40])
        first = project.retrieve()
        old = first[project.tasks[0]]["model_version"]
        label_studio.api.update_project(project.id, model_version=old)
        project.correct(first)
        project.press_start_training()

        def by_task() -> dict[int, list[str]]:
            found: dict[int, list[str]] = {task: [] for task in project.tasks}
            for prediction in label_studio.api.predictions(project.id):
                found[prediction["task"]].append(prediction["model_version"])
            return found

        corrected, others = project.tasks[:CORRECTED], project.tasks[CORRECTED:]
        assert eventually(
            lambda: all("-learned1-" in version for task in others for version in by_task()[task]), timeout_s=180
        ), by_task()
        found = by_task()
        assert [found[task] for task in corrected] == [[old]] * CORRECTED, "what a person began from stays"
        assert {len(found[task]) for task in others} == {1}, "the old ones are replaced"
        [newest] = {version for task in others for version in found[task]}
        assert eventually(lambda: label_studio.api.project(project.id)["model_version"] == newest, timeout_s=60), (
            "and shown to who labels next, once all of them are there"
        )
