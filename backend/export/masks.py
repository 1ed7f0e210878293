"""A PNG for each class that is in a picture: 255 where it is, 0 elsewhere."""

import numpy as np
from PIL import Image

from backend.export.classes import IGNORED
from backend.export.names import class_name
from backend.export.pictures import ExportedPicture
from backend.export.writing import PictureWriter, encode_png, write_file

IGNORED_FOLDER = "ignored"


class MasksWriter(PictureWriter):
    """Writes `images/SPLIT/NAME.*` and `masks/SPLIT/CLASS/NAME.png`.

    A class that is not in a labelled picture has no file there. What is ignored lies in a folder of its own.
    """

    def add(self, picture: ExportedPicture) -> None:
        """Write a picture."""
        write_file(self.folder / "images" / picture.split / picture.file_name, picture.file.data)
        if picture.label_map is None:
            return
        folders = {number: class_name(number, self.data_set.classes.names[number - 1]) for number in picture.numbers}
        if (picture.label_map == IGNORED).any():
            folders[IGNORED] = IGNORED_FOLDER
        for number, folder in folders.items():
            mask = (picture.label_map == number).astype(np.uint8) * np.uint8(255)
            path = self.folder / "masks" / picture.split / folder / f"{picture.name}.png"
            write_file(path, encode_png(Image.fromarray(mask)))

    def finish(self) -> None:
        """Nothing is left to write: `dataset.json` names the classes."""
