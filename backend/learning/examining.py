"""What had been predicted, and how much of it was kept? Compared pixel by pixel, once an annotation has come in.

A prediction is made again from the picture's features, with the version that made it: that gives its regions and its
raw scores, whatever was shown. Which version it was, its name says, or its regions' ids, which hold that name. Where it
cannot be made again (the config or the weights have changed since) the regions that Label Studio sent along are
compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from backend.annotations.reading import read_regions
from backend.corrections.agreement import agreements
from backend.corrections.store import Agreement
from backend.images.pages import ImageKey
from backend.labeling.controls import LabelConfig
from backend.labeling.taught import Taught
from clipdiy.method import Features


class Predicting(Protocol):
    """What is used of `backend.predicting.predictor.Predictor`."""

    def model_version(self, config: LabelConfig) -> str:
        """Name what decides a prediction."""

    def answer(
        self, task: Mapping[str, Any], config: LabelConfig, features: Mapping[ImageKey, Features], *, version: str
    ) -> dict[str, Any]:
        """Make a task's prediction from features."""


@dataclass(frozen=True)
class Version:
    """A version that may have predicted.

    Attributes:
        number: 0 for the words.
        at: Since when it is there, Unix seconds.
        taught: What it means for each control.
    """

    number: int
    at: float
    taught: Mapping[str, Taught]


def examine(
    sent: Mapping[str, Any],
    task: Mapping[str, Any],
    config: LabelConfig,
    features: Mapping[ImageKey, Features],
    versions: Sequence[Version],
    predicting: Predicting,
) -> tuple[str, list[Agreement]]:
    """Compare an annotation with the prediction it began as.

    Args:
        sent: The annotation's `result`, and the `prediction` as far as Label Studio sent it along.
        task: With `id` and `data`.
        config: The project's, without what was learned.
        features: Of the task's pictures.
        versions: That may have made the prediction, the most likely first.
        predicting: Makes it again.

    Returns:
        The prediction's model version, and what became of it; an empty version if nobody knows what it was.

    Raises:
        AnnotationError: If the annotation cannot be read.
    """
    kept = read_regions(sent.get("result"), config).regions
    shown = sent.get("prediction") or {}
    name = shown.get("model_version")
    known_ids = {region.region_id for region in kept if region.origin.startswith("prediction")}
    for version in versions:
        taught = config.taught(version.taught)
        version_name = predicting.model_version(taught)
        if name and name != version_name:
            continue
        raw = config.taught({control: replace(one, calibration=None) for control, one in version.taught.items()})
        again = predicting.answer(task, raw, features, version=version_name)
        predicted = read_regions(again["result"], config).regions
        # Without its name, and with nothing left of it, the likeliest it is.
        if name or not known_ids or known_ids & {region.region_id for region in predicted}:
            return version_name, agreements(predicted, kept, number=version.number)
    if isinstance(shown.get("result"), list):
        predicted = tuple(replace(one, score=None) for one in read_regions(shown["result"], config).regions)
        return str(name or "?"), agreements(predicted, kept, number=number_in(str(name or "")))
    return "", []


def number_in(version: str) -> int:
    """Return the number in a model version's name (`clip-diy-...-learned3-...`); 0 for the words."""
    for part in version.split("-"):
        if part.startswith("learned") and part[7:].isdecimal():
            return int(part[7:])
    return 0
