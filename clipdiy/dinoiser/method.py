"""The whole method in order: photos to features (once), features and a vocabulary to a segmentation (any time)."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clipdiy.clip import ClipEncoder
from clipdiy.clip_method import ClipMethod, drawn_as
from clipdiy.config import AS_CONFIGURED, CoreConfig, SegmentOptions
from clipdiy.crops import resize_uint8
from clipdiy.dinoiser.config import METHOD, BackgroundUse, heads_of, settings_of
from clipdiy.dinoiser.features import DinoiserFeatures, FeatureTile
from clipdiy.dinoiser.heads import DinoiserHeads, correlations, pool
from clipdiy.dinoiser.labels import class_scores, direct_label_map, refined_label_map, strip_label_map
from clipdiy.dinoiser.learning import OwnAnswer, adapted_probabilities
from clipdiy.dinoiser.probabilities import (
    TEMPERATURE,
    ProbabilityField,
    ProbabilityTile,
    class_cosines,
    class_probabilities,
    refine_background,
)
from clipdiy.dinoiser.tower import PatchTower, pad_to_patches, patch_tower
from clipdiy.dinoiser.windows import Window, limited_size, published_size, sliding_windows
from clipdiy.errors import ConfigError
from clipdiy.explanation import ExplainedPicture, ExplainedRegions, ExplainedStep, Explanation
from clipdiy.features import pack_picture, picture_bytes
from clipdiy.learning.apply import adapted_maps
from clipdiy.learning.learned import Learned
from clipdiy.loading import digest_of
from clipdiy.others.choice import Chooser
from clipdiy.others.nouns import LIST_VERSION
from clipdiy.others.presence import competing_classes
from clipdiy.photo import Photo
from clipdiy.prune import likely_classes
from clipdiy.scores import SCORE_PX
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import Vocabulary

ENCODING_VERSION = 1  # raise it when the same weights and configuration begin to give other features
CUDA_WINDOW_BATCH = 32
EXPLAIN_PX = 256


@dataclass(frozen=True)
class Reading:
    """What the networks say of a batch of pictures of one size, per patch.

    Attributes:
        intermediate: (B, width, h, w) float32, what both heads see.
        dense: (B, D, h, w) float32, MaskCLIP's features, not of unit length.
        directions: (B, directions, h, w) float32 of unit length, between which correlations are taken.
        background: (B, h, w) float32 logits, above 0 on the foreground.
    """

    intermediate: Tensor
    dense: Tensor
    directions: Tensor
    background: Tensor


@dataclass(frozen=True)
class PatchView:
    """What each patch of a picture looks like to the networks, for a person to look at.

    Attributes:
        dense: (h, w, 3) float32 in [0, 1]: MaskCLIP's features, their directions as colours.
        pooled: (h, w, 3) float32 in [0, 1]: the pooled features in the same colours.
        patch: Row and column of the chosen patch.
        correlation: (h, w) float32 in [-1, 1]: the chosen patch's correlations with all, before gamma.
        background: (h, w) float32 logits, above 0 on the foreground.
    """

    dense: Tensor
    pooled: Tensor
    patch: tuple[int, int]
    correlation: Tensor
    background: Tensor


@dataclass(frozen=True)
class _Pass:
    """One window of one photo, as it goes through the tower."""

    photo: int
    window: Window
    image: Tensor  # (3, H, W) uint8, not padded


class Dinoiser(ClipMethod):
    """CLIP-DINOiser with loaded weights.

    No state between calls: the same photo and vocabulary give the same answer, from any thread. `encode` does all
    work that depends on the photo alone; `segment` answers any vocabulary from its result without touching a network
    but the text tower, and that once per prompt.
    """

    def __init__(
        self,
        config: CoreConfig,
        clip: ClipEncoder,
        heads: DinoiserHeads,
        *,
        name: str,
        weights_id: str,
        find_doubts: Callable[[Vocabulary], tuple[str, ...]] | None = None,
        chooser: Chooser | None = None,
        tower: PatchTower | None = None,
        arithmetic: str | None = None,
    ) -> None:
        """Take loaded models.

        Args:
            config: Sizes and switches; its `method_config` is a `DinoiserConfig` or `None`.
            clip: Both CLIP towers.
            heads: The two heads, in float32 on the same device.
            name: What a person calls these weights.
            weights_id: Changes whenever the weights do, for example a digest of the files.
            find_doubts: Says what in a vocabulary these weights cannot know; see `doubts`.
            chooser: Chooses what competes with labels and is none; by default from the list of common things.
            tower: CLIP's image tower, if something else than torch executes it.
            arithmetic: What that computes in and with; see `ClipEncoder.arithmetic`.

        Raises:
            ConfigError: If the image tower is neither a plain ViT nor a ResNet, or the heads belong to another width.
        """
        super().__init__(config, clip, name=name, weights_id=weights_id, find_doubts=find_doubts, chooser=chooser)
        self.settings = settings_of(config)
        self._tower = tower or patch_tower(clip.network.visual)
        self.arithmetic = arithmetic or clip.arithmetic
        self._heads = heads
        reads = heads.obj_proj.in_channels
        if reads != self._tower.width:
            raise ConfigError(
                f"the heads read {reads} channels and {name} has {self._tower.width}: they were trained on another CLIP"
            )

    def with_config(self, config: CoreConfig) -> "Dinoiser":
        """Return the same loaded weights under another configuration; its weights, device and dtype are not read.

        Raises:
            ConfigError: If its `method_config` belongs to another method.
        """
        return Dinoiser(
            config,
            self.clip,
            self._heads,
            name=self.name,
            weights_id=self._weights_id,
            find_doubts=self._find_doubts,
            chooser=self._chooser,
            tower=self._tower,
            arithmetic=self.arithmetic,
        )

    def for_pieces(self) -> "Dinoiser":
        """Return the same weights as a piece of a picture is encoded, for which a person waits.

        In one pass, and no larger than one window of the published way.
        """
        most_px = min(self.settings.long_px, self.settings.windows.window_px)
        return self.with_config(
            replace(self.config, method_config=replace(self.settings, way="whole", long_px=most_px))
        )

    def kept_bytes(self, size_hw: tuple[int, int]) -> int:
        """Estimate how many bytes the features of a photo of this size take.

        Args:
            size_hw: The photo's own size in pixels.
        """
        patch_px = self._tower.patch_px
        sizes = [window.size_hw for window in self._windows(self._seen_hw(size_hw, size_hw))]
        cells = sum(-(-height // patch_px) * -(-width // patch_px) for height, width in sizes)
        pamr = self.config.pamr
        return 2 * cells * (self._tower.embed_dim + 1) + (picture_bytes(size_hw, pamr.long_px) if pamr else 0)

    @property
    def description(self) -> dict[str, object]:
        """Say what computes, for a report beside the results; JSON can write it."""
        return {
            "clip": self.name,
            "dtype": str(self.clip.dtype).removeprefix("torch."),
            "min_area": self.config.clean_up.min_area,
            **asdict(self.settings),
            "heads": heads_of(self.config),  # those that serve, where it is left open
        }

    @property
    def keep_long_px(self) -> int:
        """A photo may be given reduced to this longer side (see `keep_short_px`); nothing here sees more pixels."""
        pamr_px = self.config.pamr.long_px if self.config.pamr else 0
        settings = self.settings
        windows_px = settings.windows.short_px or settings.windows.long_px
        return max(settings.long_px if settings.way == "whole" else windows_px, pamr_px)

    @property
    def keep_short_px(self) -> int:
        """The shorter side of a reduced photo should not fall below this.

        For windows twice what they are cut from: the published resize does not antialias, and halves without fault.
        """
        return 2 * (self.settings.windows.short_px or 0) if self.settings.way == "windows" else 0

    @property
    def encoder_identity(self) -> str:
        """Changes whenever `encode` would give other features for the same photo."""
        settings, pamr = self.settings, self.config.pamr
        parts: list[object] = [
            METHOD,
            ENCODING_VERSION,
            self._weights_id,
            settings.long_px if settings.way == "whole" else asdict(settings.windows),
            settings.gamma,
            self.arithmetic,
            pamr and pamr.long_px,
        ]
        return digest_of(parts)[:16]

    @property
    def identity(self) -> str:
        """Changes whenever the same photo and vocabulary would give another segmentation."""
        config, settings = self.config, self.settings
        parts: list[object] = [
            self.encoder_identity,
            settings.background,
            settings.delta,
            asdict(config.clean_up),
            asdict(config.others),
            config.pamr and asdict(config.pamr),
            config.prune_logits,
            LIST_VERSION,
        ]
        return digest_of(parts)[:16]

    @torch.inference_mode()
    def encode(self, photos: Sequence[Photo]) -> list[DinoiserFeatures]:
        """Encode photos: everything that is expensive, and nothing that depends on a vocabulary.

        Args:
            photos: Any number, of any sizes. Passes of one size go through the network together.

        Returns:
            One `DinoiserFeatures` each, in order, on the CPU.
        """
        passes: list[_Pass] = []
        seen: list[tuple[int, int]] = []
        for i, photo in enumerate(photos):
            image = self._image(photo)
            seen.append((image.shape[1], image.shape[2]))
            passes += [_Pass(i, window, _cut(image, window)) for window in self._windows(seen[-1])]
        tiles: dict[int, list[FeatureTile]] = defaultdict(list)
        for one, tile in zip(passes, self._tiles(passes), strict=True):
            tiles[one.photo].append(tile)
        pamr = self.config.pamr
        return [
            DinoiserFeatures(
                tuple(tiles[i]),
                seen[i] if self.settings.way == "windows" else None,
                photo.size_hw,
                self.encoder_identity,
                pack_picture(photo, pamr.long_px) if pamr else None,
            )
            for i, photo in enumerate(photos)
        ]

    @torch.inference_mode()
    def segment(
        self, features: DinoiserFeatures, vocabulary: Vocabulary, options: SegmentOptions = AS_CONFIGURED
    ) -> Segmentation:
        """Answer a vocabulary from the features of one photo: probabilities, label map, scores, clean-up.

        Args:
            features: Made by `encode` with the same weights and sizes.
            vocabulary: Background first. What its others win is background in the answer.
            options: Edges as they are, if they are otherwise refined, what corrections taught, or no background, where
                the words alone decide; there are no scales.

        Raises:
            FeaturesError: If the features were made by another core.
            LearningError: If what was learned is for another CLIP's embeddings.
        """
        use, learned = self.settings.background, options.learned
        if not options.background:
            use, vocabulary = "none", vocabulary.with_others(())
        if learned is None or learned.is_words_only or use == "none":
            probabilities, competing = self._probabilities(features, vocabulary, use)
        else:
            probabilities, competing = self._learned_probabilities(learned, features, vocabulary)
        size_hw = features.size_hw

        def field(at_hw: tuple[int, int]) -> ProbabilityField:
            return ProbabilityField(probabilities, features.seen_hw, at_hw)

        if self.config.pamr is not None and options.refine:
            picture = self._unpacked(features.picture)
            labels = refined_label_map(field((picture.shape[1], picture.shape[2])), picture, size_hw, self.config.pamr)
        elif features.seen_hw is None:
            labels = direct_label_map(probabilities[0].values, probabilities[0].extent_hw, size_hw)
        else:
            labels = strip_label_map(field(size_hw))
        drawn = drawn_as(competing, vocabulary)
        labels = drawn.to(labels.dtype)[labels.long()]
        scores = class_scores(field((SCORE_PX, SCORE_PX)), drawn, len(vocabulary))
        return self._segmentation(labels, scores, size_hw, vocabulary, tidy=use != "none")

    @torch.inference_mode()
    def explain(
        self,
        photo: Photo,
        features: DinoiserFeatures,
        vocabulary: Vocabulary,
        patch: tuple[int, int] | None = None,
    ) -> Explanation:
        """Return what `segment` is made of, for a person to look at.

        Runs the network once more over the whole picture, in one pass: features before they are pooled and the
        correlations of patches are not kept.

        Args:
            photo: The photo.
            features: Made by `encode` with the same weights and sizes.
            vocabulary: Background first.
            patch: Row and column of the patch whose correlations are shown; by default the one that looks most like an
                object.

        Raises:
            FeaturesError: If the features were made by another core.
        """
        probabilities, competing = self._probabilities(features, vocabulary, self.settings.background)
        seen = self.looked_at(photo, patch)
        field = ProbabilityField(probabilities, features.seen_hw, (EXPLAIN_PX, EXPLAIN_PX))
        maps = field.rows(0, EXPLAIN_PX)
        every = torch.zeros(len(vocabulary.prompts), EXPLAIN_PX, EXPLAIN_PX, device=self.device)
        after = every.index_copy_(0, competing, maps)[: len(vocabulary)]
        # The first of the others is what comes after the last label.
        other = (competing[maps.argmax(dim=0)] - (len(vocabulary) - 1)).clamp(min=0).to(torch.int16).cpu()
        tiles = [
            ProbabilityTile(grid, tile.window, tile.extent_hw)
            for grid, tile in zip(self._cosines(features, vocabulary), features.tiles, strict=True)
        ]
        cosines = ProbabilityField(tiles, features.seen_hw, (EXPLAIN_PX, EXPLAIN_PX)).rows(
            0, EXPLAIN_PX, slice(0, len(vocabulary))
        )
        row, col = seen.patch
        most = float(seen.background.abs().max())
        pictures: list[ExplainedPicture | ExplainedRegions] = [
            ExplainedPicture("patches as colours", seen.dense),
            ExplainedPicture(f"patches like {row}, {col}", seen.correlation, (-1.0, 1.0)),
            ExplainedPicture("pooled", seen.pooled),
            ExplainedPicture("foreground", seen.background, (-most, most)),
        ]
        if other.any():
            names = tuple(label.name for label in vocabulary.others)
            pictures.append(ExplainedRegions("taken by others", other, names))
        return Explanation(
            tuple(pictures),
            (
                ExplainedStep("cosine", "of pooled patches", cosines.cpu(), "cosine"),
                ExplainedStep("probability", "after the background", after.cpu(), "probability"),
            ),
            cosines.flatten(1).amax(dim=1).cpu(),
        )

    @torch.inference_mode()
    def looked_at(self, photo: Photo, patch: tuple[int, int] | None = None) -> PatchView:
        """Run the networks over the whole picture in one pass and show what each patch looks like to them.

        Args:
            photo: The photo.
            patch: Row and column whose correlations are shown, brought inside; by default the one that looks most like
                an object.
        """
        image = self._image(photo)
        read = self.read(image[None])
        directions, background = read.directions[0], read.background[0]
        rows, cols = background.shape
        if patch is None:
            patch = divmod(int(background.argmax()), cols)
        patch = min(max(patch[0], 0), rows - 1), min(max(patch[1], 0), cols - 1)
        cell = torch.tensor([patch[0] * cols + patch[1]], device=self.device)
        dense, pooled = as_colours(read.dense[0], pool(read.dense[0], directions, self.settings.gamma))
        correlation = correlations(directions, cell).reshape(rows, cols)
        return PatchView(dense.cpu(), pooled.cpu(), patch, correlation.cpu(), background.cpu())

    def passes(self, photo: Photo) -> list[Tensor]:
        """Return what goes through the network of a photo, pass by pass: (3, H, W) uint8 on the device, not padded."""
        image = self._image(photo)
        return [_cut(image, window) for window in self._windows((image.shape[1], image.shape[2]))]

    @torch.inference_mode()
    def read(self, images: Tensor) -> Reading:
        """Run both networks over pictures as they are: no resize, no windows.

        Args:
            images: (B, 3, H, W) uint8 on the device; padded here.
        """
        padded = pad_to_patches(images, self._tower.patch_px).float() / 255
        features = self._tower((padded - self.clip.mean) / self.clip.std)
        return Reading(
            features.intermediate,
            features.dense,
            self._heads.directions(features.intermediate),
            self._heads.background_logits(features.intermediate),
        )

    def _image(self, photo: Photo) -> Tensor:
        """Bring a photo to the size at which it is seen: (3, H, W) uint8 on the device."""
        height, width = self._seen_hw(photo.size_hw, (photo.pixels.shape[0], photo.pixels.shape[1]))
        if self.settings.way == "whole":
            image = _as_tensor(photo.pixels).to(self.device)
            return resize_uint8(image[None], (height, width), "bicubic")[0]
        pixels = cv2.resize(photo.pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        return _as_tensor(pixels.astype(np.uint8, copy=False)).to(self.device)

    def _seen_hw(self, size_hw: tuple[int, int], given_hw: tuple[int, int]) -> tuple[int, int]:
        """Return at what size a photo is seen, from its own size and that in which it is given."""
        if self.settings.way == "whole":
            return limited_size(given_hw, self.settings.long_px)
        windows = self.settings.windows
        return size_hw if windows.short_px is None else published_size(size_hw, windows.short_px, windows.long_px)

    def _windows(self, seen_hw: tuple[int, int]) -> tuple[Window, ...]:
        if self.settings.way == "whole":
            return (Window(0, 0, *seen_hw),)
        return sliding_windows(seen_hw, self.settings.windows.window_px, self.settings.windows.stride_px)

    def _tiles(self, passes: Sequence[_Pass]) -> list[FeatureTile]:
        """Run every pass, those of one size together; in order."""
        batch_size = self.config.crop_batch or (CUDA_WINDOW_BATCH if self.device.type == "cuda" else 1)
        by_size: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for i, one in enumerate(passes):
            by_size[one.window.size_hw].append(i)
        tiles: dict[int, FeatureTile] = {}
        for members in by_size.values():
            for start in range(0, len(members), batch_size):
                batch = members[start : start + batch_size]
                read = self.read(torch.stack([passes[i].image for i in batch]))
                background = read.background.half().cpu()
                for i, dense, directions, logits in zip(batch, read.dense, read.directions, background, strict=True):
                    pooled = F.normalize(pool(dense, directions, self.settings.gamma), dim=0)
                    stored = pooled.half().permute(1, 2, 0).contiguous().cpu()
                    tiles[i] = FeatureTile(stored, logits, passes[i].window, self._extent(passes[i].window, logits))
        return [tiles[i] for i in range(len(passes))]

    def _extent(self, window: Window, grid: Tensor) -> tuple[float, float]:
        """Return how much of a grid a window covers.

        The whole picture's map is enlarged to the padded size and cut. A window's is enlarged to the window, padded or
        not: that is how the published numbers were made.
        """
        if self.settings.way == "windows":
            return float(grid.shape[0]), float(grid.shape[1])
        height, width = window.size_hw
        return height / self._tower.patch_px, width / self._tower.patch_px

    def _cosines(self, features: DinoiserFeatures, vocabulary: Vocabulary) -> list[Tensor]:
        """Return each tile's cosines with every class, (C, h, w)."""
        self._require_own(features.made_by)
        texts = self.clip.embed_vocabulary(vocabulary)
        return [class_cosines(tile.pooled.to(self.device), texts) for tile in features.tiles]

    def _probabilities(
        self, features: DinoiserFeatures, vocabulary: Vocabulary, use: BackgroundUse
    ) -> tuple[list[ProbabilityTile], Tensor]:
        """Return each tile's probabilities, and which classes they stand for: ascending int64, others last."""
        cosines = self._cosines(features, vocabulary)
        competing = self._competing(cosines, vocabulary)
        if use == "none":
            competing = competing[competing > 0]
        delta = self._refines(vocabulary, use)
        tiles = []
        for tile, grid in zip(features.tiles, cosines, strict=True):
            values = class_probabilities(grid[competing])
            if delta is not None:
                values = refine_background(values, tile.background.to(self.device), delta)
            tiles.append(ProbabilityTile(values, tile.window, tile.extent_hw))
        return tiles, competing

    def _learned_probabilities(
        self, learned: Learned, features: DinoiserFeatures, vocabulary: Vocabulary
    ) -> tuple[list[ProbabilityTile], Tensor]:
        """Do what `_probabilities` does, with the weights of a fit."""
        self._require_own(features.made_by)
        texts = self.clip.embed_vocabulary(vocabulary)
        patches = [F.normalize(tile.pooled.to(self.device).float(), dim=2) for tile in features.tiles]
        maps = [adapted_maps(learned, vocabulary, texts, [grid], None) for grid in patches]
        # What words say is not there may have been learned. What they say is there decides what is foreground.
        by_words, by_names = [one.words[0] for one in maps], [one.naming[0] for one in maps]
        competing = torch.cat([self._competing(grids, vocabulary) for grids in (by_words, by_names)]).unique()
        delta = self._refines(vocabulary, self.settings.background)
        ground = torch.tensor([0, *vocabulary.stuff], device=self.device)
        is_ground = torch.isin(competing, ground)
        tiles = []
        for tile, one in zip(features.tiles, maps, strict=True):
            logits = tile.background.to(self.device).float()
            values = adapted_probabilities(one.of(competing, 1), is_ground, logits, delta)
            tiles.append(ProbabilityTile(values, tile.window, tile.extent_hw))
        return tiles, competing

    def _competing(self, cosines: Sequence[Tensor], vocabulary: Vocabulary) -> Tensor:
        """Return which classes take part in a picture, from each tile's cosines: ascending int64, others last."""
        patches = torch.cat([grid.flatten(1) for grid in cosines], dim=1)[:, None]
        competing = torch.arange(len(patches), device=self.device)
        if vocabulary.others:
            competing = competing_classes((patches,), len(vocabulary), TEMPERATURE, self.config.others)
        if self.config.prune_logits is not None:
            competing = competing[likely_classes(patches[competing], TEMPERATURE, self.config.prune_logits)]
        return competing

    def _refines(self, vocabulary: Vocabulary, use: BackgroundUse) -> float | None:
        """Return how sure a class must be for the background to leave it alone; `None` where it is not refined."""
        return self.settings.delta if use == "refined" or (use == "auto" and not vocabulary.stuff) else None

    def foreground_rule(self, vocabulary: Vocabulary) -> OwnAnswer:
        """Return by which objects are told without corrections, so that a fit can start there."""
        return OwnAnswer(self._refines(vocabulary, self.settings.background))


def as_colours(*features: Tensor) -> tuple[Tensor, ...]:
    """Show features as colours: the three directions along which the last of them vary most, for all alike.

    Args:
        *features: (D, h, w) float32 each; of each patch only the direction counts.

    Returns:
        (h, w, 3) float32 in [0, 1] each; the middle 98 % of the last one's values span the range.
    """
    units = [F.normalize(one, dim=0).flatten(1) for one in features]
    centre = units[-1].mean(dim=1, keepdim=True)
    axes = torch.linalg.svd(units[-1] - centre, full_matrices=False).U[:, :3]
    # A direction has no sign of its own: the same picture gets the same colours everywhere.
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    axes = F.pad(axes, (0, 3 - axes.shape[1]))  # fewer patches than colours
    shown = [axes.T @ (unit - centre) for unit in units]
    low, high = (torch.quantile(shown[-1], share, dim=1, keepdim=True) for share in (0.01, 0.99))
    coloured = [((one - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) for one in shown]
    return tuple(one.T.reshape(*feature.shape[1:], -1) for one, feature in zip(coloured, features, strict=True))


def _cut(image: Tensor, window: Window) -> Tensor:
    return image[:, window.top : window.bottom, window.left : window.right]


def _as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
