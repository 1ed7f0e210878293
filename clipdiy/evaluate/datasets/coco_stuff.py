"""The pixel maps of COCO-Stuff: all 171 classes, or the objects among them over a background."""

from pathlib import Path

from clipdiy.evaluate.datasets.coco import COCO_VAL_COUNT
from clipdiy.evaluate.datasets.mapped import MappedSet, find_root, names_in, require_pairs
from clipdiy.evaluate.datasets.sample import IGNORE
from clipdiy.evaluate.protocol import CLEAN, Protocol

THINGS = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
# The raw names, qualifiers and all: this is what the published figures ask CLIP for.
STUFF = (
    "banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage", "cardboard", "carpet",
    "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds", "counter", "cupboard", "curtain", "desk-stuff",
    "dirt", "door-stuff", "fence", "floor-marble", "floor-other", "floor-stone", "floor-tile", "floor-wood", "flower",
    "fog", "food-other", "fruit", "furniture-other", "grass", "gravel", "ground-other", "hill", "house", "leaves",
    "light", "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin", "net", "paper", "pavement", "pillow",
    "plant-other", "plastic", "platform", "playingfield", "railing", "railroad", "river", "road", "rock", "roof",
    "rug", "salad", "sand", "sea", "shelf", "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone",
    "straw", "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable", "wall-brick",
    "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile", "wall-wood", "water-other", "waterdrops",
    "window-blind", "window-other", "wood",
)  # fmt: skip
COCO_STUFF_CLASSES = (*THINGS, *STUFF)
# A pixel's value is COCO's identifier less one. 91 identifiers were meant for things, and 11 of them were never used.
MOST_VALUE = 181
UNUSED_VALUES = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
TRUTHS = ("stuffthingmaps/val2017", "stuffthingmaps_trainval2017/val2017", "annotations/val2017")
PHOTOS = ("images/val2017", "val2017")
COCO_STUFF_LAYOUT = (
    f"Expected is a folder with the pixel maps of stuffthingmaps_trainval2017.zip in {TRUTHS[0]}/NAME.png (or "
    f"{TRUTHS[2]}; a pixel is COCO's identifier less one, 0..{MOST_VALUE}, 255 none) and the photos of val2017.zip in "
    f"{PHOTOS[1]}/NAME.jpg (or {PHOTOS[0]})"
)


def open_coco_stuff(path: Path, protocol: Protocol = CLEAN) -> MappedSet:
    """Open COCO-Stuff, val2017, with its 171 classes. There is no background: unlabelled pixels count nowhere.

    Args:
        path: The folder that holds pixel maps and photos.
        protocol: Says whether photos are turned.

    Raises:
        DatasetError: If it is missing or incomplete.
    """
    positions = _positions()
    return MappedSet(
        "stuff",
        "COCO-Stuff val2017, 171 classes",
        COCO_STUFF_CLASSES,
        "none",
        _pairs(path, "COCO-Stuff"),
        positions | {IGNORE: IGNORE},
        COCO_VAL_COUNT,
        turned=protocol.turned,
    )


def open_coco_object_maps(path: Path, protocol: Protocol = CLEAN) -> MappedSet:
    """Open COCO-Object as CLIP-DINOiser's figures have it: the 80 objects of COCO-Stuff, all else background.

    Also unlabelled pixels are background. `open_coco` makes the truth from the instances instead.

    Args:
        path: As for `open_coco_stuff`.
        protocol: Says whether photos are turned.

    Raises:
        DatasetError: If it is missing or incomplete.
    """
    positions = {value: position if position <= len(THINGS) else 0 for value, position in _positions().items()}
    return MappedSet(
        "object",
        "COCO-Object val2017, of the pixel maps",
        THINGS,
        "refined",
        _pairs(path, "COCO-Object"),
        positions | {IGNORE: 0},
        COCO_VAL_COUNT,
        turned=protocol.turned,
    )


def _positions() -> dict[int, int]:
    """Return the position of each value that is used, of all classes."""
    used = [value for value in range(MOST_VALUE + 1) if value not in UNUSED_VALUES]
    return {value: position for position, value in enumerate(used, start=1)}


def _pairs(path: Path, title: str) -> dict[str, tuple[Path, Path]]:
    folder = next((truths for truths in TRUTHS if (path / truths).is_dir()), TRUTHS[0])
    root = find_root([path], folder, title, COCO_STUFF_LAYOUT)
    photos = root / next((photos for photos in PHOTOS if (root / photos).is_dir()), PHOTOS[1])
    # MMSegmentation puts its own numbering beside the maps, as NAME_labelTrainIds.png.
    truths = {name for name in names_in(root / folder, ".png") if not name.endswith("TrainIds")}
    names = sorted(truths | names_in(photos, ".jpg"))
    pairs = {name: (photos / f"{name}.jpg", root / folder / f"{name}.png") for name in names}
    require_pairs(root, title, pairs, COCO_STUFF_LAYOUT)
    return pairs
