"""Pascal Context: PASCAL VOC 2010 with a class for (nearly) every pixel, as 59 classes or with the background as 60."""

from pathlib import Path

from clipdiy.evaluate.datasets.mapped import MappedSet, find_root, listed_names, require_pairs
from clipdiy.evaluate.datasets.sample import IGNORE
from clipdiy.evaluate.protocol import CLEAN, Protocol

# In the order of their numbers among the 459 names of the whole set, which is that of the alphabet.
CONTEXT_CLASSES = (
    "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle", "building", "bus",
    "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup", "curtain", "dog", "door", "fence",
    "floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light", "motorbike", "mountain", "mouse",
    "person", "plate", "platform", "potted plant", "road", "rock", "sheep", "shelves", "sidewalk", "sign", "sky",
    "snow", "sofa", "table", "track", "train", "tree", "truck", "tvmonitor", "wall", "water", "window", "wood",
)  # fmt: skip
CONTEXT_LIST = "ImageSets/SegmentationContext/val.txt"
CONTEXT_LAYOUT = (
    f"Expected is VOCdevkit/VOC2010 as MMSegmentation prepares it, with {CONTEXT_LIST}, JPEGImages/NAME.jpg and "
    "SegmentationClassContext/NAME.png (0 background, 1 aeroplane, ..., 59 wood)"
)


def open_context(path: Path, protocol: Protocol = CLEAN) -> MappedSet:
    """Open Pascal Context, split val, with the background: what none of the 59 classes names competes as a 60th.

    Args:
        path: `VOC2010`, or a folder above it (`VOCdevkit`, or the one that holds that).
        protocol: Says whether photos are turned.

    Raises:
        DatasetError: If it is missing or incomplete.
    """
    return _open(path, protocol, has_background=True)


def open_context59(path: Path, protocol: Protocol = CLEAN) -> MappedSet:
    """Open Pascal Context, split val, without the background: such pixels count nowhere. As `open_context`."""
    return _open(path, protocol, has_background=False)


def _open(path: Path, protocol: Protocol, *, has_background: bool) -> MappedSet:
    title = "Pascal Context"
    places = [path, path / "VOC2010", path / "VOCdevkit" / "VOC2010"]
    root = find_root(places, CONTEXT_LIST, title, CONTEXT_LAYOUT)
    pairs = {
        name: (root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClassContext" / f"{name}.png")
        for name in listed_names(root / CONTEXT_LIST, CONTEXT_LAYOUT)
    }
    require_pairs(root, title, pairs, CONTEXT_LAYOUT)
    count = len(CONTEXT_CLASSES)
    positions = {value: value for value in range(count + 1)} | {IGNORE: IGNORE}
    if has_background:
        name, kind = "context", f"{count + 1} classes with the background"
    else:
        name, kind, positions[0] = "context59", f"{count} classes", IGNORE
    return MappedSet(
        name,
        f"{title} val, {kind}",
        CONTEXT_CLASSES,
        "plain" if has_background else "none",
        pairs,
        positions,
        turned=protocol.turned,
    )
