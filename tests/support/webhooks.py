"""Webhooks as Label Studio sends them, and regions as people draw them."""

from datetime import UTC, datetime

import numpy as np

from backend.outputs.brush import encode_mask

MADE = "2026-01-02T03:04:05.678901Z"
KEY = "1.1767323045"  # of project 1, made then
LABELS = """
<View>
  <Image name="img" value="$image"/>
  <BrushLabels name="brush" toName="img"><Label value="Cat"/><Label value="Dog"/></BrushLabels>
</View>
"""


def project(number=1, config=LABELS, **further):
    return {"id": number, "title": f"project {number}", "label_config": config, "created_at": MADE, **further}


def key_of(number):
    return f"{number}.{KEY.partition('.')[2]}"


def when(seconds):
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def annotation(number=1, task=1, result=(), *, at=1_800_000_000, **further):
    return {
        "id": number,
        "task": task,
        "result": list(result),
        "created_at": when(at),
        "updated_at": when(at),
        "completed_by": 7,
        "lead_time": 12.5,
        "was_cancelled": False,
        "ground_truth": False,
        "parent_prediction": None,
        **further,
    }


def annotated(
    number=1, task=1, result=(), *, project_number=1, config=LABELS, data=None, action="ANNOTATION_CREATED", **rest
):
    return {
        "action": action,
        "annotation": annotation(number, task, result, **rest),
        "task": {"id": task, "data": {"image": f"ok:50x{'0' * task}50"} if data is None else data},
        "project": project(project_number, config),
    }


def deleted(*numbers, what="annotations", project_number=1):
    action = {"annotations": "ANNOTATIONS_DELETED", "tasks": "TASKS_DELETED"}[what]
    return {"action": action, what: [{"id": number} for number in numbers], "project": project(project_number)}


def train(project_number=1, config=LABELS):
    return {"action": "START_TRAINING", "project": project(project_number, config)}


def brushed(mask, label="Cat", *, region="r1", control="brush", origin="manual", page=None):
    height, width = mask.shape
    made = {
        "id": region,
        "from_name": control,
        "to_name": "img",
        "type": "brushlabels",
        "origin": origin,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": encode_mask(mask), "brushlabels": [label]},
    }
    return made if page is None else {**made, "item_index": page}


def left_half(height=50, width=50):
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = True
    return mask
