"""Composed scenes as a data set: written to disk in VOC layout, so that reading them is tested along with the rest."""

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipdiy.draw import palette
from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets.voc import CLASS_LIST, VocFolder, open_folder
from clipdiy.starter import scenes
from clipdiy.starter.scenes import NOUNS, TRAINING_SEEDS_FROM, compose_scene, load_sprites
from clipdiy.weights import STARTER_DIR

SEED_STEP = 1_000_000  # sets of neighbouring seeds share no scene
SIZES_HW = ((256, 256), (375, 500), (500, 375))  # in turn: the size of training, and those of most VOC photos
OBJECTS, SINGLE_OBJECT = (2, 4), (1, 1)
STAMP = "scenes.json"
TRUE_INSTANCES = "instances.json"


def write_scenes(folder: Path, seed: int, count: int, *, single: bool = False) -> None:
    """Compose scenes and write them as a folder in VOC layout, pictures as PNG (no loss).

    Their true masks, one per class with score 1, are also written as COCO results (`instances.json`): through Eq. 5
    they show what a perfect objectness would give. What the same call wrote before is kept.

    Args:
        folder: Where to; made if it is not there.
        seed: Which set. Scenes of two sets, and of a set and the starter's training, are never the same.
        count: How many scenes.
        single: One object in each, instead of two to four.

    Raises:
        DatasetError: If the seed or number is out of range.
    """
    if count < 1 or count > SEED_STEP or seed < 0 or (seed + 1) * SEED_STEP > TRAINING_SEEDS_FROM:
        most = TRAINING_SEEDS_FROM // SEED_STEP - 1
        raise DatasetError(f"scenes need a seed in 0..{most} and a count in 1..{SEED_STEP}, got {seed} and {count}")
    made_by = hashlib.sha256(Path(scenes.__file__).read_bytes())
    made_by.update((STARTER_DIR / "sprites.zip").read_bytes())
    stamp = json.dumps(
        {"made_by": made_by.hexdigest(), "seed": seed, "count": count, "single": single, "sizes_hw": SIZES_HW}
    )
    if (folder / STAMP).is_file() and (folder / STAMP).read_text(encoding="utf-8") == stamp:
        return
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    sprites = load_sprites()
    colours = palette(len(NOUNS) + 1).tobytes()
    names = []
    instances: list[dict[str, object]] = []
    for number in range(count):
        name = f"scene-{seed}-{number:04d}"
        scene = compose_scene(
            seed * SEED_STEP + number,
            size_hw=SIZES_HW[number % len(SIZES_HW)],
            n_objects=SINGLE_OBJECT if single else OBJECTS,
            sprites=sprites,
        )
        Image.fromarray(scene.image).save(folder / "JPEGImages" / f"{name}.png", compress_level=1)
        truth = Image.fromarray(scene.labels.astype(np.uint8, copy=False))
        truth.putpalette(colours)
        truth.save(folder / "SegmentationClass" / f"{name}.png")
        names.append(name)
        for position in np.unique(scene.labels[scene.labels > 0]).tolist():
            rle = _run_lengths(scene.labels == position)
            instances.append({"image_id": name, "category_id": position, "score": 1.0, "segmentation": rle})
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (folder / CLASS_LIST).write_text("\n".join(NOUNS) + "\n", encoding="utf-8")
    (folder / TRUE_INSTANCES).write_text(json.dumps(instances), encoding="utf-8")
    # Last: it says that the rest is whole.
    (folder / STAMP).write_text(stamp, encoding="utf-8")


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, object]:
    """Write a mask as COCO's uncompressed RLE: lengths of runs down the columns, starting with zeros."""
    flat = mask.flatten(order="F")
    ends = np.flatnonzero(np.diff(flat, prepend=False, append=not flat[-1]))
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}


def open_scenes(folder: Path, seed: int, count: int, *, single: bool = False) -> VocFolder:
    """Write the scenes, unless they are there, and open them. Arguments and errors as for `write_scenes`."""
    write_scenes(folder, seed, count, single=single)
    kind = "one object" if single else "2 to 4 objects"
    return open_folder(folder, name="scenes", title=f"{count} scenes of {kind}, seed {seed}")
