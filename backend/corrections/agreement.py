"""What became of a prediction: class by class, how much of it a person kept. Pure."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from backend.annotations.reading import KeptRegion
from backend.corrections.kept import Agreement

UNTOUCHED = "prediction"
"""Label Studio's word for the origin of a region that nobody has touched."""

Place = tuple[str, int | None, str]


def agreements(predicted: Sequence[KeptRegion], kept: Sequence[KeptRegion], *, number: int) -> list[Agreement]:
    """Compare what was predicted with what was kept.

    A class of a picture is `accepted` if all of its regions are there and untouched, or its mask is the same anyway.
    Regions without a label, and all but the first label of a region, are left out.

    Args:
        predicted: Regions of the prediction, with raw scores (the mean over a class's regions counts).
        kept: Regions of the annotation.
        number: Version that predicted.

    Raises:
        AnnotationError: If a region cannot be read.
    """
    before, after = _by_place(predicted), _by_place(kept)
    found = []
    for place in sorted({*before, *after}, key=repr):
        ours, theirs = before.get(place, []), after.get(place, [])
        if not ours:
            found.append(Agreement(*place, "added", None, None, number))
            continue
        scores = [region.score for region in ours if region.score is not None]
        score = sum(scores) / len(scores) if scores else None
        if not theirs:
            found.append(Agreement(*place, "deleted", 0.0, score, number))
            continue
        is_untouched = {region.region_id for region in ours} == {region.region_id for region in theirs} and all(
            region.origin == UNTOUCHED for region in theirs
        )
        iou = 1.0 if is_untouched else _iou(ours, theirs)
        found.append(Agreement(*place, "accepted" if iou == 1.0 else "changed", iou, score, number))
    return found


def task_iou(found: Sequence[Agreement]) -> float:
    """Return how good a task's prediction was: the mean IoU over its classes, those that were added counting 0.

    Args:
        found: What became of each class that was predicted or kept; where that is none, nothing was to be found, and
            nothing was.
    """
    return sum(one.iou or 0.0 for one in found) / len(found) if found else 1.0


def _by_place(regions: Iterable[KeptRegion]) -> dict[Place, list[KeptRegion]]:
    places: dict[Place, list[KeptRegion]] = {}
    for region in regions:
        if region.labels:
            places.setdefault((region.control, region.page, region.labels[0]), []).append(region)
    return places


def _iou(left: Sequence[KeptRegion], right: Sequence[KeptRegion]) -> float:
    """Return the IoU of what the regions of each side cover together; 0 where the sizes differ."""
    ours, theirs = _union(left), _union(right)
    if ours.shape != theirs.shape:
        return 0.0
    either = np.count_nonzero(ours | theirs)
    return float(np.count_nonzero(ours & theirs) / either) if either else 1.0


def _union(regions: Sequence[KeptRegion]) -> NDArray[np.bool_]:
    """Return the pixels of regions together; all of one picture, so of one size."""
    mask = regions[0].mask().copy()
    for region in regions[1:]:
        other = region.mask()
        if other.shape == mask.shape:
            mask |= other
    return mask
