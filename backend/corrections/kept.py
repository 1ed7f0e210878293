"""What is kept of corrections, as whoever reads it gets it."""

from dataclasses import dataclass

from backend.corrections.events import ProjectFacts
from backend.corrections.evidence import ControlShares


@dataclass(frozen=True)
class KeptAnnotation:
    """An annotation that is stored.

    Attributes:
        number: Its id.
        task: Id of its task.
        updated: Unix seconds.
        created: Unix seconds.
        who: Id of the person, `None` if unknown.
        is_cancelled: It was skipped.
        is_ground_truth: Marked as such.
        started_from: Id of the prediction it began as.
        version: Model version of that prediction, empty if unknown.
        problems: What of it could not be read.
        lead_time_s: How long the person took.
    """

    number: int
    task: int
    updated: float
    created: float
    who: int | None
    is_cancelled: bool
    is_ground_truth: bool
    started_from: int | None
    version: str
    problems: tuple[str, ...]
    lead_time_s: float | None


@dataclass(frozen=True)
class Agreement:
    """What became of one class of one picture.

    Attributes:
        control: `from_name`.
        page: Of several, else `None`.
        label: Value that Label Studio stores.
        state: `accepted`, `changed`, `deleted` (predicted and not kept) or `added` (kept and not predicted).
        iou: Between what was predicted and what was kept; `None` for what was not predicted.
        score: Raw score that it was predicted with; `None` if unknown.
        number: Version that predicted it.
    """

    control: str
    page: int | None
    label: str
    state: str
    iou: float | None
    score: float | None
    number: int


@dataclass(frozen=True)
class BesideWords:
    """How much was kept of what a version predicted in one task, and of what the labels' own words would have.

    Attributes:
        number: The version's, from 1.
        iou: Between what it predicted and what was kept, the mean over classes, in [0, 1].
        words_iou: The same of what the words alone predict there.
    """

    number: int
    iou: float
    words_iou: float


@dataclass(frozen=True)
class StoredProject:
    """A project, and where its learning stands.

    Attributes:
        facts: As Label Studio describes it.
        changed: When its corrections last changed, Unix seconds.
        asked: When somebody last asked it to learn; 0 for never, or done.
        tried_pictures: From how many pictures it was learned last; 0 for never.
        tried_at: When, Unix seconds.
        pinned: Version that a person chose; `None` for the newest.
        in_use: Version that is used where none is pinned; 0 for the words.
        state: In words, what it last did.
    """

    facts: ProjectFacts
    changed: float
    asked: float
    tried_pictures: int
    tried_at: float
    pinned: int | None
    in_use: int
    state: str

    @property
    def used(self) -> int:
        """Number of the version that predicts now."""
        return self.in_use if self.pinned is None else self.pinned


@dataclass(frozen=True)
class StoredFit:
    """One version of a project.

    Attributes:
        number: From 1.
        at: When it was learned, Unix seconds.
        pictures: From how many.
        note: In words, what was learned.
        data: As `backend.learning.fits` packs it.
    """

    number: int
    at: float
    pictures: int
    note: str
    data: bytes


@dataclass(frozen=True)
class StoredEvidence:
    """Shares of one control on one picture of one annotation."""

    annotation: int
    data_key: str
    shares: ControlShares
