"""What the service counts and times, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

STAGE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        """Make the metrics; nothing is shared with another object."""
        self.registry = CollectorRegistry()
        self.tasks = Counter(
            "clipdiy_tasks", "Tasks answered, by what became of them.", ["outcome"], registry=self.registry
        )
        self.stage_seconds = Histogram(
            "clipdiy_stage_seconds",
            "Time per image and stage (load, encode, segment).",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=self.registry,
        )
        self.cache = Counter(
            "clipdiy_feature_cache",
            "Images by what was known of them: miss (encoded), hit (downloaded only), not-downloaded.",
            ["outcome"],
            registry=self.registry,
        )
        self.requests_running = Gauge(
            "clipdiy_predict_requests_running",
            "Requests to /predict being worked on.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.tasks_waiting = Gauge(
            "clipdiy_tasks_waiting",
            "Tasks of running requests that are not done yet.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.tasks_per_second = Gauge(
            "clipdiy_tasks_per_second",
            "Tasks that running requests are done with in a second, all together.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.pictures_ahead = Gauge(
            "clipdiy_pictures_ahead",
            "Pictures that wait to be encoded before they are asked for.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.request_seconds = Histogram(
            "clipdiy_predict_seconds",
            "Time of whole requests to /predict.",
            buckets=(*STAGE_BUCKETS, 300),
            registry=self.registry,
        )
        self.webhooks = Counter("clipdiy_webhooks", "Webhooks received, by event.", ["action"], registry=self.registry)
        self.info = Gauge(
            "clipdiy_info",
            "Always 1; the labels say what runs.",
            ["weights", "device", "core"],
            registry=self.registry,
            multiprocess_mode="liveall",
        )

    def render(self, *, several_processes: bool = False) -> bytes:
        """Return the metrics in Prometheus' text format, of all worker processes where there are several."""
        return generate_latest(self._read(several_processes))

    def collect(self, *, several_processes: bool = False) -> list[Metric]:
        """Return the metrics with their samples, of all worker processes where there are several."""
        return [*self._read(several_processes).collect()]

    def _read(self, several_processes: bool) -> CollectorRegistry:
        if not several_processes:
            return self.registry
        together = CollectorRegistry()
        MultiProcessCollector(together)
        return together
