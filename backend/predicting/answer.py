"""How the features of a task's pictures become its prediction: every control asked, every page, each question once.

Pure apart from the segmenter that is handed in.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from backend.images.pages import ImageKey
from backend.labeling.controls import LabelConfig, MaskControl
from backend.outputs.choices import make_choices
from backend.outputs.regions import make_prediction, make_regions
from backend.outputs.selection import select
from clipdiy.method import Features
from clipdiy.segmentation import Segmentation

Segment = Callable[[Features, MaskControl], Segmentation]
Picture = TypeVar("Picture")
"""What is known of a picture: its features, or what was made of them before."""


def answer_task(
    task: Mapping[str, Any],
    config: LabelConfig,
    features: Mapping[ImageKey, Picture],
    segment: Callable[[Picture, MaskControl], Segmentation],
    *,
    model_version: str,
) -> dict[str, Any]:
    """Make the prediction of one task.

    Controls that ask for the same (several forms of the same labels) share one segmentation.

    Args:
        task: With `id` and `data`.
        config: The project's; labels that stand in the task are read here.
        features: Of every picture that the config looks at.
        segment: Segments one picture as a control wants it.
        model_version: Under which Label Studio stores it.

    Raises:
        TaskError: If the task lacks the labels that its config promises.
    """
    known: dict[tuple[ImageKey, Hashable], Segmentation] = {}

    def ask(key: ImageKey, control: MaskControl) -> Segmentation:
        question = key, control.question
        if question not in known:
            known[question] = segment(features[key], control)
        return known[question]

    regions: list[list[dict[str, Any]]] = []
    names: dict[str, Any] = {"task_id": task.get("id"), "model_version": model_version}
    for control in config.for_task(task.get("data")).controls:
        if not control.drawn:
            continue
        pages = [key for key in features if key[0] == control.data_key and (key[1] is not None) == control.is_list]
        if control.kind == "choices" and not control.per_item:
            found = [select(ask(key, control), control) for key in pages]
            regions.append(make_choices(found, control, **names))
            continue
        regions += [make_regions(ask(key, control), control, item_index=key[1], **names) for key in pages]
    scores = [segmentation.image_score for segmentation in known.values()]
    return make_prediction(regions, score=sum(scores) / len(scores) if scores else 0.0, model_version=model_version)
