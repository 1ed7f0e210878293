"""What an evaluation came to, as JSON, as CSV, and as a table for a person."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from clipdiy.evaluate.cited import Cited
from clipdiy.evaluate.datasets import Dataset, counted_classes
from clipdiy.evaluate.runner import Finished
from clipdiy.evaluate.variants import Variant

PER_CLASS_ROWS = 21  # of the printed per-class table, before it goes on in the next column
MOST_COLUMNS = 4  # more would cut off the figures
PAPER_NAMES = {"voc": "VOC", "coco": "COCO"}
NOBODYS = ("folder", "scenes")  # sets for which nobody has published figures


@dataclass(frozen=True)
class Row:
    """One variant's figures. Shares are percent.

    Attributes:
        key: The variant's name.
        title: What its row is called.
        miou: Mean IoU over all classes, with the background if there is one.
        interval: 95 % of it, by bootstrap over pictures.
        difference: To the first variant's mIoU, with its interval over the same resampled pictures; `None` for itself.
        accuracy: Pixel accuracy.
        boundary_miou: Mean boundary IoU, or `None`.
        segment_ms: Mean time of segmenting an encoded picture.
        published: mIoU that the paper states, by data set.
        iou: Per class, in the order of `counted_classes`; NaN where a class is in neither truth nor prediction.
    """

    key: str
    title: str
    miou: float
    interval: tuple[float, float]
    difference: tuple[float, float, float] | None
    accuracy: float
    boundary_miou: float | None
    segment_ms: float
    published: Mapping[str, float]
    iou: tuple[float, ...]


def make_rows(variants: Sequence[Variant], finished: Finished) -> list[Row]:
    """Read the figures off the tallies."""
    first = finished.tallies[variants[0].key]
    rows = []
    for variant in variants:
        tally = finished.tallies[variant.key]
        found = tally.quality
        low, high = tally.interval
        boundary = tally.boundary_miou
        rows.append(
            Row(
                variant.key,
                variant.title,
                100 * found.miou,
                (100 * low, 100 * high),
                None if tally is first else _percent(tally.difference_to(first)),
                100 * found.accuracy,
                None if boundary is None else 100 * boundary,
                tally.segment_ms,
                variant.published,
                tuple(100 * float(value) for value in found.iou),
            )
        )
    return rows


def _percent(shares: tuple[float, float, float]) -> tuple[float, float, float]:
    value, low, high = (100 * share for share in shares)
    return value, low, high


def write_json(
    path: Path, rows: Sequence[Row], dataset: Dataset, about: Mapping[str, object], cited: Sequence[Cited] = ()
) -> None:
    """Write everything: figures, per-class IoU, and what they were measured with. NaN is written as null.

    Figures that nobody measured here stand apart, under `cited`.
    """
    names = counted_classes(dataset)
    content = {
        **about,
        "variants": {
            row.key: {
                "title": row.title,
                "miou": row.miou,
                "miou_interval_95": row.interval,
                "difference_to_first": row.difference,
                "pixel_accuracy": row.accuracy,
                "boundary_miou": row.boundary_miou,
                "segment_ms": row.segment_ms,
                "published_miou": dict(row.published),
                "class_iou": dict(zip(names, row.iou, strict=True)),
            }
            for row in rows
        },
        "cited": [
            {
                "name": row.name,
                "backbone": row.backbone,
                "published_miou": dict(row.published),
                "from_tcl": row.from_tcl,
            }
            for row in cited
        ],
    }
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Round numbers to what they are good for, and turn NaN into null."""
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write one line for each variant."""
    header = (
        "variant", "title", "miou", "miou_low", "miou_high", "difference", "difference_low", "difference_high",
        "pixel_accuracy", "boundary_miou", "segment_ms", "published_voc", "published_coco",
    )  # fmt: skip
    lines = [
        (
            row.key, row.title, *(_number(v) for v in (row.miou, *row.interval, *(row.difference or (None,) * 3))),
            *(_number(v) for v in (row.accuracy, row.boundary_miou, row.segment_ms)),
            *(_number(row.published.get(name)) for name in PAPER_NAMES),
        )
        for row in rows
    ]  # fmt: skip
    _write_lines(path, header, lines)


def write_class_csv(path: Path, rows: Sequence[Row], dataset: Dataset) -> None:
    """Write one line for each class, the background first if there is one, with a column for each variant."""
    names = counted_classes(dataset)
    lines = [(name, *(_number(row.iou[i]) for row in rows)) for i, name in enumerate(names)]
    _write_lines(path, ("class", *(row.key for row in rows)), lines)


def _write_lines(path: Path, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *lines])


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def print_rows(rows: Sequence[Row], title: str, dataset: Dataset, count: int, cited: Sequence[Cited] = ()) -> Table:
    """Make the table for a person, beside the paper's figures where it states some.

    mIoU, its difference to the first row, pixel accuracy and boundary IoU are percent; milliseconds are those of
    segmenting an encoded picture. On a folder and on scenes the paper's figures for PASCAL VOC stand there: their order
    can be compared. Beside other public sets, for which it has none, nothing stands. Systems that are only cited follow
    below a line.
    """
    paper = "voc" if dataset.name in NOBODYS else dataset.name
    table = Table(title=f"{title} · {dataset.title}, {count} pictures", box=SIMPLE, title_justify="left")
    table.add_column("", no_wrap=True)
    for column in ("mIoU (95 %)", "to the first (95 %)", "pixels", "boundary", "ms"):
        table.add_column(column, justify="right", no_wrap=True)
    if paper in PAPER_NAMES:
        table.add_column(f"paper, {PAPER_NAMES[paper]}", justify="right", no_wrap=True)
    for row in rows:
        low, high = row.interval
        difference = ""
        if row.difference is not None:
            difference = "{:+.1f} ({:+.1f} to {:+.1f})".format(*row.difference)
        table.add_row(
            row.title,
            f"{row.miou:.1f} ({low:.1f} to {high:.1f})",
            difference,
            f"{row.accuracy:.1f}",
            "" if row.boundary_miou is None else f"{row.boundary_miou:.1f}",
            f"{row.segment_ms:.1f}" if row.segment_ms else "",
            *((_published(row.published, paper),) if paper in PAPER_NAMES else ()),
        )
    if cited and paper in PAPER_NAMES:
        table.add_section()
        for other in cited:
            table.add_row(other.title, "", "", "", "", "", _published(other.published, paper))
    return table


def _published(figures: Mapping[str, float], paper: str) -> str:
    return f"{figures[paper]:.1f}" if paper in figures else ""


def print_classes(row: Row, dataset: Dataset) -> Table:
    """Make the table of one variant's IoU per class, in as many columns as it takes."""
    names = counted_classes(dataset)
    columns = min(MOST_COLUMNS, -(-len(names) // PER_CLASS_ROWS))
    height = -(-len(names) // columns)
    table = Table(title=f"IoU per class · {row.title}", box=SIMPLE, title_justify="left")
    for _ in range(columns):
        table.add_column("class", no_wrap=True)
        table.add_column("IoU", justify="right")
    cells = [(name, "-" if math.isnan(iou) else f"{iou:.1f}") for name, iou in zip(names, row.iou, strict=True)]
    for line in range(height):
        parts = [cells[i] if i < len(cells) else ("", "") for i in range(line, height * columns, height)]
        table.add_row(*(text for part in parts for text in part))
    return table


def completeness(dataset: Dataset, count: int) -> str:
    """Return a warning if pictures of the published set are missing; else nothing."""
    if dataset.published_count is None or count + dataset.left_out == dataset.published_count:
        return ""
    return f"{count} pictures, the whole set has {dataset.published_count}: not comparable with published figures"
