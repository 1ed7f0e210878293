"""What did a person mean by `voc:PATH`, `ade20k:PATH`, `folder:PATH` or `scenes:SEED:COUNT:single`?"""

from collections.abc import Callable
from pathlib import Path

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets.ade20k import open_ade20k
from clipdiy.evaluate.datasets.cityscapes import open_cityscapes
from clipdiy.evaluate.datasets.coco import open_coco
from clipdiy.evaluate.datasets.coco_stuff import open_coco_object_maps, open_coco_stuff
from clipdiy.evaluate.datasets.context import open_context, open_context59
from clipdiy.evaluate.datasets.sample import Dataset
from clipdiy.evaluate.datasets.scenes import open_scenes
from clipdiy.evaluate.datasets.voc import open_folder, open_voc, open_voc20
from clipdiy.evaluate.protocol import CLEAN, Protocol

AT_A_PLACE: dict[str, Callable[[Path, Protocol], Dataset]] = {
    "voc": open_voc,
    "voc20": open_voc20,
    "context": open_context,
    "context59": open_context59,
    "coco": open_coco,
    "object": open_coco_object_maps,
    "stuff": open_coco_stuff,
    "ade20k": open_ade20k,
    "cityscapes": open_cityscapes,
    "folder": open_folder,
}
KINDS = (
    ", ".join(f"{kind}:PATH" for kind in AT_A_PLACE) + ", scenes:SEED, scenes:SEED:COUNT or scenes:SEED:COUNT:single"
)
DEFAULT_SCENES = 100


def open_dataset(spec: str, scratch: Path, protocol: Protocol = CLEAN) -> Dataset:
    """Open a data set.

    Args:
        spec: One of `KINDS`.
        scratch: Folder in which scenes are written.
        protocol: Rules by which its truth is made, where there is a choice.

    Raises:
        DatasetError: If there is no such kind, or the data is missing or incomplete.
    """
    kind, colon, place = spec.partition(":")
    if not colon or not place:
        raise DatasetError(f"a data set is written {KINDS}; got {spec!r}")
    if kind in AT_A_PLACE:
        return AT_A_PLACE[kind](Path(place), protocol)
    if kind == "scenes":
        seed, count, single = _scenes(spec, place)
        name = f"scenes-{seed}-{count}{'-single' if single else ''}"
        return open_scenes(scratch / name, seed, count, single=single)
    raise DatasetError(f"there is no kind of data set {kind!r}; there are {KINDS}")


def _scenes(spec: str, place: str) -> tuple[int, int, bool]:
    seed, *rest = place.split(":")
    count, *last = rest or [str(DEFAULT_SCENES)]
    if not (seed.isascii() and seed.isdigit() and count.isascii() and count.isdigit()) or last not in ([], ["single"]):
        raise DatasetError(
            f"scenes are written scenes:SEED, scenes:SEED:COUNT or scenes:SEED:COUNT:single; got {spec!r}"
        )
    return int(seed), int(count), bool(last)
