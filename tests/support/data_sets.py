"""What the tests of exports share: a project without a Label Studio, drawn regions, and what must come out."""

import io

import numpy as np
from PIL import Image

from backend.errors import TaskError
from backend.export.chosen import Rules
from backend.export.image_files import ImageFile
from backend.export.painting import paint
from backend.export.pictures import ExportedPicture
from backend.export.source import ProjectSource, Wanted
from backend.images.loader import ImageLoader
from backend.images.sources import ImageSources
from backend.outputs.brush import encode_mask

CONFIG = """
<View>
  <Image name="img" value="$image"/>
  <BrushLabels name="brush" toName="img">
    <Label value="Cat"/><Label value="Dog"/><Label value="Background"/><Label value="Unsure"/>
  </BrushLabels>
</View>
"""
SIZE_HW = (36, 50)


def blob(top=4, left=6, bottom=30, right=40, size_hw=SIZE_HW):
    """A rectangle with a hole of a third of its sides."""
    mask = np.zeros(size_hw, bool)
    mask[top:bottom, left:right] = True
    down, across = (bottom - top) // 3, (right - left) // 3
    mask[top + down : bottom - down, left + across : right - across] = False
    return mask


def box(top, left, bottom, right, size_hw=SIZE_HW):
    mask = np.zeros(size_hw, bool)
    mask[top:bottom, left:right] = True
    return mask


def region(mask, label="Cat", number=0, **changes):
    """A brush as Label Studio stores it."""
    height, width = mask.shape
    labels = [label] if isinstance(label, str) else list(label)
    made = {
        "id": f"r{number}",
        "from_name": "brush",
        "to_name": "img",
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": encode_mask(mask), "brushlabels": labels},
    }
    return {**made, **changes}


def annotation(*result, number=1, when="2026-01-01T00:00:00Z", **changes):
    return {"id": number, "result": list(result), "updated_at": when, "completed_by": 1, **changes}


def prediction(*result, number=1, score=0.9, version="v1"):
    return {"id": number, "result": list(result), "score": score, "model_version": version}


def pixels(seed=0, size_hw=SIZE_HW):
    """Smooth, so that a JPEG of it stays close."""
    rows, cols = np.mgrid[: size_hw[0], : size_hw[1]]
    return np.stack([rows * 5 + seed, cols * 4, rows + cols + seed], axis=2).astype(np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


class FakeApi:
    """A project: its config, and its tasks in pages."""

    def __init__(self, tasks, config=CONFIG, title="A project"):
        self.tasks = tasks
        self.described = {"id": 1, "title": title, "label_config": config}
        self.asked = []

    def project(self, project_id):
        self.asked.append("project")
        return self.described

    def task_pages(self, project_id, *, fields, page_size):
        for first in range(0, len(self.tasks), page_size):
            self.asked.append((fields, first))
            yield self.tasks[first : first + page_size]


class FakeFiles:
    """Decodes as the real loader does; files are those that were put in, by address."""

    def __init__(self, **files):
        self.files = files
        self.fetched = []
        self._real = ImageLoader(ImageSources())

    def fetch(self, value, *, task_id, host):
        self.fetched.append((value, task_id, host))
        if value not in self.files:
            raise TaskError("not-found", f"no {value}")
        return self.files[value]

    def decode(self, data, value):
        return self._real.decode(data, value)


def task(number, *, annotations=(), predictions=(), image=None, **data):
    image = f"picture{number}" if image is None else image
    return {
        "id": number,
        "data": {"image": image, **data},
        "annotations": list(annotations),
        "predictions": list(predictions),
    }


def source(tasks, *, config=CONFIG, files=None, told=None, rules=None, **wanted):
    """A source whose pictures are there under `picture1`, `picture2`, ..."""
    files = files or {f"picture{one['id']}": encoded(pixels(one["id"])) for one in tasks}
    return ProjectSource(
        FakeApi(tasks, config),
        FakeFiles(**files),
        1,
        Wanted(rules=rules or Rules(), **wanted),
        tell=(lambda _: None) if told is None else told.append,
    )


def project_of_five():
    """Five tasks: overlaps with a hole, nothing there, nobody has said anything, a prediction, something ignored.

    All are for training, as the tests that use it ask for no validation.
    """
    return [
        task(11, annotations=[annotation(region(blob(), "Dog"), region(box(6, 8, 10, 14), "Cat", 1))]),
        task(12, annotations=[annotation()]),
        task(13),
        task(14, predictions=[prediction(region(box(0, 0, 36, 20), "Cat"), region(box(20, 30, 36, 50), "Dog", 1))]),
        task(15, annotations=[annotation(region(box(2, 2, 20, 20), "Cat"), region(box(5, 5, 9, 9), "Unsure", 1))]),
    ]


def maps_of_five():
    """Their class maps by task; 65,535 is ignored, and the task that nobody has answered is missing."""
    maps = {number: np.zeros(SIZE_HW, np.uint16) for number in (11, 12, 14, 15)}
    maps[11][blob()] = 2
    maps[11][6:10, 8:14] = 1
    maps[14][:, :20] = 1
    maps[14][20:, 30:] = 2
    maps[15][2:20, 2:20] = 1
    maps[15][5:9, 5:9] = 65_535
    return maps


def exported_picture(label_map_regions, classes, **changes):
    """A picture by hand, with regions painted."""
    painted = paint(label_map_regions, SIZE_HW, classes)
    given = {
        "name": "000001-a",
        "image_id": 1,
        "task": 1,
        "split": "train",
        "file": ImageFile(encoded(pixels()), "png"),
        "size_hw": SIZE_HW,
        "label_map": painted.label_map,
        "instances": painted.instances,
        "origin": "annotation",
    }
    return ExportedPicture(**{**given, **changes})
