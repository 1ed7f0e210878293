"""In which format is a data set written? A new one is a file with a writer, and a line here."""

from backend.errors import ExportError
from backend.export.coco import CocoWriter
from backend.export.hf import HfWriter
from backend.export.masks import MasksWriter
from backend.export.voc import VocWriter
from backend.export.writing import PictureWriter
from backend.export.yolo import YoloWriter

WRITERS: dict[str, type[PictureWriter]] = {
    "voc": VocWriter,
    "coco": CocoWriter,
    "yolo": YoloWriter,
    "masks": MasksWriter,
    "hf": HfWriter,
}
LABEL_STUDIO = "labelstudio"
"""Not made of pictures, but of tasks."""
FORMATS = (*WRITERS, LABEL_STUDIO)


def check_format(name: str) -> None:
    """Refuse what is no format.

    Raises:
        ExportError: Naming those that there are.
    """
    if name not in FORMATS:
        raise ExportError(f"there is no format {name!r}; there are: {', '.join(FORMATS)}")
