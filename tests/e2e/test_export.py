"""Data sets out of a real Label Studio: as its own exports where those are right, and right where they are not."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from on_screen import stored_mask
from pictures import jpeg, png, scene
from PIL import Image
from pycocotools.coco import COCO
from servers import LOGIN, LabelStudio
from torchvision.datasets import VOCSegmentation

from backend.labeling.reader import parse_label_config
from backend.ls.app import main
from backend.outputs.regions import make_suggestion

pytestmark = pytest.mark.e2e

HEADERS = {"Authorization": f"Token {LOGIN.token}", "Content-Type": "application/json"}
SIZE_HW = (120, 160)
Mask = NDArray[np.bool_]
Regions = list[dict[str, Any]]

LABELS = "".join(f'<Label value="{label}"/>' for label in ("zebra", "ant", "bee"))
BRUSH = f"""<View><Image name="img" value="$image"/>
<BrushLabels name="brush" toName="img">{LABELS}</BrushLabels></View>"""
OTHERS = f"""<View><Image name="img" value="$image"/>
<BitmaskLabels name="bitmask" toName="img">{LABELS}</BitmaskLabels>
<PolygonLabels name="polygon" toName="img">{LABELS}</PolygonLabels></View>"""


def box(top: int, left: int, bottom: int, right: int, size_hw: tuple[int, int] = SIZE_HW) -> Mask:
    mask = np.zeros(size_hw, bool)
    mask[top:bottom, left:right] = True
    return mask


RING = box(10, 10, 90, 90) & ~box(30, 30, 60, 60)
OTHER = box(95, 100, 115, 150)


def drawn(config: str, name: str, mask: Mask, label: str) -> Regions:
    controls = {control.from_name: control for control in parse_label_config(config).controls}
    control = controls[name]
    [named] = [one for one in control.labels if one.value == label]
    return make_suggestion(mask, control, named, 0.9)


def annotate(label_studio: LabelStudio, task: int, result: Regions) -> int:
    answer = requests.post(
        f"{label_studio.url}/api/tasks/{task}/annotations/", json={"result": result}, headers=HEADERS, timeout=60
    )
    answer.raise_for_status()
    return int(answer.json()["id"])


class Exports:
    """Runs our command, as a person does."""

    def __init__(self, label_studio: LabelStudio, folder: Path) -> None:
        self._url = label_studio.url
        self._folder = folder
        self._count = 0

    def __call__(self, project: int, format_name: str, *options: str) -> Path:
        self._count += 1
        out = self._folder / f"{self._count}-{format_name}"
        where = ["--project", str(project), "--url", self._url, "--token", LOGIN.token, "--out", str(out)]
        with pytest.raises(SystemExit) as ended:
            main(["export", "--format", format_name, "--val", "0", *where, *options])
        assert not ended.value.code
        return out


@pytest.fixture
def export(label_studio: LabelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exports:
    monkeypatch.setenv("CLIPDIY_DATA_DIR", str(tmp_path / "data"))
    return Exports(label_studio, tmp_path)


def class_maps(out: Path) -> dict[int, NDArray[np.uint8]]:
    """Read a data set in VOC's layout by task, as torchvision does."""
    found = VOCSegmentation(str(out), year="2012", image_set="train", download=False)
    names = (Path(path).stem for path in found.masks)
    maps = {}
    for name, (image, mask) in zip(names, found, strict=True):
        assert image.size == mask.size, "masks lie on their pictures"
        maps[int(name.partition("-")[0])] = np.asarray(mask)
    return maps


def test_a_brush_project(label_studio: LabelStudio, export: Exports) -> None:
    project = label_studio.project("Export of brushes", BRUSH)
    picture = scene(5, SIZE_HW).image
    files = [(f"photo {i}.png", png(np.roll(picture, 7 * i, axis=1))) for i in range(4)]
    turned = jpeg(scene(6, (160, 120)).image, orientation=6)
    ring, empty, predicted, untouched, upright = label_studio.api.upload(project, [*files, ("turned.jpg", turned)])
    # The label that is last in the config comes first.
    two = [*drawn(BRUSH, "brush", OTHER, "bee"), *drawn(BRUSH, "brush", RING, "zebra")]
    annotate(label_studio, ring, two)
    annotate(label_studio, empty, [])
    half = box(0, 0, 160, 60, (160, 120))
    annotate(label_studio, upright, drawn(BRUSH, "brush", half, "ant"))
    requests.post(
        f"{label_studio.url}/api/predictions/",
        json={"task": predicted, "result": drawn(BRUSH, "brush", OTHER, "ant"), "score": 0.8, "model_version": "m"},
        headers=HEADERS,
        timeout=60,
    ).raise_for_status()

    voc = export(project, "voc")
    maps = class_maps(voc)
    expected = {
        ring: 3 * OTHER + RING,
        empty: np.zeros(SIZE_HW),
        predicted: 2 * OTHER,
        # A photo that was taken on its side: as people saw it.
        upright: 2 * half,
    }
    assert set(maps) == set(expected)
    for task, label_map in expected.items():
        assert (maps[task] == label_map).all(), task
    lists = voc / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    assert (lists / "unlabelled.txt").read_text() == f"{untouched:06d}-photo_3\n"

    # Its masks, one file a region.
    theirs = _brushes_of_label_studio(label_studio, project)
    assert set(theirs) == {(ring, "bee"), (ring, "zebra"), (upright, "ant")}
    for (task, label), mask in theirs.items():
        assert (mask == (maps[task] == ("zebra", "ant", "bee").index(label) + 1)).all()

    # Its COCO export fills the hole, numbers categories as they come, and has only pictures with a mask.
    archive = zipfile.ZipFile(io.BytesIO(label_studio.api.export(project, "BRUSH_TO_COCO")))
    [name] = [name for name in archive.namelist() if name.endswith(".json")]
    their_file = voc.parent / "theirs.json"
    their_file.write_bytes(archive.read(name))
    our_file = export(project, "coco") / "annotations/instances_train.json"
    wrong, right = COCO(their_file), COCO(our_file)
    assert [one["name"] for one in wrong.loadCats(wrong.getCatIds())] != ["zebra", "ant", "bee"]
    assert [(one["id"], one["name"]) for one in right.loadCats(right.getCatIds())] == [
        (1, "zebra"),
        (2, "ant"),
        (3, "bee"),
    ]
    assert len(wrong.getImgIds()) == 2
    assert sorted(right.getImgIds()) == sorted(expected)
    [filled] = [one for one in wrong.dataset["annotations"] if _name(wrong, one) == "zebra"]
    [kept] = [one for one in right.dataset["annotations"] if _name(right, one) == "zebra"]
    assert wrong.annToMask(filled)[45, 45] == 1
    assert (right.annToMask(kept) == RING).all()

    # Into another project, and the same comes out.
    out = export(project, "labelstudio")
    again = label_studio.project("Export of brushes, again", BRUSH)
    content = json.loads((out / "tasks-001.json").read_text())
    answer = requests.post(
        f"{label_studio.url}/api/projects/{again}/import?return_task_ids=true",
        json=content,
        headers=HEADERS,
        timeout=60,
    )
    answer.raise_for_status()
    copies = dict(zip((ring, empty, predicted, untouched, upright), answer.json()["task_ids"], strict=True))
    second = class_maps(export(again, "voc"))
    assert set(second) == {copies[task] for task in expected}
    for task, label_map in expected.items():
        assert (second[copies[task]] == label_map).all(), task


def test_bitmasks_and_polygons(label_studio: LabelStudio, export: Exports) -> None:
    """Label Studio has no export of masks for either."""
    project = label_studio.project("Export of the others", OTHERS)
    picture = png(scene(5, SIZE_HW).image)
    first, second = label_studio.api.upload(project, [("a.png", picture), ("b.png", picture)])
    annotate(label_studio, first, drawn(OTHERS, "bitmask", RING, "bee"))
    polygons = drawn(OTHERS, "polygon", RING, "ant")
    # The smaller one lies on top, though it was drawn first, and with another control.
    annotate(label_studio, second, [*drawn(OTHERS, "bitmask", box(12, 12, 20, 20), "zebra"), *polygons])
    maps = class_maps(export(project, "voc"))
    assert (maps[first] == 3 * RING).all()
    below = np.any([stored_mask(region) for region in polygons], axis=0)
    assert (below == RING).all()
    assert (maps[second] == np.where(box(12, 12, 20, 20), 1, 2 * below)).all()
    archive = label_studio.api.export(project, "BRUSH_TO_PNG")
    assert not any(name.endswith(".png") for name in zipfile.ZipFile(io.BytesIO(archive)).namelist())


def _name(coco: COCO, one: dict[str, Any]) -> str:
    return str(coco.loadCats(one["category_id"])[0]["name"])


def _brushes_of_label_studio(label_studio: LabelStudio, project: int) -> dict[tuple[int, str], Mask]:
    archive = zipfile.ZipFile(io.BytesIO(label_studio.api.export(project, "BRUSH_TO_PNG")))
    found = {}
    for name in archive.namelist():
        task, label = int(name.split("-")[1]), name.rpartition("brush-")[2].split("-")[0]
        found[task, label] = np.asarray(Image.open(io.BytesIO(archive.read(name)))) >= 128
    return found
