"""What had been predicted, and how much of it was kept? Compared pixel by pixel, once an annotation has come in.

A prediction is made again from the picture's features, with the version that made it: that gives its regions and its
raw scores, whatever was shown. Which version it was, its name says, or its regions' ids, which hold that name. Where it
cannot be made again (the config or the weights have changed since) the regions that Label Studio sent along are
compared.

Where a fit had predicted, the labels' own words are asked too, with the same picture: so it is known whether learning
helped. Both are held against what a person left who had seen the fit's masks, which favours the fit where people accept
what is only nearly right.

What a version predicted of a picture that it had been learned from says nothing about it, so that is not compared: such
a picture may be corrected once more, by somebody else or in another task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from backend.annotations.reading import read_regions
from backend.corrections.agreement import agreements, task_iou
from backend.corrections.store import Agreement, BesideWords
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
        pictures: That it was learned from: SHA-256 of their files.
    """

    number: int
    at: float
    taught: Mapping[str, Taught]
    pictures: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Examined:
    """What became of a prediction.

    Attributes:
        version: The prediction's model version, empty if nobody knows what it was.
        agreements: Class by class.
        beside_words: What the labels' own words would have predicted; `None` where they had, or where the prediction
            could not be made again.
    """

    version: str = ""
    agreements: tuple[Agreement, ...] = ()
    beside_words: BesideWords | None = None


def examine(
    sent: Mapping[str, Any],
    task: Mapping[str, Any],
    config: LabelConfig,
    pictures: Mapping[ImageKey, tuple[str, Features]],
    versions: Sequence[Version],
    predicting: Predicting,
) -> Examined:
    """Compare an annotation with the prediction it began as, if that is not in sample.

    Args:
        sent: The annotation's `result`, and the `prediction` as far as Label Studio sent it along.
        task: With `id` and `data`.
        config: The project's, without what was learned.
        pictures: Of the task: SHA-256 of the file, and features.
        versions: That may have made the prediction, the most likely first.
        predicting: Makes it again.

    Raises:
        AnnotationError: If the annotation cannot be read.
    """
    contents = {content for content, _ in pictures.values()}
    features = {place: found for place, (_, found) in pictures.items()}
    learned_from_it = {version.number for version in versions if not contents.isdisjoint(version.pictures)}
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
            number = taught.version  # 0 also for a fit that this config, or these weights, do nothing with
            if number in learned_from_it:
                return Examined(version_name)
            found = agreements(predicted, kept, number=number)
            beside = None
            if number:
                words = predicting.answer(task, config, features, version=predicting.model_version(config))
                of_words = agreements(read_regions(words["result"], config).regions, kept, number=0)
                beside = BesideWords(number, task_iou(found), task_iou(of_words))
            return Examined(version_name, tuple(found), beside)
    number = number_in(str(name or ""))
    if isinstance(shown.get("result"), list) and number not in learned_from_it:
        predicted = tuple(replace(one, score=None) for one in read_regions(shown["result"], config).regions)
        found = agreements(predicted, kept, number=number)
        return Examined(str(name or "?"), tuple(found))
    return Examined()


def number_in(version: str) -> int:
    """Return the number in a model version's name (`clip-diy-...-learned3-...`); 0 for the words."""
    for part in version.split("-"):
        if part.startswith("learned") and part[7:].isdecimal():
            return int(part[7:])
    return 0
