"""CLIP-DIY, in order: photos to features (once), features and a vocabulary to a segmentation (any time)."""

import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from clipdiy.aggregate import grid_similarity, mean_similarity
from clipdiy.clip import ClipEncoder
from clipdiy.clip_method import ClipMethod, drawn_as
from clipdiy.config import AS_CONFIGURED, CoreConfig, SegmentOptions
from clipdiy.crops import cut_crops, scale_boxes, squares_of
from clipdiy.errors import ConfigError
from clipdiy.explanation import ExplainedPicture, ExplainedRegions, ExplainedStep, Explanation
from clipdiy.features import ImageFeatures, pack_picture, picture_bytes
from clipdiy.guide import ObjectnessField, ground_first, guided_square
from clipdiy.label_maps import full_label_map, square_label_map
from clipdiy.learning.apply import (
    adapted_label_map,
    adapted_maps,
    adapted_refined_label_map,
    adapted_scores,
    adapted_square_label_map,
)
from clipdiy.learning.learned import Learned
from clipdiy.loading import digest_of
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.objectness.source import ObjectnessNetwork, objectness_named
from clipdiy.others.choice import Chooser
from clipdiy.others.nouns import LIST_VERSION
from clipdiy.others.presence import competing_classes
from clipdiy.pamr import refined_label_map
from clipdiy.photo import Photo
from clipdiy.prune import likely_classes
from clipdiy.scores import class_scores
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import Vocabulary

ENCODING_VERSION = 2  # raise it when the same weights and configuration begin to give other features
HELPING_THREADS = 8
PIECE_OBJECTNESS_PX = 256  # longer side at which FOUND sees a piece of a picture


@dataclass(frozen=True)
class SquareMaps:
    """Every intermediate map of the method, on the square of side S.

    Attributes:
        patch_px: Crop size of each scale.
        scale_similarity: Per scale (C, S, S) float32 cosines (Eq. 1).
        similarity: (C, S, S) float32, mean over the scales (Eq. 2).
        objectness: (S, S) float32 in [0, 1], or `None`.
        guided: (C, S, S) float32 (Eq. 3).
        other: (S, S) int16, which of the vocabulary's others won where, counted from 1; 0 where none did. Before the
            refinement and the clean-up.
    """

    patch_px: tuple[int, ...]
    scale_similarity: tuple[Tensor, ...]
    similarity: Tensor
    objectness: Tensor | None
    guided: Tensor
    other: Tensor


class Segmenter(ClipMethod):
    """CLIP-DIY with loaded weights.

    No state between calls: the same photo and vocabulary give the same answer, from any thread. `encode` does all
    work that depends on the photo alone; `segment` answers any vocabulary from its result without touching a network
    but the text tower, and that once per prompt.
    """

    def __init__(
        self,
        config: CoreConfig,
        clip: ClipEncoder,
        objectness: ObjectnessNetwork | None,
        *,
        name: str,
        weights_id: str,
        find_doubts: Callable[[Vocabulary], tuple[str, ...]] | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        """Take loaded models.

        Args:
            config: Scales, sizes and switches.
            clip: Both CLIP towers.
            objectness: What objectness is read off, on the same device as CLIP; may be `None` only if the configuration
                uses none.
            name: What a person calls these weights (`starter`, `ViT-B-32:laion2b_s34b_b79k`).
            weights_id: Changes whenever the weights do, for example a digest of the files.
            find_doubts: Says what in a vocabulary these weights cannot know; see `doubts`.
            chooser: Chooses what competes with labels; by default out of the list that comes with the product.

        Raises:
            ConfigError: If the configured objectness cannot be read off `objectness`, or the scales do not fit the
                square.
        """
        source = objectness_named(config.objectness.method)
        if source.load is not None and (objectness is None or source.name not in objectness.ways):
            raise ConfigError(f"objectness {source.name!r} needs weights that were not given")
        super().__init__(config, clip, name=name, weights_id=weights_id, find_doubts=find_doubts, chooser=chooser)
        self._objectness_network = objectness
        self._boxes = scale_boxes(config.grid)

    def with_config(self, config: CoreConfig) -> "Segmenter":
        """Return the same loaded weights under another configuration.

        Args:
            config: Its weights, device and dtype are not looked at.

        Raises:
            ConfigError: As the constructor does.
        """
        return Segmenter(
            config,
            self.clip,
            self._objectness_network,
            name=self.name,
            weights_id=self._weights_id,
            find_doubts=self._find_doubts,
            chooser=self._chooser,
        )

    def for_pieces(self) -> "Segmenter":
        """Return the same weights as a piece of a picture is encoded, for which a person waits.

        Crops side by side as in the paper's text instead of overlapping by half: 21 instead of 59. And FOUND at no more
        than `PIECE_OBJECTNESS_PX`. A piece shows little beside what was drawn around, so its masks hardly change
        (`benchmarks/boxes.py`).
        """
        config = self.config
        beside = replace(config.grid, stride_ratio=1.0)
        try:
            scale_boxes(beside)
        except ConfigError:
            beside = config.grid  # sizes that only fit if the crops overlap
        objectness = replace(config.objectness, long_px=min(config.objectness.long_px, PIECE_OBJECTNESS_PX))
        return self.with_config(replace(config, grid=beside, objectness=objectness))

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
    def scales(self) -> tuple[int, ...]:
        """Crop sizes that `SegmentOptions.scales` may choose from, coarsest first."""
        return self.config.grid.patch_px

    def kept_bytes(self, size_hw: tuple[int, int]) -> int:
        """Estimate how many bytes the features of a photo of this size take: to a third, as pictures pack differently.

        Args:
            size_hw: The photo's own size in pixels.
        """
        config = self.config
        numbers = self.crop_count * self.clip.embedding_size
        if self._objectness_network is not None and config.objectness.method in self._objectness_network.ways:
            numbers += math.prod(self._objectness_network.grid_hw(size_hw, config.objectness))
        return 2 * numbers + (picture_bytes(size_hw, config.pamr.long_px) if config.pamr else 0)

    @property
    def description(self) -> dict[str, object]:
        """Say what computes, for a report beside the results; JSON can write it."""
        return {
            "clip": self.name,
            "found": self.config.found,
            "dtype": str(self.clip.dtype).removeprefix("torch."),
            "label_map": self.config.label_map,
            "grid": asdict(self.config.grid),
            "objectness": asdict(self.config.objectness),
            "min_area": self.config.clean_up.min_area,
        }

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
        return digest_of(parts)[:16]

    @property
    def identity(self) -> str:
        """Changes whenever the same photo and vocabulary would give another segmentation."""
        config = self.config
        parts: list[object] = [
            self.encoder_identity,
            config.label_map,
            asdict(config.clean_up),
            asdict(config.others),
            LIST_VERSION,
        ]
        if config.pamr or config.prune_logits:
            parts += [config.pamr and asdict(config.pamr), config.prune_logits]
        return digest_of(parts)[:16]

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
        way, pamr = self.config.objectness.method, self.config.pamr
        at_once = self._photos_at_once
        images: list[Tensor] = []
        embedded: list[Tensor] = []
        # A GPU is given all work before anything is waited for: while it runs, the next photos are brought to it and
        # pictures are packed.
        with ThreadPoolExecutor(min(len(photos), HELPING_THREADS)) as helping:
            ready = helping.map(self._ready, photos)
            while some := [self._sent(image) for image in islice(ready, at_once)]:
                images += some
                # All scales of these photos go through the tower together: full batches.
                embedded.append(self.clip.embed_crops(self._crops(some)).half())
            pictures = [helping.submit(pack_picture, photo, pamr.long_px) if pamr else None for photo in photos]
            objectness = self._objectness(images, [way])[way]
            packed = [picture.result() if picture else None for picture in pictures]
        grids = [of_photo for of_some in embedded for of_photo in self._by_photo(of_some.cpu())]
        made_by = self.encoder_identity
        return [
            ImageFeatures(grids[i], objectness[i], photo.size_hw, made_by, packed[i]) for i, photo in enumerate(photos)
        ]

    @property
    def _photos_at_once(self) -> int:
        """How many photos' crops are cut and embedded together."""
        if self.device.type == "cuda":
            return max(1, self.clip.crop_batch // self.crop_count)
        return sys.maxsize  # nothing else would run meanwhile

    def _by_photo(self, embedded: Tensor) -> list[tuple[Tensor, ...]]:
        """Sort the embeddings of some photos' crops, (photos * crop_count, D), scale by scale: (h, w, D) each."""
        count = len(embedded) // self.crop_count
        scales = embedded.split([count * len(boxes.boxes_xyxy) for boxes in self._boxes])
        grids = [scale.reshape(count, *boxes.grid_hw, -1) for scale, boxes in zip(scales, self._boxes, strict=True)]
        return [tuple(grid[i] for grid in grids) for i in range(count)]

    @torch.inference_mode()
    def crops(self, photos: Sequence[Photo]) -> Tensor:
        """Cut photos up as `encode` does: (len(photos) * crop_count, 3, S, S) uint8, scale by scale."""
        return self._crops([self._image(photo) for photo in photos])

    @property
    def crop_count(self) -> int:
        """How many crops CLIP sees of one photo."""
        return sum(len(boxes.boxes_xyxy) for boxes in self._boxes)

    @torch.inference_mode()
    def objectness(self, photo: Photo, ways: Sequence[str]) -> dict[str, ObjectnessMap | None]:
        """Run the objectness network once on one photo and read it off in several ways, to compare them.

        Args:
            photo: The photo, at the size that the configuration says.
            ways: Which sources, by name; `none` gives `None`.

        Raises:
            ConfigError: If a source needs weights that were not given.
        """
        return {way: maps[0] for way, maps in self._objectness([self._image(photo)], ways).items()}

    @torch.inference_mode()
    def segment(
        self, features: ImageFeatures, vocabulary: Vocabulary, options: SegmentOptions = AS_CONFIGURED
    ) -> Segmentation:
        """Answer a vocabulary from the features of one photo: Eq. 1 to 4, scores, clean-up.

        Args:
            features: Made by `encode` of a segmenter with the same weights and sizes.
            vocabulary: Background first. Its others take what is theirs, and are background in the answer.
            options: Fewer scales, edges as they are, what corrections taught, or no background.

        Raises:
            FeaturesError: If the features were made by another core.
            LearningError: If what was learned is for another CLIP's embeddings.
        """
        config, scale = self.config, self.clip.logit_scale
        if not options.background:
            return self._segment_whole(features, vocabulary, options)
        if options.learned is not None and not options.learned.is_words_only:
            return self._segment_learned(options.learned, features, vocabulary, options)
        grids = self._grids(features, vocabulary, options.scales)
        kept, ground = self._competing(grids, vocabulary)
        drawn = len(vocabulary)
        if kept is not None:
            grids = tuple(grid[kept] for grid in grids)
            drawn = int((kept < len(vocabulary)).sum())
        objectness = self._on_device(features.objectness)
        if config.pamr is not None and options.refine:
            picture = self._unpacked(features.picture)
            labels = refined_label_map(grids, objectness, picture, features.size_hw, scale, config.pamr, ground)
        elif config.label_map == "full":
            labels = full_label_map(grids, objectness, features.size_hw, ground)
        else:
            labels = square_label_map(grids, objectness, features.size_hw, config.grid.square_px, ground)
        score = class_scores(grids, objectness, scale, drawn, ground)
        return self._finish(labels, score, kept, features.size_hw, vocabulary)

    def _segment_whole(self, features: ImageFeatures, vocabulary: Vocabulary, options: SegmentOptions) -> Segmentation:
        """Do what `segment` does where every pixel has one of the labels: the largest of Eq. 2 among them.

        Eq. 3 gives all labels but the background the same factor, which does not change which is the largest: without a
        background objectness decides nothing, so it is left out. It is left out of stuff too, which competes like all
        others where there is no background's side.
        """
        config, scale = self.config, self.clip.logit_scale
        every = self._grids(features, vocabulary.with_others(()), options.scales)
        kept = torch.arange(len(vocabulary), device=self.device)
        if config.prune_logits is not None:
            kept = likely_classes(every[0], scale, config.prune_logits)
        kept = kept[kept > 0]
        grids = tuple(grid[kept] for grid in every)
        if config.pamr is not None and options.refine:
            picture = self._unpacked(features.picture)
            labels = refined_label_map(grids, None, picture, features.size_hw, scale, config.pamr)
        elif config.label_map == "full":
            labels = full_label_map(grids, None, features.size_hw)
        else:
            labels = square_label_map(grids, None, features.size_hw, config.grid.square_px)
        score = class_scores(grids, None, scale)
        return self._finish(labels, score, kept, features.size_hw, vocabulary, tidy=False)

    def _segment_learned(
        self, learned: Learned, features: ImageFeatures, vocabulary: Vocabulary, options: SegmentOptions
    ) -> Segmentation:
        """Do what `segment` does, with the weights of a fit."""
        config, scale = self.config, self.clip.logit_scale
        embeddings = self._embeddings(features, options.scales)
        texts = self.clip.embed_vocabulary(vocabulary)
        maps = adapted_maps(learned, vocabulary, texts, embeddings, self._on_device(features.objectness))
        # What words say is not there may have been learned.
        kept, ground = self._competing(maps.naming, vocabulary)
        drawn = len(vocabulary)
        if kept is not None:
            maps = maps.of(kept, ground)
            drawn = int((kept < len(vocabulary)).sum())
        if config.pamr is not None and options.refine:
            labels = adapted_refined_label_map(
                maps, self._unpacked(features.picture), features.size_hw, scale, config.pamr
            )
        elif config.label_map == "full":
            labels = adapted_label_map(maps, features.size_hw)
        else:
            labels = adapted_square_label_map(maps, features.size_hw, config.grid.square_px)
        return self._finish(labels, adapted_scores(maps, scale, drawn), kept, features.size_hw, vocabulary)

    def _finish(
        self,
        labels: Tensor,
        score: Tensor,
        kept: Tensor | None,
        size_hw: tuple[int, int],
        vocabulary: Vocabulary,
        *,
        tidy: bool = True,
    ) -> Segmentation:
        """Give the classes that took part their positions, clean up, and say what is there."""
        drawn = len(score)
        if kept is not None:
            labels = drawn_as(kept, vocabulary).to(labels.dtype)[labels.long()]
            score = torch.zeros(len(vocabulary), device=score.device).index_copy_(0, kept[:drawn], score)
        return self._segmentation(labels, score, size_hw, vocabulary, tidy=tidy)

    def explain(self, photo: Photo, features: ImageFeatures, vocabulary: Vocabulary) -> Explanation:
        """Return the maps that `segment` is made of, for a person to look at (figures 3 and 5 of the paper).

        Args:
            photo: Not looked at: the features hold everything.
            features: Made by `encode` of a segmenter with the same weights and sizes.
            vocabulary: Background first.

        Raises:
            FeaturesError: If the features were made by another core.
        """
        maps = self.square_maps(features, vocabulary)
        pictures: list[ExplainedPicture | ExplainedRegions] = []
        if maps.objectness is not None:
            pictures.append(ExplainedPicture("objectness", maps.objectness))
        if maps.other.any():
            names = tuple(other.name for other in vocabulary.others)
            pictures.append(ExplainedRegions("taken by others", maps.other, names))
        steps = [
            ExplainedStep(f"{patch_px} px crops", f"{grid.shape[0]} x {grid.shape[1]}, s = {s}", values, "similarity")
            for s, (patch_px, grid, values) in enumerate(
                zip(maps.patch_px, features.crop_embeddings, maps.scale_similarity, strict=True)
            )
        ]
        steps.append(ExplainedStep("mean", "Eq. 2", maps.similarity, "similarity"))
        steps.append(ExplainedStep("guided", "by objectness, Eq. 3", maps.guided, "guided"))
        return Explanation(tuple(pictures), tuple(steps), maps.similarity.flatten(1).amax(dim=1))

    @torch.inference_mode()
    def square_maps(self, features: ImageFeatures, vocabulary: Vocabulary) -> SquareMaps:
        """Compute Eq. 1 to 3 on the square, and return each step.

        Raises:
            FeaturesError: If the features were made by another core.
        """
        every = self._grids(features, vocabulary)
        grids = tuple(grid[: len(vocabulary)] for grid in every)
        objectness = self._on_device(features.objectness)
        side_px = self.config.grid.square_px
        size_hw = (side_px, side_px)
        other = torch.zeros(size_hw, dtype=torch.int16)
        kept, ground = self._competing(every, vocabulary)
        if kept is not None:
            won = guided_square(tuple(grid[kept] for grid in every), objectness, side_px, ground).argmax(dim=0)
            other = (kept[won] - (len(vocabulary) - 1)).clamp(min=0).to(torch.int16).cpu()
        order, ground = ground_first(torch.arange(len(vocabulary), device=self.device), vocabulary.stuff)
        guided = guided_square(tuple(grid[order] for grid in grids), objectness, side_px, ground)
        return SquareMaps(
            self.config.grid.patch_px,
            tuple(mean_similarity([grid], size_hw).cpu() for grid in grids),
            mean_similarity(grids, size_hw).cpu(),
            None if objectness is None else ObjectnessField(objectness, size_hw).rows(0, side_px).cpu(),
            guided[order.argsort()].cpu(),
            other,
        )

    def _competing(self, grids: tuple[Tensor, ...], vocabulary: Vocabulary) -> tuple[Tensor | None, int]:
        """Return which classes take part in a picture, and how many of the first are on the background's side.

        Positions ascend within the background's side, which comes first, and the objects', of which others are the
        last; `None` for all as they are.
        """
        scale, kept = self.clip.logit_scale, None
        if vocabulary.others:
            kept = competing_classes(grids, len(vocabulary), scale, self.config.others, vocabulary.stuff)
        if self.config.prune_logits is not None:
            coarsest = grids[0] if kept is None else grids[0][kept]
            left = range(len(coarsest)) if kept is None else kept.tolist()
            stuff = [row for row, position in enumerate(left) if position in vocabulary.stuff]
            likely = likely_classes(coarsest, scale, self.config.prune_logits, stuff)
            kept = likely if kept is None else kept[likely]
        if not vocabulary.stuff:
            return kept, 1
        return ground_first(torch.arange(len(grids[0]), device=self.device) if kept is None else kept, vocabulary.stuff)

    def _grids(
        self, features: ImageFeatures, vocabulary: Vocabulary, scales: Sequence[int] | None = None
    ) -> tuple[Tensor, ...]:
        """Return the cosines of every crop with every class, of all scales or of some."""
        return grid_similarity(self._embeddings(features, scales), self.clip.embed_vocabulary(vocabulary))

    def _embeddings(self, features: ImageFeatures, scales: Sequence[int] | None = None) -> list[Tensor]:
        """Return the crops' embeddings on the device, (h, w, D) float32 per scale, of all scales or of some."""
        self._require_own(features.made_by)
        embeddings = list(features.crop_embeddings)
        if scales is not None:
            known = zip(self.scales, embeddings, strict=True)
            embeddings = [scale for patch_px, scale in known if patch_px in scales] or embeddings
        return [scale.to(self.device).float() for scale in embeddings]

    def _crops(self, images: Sequence[Tensor]) -> Tensor:
        squares = squares_of(images, self.config.grid.square_px)
        return torch.cat([cut_crops(squares, boxes, self.clip.input_px).flatten(0, 1) for boxes in self._boxes])

    def _image(self, photo: Photo) -> Tensor:
        """Return (3, h, w) uint8 on the device."""
        return self._sent(self._ready(photo))

    def _ready(self, photo: Photo) -> Tensor:
        """Copy a photo's pixels to where the device takes them from; needs no other thread to do it."""
        if self.device.type == "cuda":
            pixels = torch.empty(photo.pixels.shape, dtype=torch.uint8, pin_memory=True)
            pixels.numpy()[:] = photo.pixels  # torch would wait for threads that are busy with other pictures
            return pixels
        return torch.from_numpy(np.ascontiguousarray(photo.pixels.transpose(2, 0, 1)))

    def _sent(self, ready: Tensor) -> Tensor:
        """Return (3, h, w) uint8 on the device; the CPU goes on while it gets there."""
        if self.device.type == "cuda":
            # Colours are sorted apart over there.
            return ready.to(self.device, non_blocking=True).permute(2, 0, 1).contiguous()
        return ready

    def _on_device(self, objectness: ObjectnessMap | None) -> ObjectnessMap | None:
        if objectness is None:
            return None
        return ObjectnessMap(objectness.grid.to(self.device), objectness.is_logit, objectness.extent_hw)

    def _objectness(self, images: Sequence[Tensor], ways: Sequence[str]) -> dict[str, list[ObjectnessMap | None]]:
        """Return the objectness of every image by every way; `None` where a way gives none."""
        network = self._objectness_network
        maps: dict[str, list[ObjectnessMap | None]] = {way: [None] * len(images) for way in ways}
        needed = [way for way in ways if objectness_named(way).load is not None]
        if needed and network is None:
            raise ConfigError(f"objectness by {', '.join(needed)} needs weights, and none were given")
        if needed and network is not None:
            for way, read in network.maps(images, self.config.objectness, needed).items():
                maps[way] = list(read)
        return maps
