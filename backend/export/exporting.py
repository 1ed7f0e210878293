"""A whole export: from a project to a folder, picture by picture, and what is said of it at the end."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.export.atomic import whole_folder
from backend.export.chosen import Chosen
from backend.export.formats import LABEL_STUDIO, WRITERS, check_format
from backend.export.labelstudio import LabelStudioWriter
from backend.export.pictures import ExportedPicture
from backend.export.source import ProjectSource
from backend.export.writing import DataSet, append_json, write_json

MANIFEST = "pictures.jsonl"
DESCRIPTION = "dataset.json"
OVERLAPS = "the smaller region lies on top; of two as large, the label that is first in the config"


@dataclass
class Exported:
    """What was written.

    Attributes:
        count: Pictures; tasks for `labelstudio`.
        splits: How many are for what.
        origins: How many are by whom: `annotation`, `prediction`, or `nobody`.
    """

    count: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)


def export_project(
    source: ProjectSource,
    format_name: str,
    out: Path,
    *,
    overwrite: bool = False,
    done: Callable[[int], None] = lambda _: None,
) -> Exported:
    """Write a data set.

    Args:
        source: Where it comes from.
        format_name: One of `backend.export.formats.FORMATS`.
        out: The folder that it becomes, when all of it is written.
        overwrite: Whether a folder that is there is replaced.
        done: Called after each picture or task, with how many there are so far.

    Raises:
        ExportError: If it cannot be made so.
        LabelConfigError: If nothing in the project draws.
        LabelStudioApiError: If Label Studio refuses, or cannot be reached.
    """
    check_format(format_name)
    exported = Exported()
    with whole_folder(out, overwrite=overwrite) as folder:
        if format_name == LABEL_STUDIO:
            _write_tasks(source, folder, exported, done)
        else:
            _write_pictures(source, format_name, folder, exported, done)
    return exported


def _write_tasks(source: ProjectSource, folder: Path, exported: Exported, done: Callable[[int], None]) -> None:
    writer = LabelStudioWriter(folder)
    for task in source.tasks():
        writer.add(task)
        _count(exported, task.chosen, done)
    writer.finish()


def _write_pictures(
    source: ProjectSource, format_name: str, folder: Path, exported: Exported, done: Callable[[int], None]
) -> None:
    data_set = DataSet(source.title, source.classes)
    writer = WRITERS[format_name](folder, data_set)
    for picture in source.pictures():
        writer.add(picture)
        append_json(folder / MANIFEST, [_line(picture)])
        exported.splits[picture.split] += 1
        _count(exported, picture, done)
    writer.finish()
    write_json(folder / DESCRIPTION, _description(format_name, data_set, exported))


def _count(exported: Exported, one: Chosen | ExportedPicture | None, done: Callable[[int], None]) -> None:
    exported.count += 1
    exported.origins[(one and one.origin) or "nobody"] += 1
    done(exported.count)


def _line(picture: ExportedPicture) -> Mapping[str, Any]:
    """Return what is said of a picture in the manifest. No address: it may hold a whole picture, or a signature."""
    return {
        "name": picture.name,
        "image_id": picture.image_id,
        "task": picture.task,
        "page": picture.page,
        "split": picture.split,
        "source": picture.origin,
        "score": picture.score,
        "width": picture.size_hw[1],
        "height": picture.size_hw[0],
        "classes": list(picture.numbers),
    }


def _description(format_name: str, data_set: DataSet, exported: Exported) -> Mapping[str, Any]:
    return {
        "title": data_set.title,
        "format": format_name,
        "classes": {str(number): name for number, name in enumerate(data_set.classes.names, 1)},
        "background": 0,
        "ignored": data_set.ignored,
        "overlaps": OVERLAPS,
        "pictures": dict(sorted(exported.splits.items())),
        "masks_from": dict(sorted(exported.origins.items())),
    }
