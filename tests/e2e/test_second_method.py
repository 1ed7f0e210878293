"""CLIP-DINOiser behind a real Label Studio: predictions, a point, corrections, and what was learned of them."""

from pathlib import Path

import numpy as np
import pytest
import requests
from on_screen import stored_mask
from pictures import data_uri, png
from servers import LOGIN, Backend, LabelStudio, eventually, run_backend
from webhooks import brushed

from clipdiy.evaluate.confusion import confusion_matrix, quality
from clipdiy.starter.grounds import STUFF, compose_on_ground
from clipdiy.starter.scenes import NOUNS, Sprites, load_sprites

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

SCENES, CORRECTED = 30, 18
DRAWN = ("apple", "bus", "cat", "guitar")
LABELS = ("apple", "bus", "thing A", "thing B", "sky")  # two have names that say nothing
POINTS = '<KeyPointLabels name="points" toName="img" smart="true" smartOnly="true"><Label value="{}"/></KeyPointLabels>'
CONFIG = (
    '<View><Image name="img" value="$image"/>'
    '<BrushLabels name="brush" toName="img" parts="separate" others="none">'
    + "".join(f'<Label value="{name}"/>' for name in LABELS[:-1])
    + '<Label value="sky" stuff="true"/></BrushLabels>'
    + POINTS.format("bus")
    + "</View>"
)


def scenes():
    """Pictures, and the position of every pixel among the labels."""
    every = load_sprites().by_noun
    own = Sprites({noun: every[noun] for noun in DRAWN})
    position_of = np.zeros(len(NOUNS) + len(STUFF) + 1, np.int64)
    for place, noun in enumerate(DRAWN, 1):
        position_of[NOUNS.index(noun) + 1] = place
    position_of[len(NOUNS) + 1 + STUFF.index("sky")] = len(LABELS)
    made = [compose_on_ground(61_000 + i, size_hw=(192, 256), n_objects=(1, 2), sprites=own) for i in range(SCENES)]
    return [scene.image for scene in made], [position_of[scene.labels] for scene in made]


def newest(label_studio: LabelStudio, project_id: int):
    label_studio.api.retrieve_predictions(project_id)
    found = sorted(label_studio.api.predictions(project_id), key=lambda one: one["id"])
    return {prediction["task"]: prediction for prediction in found}


def miou(predictions, tasks, truths):
    """Over the pictures that are not corrected, in points."""
    counts = np.zeros((len(LABELS) + 1,) * 2, np.int64)
    for task, truth in [*zip(tasks, truths, strict=True)][CORRECTED:]:
        label_map = np.zeros(truth.shape, np.uint8)
        for region in predictions[task]["result"]:
            [label] = region["value"]["brushlabels"]
            label_map[stored_mask(region)] = LABELS.index(label) + 1
        counts += confusion_matrix(truth.astype(np.uint8), label_map, len(LABELS) + 1)
    return 100 * quality(counts).miou


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_the_second_method_predicts_is_asked_and_learns(
    label_studio: LabelStudio, tmp_path: Path, artifacts: Path
) -> None:
    api, (images, truths) = label_studio.api, scenes()
    with run_backend(tmp_path, artifacts / "backend-second.log", method="clip-dinoiser") as backend:
        project_id = label_studio.project("Second method", CONFIG)
        api.connect_backend(project_id, backend.url, "CLIP-DINOiser", is_interactive=True)
        tasks = api.import_tasks(project_id, [{"image": data_uri(png(image))} for image in images])
        first = newest(label_studio, project_id)
        assert sorted(first) == sorted(tasks)
        before = miou(first, tasks, truths)
        for prediction in first.values():
            masks = [stored_mask(region) for region in prediction["result"]]
            assert masks
            assert np.sum(masks, axis=0).max(initial=0) <= 1, "parts are apart"

        # A point on a bus of its own.
        place = next(i for i, truth in enumerate(truths) if (truth == 2).mean() > 0.1)
        rows, cols = np.nonzero(truths[place] == 2)
        middle = len(rows) // 2
        height, width = truths[place].shape
        size = {"to_name": "img", "original_width": width, "original_height": height, "image_rotation": 0}
        where = {"x": 100 * float(cols[middle] + 0.5) / width, "y": 100 * float(rows[middle] + 0.5) / height}
        point = {
            **size,
            "id": "point",
            "from_name": "points",
            "type": "keypointlabels",
            "is_positive": True,
            "value": {**where, "width": 0.5, "keypointlabels": ["bus"]},
        }
        [connected] = api.backends(project_id)
        answer = label_studio.interact(connected["id"], tasks[place], [point])
        [region] = answer["data"]["result"]
        pointed = iou(stored_mask(region), truths[place] == 2)

        _correct(label_studio, tasks, truths, first)
        headers = {"Authorization": f"Token {LOGIN.token}"}
        url = f"{label_studio.url}/api/ml/{connected['id']}/train"
        requests.post(url, json={}, headers=headers, timeout=60).raise_for_status()
        learned = eventually(lambda: _learned(backend, project_id), timeout_s=180)
        second = newest(label_studio, project_id)
        after = miou(second, tasks, truths)
        sky = [picture for picture, truth in zip(tasks, truths, strict=True) if (truth == len(LABELS)).mean() > 0.3]
        assert any(_has(second[task], "sky") for task in sky), "stuff is drawn too"
        print(f"mIoU {before:.1f} -> {after:.1f}, pointed at: IoU {pointed:.2f}; {learned.state}")
        assert "-learned" in second[tasks[-1]]["model_version"]
        assert "-learned" not in first[tasks[-1]]["model_version"]
        assert pointed > 0.4
        assert before > 15
        assert after > before + 10


def _has(prediction, label: str) -> bool:
    return any(region["value"]["brushlabels"] == [label] for region in prediction["result"])


def _correct(label_studio: LabelStudio, tasks, truths, predictions) -> None:
    """Leave the truth, as a person would who begins with the prediction."""
    for task, truth in [*zip(tasks, truths, strict=True)][:CORRECTED]:
        result = [
            brushed(truth == position, LABELS[position - 1], region=f"own{position}")
            for position in np.unique(truth[truth > 0])
        ]
        label_studio._post(
            f"/api/tasks/{task}/annotations/",
            {"result": result, "parent_prediction": predictions[task]["id"], "lead_time": 20.0},
        )


def _learned(backend: Backend, project_id: int):
    projects = backend.corrections.projects()
    return next(
        (one for one in projects if one.facts.number == project_id and one.tried_pictures == CORRECTED and one.used),
        None,
    )
