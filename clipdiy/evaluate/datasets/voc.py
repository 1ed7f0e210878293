"""PASCAL VOC 2012, and any folder laid out like it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets.mapped import MappedSet
from clipdiy.evaluate.datasets.sample import (
    IGNORE,
    MOST_CLASSES,
    Background,
    Sample,
    check_fit,
    read_photo,
    read_truth,
    require_files,
)
from clipdiy.evaluate.protocol import CLEAN, Protocol
from clipdiy.vocabulary import BACKGROUND

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
    "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv/monitor",
)  # fmt: skip
# Without the background: as MMSegmentation and those who count with it write them.
VOC20_CLASSES = (*VOC_CLASSES[:-1], "tvmonitor")
VOC_VAL_COUNT = 1449
CLASS_LIST = "classes.txt"
PHOTO_ENDINGS = (".jpg", ".jpeg", ".png")

VOC_LAYOUT = (
    "Expected is VOCdevkit/VOC2012 of the PASCAL VOC 2012 archive (VOCtrainval_11-May-2012.tar) with "
    "ImageSets/Segmentation/val.txt, JPEGImages/NAME.jpg and SegmentationClass/NAME.png"
)
FOLDER_LAYOUT = (
    f"Expected is a folder with {CLASS_LIST} (one class a line, without the background), "
    "ImageSets/Segmentation/val.txt (one NAME a line), JPEGImages/NAME.jpg or .png, and SegmentationClass/NAME.png "
    "(indexed: 0 background, 1 the first class, ..., 255 ignored)"
)


@dataclass(frozen=True)
class VocFolder:
    """A folder in VOC layout. See `Dataset` for what the attributes mean."""

    name: str
    title: str
    root: Path
    classes: tuple[str, ...]
    image_ids: tuple[str, ...]
    published_count: int | None
    left_out: int = 0
    protocol: Protocol = CLEAN
    background: Background = "refined"

    def read(self, image_id: str) -> Sample:
        """Read one picture and its truth."""
        path = _photo_path(self.root, image_id)
        truth = read_truth(_truth_path(self.root, image_id), len(self.classes) + 1)
        size_hw = truth.shape[0], truth.shape[1]
        return check_fit(path, read_photo(path, size_hw, turned=self.protocol.turned), truth)

    def photo_name(self, image_id: str) -> str:
        """Return the name of a picture's file without its ending."""
        return image_id

    def files(self) -> Iterator[Path]:
        """Yield every file that a figure depends on, but the lists of names."""
        for image_id in self.image_ids:
            yield _photo_path(self.root, image_id)
            yield _truth_path(self.root, image_id)


def open_voc(path: Path, protocol: Protocol = CLEAN) -> VocFolder:
    """Open PASCAL VOC 2012, split val.

    Args:
        path: `VOC2012`, or a folder above it (`VOCdevkit`, or the one that holds that).
        protocol: Says how a class is written.

    Raises:
        DatasetError: If it is missing or incomplete.
    """
    places = [path, path / "VOC2012", path / "VOCdevkit" / "VOC2012"]
    root = next((place for place in places if _list_path(place).is_file()), None)
    if root is None:
        raise DatasetError(f"no PASCAL VOC 2012 at {path}: there is no ImageSets/Segmentation/val.txt. {VOC_LAYOUT}")
    ids = _image_ids(root, VOC_LAYOUT)
    written = {"dining table": protocol.voc_dining_table, "tv/monitor": protocol.voc_tv}
    classes = tuple(written.get(name, name) for name in VOC_CLASSES)
    return VocFolder("voc", "PASCAL VOC 2012 val", root, classes, ids, VOC_VAL_COUNT, protocol=protocol)


def open_voc20(path: Path, protocol: Protocol = CLEAN) -> MappedSet:
    """Open PASCAL VOC 2012, split val, as 20 classes: what the truth calls background counts nowhere.

    Args:
        path: As for `open_voc`.
        protocol: Says whether photos are turned.

    Raises:
        DatasetError: If it is missing or incomplete.
    """
    voc = open_voc(path, protocol)
    return MappedSet(
        "voc20",
        "PASCAL VOC 2012 val, 20 classes",
        VOC20_CLASSES,
        "none",
        {image_id: (_photo_path(voc.root, image_id), _truth_path(voc.root, image_id)) for image_id in voc.image_ids},
        {0: IGNORE, IGNORE: IGNORE, **{value: value for value in range(1, len(VOC20_CLASSES) + 1)}},
        VOC_VAL_COUNT,
        turned=protocol.turned,
    )


def open_folder(path: Path, protocol: Protocol = CLEAN, *, name: str = "folder", title: str | None = None) -> VocFolder:
    """Open a folder in VOC layout that brings its own class list.

    Args:
        path: The folder.
        protocol: Says whether photos are turned.
        name: What kind of data set it is called.
        title: What tables are headed with; the folder's name by default.

    Raises:
        DatasetError: If something is missing, or there are more classes than 8 bits hold.
    """
    for needed in (path / CLASS_LIST, _list_path(path)):
        if not needed.is_file():
            raise DatasetError(f"no data set at {path}: there is no {needed.relative_to(path)}. {FOLDER_LAYOUT}")
    lines = [line.strip() for line in (path / CLASS_LIST).read_text(encoding="utf-8").splitlines()]
    classes = tuple(line for line in lines if line)
    if classes and classes[0].casefold() == BACKGROUND:
        classes = classes[1:]
    if not 1 <= len(classes) < MOST_CLASSES:
        raise DatasetError(
            f"{path / CLASS_LIST} must name 1 to {MOST_CLASSES - 1} classes (8 bits a pixel), and names {len(classes)}"
        )
    ids = _image_ids(path, FOLDER_LAYOUT)
    return VocFolder(name, title or path.resolve().name, path, classes, ids, None, protocol=protocol)


def _list_path(root: Path) -> Path:
    return root / "ImageSets" / "Segmentation" / "val.txt"


def _truth_path(root: Path, image_id: str) -> Path:
    return root / "SegmentationClass" / f"{image_id}.png"


def _photo_path(root: Path, image_id: str) -> Path:
    paths = [root / "JPEGImages" / f"{image_id}{ending}" for ending in PHOTO_ENDINGS]
    return next((path for path in paths if path.is_file()), paths[0])


def _image_ids(root: Path, layout: str) -> tuple[str, ...]:
    """Read the list, and make sure that everything on it is there."""
    ids = tuple(line.strip() for line in _list_path(root).read_text(encoding="utf-8").splitlines() if line.strip())
    if not ids:
        raise DatasetError(f"{_list_path(root)} names no picture. {layout}")
    wanted = [path for image_id in ids for path in (_photo_path(root, image_id), _truth_path(root, image_id))]
    require_files(str(root), [path for path in wanted if not path.is_file()], len(wanted), layout)
    return ids
