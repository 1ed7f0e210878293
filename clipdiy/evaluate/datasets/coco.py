"""COCO-Object: COCO 2017 instances, those of a class merged, over a background class."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from clipdiy.errors import DatasetError
from clipdiy.evaluate.coco_masks import check_mask, count_union, decode_mask
from clipdiy.evaluate.datasets.sample import (
    IGNORE,
    MOST_CLASSES,
    NAMED_IN_ERROR,
    Background,
    Sample,
    check_fit,
    read_photo,
    require_files,
)
from clipdiy.evaluate.protocol import CLEAN, Protocol

COCO_VAL_COUNT = 5000
COCO_LAYOUT = (
    "Expected is a folder with annotations/instances_val2017.json (from annotations_trainval2017.zip) and val2017/ "
    "with its pictures (from val2017.zip)"
)
INSTALL = "reading COCO needs pycocotools: pip install 'clip-diy-label-studio[eval]'"


@dataclass(frozen=True)
class CocoObject:
    """COCO 2017 val as a semantic data set. See `Dataset` for what the attributes mean.

    The masks of an image are laid over each other in the order of the annotation file, later ones on top. A crowd
    region (`iscrowd`: many objects outlined as one, gaps included) is ignored, as COCO's own evaluation does, except
    where an instance of its own lies on it. The authors' protocol lets the first one win, crowds among them.
    """

    file: Path
    photos: Path
    classes: tuple[str, ...]
    image_ids: tuple[str, ...]
    left_out: int = 0
    name: str = "coco"
    title: str = "COCO-Object val2017"
    published_count: int | None = COCO_VAL_COUNT
    background: Background = "refined"
    _protocol: Protocol = CLEAN
    _coco: Any = field(default=None, repr=False, compare=False)
    _position: dict[int, int] = field(default_factory=dict, repr=False, compare=False)

    def read(self, image_id: str) -> Sample:
        """Read one picture and merge its instances."""
        image = self._coco.imgs[int(image_id)]
        path = self.photos / image["file_name"]
        size_hw = int(image["height"]), int(image["width"])
        truth = np.zeros(size_hw, np.uint8)
        annotations = self._coco.imgToAnns.get(int(image_id), [])
        if not self._protocol.crowds_count:
            annotations = sorted(annotations, key=lambda a: not a.get("iscrowd", 0))
        if self._protocol.first_on_top:
            annotations = annotations[::-1]
        for annotation in annotations:
            try:
                mask = decode_mask(annotation["segmentation"], size_hw)
            except ValueError as err:
                raise DatasetError(f"annotation {annotation.get('id')} of {path.name}: {err}") from err
            ignored = annotation.get("iscrowd", 0) and not self._protocol.crowds_count
            truth[mask] = IGNORE if ignored else self._position[annotation["category_id"]]
        return check_fit(path, read_photo(path, size_hw, turned=self._protocol.turned), truth)

    def photo_name(self, image_id: str) -> str:
        """Return the name of a picture's file without its ending."""
        return PurePath(self._coco.imgs[int(image_id)]["file_name"]).stem

    def files(self) -> Iterator[Path]:
        """Yield every file that a figure depends on."""
        yield self.file
        for image_id in self.image_ids:
            yield self.photos / self._coco.imgs[int(image_id)]["file_name"]


def open_coco(path: Path, protocol: Protocol = CLEAN) -> CocoObject:
    """Open COCO 2017 val.

    Args:
        path: The folder that holds `annotations` and `val2017`.
        protocol: Which instance wins on overlaps, what becomes of crowds, and which pictures are left out.

    Raises:
        DatasetError: If it is missing or incomplete, or pycocotools is not installed.
    """
    file = path / "annotations" / "instances_val2017.json"
    if not file.is_file():
        raise DatasetError(f"no COCO at {path}: there is no annotations/instances_val2017.json. {COCO_LAYOUT}")
    try:
        from pycocotools.coco import COCO
    except ImportError as err:
        raise DatasetError(INSTALL) from err
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints how long it took
            coco = COCO(str(file))
        categories = sorted(coco.dataset["categories"], key=lambda category: category["id"])
        ids = tuple(str(image_id) for image_id in sorted(coco.imgs))
        wanted = [path / "val2017" / coco.imgs[int(image_id)]["file_name"] for image_id in ids]
    except (ValueError, KeyError, TypeError, AssertionError) as err:
        raise DatasetError(f"{file} is no COCO instances file ({type(err).__name__}: {err}). {COCO_LAYOUT}") from err
    if not ids or not 1 <= len(categories) < MOST_CLASSES:
        raise DatasetError(
            f"{file} has {len(ids)} pictures and {len(categories)} categories; expected 1 or more of each, and fewer "
            f"than {MOST_CLASSES} categories. {COCO_LAYOUT}"
        )
    require_files(f"COCO at {path}", [photo for photo in wanted if not photo.is_file()], len(wanted), COCO_LAYOUT)
    classes = tuple(str(category["name"]) for category in categories)
    position = {int(category["id"]): i + 1 for i, category in enumerate(categories)}
    try:
        _check_annotations(coco, position)
    except (ValueError, KeyError, TypeError) as err:
        what = f"there is no {err}" if isinstance(err, KeyError) else str(err)
        raise DatasetError(f"{file} cannot be used: {what}. {COCO_LAYOUT}") from err
    kept = ids
    if protocol.least_labelled_px:
        kept = tuple(image_id for image_id in ids if _labelled_px(coco, int(image_id)) >= protocol.least_labelled_px)
    if not kept:
        raise DatasetError(f"{file}: no picture has {protocol.least_labelled_px} or more labelled pixels")
    left_out = len(ids) - len(kept)
    return CocoObject(
        file, path / "val2017", classes, kept, left_out, _protocol=protocol, _coco=coco, _position=position
    )


def _check_annotations(coco: Any, position: dict[int, int]) -> None:
    """Make sure of every annotation before hours are spent on the pictures before it.

    Raises:
        ValueError: Naming the first annotation that cannot be meant.
        KeyError, TypeError: If an image has no size.
    """
    for image_id, image in coco.imgs.items():
        size_hw = int(image["height"]), int(image["width"])
        for annotation in coco.imgToAnns.get(image_id, []):
            name = f"annotation {annotation.get('id')} of {image['file_name']}"
            if annotation.get("category_id") not in position:
                listed = ", ".join(map(str, sorted(position)[:NAMED_IN_ERROR]))
                raise ValueError(
                    f"{name} is of category {annotation.get('category_id')}, which is not among its {len(position)} "
                    f"categories ({listed}, ...)"
                )
            if "segmentation" not in annotation:
                raise ValueError(f"{name} has no segmentation")
            try:
                check_mask(annotation["segmentation"], size_hw)
            except ValueError as err:
                raise ValueError(f"{name}: {err}") from err


def _labelled_px(coco: Any, image_id: int) -> int:
    """Count the pixels of a picture that lie in any instance or crowd."""
    image = coco.imgs[image_id]
    masks = [annotation["segmentation"] for annotation in coco.imgToAnns.get(image_id, [])]
    return count_union(masks, (int(image["height"]), int(image["width"])))
