"""Cityscapes with its 19 classes of evaluation."""

from pathlib import Path

from clipdiy.evaluate.datasets.mapped import MappedSet, find_root, names_in, require_pairs
from clipdiy.evaluate.datasets.sample import IGNORE
from clipdiy.evaluate.protocol import CLEAN, Protocol

CITYSCAPES_CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
# Of the 34 numbers in a labelIds file (0..33), those of the classes, in order. All others are ignored.
CLASS_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
MOST_ID = 33
CITYSCAPES_VAL_COUNT = 500
PHOTO_ENDING, BY_ID, BY_TRAIN_ID = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
TRUTHS, PHOTOS = "gtFine/val", "leftImg8bit/val"
CITYSCAPES_LAYOUT = (
    f"Expected is a folder with {PHOTOS}/CITY/NAME{PHOTO_ENDING} (of leftImg8bit_trainvaltest.zip) and "
    f"{TRUTHS}/CITY/NAME{BY_ID} (of gtFine_trainvaltest.zip) or NAME{BY_TRAIN_ID}"
)


def open_cityscapes(path: Path, protocol: Protocol = CLEAN) -> MappedSet:
    """Open Cityscapes, fine annotations, split val. There is no background: all but the 19 classes counts nowhere.

    The numbers of the archive (`labelIds`) are read; where there is not one file of them, the numbers of training
    (`labelTrainIds`), which Cityscapes' own scripts make.

    Args:
        path: The folder that holds `leftImg8bit` and `gtFine`.
        protocol: Says whether photos are turned.

    Raises:
        DatasetError: If it is missing or incomplete.
    """
    title = "Cityscapes"
    root = find_root([path], TRUTHS, title, CITYSCAPES_LAYOUT)
    by_id = any((root / TRUTHS).glob(f"*/*{BY_ID}"))
    ending = BY_ID if by_id else BY_TRAIN_ID
    cities = sorted({place.name for part in (TRUTHS, PHOTOS) for place in (root / part).glob("*/")})
    pairs = {}
    for city in cities:
        photos, truths = root / PHOTOS / city, root / TRUTHS / city
        for name in sorted(names_in(photos, PHOTO_ENDING) | names_in(truths, ending)):
            pairs[name] = photos / f"{name}{PHOTO_ENDING}", truths / f"{name}{ending}"
    require_pairs(root, title, pairs, CITYSCAPES_LAYOUT)
    return MappedSet(
        "cityscapes",
        "Cityscapes val, 19 classes",
        CITYSCAPES_CLASSES,
        "none",
        pairs,
        _by_id() if by_id else _by_train_id(),
        CITYSCAPES_VAL_COUNT,
        turned=protocol.turned,
    )


def _by_id() -> dict[int, int]:
    ignored = dict.fromkeys((*range(MOST_ID + 1), IGNORE), IGNORE)
    return ignored | {value: position for position, value in enumerate(CLASS_IDS, start=1)}


def _by_train_id() -> dict[int, int]:
    return {IGNORE: IGNORE, **{value: value + 1 for value in range(len(CITYSCAPES_CLASSES))}}
