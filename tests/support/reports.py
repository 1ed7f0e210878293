"""Stands in for the room of learning: two projects with corrections, made up, and pictures of what was corrected."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.labeling.controls import LabelConfig
from backend.learning.report import ClassQuality, Comparison, Gain, MeanIou, ProjectReport, QualityPoint, VersionReport

SCENES = "3.1795331629"
SHELF = "7.1795420001"
AT = 1_795_600_000.0
PREDICTED, KEPT = (255, 138, 0), (0, 140, 255)

Make = Callable[[int], tuple[NDArray[np.uint8], NDArray[np.bool_]]]
"""Makes picture number so and so, and where the class is in it: (h, w, 3) uint8 and (h, w) bool."""


def _iou(mean: float, half: float, pictures: int) -> MeanIou:
    return MeanIou(mean, max(0.0, mean - half), min(1.0, mean + half), pictures)


def _quality(label: str, iou: MeanIou | None, counts: tuple[int, int, int, int]) -> ClassQuality:
    return ClassQuality("brush", label, sum(counts), iou, *counts)


def scenes_report(title: str = "Drawn scenes") -> ProjectReport:
    """Return a project that has learned three times."""
    means = ((5, 0.41), (10, 0.48), (15, 0.55), (20, 0.66), (25, 0.69), (30, 0.74), (35, 0.73), (40, 0.78))
    return ProjectReport(
        key=SCENES,
        number=3,
        title=title,
        host="http://localhost:8080",
        pictures=40,
        annotations=43,
        unused={"skipped": 2, "of another size": 1},
        lead_time_s=31.5,
        learn="auto",
        state="Learned from 40 pictures; learns again at 60.",
        classes=(
            _quality("thing A", _iou(0.38, 0.11, 12), (1, 6, 3, 4)),
            _quality("butterfly", _iou(0.59, 0.09, 17), (5, 9, 2, 1)),
            _quality("car", _iou(0.71, 0.07, 21), (11, 8, 0, 2)),
            _quality("dog", _iou(0.83, 0.05, 24), (17, 6, 0, 1)),
            _quality("sunflower", _iou(0.90, 0.03, 19), (16, 3, 0, 0)),
            _quality("thing B", None, (0, 0, 0, 3)),
        ),
        curve=tuple(QualityPoint(n, AT - 86_400 * (40 - n) / 10, _iou(mean, 0.3 / n**0.5, 5)) for n, mean in means),
        versions=(
            VersionReport(
                3,
                AT,
                40,
                True,
                False,
                _iou(0.77, 0.05, 9),
                "Naming and objectness were fitted.",
                Gain(0.78, 0.49, 0.29, 0.2, 0.37, 8),
            ),
            VersionReport(2, AT - 90_000, 27, False, False, _iou(0.73, 0.06, 13), "Naming was fitted."),
            VersionReport(1, AT - 190_000, 12, False, False, None, "Not used: held-out pictures did not gain."),
            VersionReport(0, 0.0, 0, False, False, _iou(0.46, 0.08, 18), "The labels' own words."),
        ),
        is_calibrated=True,
    )


def shelf_report() -> ProjectReport:
    """Return a project with a single correction."""
    return ProjectReport(
        key=SHELF,
        number=7,
        title="",
        host="",
        pictures=1,
        annotations=1,
        unused={},
        lead_time_s=None,
        learn="on-training",
        state="Waits for the button Start Training.",
        classes=(_quality("cup", None, (0, 0, 0, 1)),),
        curve=(),
        versions=(VersionReport(0, 0.0, 0, True, False, None, "The labels' own words."),),
        is_calibrated=False,
    )


def plain_picture(number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a small grey picture with a square in it."""
    picture = np.full((30, 40, 3), 90 + number, np.uint8)
    mask = np.zeros((30, 40), np.bool_)
    mask[8:22, 10:30] = True
    return picture, mask


class FakeReports:
    """Answers with made-up reports, and keeps what is pinned. `broken` raises instead."""

    def __init__(self, *reports: ProjectReport, make: Make = plain_picture, broken: bool = False) -> None:
        self.reports = {report.key: report for report in reports or (scenes_report(), shelf_report())}
        self.make = make
        self.configs: dict[str, LabelConfig] = {}
        self.broken = broken
        self.asked: list[tuple[str, str, str, int]] = []

    def projects(self) -> Sequence[str]:
        if self.broken:
            raise OSError("secret path")
        return [*self.reports]

    def report(self, key: str) -> ProjectReport | None:
        return self.reports.get(key)

    def config(self, key: str) -> LabelConfig | None:
        if self.broken:
            raise OSError("secret path")
        return self.configs.get(key)

    def pin(self, key: str, number: int | None) -> None:
        report = self.reports[key]
        if number is not None and number not in {version.number for version in report.versions}:
            raise LookupError(number)
        used = max(version.number for version in report.versions) if number is None else number
        versions = tuple(
            replace(version, is_in_use=version.number == used, is_pinned=version.number == number)
            for version in report.versions
        )
        self.reports[key] = replace(report, versions=versions)

    def thumbnails(self, key: str, control: str, label: str, most: int) -> Sequence[Comparison]:
        self.asked.append((key, control, label, most))
        if self.broken:
            raise OSError("secret path")
        return [self._comparison(number) for number in range(min(most, 4))] if key in self.reports else []

    def _comparison(self, number: int) -> Comparison:
        picture, kept = self.make(number)
        shift = np.float32([[1, 0, kept.shape[1] * (0.12 - 0.03 * number)], [0, 1, kept.shape[0] * 0.05]])
        predicted = cv2.warpAffine(kept.astype(np.uint8), shift, kept.shape[::-1]) > 0
        iou = float((predicted & kept).sum() / (predicted | kept).sum())
        return Comparison(
            101 + number, iou, _save(Image.fromarray(picture), "JPEG"), _mask(predicted, PREDICTED), _mask(kept, KEPT)
        )


def _mask(mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> bytes:
    """Return a mask as one colour with a line around it, (h, w) RGBA."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[mask] = (*colour, 255)
    pixels[inner, 3] = 120
    return _save(Image.fromarray(pixels), "PNG")


def _save(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()
