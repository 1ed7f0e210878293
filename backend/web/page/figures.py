"""What the service counted, as a person reads it: tasks, speed, cache. Pure: metrics in, figures out."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.samples import Sample

STAGES = ("load", "encode", "segment")
_PREDICTED, _LEFT = "predicted", "deadline"


@dataclass(frozen=True)
class StageTime:
    """How long a picture takes in one stage.

    Attributes:
        name: See `STAGES`.
        pictures: How many went through it.
        mean_s: Mean time, seconds.
    """

    name: str
    pictures: int
    mean_s: float


@dataclass(frozen=True)
class Process:
    """One process of the service.

    Attributes:
        weights: What runs in it.
        device: Where.
    """

    weights: str
    device: str


@dataclass(frozen=True)
class Figures:
    """What was counted since the service started, over all of its processes.

    Attributes:
        predicted: Tasks that got a prediction.
        failed: Tasks that failed, by reason, the most frequent first.
        left: Tasks that were left for the next request, as the deadline had come.
        waiting: Tasks of running requests that are not done.
        requests: Running requests.
        per_second: Tasks that they are done with in a second, all together.
        stages: What pictures went through.
        looked_up: Pictures whose features were looked for.
        known: How many of them were known.
        processes: Those that live.
    """

    predicted: int
    failed: tuple[tuple[str, int], ...]
    left: int
    waiting: int
    requests: int
    per_second: float
    stages: tuple[StageTime, ...]
    looked_up: int
    known: int
    processes: tuple[Process, ...]

    @property
    def failed_in_all(self) -> int:
        """Tasks that failed, whatever the reason."""
        return sum(count for _, count in self.failed)

    @property
    def remaining_s(self) -> float | None:
        """How long what is waiting will take at the present speed; `None` if that cannot be said."""
        return self.waiting / self.per_second if self.waiting and self.per_second > 0 else None

    @property
    def hit_rate(self) -> float | None:
        """Share of pictures that the networks had seen before; `None` before the first one."""
        return self.known / self.looked_up if self.looked_up else None


def read_figures(metrics: Iterable[Metric]) -> Figures:
    """Read the metrics of `backend.metrics.Metrics`, of one process or of several together."""
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    for metric in metrics:
        for sample in metric.samples:
            samples[sample.name].append(sample)

    def by(name: str, label: str) -> dict[str, float]:
        found: defaultdict[str, float] = defaultdict(float)
        for sample in samples[name]:
            found[sample.labels[label]] += sample.value
        return found

    def total(name: str) -> float:
        return sum(sample.value for sample in samples[name])

    outcomes = by("clipdiy_tasks_total", "outcome")
    failed = [(reason, round(n)) for reason, n in outcomes.items() if n and reason not in (_PREDICTED, _LEFT)]
    counts, sums = (by(f"clipdiy_stage_seconds_{part}", "stage") for part in ("count", "sum"))
    stages = [StageTime(name, round(counts[name]), sums[name] / counts[name]) for name in STAGES if counts.get(name)]
    cache = by("clipdiy_feature_cache_total", "outcome")
    looked_up = sum(cache.values())
    return Figures(
        predicted=round(outcomes.get(_PREDICTED, 0)),
        failed=tuple(sorted(failed, key=lambda entry: (-entry[1], entry[0]))),
        left=round(outcomes.get(_LEFT, 0)),
        waiting=max(0, round(total("clipdiy_tasks_waiting"))),
        requests=max(0, round(total("clipdiy_predict_requests_running"))),
        per_second=max(0.0, round(total("clipdiy_tasks_per_second"), 3)),  # sums of differences do not end at 0
        stages=tuple(stages),
        looked_up=round(looked_up),
        known=round(looked_up - cache.get("miss", 0)),
        processes=tuple(
            Process(sample.labels["weights"], sample.labels["device"])
            for sample in samples["clipdiy_info"]
            if sample.value > 0
        ),
    )
