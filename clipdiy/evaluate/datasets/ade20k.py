"""ADE20K with the 150 classes of the scene parsing challenge of 2016."""

from pathlib import Path

from clipdiy.evaluate.datasets.mapped import MappedSet, find_root, names_in, require_pairs
from clipdiy.evaluate.datasets.sample import IGNORE
from clipdiy.evaluate.protocol import CLEAN, Protocol

# As MMSegmentation writes them.
ADE20K_CLASSES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet", "sidewalk",
    "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water", "painting", "sofa",
    "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp",
    "bathtub", "railing", "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter", "sand",
    "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs", "runway", "case", "pool table",
    "pillow", "screen door", "stairway", "river", "bridge", "bookcase", "blind", "coffee table", "toilet", "flower",
    "book", "hill", "bench", "countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat",
    "bar", "arcade machine", "hovel", "bus", "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight",
    "booth", "television receiver", "airplane", "dirt track", "apparel", "pole", "land", "bannister", "escalator",
    "ottoman", "bottle", "buffet", "poster", "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer",
    "plaything", "swimming pool", "stool", "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle",
    "oven", "ball", "food", "step", "tank", "trade name", "microwave", "pot", "animal", "bicycle", "lake",
    "dishwasher", "screen", "blanket", "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan",
    "pier", "crt screen", "plate", "monitor", "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)  # fmt: skip
ADE20K_VAL_COUNT = 2000
TRUTHS, PHOTOS = "annotations/validation", "images/validation"
ADE20K_LAYOUT = (
    "Expected is ADEChallengeData2016 of ADEChallengeData2016.zip with images/validation/NAME.jpg and "
    "annotations/validation/NAME.png (0 none of the classes, 1 wall, ..., 150 flag)"
)


def open_ade20k(path: Path, protocol: Protocol = CLEAN) -> MappedSet:
    """Open ADE20K, split validation. There is no background: pixels of none of the classes count nowhere.

    Args:
        path: `ADEChallengeData2016`, or the folder above it.
        protocol: Says whether photos are turned.

    Raises:
        DatasetError: If it is missing or incomplete.
    """
    title = "ADE20K"
    root = find_root([path, path / "ADEChallengeData2016"], TRUTHS, title, ADE20K_LAYOUT)
    names = names_in(root / TRUTHS, ".png") | names_in(root / PHOTOS, ".jpg")
    pairs = {name: (root / PHOTOS / f"{name}.jpg", root / TRUTHS / f"{name}.png") for name in sorted(names)}
    require_pairs(root, title, pairs, ADE20K_LAYOUT)
    return MappedSet(
        "ade20k",
        "ADE20K validation, 150 classes",
        ADE20K_CLASSES,
        "none",
        pairs,
        {0: IGNORE, IGNORE: IGNORE, **{value: value for value in range(1, len(ADE20K_CLASSES) + 1)}},
        ADE20K_VAL_COUNT,
        turned=protocol.turned,
    )
