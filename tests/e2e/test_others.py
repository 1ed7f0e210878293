"""What is no label stays empty: a project with one label gets that, and not every object painted with it."""

import pytest
from on_screen import iou, stored_mask
from pictures import data_uri, label_config, png, scene
from servers import Backend, LabelStudio

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ELSE = ("dog", "bicycle", "pizza", "chair", "car", "umbrella", "airplane", "laptop")


def test_a_project_with_the_one_label_elephant_gets_elephants(label_studio: LabelStudio, backend: Backend) -> None:
    with_one = [scene(7100 + i, nouns=("elephant",)) for i in range(6)]
    without = [scene(7200 + i, nouns=ELSE, n_objects=(1, 2)) for i in range(12)]
    api = label_studio.api
    project_id = label_studio.project("Elephants", label_config("elephant"), backend)
    task_ids = api.import_tasks(project_id, [{"image": data_uri(png(each.image))} for each in (*with_one, *without)])
    api.retrieve_predictions(project_id)
    regions = {prediction["task"]: prediction["result"] for prediction in api.predictions(project_id)}
    assert sorted(regions) == sorted(task_ids), "nothing found is an answer too"
    found = [regions[task_id] for task_id in task_ids[: len(with_one)]]
    assert sum(map(bool, found)) >= 5
    masks = [stored_mask(painted[0]) if painted else None for painted in found]
    right = [
        mask is not None and iou(mask, picture.objects) > 0.8 for mask, picture in zip(masks, with_one, strict=True)
    ]
    assert sum(right) >= 4, "the starter sees two of them in part only, also without what competes"
    wrong = sum(bool(regions[task_id]) for task_id in task_ids[len(with_one) :])
    assert wrong <= 2, "every object was one without what competes"
