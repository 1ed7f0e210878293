"""The service as gunicorn runs it, with made-up reports of what was learned (`reports.py`), for a look at its page."""

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from pictures import scene  # noqa: E402
from reports import FakeReports  # noqa: E402

from backend.service import build_service  # noqa: E402
from backend.web.app import create_app  # noqa: E402
from backend.web.start import start  # noqa: E402


def _small_scene(number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    made = scene(40 + number, (360, 480), nouns=("butterfly",))
    mask = cv2.resize(made.objects.astype(np.uint8), (240, 180), interpolation=cv2.INTER_NEAREST) > 0
    return cv2.resize(made.image, (240, 180), interpolation=cv2.INTER_AREA), mask


app = start(build_service, lambda service: create_app(service, reports=FakeReports(make=_small_scene)))
