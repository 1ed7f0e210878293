"""Miniature VOC and COCO folders, small enough to work out by hand, and a plan for the tiny golden networks."""

import json
from dataclasses import replace

import numpy as np
import tiny
from PIL import Image

from clipdiy.evaluate.evaluator import Plan
from clipdiy.evaluate.variants import VARIANTS

TINY = replace(tiny.TINY, label_map="square")


def photo(seed, height, width):
    return tiny.photo(seed, height, width).pixels


def write_indexed(path, values):
    image = Image.fromarray(np.asarray(values, np.uint8))
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    image.save(path)


def write_voc(root, truths, ending="jpg"):
    """Write pictures named a, b, ... with the given truths."""
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True)
    names = [chr(ord("a") + i) for i in range(len(truths))]
    for i, (name, truth) in enumerate(zip(names, truths, strict=True)):
        Image.fromarray(photo(i, *np.shape(truth))).save(root / "JPEGImages" / f"{name}.{ending}")
        write_indexed(root / "SegmentationClass" / f"{name}.png", truth)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names) + "\n")
    return root


def blocks(seed, height, width, classes, *, ignore=True):
    """Return a truth of large blocks, some of them ignored."""
    values = np.random.default_rng(seed).integers(0, classes + ignore, (3, 3))
    values[values == classes] = 255
    rows, cols = np.arange(height) * 3 // height, np.arange(width) * 3 // width
    return values[rows][:, cols].astype(np.uint8)


def write_coco(root, images, annotations):
    """Write a COCO folder: images as id -> (height, width), annotations without their ids."""
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    for number, size_hw in images.items():
        Image.fromarray(photo(number, *size_hw)).save(root / "val2017" / f"{number:012d}.jpg")
    content = {
        "images": [
            {"id": number, "file_name": f"{number:012d}.jpg", "height": height, "width": width}
            for number, (height, width) in images.items()
        ],
        # COCO's own ids have gaps, and need not be sorted.
        "categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": i + 1, "area": 1, "bbox": [0, 0, 1, 1], "iscrowd": 0} | annotation
            for i, annotation in enumerate(annotations)
        ],
    }
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


def square_polygon(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


FIVE_CLASSES = ("cat", "dog", "sofa")
FIVE_SIZES = [(60, 80), (80, 50), (64, 64), (33, 47), (90, 40)]


def write_five(root):
    """Write a data set of five pictures, and return its folder."""
    write_voc(root, [blocks(i, *size, 4) for i, size in enumerate(FIVE_SIZES)], ending="png")
    (root / "classes.txt").write_text("\n".join(FIVE_CLASSES))
    return root


def plan(*keys, **changes):
    """Evaluate variants with the tiny networks, at a size that is quick."""
    return replace(Plan(TINY, tuple(VARIANTS[key] for key in keys), short_px=56), **changes)
