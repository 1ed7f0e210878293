"""Small pictures of what was predicted beside what was kept, the worst first: from what is kept anyway, no download.

What was predicted is made again with the version that predicted it. What was kept is drawn from the shares that are
stored of it, which have 32 x 32 cells: enough for a thumbnail, and never more than that.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.annotations.reading import read_regions
from backend.corrections.store import Agreement, CorrectionStore, KeptAnnotation, StoredEvidence
from backend.errors import BackendError
from backend.images.pages import ImageKey
from backend.labeling.controls import LabelConfig
from backend.labeling.taught import Taught
from backend.learning.examining import Predicting
from backend.learning.report import Comparison
from clipdiy.features import unpack_picture
from clipdiy.learning.evidence import WHOLE
from clipdiy.method import Features

SIDE_PX = 240
PREDICTED = (230, 80, 0)
KEPT = (0, 110, 230)
ALPHA = 140

Mask = NDArray[np.bool_]


class Drawing(Predicting, Protocol):
    """What is used of `backend.predicting.predictor.Predictor`."""

    def known_features(self, content: str) -> Features | None:
        """Return features that are kept."""


def worst(
    agreements: Mapping[int, Sequence[Agreement]], control: str, label: str
) -> list[tuple[float, int, Agreement]]:
    """Return what became of one class, the worst first: IoU, annotation, agreement."""
    found = [
        (0.0 if one.iou is None else one.iou, number, one)
        for number, several in agreements.items()
        for one in several
        if (one.control, one.label) == (control, label)
    ]
    return sorted(found, key=lambda row: row[:2])


def compare(
    store: CorrectionStore,
    key: str,
    config: LabelConfig,
    annotations: Mapping[int, KeptAnnotation],
    chosen: tuple[float, int, Agreement],
    taught: Mapping[str, Taught],
    predicting: Drawing,
) -> Comparison | None:
    """Draw one picture.

    Args:
        store: The rows.
        key: Of the project.
        config: As it is now, without what was learned.
        annotations: That count, by number.
        chosen: Out of `worst`.
        taught: What the version that predicted it was taught.
        predicting: Makes the prediction again.

    Returns:
        `None` where the picture's features are kept no more, or it cannot be made again.
    """
    iou, number, agreement = chosen
    annotation = annotations.get(number)
    evidence = next(
        (
            one
            for one in store.evidence(key, number).get(number, ())
            if (one.shares.control, one.shares.page) == (agreement.control, agreement.page)
        ),
        None,
    )
    if annotation is None or evidence is None:
        return None
    place: ImageKey = evidence.data_key, agreement.page
    content = store.pictures(key, annotation.task).get((annotation.task, *place))
    features = None if content is None else predicting.known_features(content)
    if features is None or features.picture is None:
        return None
    pixels = unpack_picture(features.picture).permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE_PX, SIDE_PX))
    before = config.taught({name: replace(one, calibration=None) for name, one in taught.items()})
    task = {"id": annotation.task, "data": store.task_data(key, annotation.task)}
    try:
        made = predicting.answer(task, before, {place: features}, version=predicting.model_version(before))
        regions = [
            region
            for region in read_regions(made["result"], config).regions
            if region.control == agreement.control and agreement.label in region.labels
        ]
        predicted = np.zeros(features.size_hw, np.bool_)
        for region in regions:
            predicted |= region.mask()
    except BackendError:
        return None
    return Comparison(
        annotation.task,
        iou,
        _jpeg(picture),
        _overlay(Image.fromarray(predicted), picture.size, PREDICTED),
        _overlay(_kept(evidence, agreement.label), picture.size, KEPT),
    )


def _kept(evidence: StoredEvidence, label: str) -> Image.Image:
    """Return the cells that a class covers, as a grey picture of 32 x 32."""
    shares = evidence.shares
    position = shares.labels.index(label) + 1 if label in shares.labels else 0
    cells = shares.shares.of(position) if position else np.zeros((1, 1), np.uint8)
    return Image.fromarray(cells)


def _overlay(mask: Image.Image, size_wh: tuple[int, int], colour: tuple[int, int, int]) -> bytes:
    """Return a PNG that paints a mask in a colour, transparent elsewhere."""
    grey = np.asarray(mask.convert("L").resize(size_wh, Image.Resampling.BILINEAR))
    rgba = np.zeros((*grey.shape, 4), np.uint8)
    rgba[grey > WHOLE // 2] = (*colour, ALPHA)
    return _saved(Image.fromarray(rgba), "PNG")


def _jpeg(picture: Image.Image) -> bytes:
    return _saved(picture, "JPEG")


def _saved(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()
