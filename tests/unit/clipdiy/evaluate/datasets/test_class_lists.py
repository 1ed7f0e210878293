"""Every name of every published list, in its place: one that is changed asks for something else than was published."""

import hashlib

import pytest

from clipdiy.evaluate.datasets.ade20k import ADE20K_CLASSES
from clipdiy.evaluate.datasets.cityscapes import CITYSCAPES_CLASSES
from clipdiy.evaluate.datasets.coco_stuff import COCO_STUFF_CLASSES, THINGS
from clipdiy.evaluate.datasets.context import CONTEXT_CLASSES
from clipdiy.evaluate.datasets.voc import VOC20_CLASSES

# Of the names with a line break between them, once they had been read over.
LISTS = {
    "VOC": (VOC20_CLASSES, 20, "51783cbb05b116a5"),
    "Pascal Context": (CONTEXT_CLASSES, 59, "9ea0b2deeb7b226c"),
    "COCO-Object": (THINGS, 80, "d7654b2610157284"),
    "COCO-Stuff": (COCO_STUFF_CLASSES, 171, "8ea44449837dceb3"),
    "ADE20K": (ADE20K_CLASSES, 150, "f9dbd8a75a0722c9"),
    "Cityscapes": (CITYSCAPES_CLASSES, 19, "5995d02d6c574d51"),
}


@pytest.mark.parametrize(("classes", "count", "digest"), LISTS.values(), ids=LISTS)
def test_it_is_the_published_list(classes, count, digest):
    assert len(set(classes)) == len(classes) == count
    assert hashlib.sha256("\n".join(classes).encode()).hexdigest()[:16] == digest
