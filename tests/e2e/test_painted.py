"""What an annotator sees: whatever the picture's source and shape, the mask on the screen is the one we sent."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_server import ImageServer
from numpy.typing import NDArray
from on_screen import IOU_WANTED, iou
from pictures import LABEL_COLOURS, Picture, data_uri, jpeg, label_config, png, scene
from PIL import Image
from servers import Backend, LabelStudio, eventually

from backend.corrections.store import Agreement
from backend.demo.browser import Browser
from backend.outputs.brush import decode_mask

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Row:
    """One way for a picture to get into Label Studio.

    Attributes:
        picture: What it shows when it is the right way up.
        upload: Name and content, if it is uploaded.
        link: Makes the value of `data.image` otherwise.
    """

    picture: Picture
    upload: tuple[str, bytes] | None = None
    link: Callable[[LabelStudio, ImageServer], str] | None = None


def _rows() -> dict[str, Row]:
    plain, turned, web, local, inline = (scene(seed, (480, 640), (1, 3)) for seed in (8, 18, 16, 20, 15))
    odd, portrait, landscape = scene(22, (217, 333)), scene(18, (640, 427), (2, 3)), scene(20, (300, 900), (2, 3))

    def by_url(label_studio: LabelStudio, images: ImageServer) -> str:
        return images.add("web.png", png(web.image))

    def by_local_file(label_studio: LabelStudio, images: ImageServer) -> str:
        folder = label_studio.files_dir / "photos"
        folder.mkdir()
        (folder / "local.png").write_bytes(png(local.image))
        return "/data/local-files/?d=photos/local.png"

    return {
        "upload-png": Row(plain, upload=("plain.png", png(plain.image))),
        "upload-jpeg-exif-6": Row(turned, upload=("turned.jpg", jpeg(turned.image, orientation=6))),
        "http-url": Row(web, link=by_url),
        "local-file": Row(local, link=by_local_file),
        "data-uri": Row(inline, link=lambda label_studio, images: data_uri(png(inline.image))),
        "odd-size": Row(odd, upload=("odd.png", png(odd.image))),
        "portrait": Row(portrait, upload=("portrait.png", png(portrait.image))),
        "landscape": Row(landscape, upload=("landscape.jpg", jpeg(landscape.image))),
    }


ROWS = _rows()


@dataclass(frozen=True)
class Filled:
    """A project whose tasks all hold a prediction."""

    project_id: int
    task_ids: dict[str, int]
    predictions: dict[int, dict[str, Any]]


@pytest.fixture(scope="module")
def filled(label_studio: LabelStudio, backend: Backend, images: ImageServer) -> Filled:
    """All rows in one project, retrieved with one press of the button."""
    api = label_studio.api
    project_id = label_studio.project("Painted", label_config(*LABEL_COLOURS), backend)
    task_ids = {}
    for name, row in ROWS.items():
        if row.upload is not None:
            [task_ids[name]] = api.upload(project_id, [row.upload])
    for name, row in ROWS.items():
        if row.link is not None:
            value = row.link(label_studio, images)
            if value.startswith("/data/local-files/"):
                api.add_local_storage(project_id, str(label_studio.files_dir / "photos"))
            [task_ids[name]] = api.import_tasks(project_id, [{"image": value}])
    api.retrieve_predictions(project_id)
    predictions = {int(p["task"]): p for p in api.predictions(project_id)}
    return Filled(project_id, task_ids, predictions)


def _masks(prediction: dict[str, Any]) -> dict[str, NDArray[np.uint8]]:
    """Decode a stored prediction: one (H, W) uint8 mask per label."""
    masks = {}
    for region in prediction["result"]:
        [label] = region["value"]["brushlabels"]
        assert label not in masks, "one region per class"
        size_hw = (region["original_height"], region["original_width"])
        masks[label] = decode_mask(region["value"]["rle"], size_hw)
    return masks


def _keep_comparison(sent: NDArray[np.bool_], painted: NDArray[np.bool_], path: Path) -> None:
    """Save both masks in one picture: white where they agree, red only ours, blue only the painted."""
    both = sent & painted
    Image.fromarray(np.stack([sent, both, painted], axis=2).astype(np.uint8) * 255).save(path)


@pytest.mark.parametrize("name", ROWS)
def test_the_painted_pixels_are_our_mask(name: str, filled: Filled, browser: Browser, artifacts: Path) -> None:
    picture = ROWS[name].picture
    masks = _masks(filled.predictions[filled.task_ids[name]])
    assert masks, "a mask at least"
    found = np.any([mask > 0 for mask in masks.values()], axis=0)
    assert found.shape == picture.size_hw
    assert iou(found, picture.objects) > 0.5, "the masks lie on the objects"

    browser.open_task(filled.project_id, filled.task_ids[name], regions=len(masks))
    browser.photograph(artifacts / f"painted-{name}.png")
    painted = browser.painted_regions()

    assert {region.label for region in painted} == set(masks)
    for region in painted:
        assert region.colour == LABEL_COLOURS[region.label]
        height, width = region.mask.shape
        shown = Image.fromarray(masks[region.label]).resize((width, height), Image.Resampling.BILINEAR)
        sent = (np.asarray(shown) > 127) & region.measurable
        assert region.measurable.mean() > 0.8
        _keep_comparison(sent, region.mask, artifacts / f"painted-{name}-{region.label}.png")
        assert iou(sent, region.mask) >= IOU_WANTED, f"{name}: {region.label}"


def test_what_is_submitted_comes_back_as_a_correction_and_as_an_export(
    filled: Filled, browser: Browser, label_studio: LabelStudio, backend: Backend, artifacts: Path
) -> None:
    task_id = filled.task_ids["portrait"]
    masks = _masks(filled.predictions[task_id])
    browser.open_task(filled.project_id, task_id, regions=len(masks))
    browser.submit()
    browser.photograph(artifacts / "submitted.png")

    # The webhook: what was submitted is compared with what had been predicted, region by region.
    key = next(
        one.facts.key for one in eventually(backend.corrections.projects) if one.facts.number == filled.project_id
    )

    def compared() -> list[Agreement]:
        own = [one.number for one in backend.corrections.annotations(key) if one.task == task_id]
        return [row for number in own for row in backend.corrections.agreements(key).get(number, ())]

    rows = eventually(compared, timeout_s=60)
    assert {row.label for row in rows} == set(masks)
    assert {(row.state, row.iou) for row in rows} == {("accepted", 1.0)}

    exported = _exported_masks(label_studio.api.export(filled.project_id, "BRUSH_TO_PNG"))
    assert len(exported) == len(masks)
    for label, mask in masks.items():
        [name] = [name for name in exported if f"-{label}-" in name]
        np.testing.assert_array_equal(exported[name], mask)


def _exported_masks(content: bytes) -> dict[str, NDArray[np.uint8]]:
    """Read a BRUSH_TO_PNG export of several masks, by file name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()}
