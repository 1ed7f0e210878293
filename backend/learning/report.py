"""What is said of a project that people correct: how good its masks are, and which versions it has. Types only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from backend.labeling.controls import LabelConfig, LearnWhen


@dataclass(frozen=True)
class MeanIou:
    """A mean of IoU over pictures.

    Attributes:
        mean: In [0, 1].
        low: Lower end of the 95 % interval, by bootstrap over pictures.
        high: Its upper end.
        pictures: How many there are.
    """

    mean: float
    low: float
    high: float
    pictures: int


@dataclass(frozen=True)
class ClassQuality:
    """How good one class's masks were, by what people made of them.

    Attributes:
        control: `from_name` of the control.
        label: Value that Label Studio stores.
        pictures: Corrected pictures in which it was predicted or kept.
        iou: Between what was predicted and what was kept; `None` if it was never predicted before a correction.
        accepted: Pictures where the prediction was kept as it was.
        changed: Pictures where it was kept with changes.
        deleted: Pictures where it was predicted and not kept.
        added: Pictures where it was not predicted and is there.
    """

    control: str
    label: str
    pictures: int
    iou: MeanIou | None
    accepted: int
    changed: int
    deleted: int
    added: int


@dataclass(frozen=True)
class QualityPoint:
    """How good masks were at one time: a window of pictures, in the order in which they were corrected.

    Attributes:
        corrected: How many pictures had been corrected when the window ends.
        at: When its last picture was corrected, Unix seconds.
        iou: Over the classes of its pictures.
    """

    corrected: int
    at: float
    iou: MeanIou


@dataclass(frozen=True)
class Gain:
    """What a version gained over the labels' own words, on the same pictures, each corrected after it had predicted it.

    Attributes:
        iou: Between what the version predicted and what was kept, mean over pictures, in [0, 1].
        words: The same of what the words alone would have predicted.
        mean: The difference, in [-1, 1].
        low: Lower end of its 95 % interval, by bootstrap over pictures.
        high: Its upper end.
        pictures: How many there are; none that the version was learned from.
    """

    iou: float
    words: float
    mean: float
    low: float
    high: float
    pictures: int


@dataclass(frozen=True)
class VersionReport:
    """One version: the labels' own words (number 0), or a fit.

    Attributes:
        number: 0 for the words alone; counts up within a project.
        at: When it was learned, Unix seconds; 0 for the words.
        pictures: From how many corrected pictures.
        is_in_use: Masks are made with it now.
        is_pinned: Because a person said so.
        iou: On pictures that were predicted by it and corrected afterwards: not in sample.
        note: In words, what was learned, or why it is not used.
        gain: Over the labels' own words; `None` for these, and where nothing is known of that.
    """

    number: int
    at: float
    pictures: int
    is_in_use: bool
    is_pinned: bool
    iou: MeanIou | None
    note: str
    gain: Gain | None = None


@dataclass(frozen=True)
class ProjectReport:
    """Everything that is known of a project's corrections.

    Attributes:
        key: The project as Label Studio names it to a backend (`1.1795331629`).
        number: Its id in Label Studio.
        title: Its title, empty if unknown.
        host: Address of its Label Studio, empty if unknown.
        pictures: Corrected pictures that are learned from.
        annotations: Annotations that are known.
        unused: How many annotations are not learned from, by reason.
        lead_time_s: Median time that a person took, `None` if unknown.
        learn: When it learns.
        state: In words, what it does now, or what it waits for.
        classes: Worst first.
        curve: Over time.
        versions: The newest first; the words last.
        is_calibrated: Scores shown are expected IoU.
    """

    key: str
    number: int
    title: str
    host: str
    pictures: int
    annotations: int
    unused: dict[str, int]
    lead_time_s: float | None
    learn: LearnWhen
    state: str
    classes: tuple[ClassQuality, ...]
    curve: tuple[QualityPoint, ...]
    versions: tuple[VersionReport, ...]
    is_calibrated: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can write it."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """One class in one corrected picture: what was predicted, against what was kept.

    Attributes:
        task: Id of its task in Label Studio.
        iou: Between the two.
        picture: JPEG, its longer side at most 240 pixels.
        predicted: What was predicted, to be laid over the picture: a PNG of its size.
        kept: What was kept, in the same form.
    """

    task: int
    iou: float
    picture: bytes
    predicted: bytes
    kept: bytes


class Reports(Protocol):
    """Where reports come from, and where a person says which version is to be used. Safe from any thread."""

    def projects(self) -> Sequence[str]:
        """Return the keys of projects that have corrections, the most recently corrected first."""

    def report(self, key: str) -> ProjectReport | None:
        """Return what is known of a project; `None` if nothing is."""

    def config(self, key: str) -> LabelConfig | None:
        """Return a project's config with what it has learned; `None` if there is none.

        Raises:
            LabelConfigError: If it cannot be read.
        """

    def pin(self, key: str, number: int | None) -> None:
        """Use a version from now on, whatever is learned; `None` leaves the choice to the guards again.

        Raises:
            LookupError: If there is no such project, or it has no such version.
        """

    def thumbnails(self, key: str, control: str, label: str, most: int) -> Sequence[Comparison]:
        """Return pictures in which a class was corrected, the worst first; none where they cannot be had."""
