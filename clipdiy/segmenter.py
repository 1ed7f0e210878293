"""The whole method in order: photos to features (once), features and a vocabulary to a segmentation (any time)."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from clipdiy.aggregate import grid_similarity, mean_similarity
from clipdiy.clean_up import clean_up, count_pixels
from clipdiy.clip import ClipEncoder
from clipdiy.config import CoreConfig, ObjectnessName
from clipdiy.crops import cut_crops, scale_boxes, to_square
from clipdiy.errors import ConfigError, FeaturesError
from clipdiy.features import ImageFeatures, pack_picture, unpack_picture
from clipdiy.guide import ObjectnessField, guided_square
from clipdiy.label_maps import full_label_map, square_label_map
from clipdiy.objectness.found import FoundModel, ObjectnessMap, background_objectness, image_size_for, prepare
from clipdiy.pamr import refined_label_map
from clipdiy.photo import Photo
from clipdiy.prune import likely_classes
from clipdiy.scores import class_scores, picture_score
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import Vocabulary

ENCODING_VERSION = 2  # raise it when the same weights and configuration begin to give other features


@dataclass(frozen=True)
class Explanation:
    """What went into a segmentation, for a person to look at (figures 3 and 5 of the paper).

    Attributes:
        patch_px: Crop size of each scale.
        scale_similarity: Per scale (C, S, S) float32 cosines (Eq. 1).
        similarity: (C, S, S) float32, mean over the scales (Eq. 2).
        objectness: (S, S) float32 in [0, 1], or `None`.
        guided: (C, S, S) float32 (Eq. 3).
    """

    patch_px: tuple[int, ...]
    scale_similarity: tuple[Tensor, ...]
    similarity: Tensor
    objectness: Tensor | None
    guided: Tensor


class Segmenter:
    """CLIP-DIY with loaded weights.

    No state between calls: the same photo and vocabulary give the same answer, from any thread. `encode` does all
    work that depends on the photo alone; `segment` answers any vocabulary from its result without touching a network
    but the text tower, and that once per prompt.
    """

    def __init__(
        self,
        config: CoreConfig,
        clip: ClipEncoder,
        found: FoundModel | None,
        *,
        name: str,
        weights_id: str,
        find_doubts: Callable[[Vocabulary], tuple[str, ...]] | None = None,
    ) -> None:
        """Take loaded models.

        Args:
            config: Scales, sizes and switches.
            clip: Both CLIP towers.
            found: FOUND, on the same device as CLIP; may be `None` only if the configuration uses no objectness.
            name: What a person calls these weights (`starter`, `ViT-B-32:laion2b_s34b_b79k`).
            weights_id: Changes whenever the weights do, for example a digest of the files.
            find_doubts: Says what in a vocabulary these weights cannot know; see `doubts`.

        Raises:
            ConfigError: If objectness is configured and `found` is missing, or the scales do not fit the square.
        """
        if config.objectness.method != "none" and found is None:
            raise ConfigError(f"objectness {config.objectness.method!r} needs FOUND's weights, and none were given")
        self.config = config
        self.clip = clip
        self.name = name
        self._found = found
        self._weights_id = weights_id
        self._find_doubts = find_doubts
        self._boxes = scale_boxes(config.grid)

    def with_config(self, config: CoreConfig) -> "Segmenter":
        """Return a segmenter with the same loaded weights under another configuration.

        Args:
            config: Its weights, device and dtype are not looked at.

        Raises:
            ConfigError: As the constructor does.
        """
        return Segmenter(
            config,
            self.clip,
            self._found,
            name=self.name,
            weights_id=self._weights_id,
            find_doubts=self._find_doubts,
        )

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self.clip.device

    def doubts(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """Return warnings for a person about words that these weights never saw; empty for open-world weights."""
        return self._find_doubts(vocabulary) if self._find_doubts else ()

    @property
    def keep_long_px(self) -> int:
        """A photo may be given reduced to this longer side (see `keep_short_px`); nothing here sees more pixels."""
        objectness = self.config.objectness
        pamr_px = self.config.pamr.long_px if self.config.pamr else 0
        return max(self.config.grid.square_px, objectness.square_px or objectness.long_px, pamr_px)

    @property
    def keep_short_px(self) -> int:
        """The shorter side of a reduced photo should not fall below this.

        Twice what the squares have: then reducing it once more does what reducing the whole photo would have done
        (smallest cosine of a crop's embedding 0.9997; at the squares' own size 0.998: `benchmarks/decode.py`,
        `--keep-short 256`).
        """
        return 2 * max(self.config.grid.square_px, self.config.objectness.square_px or 0)

    @property
    def encoder_identity(self) -> str:
        """Changes whenever `encode` would give other features for the same photo."""
        parts: list[object] = [
            ENCODING_VERSION,
            self._weights_id,
            asdict(self.config.grid),
            asdict(self.config.objectness),
            self.clip.arithmetic,
        ]
        if self.config.pamr:
            parts.append({"picture_long_px": self.config.pamr.long_px})
        return _digest(parts)

    @property
    def identity(self) -> str:
        """Changes whenever the same photo and vocabulary would give another segmentation."""
        config = self.config
        parts: list[object] = [self.encoder_identity, config.label_map, asdict(config.clean_up)]
        if config.pamr or config.prune_logits:
            parts += [config.pamr and asdict(config.pamr), config.prune_logits]
        return _digest(parts)

    @torch.inference_mode()
    def encode(self, photos: Sequence[Photo]) -> list[ImageFeatures]:
        """Encode photos: everything that is expensive, and nothing that depends on a vocabulary.

        Args:
            photos: Any number, of any sizes.

        Returns:
            One `ImageFeatures` each, in order, on the CPU.
        """
        if not photos:
            return []
        images = [self._image(photo) for photo in photos]
        # All scales of all photos go through the tower together: full batches, and one copy back.
        embedded = self.clip.embed_crops(self._crops(images)).half().cpu()
        embedded = embedded.split([len(photos) * len(boxes.boxes_xyxy) for boxes in self._boxes])
        per_scale = [
            scale.reshape(len(photos), *boxes.grid_hw, -1) for scale, boxes in zip(embedded, self._boxes, strict=True)
        ]
        method = self.config.objectness.method
        objectness = self._objectness(images, [method])[method]
        pamr = self.config.pamr
        return [
            ImageFeatures(
                tuple(scale[i] for scale in per_scale),
                objectness[i],
                photo.size_hw,
                self.encoder_identity,
                pack_picture(photo, pamr.long_px) if pamr else None,
            )
            for i, photo in enumerate(photos)
        ]

    @torch.inference_mode()
    def crops(self, photos: Sequence[Photo]) -> Tensor:
        """Cut photos up as `encode` does: (len(photos) * crop_count, 3, S, S) uint8, scale by scale."""
        return self._crops([self._image(photo) for photo in photos])

    @property
    def crop_count(self) -> int:
        """How many crops CLIP sees of one photo."""
        return sum(len(boxes.boxes_xyxy) for boxes in self._boxes)

    @torch.inference_mode()
    def objectness(self, photo: Photo, methods: Sequence[ObjectnessName]) -> dict[ObjectnessName, ObjectnessMap | None]:
        """Run FOUND once on one photo and read it off in several ways, to compare them.

        Args:
            photo: The photo, at the size that the configuration says.
            methods: Which; `none` gives `None`.

        Raises:
            ConfigError: If FOUND is asked for and its weights were not given.
        """
        if self._found is None and set(methods) != {"none"}:
            raise ConfigError(f"objectness by {', '.join(methods)} needs FOUND's weights, and none were given")
        image = self._image(photo)
        return {method: maps[0] for method, maps in self._objectness([image], methods).items()}

    def embed_prompts(self, prompts: Sequence[str]) -> None:
        """Run prompts through the text tower that are not known yet, so that `segment` has no need to.

        Args:
            prompts: Whole texts, at least one.
        """
        self.clip.embed_texts(prompts)

    @torch.inference_mode()
    def segment(self, features: ImageFeatures, vocabulary: Vocabulary) -> Segmentation:
        """Ask encoded photo for a vocabulary: Eq. 1 to 4, scores, clean-up.

        Args:
            features: Made by `encode` of a segmenter with the same weights and sizes.
            vocabulary: Background first.

        Raises:
            FeaturesError: If the features were made by another core.
        """
        grids = self._grids(features, vocabulary)
        kept = None
        if self.config.prune_logits is not None:
            kept = likely_classes(grids[0], self.clip.logit_scale, self.config.prune_logits)
            grids = tuple(grid[kept] for grid in grids)
        objectness = self._on_device(features.objectness)
        square_px = self.config.grid.square_px
        if self.config.pamr is not None:
            picture = self._picture(features)
            labels = refined_label_map(
                grids, objectness, picture, features.size_hw, self.clip.logit_scale, self.config.pamr
            )
        elif self.config.label_map == "full":
            labels = full_label_map(grids, objectness, features.size_hw)
        else:
            labels = square_label_map(grids, objectness, features.size_hw, square_px)
        score = class_scores(grids, objectness, self.clip.logit_scale)
        if kept is not None:
            labels = kept.to(labels.dtype)[labels.long()]
            score = torch.zeros(len(vocabulary), device=score.device).index_copy_(0, kept, score)
        pixels = features.size_hw[0] * features.size_hw[1]
        label_map = clean_up(labels.cpu().numpy().view(np.uint16), self.config.clean_up.min_area * pixels)
        area = count_pixels(label_map, len(vocabulary)) / pixels
        present = area > 0
        score = score.cpu()
        image_score = picture_score(score, torch.from_numpy(present))
        return Segmentation(label_map, area, np.where(present, score.numpy(), np.float32(0)), image_score)

    @torch.inference_mode()
    def explain(self, features: ImageFeatures, vocabulary: Vocabulary) -> Explanation:
        """Return the maps that `segment` is made of, on the square.

        Raises:
            FeaturesError: If the features were made by another core.
        """
        grids = self._grids(features, vocabulary)
        objectness = self._on_device(features.objectness)
        size_hw = (self.config.grid.square_px,) * 2
        return Explanation(
            self.config.grid.patch_px,
            tuple(mean_similarity([grid], size_hw).cpu() for grid in grids),
            mean_similarity(grids, size_hw).cpu(),
            None if objectness is None else ObjectnessField(objectness, size_hw).rows(0, size_hw[0]).cpu(),
            guided_square(grids, objectness, size_hw[0]).cpu(),
        )

    def _grids(self, features: ImageFeatures, vocabulary: Vocabulary) -> tuple[Tensor, ...]:
        if features.made_by != self.encoder_identity:
            raise FeaturesError(
                f"these features were made by core {features.made_by}, this one is {self.encoder_identity}: "
                "encode the image again"
            )
        texts = self.clip.embed_vocabulary(vocabulary)
        return grid_similarity([scale.to(self.device).float() for scale in features.crop_embeddings], texts)

    def _crops(self, images: Sequence[Tensor]) -> Tensor:
        squares = torch.stack([to_square(image, self.config.grid.square_px) for image in images])
        return torch.cat([cut_crops(squares, boxes, self.clip.input_px).flatten(0, 1) for boxes in self._boxes])

    def _image(self, photo: Photo) -> Tensor:
        """Return (3, h, w) uint8 on the device; to a GPU from pinned memory, so that the CPU goes on meanwhile."""
        if self.device.type == "cuda":
            # Colours are sorted apart over there.
            pixels = torch.from_numpy(np.ascontiguousarray(photo.pixels)).pin_memory()
            return pixels.to(self.device, non_blocking=True).permute(2, 0, 1).contiguous()
        return torch.from_numpy(np.ascontiguousarray(photo.pixels.transpose(2, 0, 1)))

    def _picture(self, features: ImageFeatures) -> Tensor:
        """Return (3, h, w) uint8."""
        if features.picture is None:
            raise FeaturesError("these features hold no picture to refine the masks by: encode the image again")
        return unpack_picture(features.picture).to(self.device)

    def _on_device(self, objectness: ObjectnessMap | None) -> ObjectnessMap | None:
        if objectness is None:
            return None
        return ObjectnessMap(objectness.grid.to(self.device), objectness.is_logit, objectness.extent_hw)

    def _objectness(
        self, images: Sequence[Tensor], methods: Sequence[ObjectnessName]
    ) -> dict[ObjectnessName, list[ObjectnessMap | None]]:
        """Run FOUND on every image, those of one size together, and read it off in each way that is asked for."""
        found, config = self._found, self.config.objectness
        maps: dict[ObjectnessName, list[ObjectnessMap | None]] = {method: [None] * len(images) for method in methods}
        trained = [method for method in methods if method != "none"]
        if not trained or found is None:
            return maps
        by_size: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            by_size[image_size_for((image.shape[1], image.shape[2]), config)].append(i)
        for (height, width), members in by_size.items():
            batch = torch.stack([prepare(images[i], (height, width), found.patch_px) for i in members])
            read = found(batch.to(self.clip.dtype))
            extent = height / found.patch_px, width / found.patch_px
            for method in trained:
                is_logit = method == "found"
                grids = (found.logits(read.keys) if is_logit else background_objectness(read)).half().cpu()
                for i, grid in zip(members, grids, strict=True):
                    maps[method][i] = ObjectnessMap(grid, is_logit, extent)
        return maps


def _digest(parts: object) -> str:
    """Return 16 hexadecimal digits that change with anything in `parts`."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
