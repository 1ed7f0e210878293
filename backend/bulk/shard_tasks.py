"""Shards as the tasks of a project, each with its prediction: for everything that reads a project through the API.

So data sets in every format, and files that Label Studio imports, are made of shards by the code that makes them of
projects, and nothing is computed again but the form of the masks.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backend.bulk.rows import Row
from backend.bulk.shards import Shards
from backend.images.pages import ImageKey
from backend.labeling.controls import LabelConfig, MaskControl
from backend.predicting.answer import answer_task
from clipdiy.segmentation import Segmentation


class ShardTasks:
    """What `backend.export.source.Api` asks of a project, answered from shards."""

    def __init__(
        self, shards: Shards, config: LabelConfig, key: str, xml: str, *, replaced: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Read nothing yet.

        Args:
            shards: Of one version.
            config: What was asked for.
            key: Field of a task's data in which its picture stands.
            xml: The same config as text.
            replaced: Beginnings of names with what stands for them in tasks, where Label Studio finds the pictures
                elsewhere than they were read from.
        """
        self._shards = shards
        self._config = config
        self._key = key
        self._xml = xml
        self._replaced = tuple(replaced)
        self.left_out = 0
        """Pictures that failed, as far as tasks have been read the last time."""

    def project(self, project_id: int) -> Mapping[str, Any]:
        """Describe the shards as a project."""
        return {"id": project_id, "title": self._shards.version, "label_config": self._xml}

    def task_pages(
        self, project_id: int, *, fields: str = "all", page_size: int = 100
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the pictures that did not fail as tasks, in lists, in the order of the shards."""
        self.left_out = 0
        page: list[dict[str, Any]] = []
        number = 0
        for row in self._shards.rows():
            if row.failure is not None:
                self.left_out += 1
                continue
            number += 1
            page.append(self._task(number, row))
            if len(page) == page_size:
                yield page
                page = []
        if page:
            yield page

    def _task(self, number: int, row: Row) -> dict[str, Any]:
        task = {"id": number, "data": {self._key: self._address(row.source)}, "meta": {"sha256": row.digest}}
        # Regions are named after the picture's content, wherever it stands in the list.
        rows: dict[ImageKey, Row] = {(self._key, None): row}
        named = {**task, "id": row.digest}
        prediction = answer_task(named, self._config, rows, _stored, model_version=self._shards.version)
        return {**task, "annotations": [], "predictions": [{"id": number, **prediction}]}

    def _address(self, source: str) -> str:
        for beginning, instead in self._replaced:
            if source.startswith(beginning):
                return instead + source[len(beginning) :]
        return source


def _stored(row: Row, control: MaskControl) -> Segmentation:
    return row.segmentation_for(control.from_name)
