"""COCO: instances and stuff as run-length codes, panoptic and semantic PNGs, for each split.

    SPLIT/NAME.*                              pictures
    annotations/instances_SPLIT.json          an annotation for each connected part of each region
    annotations/stuff_SPLIT.json              one for each class that is in a picture
    annotations/panoptic_SPLIT.json           with annotations/panoptic_SPLIT/NAME.png: R + 256 G + 65,536 B is the id
    annotations/semantic_SPLIT/NAME.png       class maps: 0 background, 255 ignored

Pictures without a mask are listed too. In the panoptic pictures the id 0 is what no part covers: background, and what
is ignored; the format has no other number for either.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backend.export.pictures import ExportedPicture
from backend.export.rle import encode_mask, encode_part
from backend.export.split import SPLITS
from backend.export.writing import (
    DataSet,
    PictureWriter,
    append_json,
    class_map_png,
    copy_as_list,
    encode_png,
    write_file,
)
from backend.outputs.parts import bounding_box

_KINDS = ("instances", "stuff", "panoptic")
_LABELLED = tuple(split for split in SPLITS if split != "unlabelled")


class CocoWriter(PictureWriter):
    """Writes COCO's layout. Lists grow in files of their own until the end, so memory does not grow with them."""

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        """See `PictureWriter`."""
        super().__init__(folder, data_set)
        self._annotations = folder / "annotations"
        self._lists = folder / "annotations" / "lists"
        self._annotations.mkdir(parents=True)
        self._count = dict.fromkeys(_KINDS, 0)

    def add(self, picture: ExportedPicture) -> None:
        """Write a picture."""
        write_file(self.folder / picture.split / picture.file_name, picture.file.data)
        height, width = picture.size_hw
        image = {"id": picture.image_id, "file_name": picture.file_name, "width": width, "height": height}
        append_json(self._list("images", picture.split), [image])
        if picture.label_map is None:
            return
        png = class_map_png(picture.label_map, self.data_set)
        write_file(self._annotations / f"semantic_{picture.split}" / f"{picture.name}.png", png)
        append_json(self._list("instances", picture.split), self._instances(picture))
        append_json(self._list("stuff", picture.split), self._stuff(picture))
        append_json(self._list("panoptic", picture.split), [self._panoptic(picture)])

    def finish(self) -> None:
        """Put the lists together."""
        for split in SPLITS:
            for kind in _KINDS if split in _LABELLED else ("instances",):
                if split in _LABELLED or self._list("images", split).exists():
                    self._join(kind, split)
        for path in [*self._lists.glob("*")] if self._lists.exists() else []:
            path.unlink()
        if self._lists.exists():
            self._lists.rmdir()

    def _list(self, kind: str, split: str) -> Path:
        return self._lists / f"{kind}_{split}"

    def _join(self, kind: str, split: str) -> None:
        # Parts of a panoptic picture have to be things or stuff: they are counted one by one.
        things: Mapping[str, Any] = {"isthing": 1} if kind == "panoptic" else {}
        categories = [
            {"id": number, "name": name, "supercategory": "", **things}
            for number, name in enumerate(self.data_set.classes.names, 1)
        ]
        append_json(self._list("categories", kind), categories)
        with (self._annotations / f"{kind}_{split}.json").open("wb") as file:
            file.write(b'{"images": ')
            copy_as_list(self._list("images", split), file)
            file.write(b', "annotations": ')
            copy_as_list(self._list(kind, split), file)
            file.write(b', "categories": ')
            copy_as_list(self._list("categories", kind), file)
            file.write(b"}\n")
        self._list("categories", kind).unlink(missing_ok=True)

    def _next(self, kind: str) -> int:
        self._count[kind] += 1
        return self._count[kind]

    def _instances(self, picture: ExportedPicture) -> list[Mapping[str, Any]]:
        return [
            {
                "id": self._next("instances"),
                "image_id": picture.image_id,
                "category_id": instance.number,
                "segmentation": {
                    "size": list(picture.size_hw),
                    "counts": encode_part(instance.part, picture.size_hw),
                },
                "bbox": _bbox(instance.part.box_xyxy),
                "area": instance.part.area_px,
                "iscrowd": 0,
                **({} if instance.score is None else {"score": instance.score}),
            }
            for instance in picture.instances
        ]

    def _stuff(self, picture: ExportedPicture) -> list[Mapping[str, Any]]:
        assert picture.label_map is not None, "only labelled pictures come here"
        found: list[Mapping[str, Any]] = []
        for number in picture.numbers:
            mask = picture.label_map == number
            box = bounding_box(mask)
            assert box is not None, "the class is in the picture"
            found.append(
                {
                    "id": self._next("stuff"),
                    "image_id": picture.image_id,
                    "category_id": number,
                    "segmentation": {"size": list(picture.size_hw), "counts": encode_mask(mask)},
                    "bbox": _bbox(box),
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                }
            )
        return found

    def _panoptic(self, picture: ExportedPicture) -> Mapping[str, Any]:
        ids = np.zeros(picture.size_hw, np.uint32)
        segments = []
        for number, instance in enumerate(picture.instances, 1):
            ids[instance.part.window][instance.part.mask] = number
            segments.append(
                {
                    "id": number,
                    "category_id": instance.number,
                    "bbox": _bbox(instance.part.box_xyxy),
                    "area": instance.part.area_px,
                    "iscrowd": 0,
                }
            )
        rgb = np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=2).astype(np.uint8)
        name = f"{picture.name}.png"
        write_file(self._annotations / f"panoptic_{picture.split}" / name, encode_png(Image.fromarray(rgb)))
        return {"image_id": picture.image_id, "file_name": name, "segments_info": segments}


def _bbox(box_xyxy: tuple[int, int, int, int]) -> list[int]:
    left, top, right, bottom = box_xyxy
    return [left, top, right - left, bottom - top]
