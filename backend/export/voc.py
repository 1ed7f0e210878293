"""PASCAL VOC: `JPEGImages`, indexed `SegmentationClass`, lists of names. Pictures are JPEG, whatever they were."""

from pathlib import Path

from backend.errors import ExportError
from backend.export.pictures import ExportedPicture
from backend.export.writing import BYTE_CLASSES, DataSet, PictureWriter, class_map_png, write_file

ROOT = Path("VOCdevkit", "VOC2012")
"""Where readers of VOC, torchvision's among them, look for it."""
LISTS = ("train", "val", "trainval", "unlabelled")


class VocWriter(PictureWriter):
    """Writes PASCAL VOC's layout for segmentation."""

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        """See `PictureWriter`."""
        super().__init__(folder, data_set)
        if len(data_set.classes.names) > BYTE_CLASSES:
            raise ExportError(
                f"voc has room for {BYTE_CLASSES} labels, the project has {len(data_set.classes.names)}: choose "
                "another format, or fewer controls"
            )
        self._root = folder / ROOT
        self._lists = self._root / "ImageSets" / "Segmentation"
        for part in (self._lists, self._root / "JPEGImages", self._root / "SegmentationClass"):
            part.mkdir(parents=True)
        for name in LISTS:
            (self._lists / f"{name}.txt").touch()
        # One a line, without the background: a name that stands in a task may hold a line break.
        names = [" ".join(name.split()) for name in data_set.classes.names]
        (self._root / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")

    def add(self, picture: ExportedPicture) -> None:
        """Write a picture."""
        write_file(self._root / "JPEGImages" / f"{picture.name}.jpg", picture.file.as_jpeg())
        self._append(picture.split, picture.name)
        if picture.label_map is not None:
            png = class_map_png(picture.label_map, self.data_set)
            write_file(self._root / "SegmentationClass" / f"{picture.name}.png", png)
            self._append("trainval", picture.name)

    def finish(self) -> None:
        """Nothing is left to write."""

    def _append(self, list_name: str, name: str) -> None:
        with (self._lists / f"{list_name}.txt").open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
