"""`clipdiy-ls quality`: how good a project's masks are, by what people made of them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend.corrections.store import CorrectionStore
from backend.errors import BackendError
from backend.images.introductions import Introductions
from backend.learning.report import Gain, MeanIou, ProjectReport
from backend.learning.reports import StoredReports
from backend.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ProjectOption = Annotated[
    str | None, typer.Option("--project", metavar="ID", help="Id of a project in Label Studio; all, if left out.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a project.")]


def quality(
    project: ProjectOption = None,
    as_json: JsonOption = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the curve over corrections (PNG or SVG).")
    ] = None,
) -> None:
    """Print how good masks are: class by class, over time, version by version. Reads the data folder, nothing else."""
    reports = stored_reports(Settings())
    found = [reports.report(key) for key in keys_of(reports, project)]
    known = [report for report in found if report is not None]
    for report in known:
        print(json.dumps(report.as_json()) if as_json else "\n".join(table(report)))
    if plot is not None:
        draw(known).savefig(plot, dpi=150)


def stored_reports(settings: Settings) -> StoredReports:
    """Return what reads the data folder of these settings."""
    introductions = Introductions(settings.data_dir)
    return StoredReports(
        CorrectionStore(settings.data_dir),
        when=settings.learn,
        several=settings.annotators,
        host_of=lambda key: introductions.of(key).base_url,
    )


def keys_of(reports: StoredReports, project: str | None) -> list[str]:
    """Return the keys of the projects that are meant.

    Args:
        reports: Knows all of them.
        project: An id, or a whole key where several Label Studios have a project of one id; `None` for all.

    Raises:
        BackendError: If there is none.
    """
    keys = [key for key in reports.projects() if project in (None, key, key.partition(".")[0])]
    if not keys:
        which = "of any project" if project is None else f"of project {project}"
        raise BackendError(
            f"nothing is known {which}: no corrections have come to this data folder (CLIPDIY_DATA_DIR); "
            "`clipdiy-ls sync --project ID` reads them from Label Studio"
        )
    return keys


def table(report: ProjectReport) -> list[str]:
    """Say it in lines."""
    title = f" {report.title!r}" if report.title else ""
    lines = [f"project {report.number}{title}{' at ' + report.host if report.host else ''}"]
    unused = "".join(f", {count} {reason}" for reason, count in report.unused.items())
    lead = "" if report.lead_time_s is None else f"; median time {report.lead_time_s:.0f} s"
    lines.append(f"  {report.pictures} corrected pictures ({report.annotations} annotations{unused}){lead}")
    lines.append(f"  learns {report.learn}; {report.state or 'nothing learned yet'}")
    if report.classes:
        width = max(len(one.label) for one in report.classes)
        lines.append(f"  {'class':<{width}}  pictures  IoU (95 %)           kept  changed  deleted  added")
        for one in report.classes:
            counts = f"{one.accepted:>4}  {one.changed:>7}  {one.deleted:>7}  {one.added:>5}"
            lines.append(f"  {one.label:<{width}}  {one.pictures:>8}  {show_iou(one.iou):<19}  {counts}")
    for version in report.versions:
        marks = " in use" * version.is_in_use + " pinned" * version.is_pinned
        when = datetime.fromtimestamp(version.at, UTC).strftime("%Y-%m-%d %H:%M") if version.at else ""
        said = f"  version {version.number}{marks}: {show_iou(version.iou)} {version.note} {when}".rstrip()
        lines.append(said + ("" if version.gain is None else f"; {show_gain(version.gain)}"))
    return lines


def show_iou(iou: MeanIou | None) -> str:
    """Return a mean with its interval, in percent."""
    return "-" if iou is None else f"{100 * iou.mean:.1f} ({100 * iou.low:.1f}..{100 * iou.high:.1f})"


def show_gain(gain: Gain) -> str:
    """Say what a version gained over the words alone, in percent and points of it."""
    pictures = "1 picture" if gain.pictures == 1 else f"{gain.pictures} pictures"
    return (
        f"on {pictures} {100 * gain.iou:.1f}, the words alone would have {100 * gain.words:.1f}: "
        f"{100 * gain.mean:+.1f} ({100 * gain.low:.1f} to {100 * gain.high:.1f})"
    )


def draw(reports: list[ProjectReport]) -> "Figure":
    """Draw the curves of projects over their corrections.

    Raises:
        BackendError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as err:
        raise BackendError("--plot needs matplotlib: pip install 'clip-diy-label-studio[eval]'") from err
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for report in reports:
        corrected = [point.corrected for point in report.curve]
        means = [100 * point.iou.mean for point in report.curve]
        [line] = axes.plot(corrected, means, marker="o", label=report.title or f"project {report.number}")
        low, high = ([100 * value for value in ends] for ends in _ends(report))
        axes.fill_between(corrected, low, high, alpha=0.2, color=line.get_color())
    axes.set(xlabel="corrected pictures", ylabel="IoU of predicted and kept, %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    if reports:
        axes.legend()
    return figure


def _ends(report: ProjectReport) -> tuple[list[float], list[float]]:
    return [point.iou.low for point in report.curve], [point.iou.high for point in report.curve]
