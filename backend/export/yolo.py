"""YOLO: a line of points for each connected part, in shares of the picture; holes are cut in along a seam.

The line follows the edges of pixels, with every corner: filled by the rule that a pixel belongs to it whose centre lies
inside, it gives exactly the mask. Readers that round points to whole pixels and paint the border too are up to a pixel
wider, whatever is written.
"""

from pathlib import Path

import numpy as np

from backend.export.pictures import ExportedPicture
from backend.export.split import SPLITS
from backend.export.writing import DataSet, PictureWriter, write_file, write_json
from backend.outputs.polygons import simplified

DIGITS = 7
"""Of a share: a thousandth of a pixel in a picture that is 10,000 wide."""


class YoloWriter(PictureWriter):
    """Writes `images/SPLIT/NAME.*`, `labels/SPLIT/NAME.txt` and `data.yaml`; classes count from 0, as YOLO has it.

    A picture in which nothing is has an empty file; one of which nobody has said anything has none, and lies in a
    folder that `data.yaml` does not name. What is ignored cannot be said.
    """

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        """See `PictureWriter`."""
        super().__init__(folder, data_set)
        for split in SPLITS[:2]:
            (folder / "images" / split).mkdir(parents=True)
            (folder / "labels" / split).mkdir(parents=True)

    def add(self, picture: ExportedPicture) -> None:
        """Write a picture."""
        write_file(self.folder / "images" / picture.split / picture.file_name, picture.file.data)
        if picture.label_map is None:
            return
        height, width = picture.size_hw
        lines = []
        for instance in picture.instances:
            left, top, _, _ = instance.part.box_xyxy
            shares = (simplified(instance.part, 0, 1) + np.array([left, top])) / (width, height)
            points = " ".join(f"{share:.{DIGITS}f}".rstrip("0").rstrip(".") for share in shares.ravel())
            lines.append(f"{instance.number - 1} {points}\n")
        path = self.folder / "labels" / picture.split / f"{picture.name}.txt"
        write_file(path, "".join(lines).encode("ascii"))

    def finish(self) -> None:
        """Write `data.yaml`; JSON is YAML, and knows how to quote names."""
        names = list(self.data_set.classes.names)
        write_json(self.folder / "data.yaml", {"train": "images/train", "val": "images/val", "names": names})
