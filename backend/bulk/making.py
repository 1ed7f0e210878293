"""The one way in which a shard is made, whoever runs it: a chunk of pictures in, a file out.

    names -> files (threads) -> networks (batches) -> label maps (threads) -> rows -> shard

A picture that cannot be used is a row that says why. The same pictures, weights and config make the same bytes.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from backend.bulk.asking import questions
from backend.bulk.kept_features import KeptFeatures
from backend.bulk.reading import BulkLoader
from backend.bulk.rows import PackedMap, Row
from backend.bulk.shards import Chunk, Shards
from backend.images.pages import ImageKey
from backend.labeling.controls import LabelConfig
from backend.predicting.answer import Segment
from clipdiy.method import Features

logger = logging.getLogger(__name__)

LISTED_FAILURES = 1000

Done = Callable[[], object]
"""Told of each picture that is through."""


class Segments(Protocol):
    """What is used of `backend.predicting.predictor.Predictor`."""

    def segment_behind(
        self,
        tasks: list[Mapping[str, Any]],
        config: LabelConfig,
        *,
        make: Callable[[Mapping[str, Any], Mapping[ImageKey, Features], Segment], Row],
        on_failure: Callable[[int, str, str], object],
    ) -> list[Row | list[Any]]:
        """Take tasks as far as segmentation."""

    def segment_known(
        self,
        features: list[Features | None],
        config: LabelConfig,
        make: Callable[[int, Features, Segment], Row],
    ) -> list[Row | None]:
        """Segment pictures whose features are known."""


@dataclass(frozen=True)
class ShardReport:
    """What became of a shard. Can be sent from other processes.

    Attributes:
        name: Its name.
        pictures: How many are in it.
        failed: How many of them failed, by reason.
        failures: Source, reason and message of those that failed; at most `LISTED_FAILURES`.
    """

    name: str
    pictures: int
    failed: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[tuple[str, str, str], ...] = ()


class ShardMaker:
    """Makes shards, one after the other."""

    def __init__(
        self,
        segments: Segments,
        loader: BulkLoader,
        config: LabelConfig,
        key: str,
        shards: Shards,
        metadata: Mapping[str, str],
        features: KeptFeatures | None = None,
    ) -> None:
        """Take what works.

        Args:
            segments: Brings pictures as far as segmentation, with `loader`.
            loader: Fetches pictures, and knows their digests.
            config: What is asked for.
            key: Field of a task's data in which its picture stands.
            shards: Where they are written.
            metadata: Written into each.
            features: Keeps features beside the shards, if that is wanted.
        """
        self._segments = segments
        self._loader = loader
        self._config = config
        self._questions = questions(config)
        self._key = key
        self._shards = shards
        self._metadata = metadata
        self._features = features

    def make(self, chunk: Chunk, done: Done = lambda: None) -> ShardReport:
        """Make and write the shard of a chunk.

        Args:
            chunk: Its pictures.
            done: Called for each that is through, from several threads.

        Raises:
            BackendError: If it cannot be written.
        """
        rows = self._from_features(chunk, done)
        if rows is None:
            rows = self._from_pictures(chunk, done)
        self._shards.write(chunk.name, rows, self._metadata)
        failures = [(row.source, row.failure, row.message or "") for row in rows if row.failure is not None]
        counted = Counter(reason for _, reason, _ in failures)
        return ShardReport(chunk.name, len(rows), dict(counted), tuple(failures[:LISTED_FAILURES]))

    def _from_pictures(self, chunk: Chunk, done: Done) -> list[Row]:
        tasks: list[Mapping[str, Any]] = [
            {"id": place, "data": {self._key: source}} for place, source in enumerate(chunk.sources)
        ]
        failed: dict[int, tuple[str, str]] = {}
        kept: dict[int, bytes] = {}

        def make(task: Mapping[str, Any], features: Mapping[ImageKey, Features], segment: Segment) -> Row:
            place, [picture] = int(task["id"]), features.values()
            if self._features is not None:
                kept[place] = picture.to_bytes()
            row = self._row(chunk.sources[place], self._loader.take_digest(chunk.sources[place]), picture, segment)
            done()
            return row

        def on_failure(place: int, reason: str, message: str) -> None:
            failed[place] = reason, message
            done()

        made = self._segments.segment_behind(tasks, self._config, make=make, on_failure=on_failure)
        rows = []
        for place, (source, row) in enumerate(zip(chunk.sources, made, strict=True)):
            if isinstance(row, Row):
                rows.append(row)
                continue
            reason, message = failed.get(place, ("inference", "it was not reached"))
            rows.append(Row(source, self._loader.take_digest(source), failure=reason, message=message))
        if self._features is not None:
            self._features.write(chunk.name, rows, kept)
        return rows

    def _from_features(self, chunk: Chunk, done: Done) -> list[Row] | None:
        """Make the rows of features that are kept; `None` if there are none of these pictures."""
        known = self._features and self._features.read(chunk.name)
        if not known or [one.source for one in known] != list(chunk.sources):
            return None

        def make(place: int, picture: Features, segment: Segment) -> Row:
            row = self._row(known[place].source, known[place].digest, picture, segment)
            done()
            return row

        rows = []
        made = self._segments.segment_known([one.features for one in known], self._config, make)
        for one, row in zip(known, made, strict=True):
            rows.append(row or Row(one.source, one.digest, failure=one.failure, message=one.message))
            if row is None:
                done()
        return rows

    def _row(self, source: str, digest: str | None, picture: Features, segment: Segment) -> Row:
        # Packed at once: a shard's label maps together may be gigabytes.
        maps = tuple((controls, PackedMap.of(segment(picture, asking))) for controls, asking in self._questions)
        score = sum(one.image_score for _, one in maps) / len(maps) if maps else 0.0
        return Row(source, digest, score, maps=maps)
