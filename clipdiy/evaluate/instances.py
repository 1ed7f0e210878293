"""Objectness from instance masks with scores: CutLER's, or any detector's (CLIP-DIY Eq. 5)."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipdiy.errors import ObjectnessError, ShapeError
from clipdiy.evaluate.coco_masks import check_mask, decode_mask
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.photo import Photo

SCORE_THRESHOLD = 0.3
MASK_THRESHOLD = 0.5  # torchvision's masks are probabilities; a pixel belongs to the instance from here on

Detector = Callable[[list[Tensor]], list[dict[str, Tensor]]]


def combine_instances(
    masks: Sequence[NDArray[np.bool_]],
    scores: Sequence[float],
    size_hw: tuple[int, int],
    threshold: float = SCORE_THRESHOLD,
) -> ObjectnessMap:
    """Add up the masks of an image, each weighted by its score, and divide by the largest sum (Eq. 5).

    Args:
        masks: Per instance (H, W) bool.
        scores: Per instance its confidence.
        size_hw: H and W.
        threshold: Instances with a score below it are dropped.

    Returns:
        Objectness in [0, 1], 1 at its largest. All zeros if no instance is left: Eq. 5 would divide by zero there.

    Raises:
        ShapeError: If a mask has another size, or there are not as many scores as masks.
    """
    if len(masks) != len(scores):
        raise ShapeError(f"expected a score for each mask, got {len(scores)} scores for {len(masks)} masks")
    total = np.zeros(size_hw, np.float32)
    for mask, score in zip(masks, scores, strict=True):
        if mask.shape != size_hw:
            raise ShapeError(f"instance masks must be of size {size_hw}, got {mask.shape}")
        if score >= threshold:
            total += mask * np.float32(score)
    largest = float(total.max())
    if largest > 0:
        total /= largest
    return ObjectnessMap(torch.from_numpy(total).half(), False, (float(size_hw[0]), float(size_hw[1])))


def detector_objectness(detector: Detector, photo: Photo, threshold: float = SCORE_THRESHOLD) -> ObjectnessMap:
    """Run an instance segmenter that speaks torchvision's way, and combine what it finds.

    Args:
        detector: Takes a list of (3, H, W) float32 images in [0, 1], returns a dict each with `masks` (N, 1, H, W) in
            [0, 1] and `scores` (N,), as `torchvision.models.detection.maskrcnn_resnet50_fpn` does.
        photo: The picture.
        threshold: Instances with a score below it are dropped.

    Raises:
        ShapeError: If the detector returns something else.
    """
    image = torch.from_numpy(np.ascontiguousarray(photo.pixels.transpose(2, 0, 1))).float() / 255
    with torch.inference_mode():
        found = detector([image])
    height, width = photo.pixels.shape[:2]
    if len(found) != 1 or not {"masks", "scores"} <= found[0].keys():
        raise ShapeError("the detector must return one dict per image, with masks and scores")
    masks, scores = found[0]["masks"].cpu(), found[0]["scores"].cpu()
    if masks.ndim != 4 or masks.shape[1:] != (1, height, width) or scores.shape != masks.shape[:1]:
        raise ShapeError(
            f"the detector must return masks (N, 1, {height}, {width}) and scores (N,), got {tuple(masks.shape)} and "
            f"{tuple(scores.shape)}"
        )
    return combine_instances(list((masks[:, 0] >= MASK_THRESHOLD).numpy()), scores.tolist(), (height, width), threshold)


@dataclass(frozen=True)
class InstanceFile:
    """Instance masks of many images, read from a file of COCO results.

    Attributes:
        path: The file.
        by_image: Image id, as text -> its annotations, undecoded.
        sizes: Image id, as text -> height and width, where the file tells.
        names: Image id, as text -> all names by which the image is found.
        digest: SHA-256 of the file.
    """

    path: Path
    by_image: Mapping[str, tuple[dict[str, Any], ...]]
    sizes: Mapping[str, tuple[int, int]]
    names: Mapping[str, tuple[str, ...]]
    digest: str

    def objectness(self, image_id: str, size_hw: tuple[int, int], threshold: float = SCORE_THRESHOLD) -> ObjectnessMap:
        """Decode and combine the instances of one image; an image without instances gets all zeros.

        Args:
            image_id: The image's id or its file name without ending.
            size_hw: Its height and width.
            threshold: Instances with a score below it are dropped.

        Raises:
            ObjectnessError: If a mask cannot be decoded or is of another size than the image, or pycocotools is not
                installed.
        """
        kept = [a for a in self.by_image.get(image_id, ()) if float(a["score"]) >= threshold]
        try:
            if self.sizes.get(image_id, size_hw) != size_hw:
                raise ValueError(f"they are for a picture of {self.sizes[image_id]}, it is {size_hw} (height, width)")
            masks = [_decode(annotation["segmentation"], size_hw) for annotation in kept]
            return combine_instances(masks, [float(a["score"]) for a in kept], size_hw, threshold)
        except (ValueError, KeyError, TypeError, IndexError) as err:
            raise ObjectnessError(f"{self.path}: the masks of image {image_id!r} cannot be used: {err}") from err

    def require_match(self, image_ids: Sequence[str]) -> tuple[str, ...]:
        """Make sure that the file is about these pictures.

        Args:
            image_ids: Names of the pictures that are evaluated.

        Returns:
            Warnings for a person: about pictures that it does not know, and ids in it that name none of them.

        Raises:
            ObjectnessError: If it knows none of them: every picture would be taken for background.
        """
        missing = [image_id for image_id in image_ids if image_id not in self.by_image]
        known = set(image_ids)
        strange = sorted({ids[0] for ids in self.names.values() if known.isdisjoint(ids)})
        if len(missing) == len(image_ids):
            here = ", ".join(map(repr, image_ids[:3]))
            there = ", ".join(map(repr, strange[:3])) or "none"
            raise ObjectnessError(
                f"{self.path} knows none of the {len(image_ids)} pictures ({here}, ...); its image_ids are {there}. "
                "They must be the pictures' names without ending, or come with a list of `images` that has them"
            )
        warnings = []
        if missing:
            warnings.append(
                f"{self.path} knows nothing of {len(missing)} of {len(image_ids)} pictures ({missing[0]!r}, ...): no "
                "object is taken to be on them"
            )
        if strange:
            warnings.append(f"{self.path}: {len(strange)} image_ids ({strange[0]!r}, ...) name none of the pictures")
        return tuple(warnings)


def open_instances(path: Path) -> InstanceFile:
    """Read a file of COCO results, such as CutLER's evaluation and demo write.

    Either a list of results, `{"image_id", "segmentation", "score"}` each, or an object with such a list under
    `annotations` (and `images` with sizes and file names, by which images are then also found). A segmentation is an
    RLE (compressed or not) or a list of polygons.

    Raises:
        ObjectnessError: If the file is missing or none of these.
    """
    try:
        data = path.read_bytes()
        content = json.loads(data)
        images = content.get("images", []) if isinstance(content, dict) else []
        results = content["annotations"] if isinstance(content, dict) else content
        by_image: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for result in results:
            if "score" not in result or "segmentation" not in result:
                raise KeyError("a result without score or segmentation")
            by_image[str(result["image_id"])].append(result)
        found = {key: tuple(annotations) for key, annotations in by_image.items()}
        sizes = {}
        all_names: dict[str, tuple[str, ...]] = {key: (key,) for key in by_image}
        for image in images:
            key = str(image["id"])
            size_hw = int(image["height"]), int(image["width"])
            names = [key]
            if "file_name" in image:
                names.append(PurePath(image["file_name"]).stem)
            all_names[key] = tuple(names)
            for name in names:
                sizes[name] = size_hw
                found[name] = tuple(by_image.get(key, ()))
    except OSError as err:
        raise ObjectnessError(f"cannot read instance masks from {path}: {err.strerror or err}") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise ObjectnessError(
            f"{path} is no file of COCO results ({err}); expected a list of "
            '{"image_id": …, "segmentation": RLE or polygons, "score": …}'
        ) from err
    return InstanceFile(path, found, sizes, all_names, hashlib.sha256(data).hexdigest())


def _decode(segmentation: Any, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    if segmentation == []:
        return np.zeros(size_hw, bool)
    try:
        check_mask(segmentation, size_hw)
        return decode_mask(segmentation, size_hw)
    except ImportError as err:
        raise ObjectnessError(
            "decoding instance masks needs pycocotools: pip install 'clip-diy-label-studio[eval]'"
        ) from err
