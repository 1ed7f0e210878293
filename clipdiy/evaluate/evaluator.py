"""One picture in, what every variant gets right and wrong on it out. Nothing expensive is done twice."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clipdiy.build import build_segmenter, choose_device
from clipdiy.config import CoreConfig, CropGrid, ObjectnessConfig, SegmentOptions
from clipdiy.dinoiser.config import METHOD, settings_of
from clipdiy.errors import ConfigError
from clipdiy.evaluate.boundary import boundary_overlap
from clipdiy.evaluate.confusion import confusion_matrix
from clipdiy.evaluate.datasets import IGNORE, Dataset, counted_classes
from clipdiy.evaluate.datasets.sample import Sample, fingerprint
from clipdiy.evaluate.instances import InstanceFile, open_instances
from clipdiy.evaluate.maskclip import MaskClip
from clipdiy.evaluate.predictions import Predictions
from clipdiy.evaluate.protocol import CLEAN, Protocol
from clipdiy.evaluate.record import Outcome, Record
from clipdiy.evaluate.resizing import Label
from clipdiy.evaluate.variants import Variant
from clipdiy.features import ImageFeatures
from clipdiy.loading import digest_of
from clipdiy.method import Method, build_method, method_named
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.photo import Photo
from clipdiy.vocabulary import make_vocabulary

SHORT_PX = 448  # of the ground truth, as published


@dataclass(frozen=True)
class Plan:
    """What is evaluated, small enough to be sent to another process.

    Attributes:
        config: The configuration that the variants are changes of.
        variants: Systems to compare.
        weights_dir: Where downloaded weights lie.
        instances: File of instance masks for the variants that take their objectness from one.
        short_px: Shorter side at which prediction and truth are compared.
        boundary: Whether boundary IoU is counted, too (it takes longer than all the rest of the counting).
        protocol: Rules of counting.
    """

    config: CoreConfig
    variants: tuple[Variant, ...]
    weights_dir: Path | None = None
    instances: Path | None = None
    short_px: int = SHORT_PX
    boundary: bool = True
    protocol: Protocol = CLEAN


@dataclass(frozen=True)
class Seen:
    """One picture with its truth and one variant's answer, for a figure.

    Attributes:
        pixels: (h, w, 3) uint8.
        truth: (H, W) uint8, as compared.
        prediction: (H, W) uint16.
    """

    pixels: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint16]


@dataclass(frozen=True)
class _Source:
    """Everything of one picture that variants with the same weights share.

    Attributes:
        crops: Side of a crop, in pixels, and stride ratio -> its grid of embeddings.
        dense: The one grid of a dense pass, if a variant uses it.
        maps: Objectness by where it comes from.
        features: What the crops came with (size, picture).
    """

    crops: dict[tuple[int, float], Tensor]
    dense: Tensor | None
    maps: dict[str, ObjectnessMap | None]
    features: ImageFeatures


class _Weights:
    """The variants that share loaded weights."""

    def __init__(self, plan: Plan, variants: tuple[Variant, ...], configs: dict[str, CoreConfig]) -> None:
        self.sources = {variant.key: variant.map_source(plan.config) for variant in variants}
        trained = [source for source in self.sources.values() if source in ("found", "found-bkg")]
        self.methods: list[str] = list(dict.fromkeys(trained))
        any_config = configs[variants[0].key]
        objectness = replace(any_config.objectness, method="found" if self.methods else "none")
        self.loaded = build_segmenter(
            replace(any_config, objectness=objectness), weights_dir=plan.weights_dir, warm_up=False
        )
        without = ObjectnessConfig(method="none")
        pamr = next((configs[variant.key].pamr for variant in variants if configs[variant.key].pamr), None)
        crops = [configs[variant.key].grid for variant in variants if variant.encoder == "clip-diy"]
        self.encoders = [
            self.loaded.with_config(replace(any_config, grid=grid, objectness=without, pamr=pamr))
            for grid in union_grids(crops or [CropGrid(patch_px=(any_config.grid.square_px,))])
        ]
        self.dense = MaskClip(self.loaded.clip) if any(v.encoder == "maskclip" for v in variants) else None
        self.segmenters = {variant.key: self.loaded.with_config(configs[variant.key]) for variant in variants}

    def read(self, photo: Photo, instances: InstanceFile | None, image_id: str, size_hw: tuple[int, int]) -> _Source:
        """Encode one picture for all variants.

        Args:
            photo: The picture; its `size_hw` is that of the label map that will be asked for.
            instances: Masks to make objectness of.
            image_id: The picture's name among them.
            size_hw: The picture's own size.
        """
        maps: dict[str, ObjectnessMap | None] = {"none": None}
        if self.methods:
            maps.update({str(k): v for k, v in self.loaded.objectness(photo, self.methods).items()})
        if instances is not None:
            maps["instances"] = instances.objectness(image_id, size_hw)
        crops: dict[tuple[int, float], Tensor] = {}
        for encoder in self.encoders:
            features = encoder.encode([photo])[0]
            grid = encoder.config.grid
            for patch_px, embeddings in zip(grid.patch_px, features.crop_embeddings, strict=True):
                crops[patch_px, grid.stride_ratio] = embeddings
        return _Source(crops, self.dense.encode(photo) if self.dense else None, maps, features)

    def features(self, variant: Variant, source: _Source) -> ImageFeatures:
        """Put together what the variant's own segmenter would have encoded."""
        segmenter = self.segmenters[variant.key]
        grid = segmenter.config.grid
        if variant.encoder == "maskclip":
            if source.dense is None:
                raise AssertionError("no dense pass was made")
            scales: tuple[Tensor, ...] = (source.dense,)
        else:
            scales = tuple(_crops_of(source.crops, patch_px, grid.stride_ratio) for patch_px in grid.patch_px)
        return replace(
            source.features,
            crop_embeddings=scales,
            objectness=source.maps[self.sources[variant.key]],
            made_by=segmenter.encoder_identity,
        )


class _Dinoiser:
    """A variant that shares nothing with others: CLIP-DINOiser, with the prompts that are its own.

    Attributes:
        method: With loaded weights.
        vocabulary: The data set's classes as its prompts.
        prompts: Changes with the texts that a class is put into.
    """

    def __init__(self, plan: Plan, config: CoreConfig, dataset: Dataset) -> None:
        # Refined for lists of objects alone, as published; see `Dataset.background`.
        settings = replace(settings_of(config), background=dataset.background)
        config = replace(config, method_config=settings)
        templates = method_named(METHOD).templates(config)
        self.method: Method[Any] = build_method(config, weights_dir=plan.weights_dir, warm_up=False)
        self.vocabulary = make_vocabulary(dataset.classes, template=templates)
        self.prompts = digest_of(list(templates))[:16]


def union_grids(grids: list[CropGrid]) -> list[CropGrid]:
    """Return the fewest grids whose crops include those of all grids given.

    Crops with a stride of P are every second one of those with P/2, so the coarser stride is a part of the finer.
    """
    sizes: defaultdict[float, set[int]] = defaultdict(set)
    for grid in sorted(grids, key=lambda grid: grid.stride_ratio):
        finer = next((ratio for ratio in sizes if _step(grid.stride_ratio, ratio)), grid.stride_ratio)
        sizes[finer].update(grid.patch_px)
    return [
        replace(grids[0], patch_px=tuple(sorted(patches, reverse=True)), stride_ratio=ratio)
        for ratio, patches in sizes.items()
    ]


def _step(coarse: float, fine: float) -> int:
    """Return how many strides of the finer kind make one of the coarser; 0 if that is no whole number."""
    ratio = Fraction(coarse).limit_denominator(64) / Fraction(fine).limit_denominator(64)
    return ratio.numerator if ratio.denominator == 1 else 0


def _crops_of(crops: dict[tuple[int, float], Tensor], patch_px: int, stride_ratio: float) -> Tensor:
    for (side, ratio), embeddings in crops.items():
        step = _step(stride_ratio, ratio)
        if side == patch_px and step:
            return embeddings[::step, ::step]
    raise AssertionError(f"no crops of {patch_px} px with stride {stride_ratio}")


class Evaluator:
    """Loaded weights and a data set: evaluates one picture at a time, without state between them.

    Attributes:
        plan: What is evaluated.
        dataset: On what.
        classes: Number of classes that are counted, with the background if the set has one.
        vocabulary: The data set's classes as prompts.
        doubts: Warnings for a person about the instance masks.
    """

    def __init__(self, plan: Plan, dataset: Dataset) -> None:
        """Load what the plan needs.

        Raises:
            ConfigError: If a variant needs a file of instance masks and the plan has none.
            WeightsError: If weights are missing.
            ObjectnessError: If the file of instance masks cannot be read, or is of other pictures.
        """
        plan = replace(plan, config=pin_dtype(plan.config))
        self.plan = plan
        self.dataset = dataset
        self._instances = _open_instances(plan)
        self.doubts = self._instances.require_match(dataset.image_ids) if self._instances else ()
        configs = {variant.key: variant.configure(plan.config) for variant in plan.variants}
        groups: defaultdict[tuple[str, str], list[Variant]] = defaultdict(list)
        for variant in plan.variants:
            config = configs[variant.key]
            if variant.encoder not in (METHOD, "predictions"):
                groups[config.clip, config.found].append(variant)
        self._dinoisers = {
            variant.key: _Dinoiser(plan, configs[variant.key], dataset)
            for variant in plan.variants
            if variant.encoder == METHOD
        }
        self._groups = [_Weights(plan, tuple(variants), configs) for variants in groups.values()]
        template = plan.config.prompt_template
        self.vocabulary = make_vocabulary(dataset.classes, template=template)
        self.classes = len(counted_classes(dataset))
        self._options = SegmentOptions(background=dataset.background != "none")
        self._by_key = {key: group for group in self._groups for key in group.segmenters}
        self._predictions = {
            variant.key: Predictions(variant.title, variant.predictions)
            for variant in plan.variants
            if variant.predictions is not None
        }

    @property
    def segmenters(self) -> dict[str, Method[Any]]:
        """Each variant's method, by key, in the order of the plan; label maps of other programs have none."""
        found: dict[str, Method[Any]] = {key: group.segmenters[key] for key, group in self._by_key.items()}
        found |= {key: dinoiser.method for key, dinoiser in self._dinoisers.items()}
        return {variant.key: found[variant.key] for variant in self.plan.variants if variant.key in found}

    @cached_property
    def identity(self) -> dict[str, object]:
        """What must be the same for records to be continued, as JSON. Reads every file of the data set, once."""
        return {
            "dataset": fingerprint(self.dataset),
            "protocol": self.plan.protocol.name,
            "short_px": self.plan.short_px,
            "boundary": self.plan.boundary,
            "instances": self._instances.digest if self._instances else None,
            "prompts": self.plan.config.prompt_template,
            "variants": {variant.key: self._identity_of(variant) for variant in self.plan.variants},
        }

    def _identity_of(self, variant: Variant) -> list[str]:
        if variant.key in self._predictions:
            return [variant.encoder, self._predictions[variant.key].digest(self.dataset)]
        if variant.key in self._dinoisers:
            dinoiser = self._dinoisers[variant.key]
            return [dinoiser.method.identity, variant.encoder, dinoiser.prompts]
        group = self._by_key[variant.key]
        return [group.segmenters[variant.key].identity, variant.encoder, group.sources[variant.key]]

    @property
    def description(self) -> dict[str, object]:
        """Each variant's whole configuration, for the report."""
        return {
            **{key: asdict(segmenter.config) for key, segmenter in self.segmenters.items()},
            **{key: {"predictions": str(written.folder)} for key, written in self._predictions.items()},
        }

    def require_predictions(self, image_ids: Sequence[str]) -> None:
        """Make sure that the label maps of other programs are there.

        Raises:
            DatasetError: Naming some of those that are missing.
        """
        for written in self._predictions.values():
            written.require(self.dataset, image_ids)

    def evaluate(self, image_id: str) -> Record:
        """Compare every variant's prediction with the truth of one picture."""
        sample = self.dataset.read(image_id)
        truth = self._truth(sample)
        counted = self._counted(truth)
        outcomes: dict[str, Outcome] = {}

        def count(variant: Variant, answer: NDArray[Label], elapsed_ms: float) -> None:
            prediction = self._counted(self._as_compared(answer, truth))
            outcomes[variant.key] = Outcome(
                confusion_matrix(counted, prediction, self.classes),
                boundary_overlap(counted, prediction, self.classes) if self.plan.boundary else None,
                elapsed_ms,
            )

        for group in self._groups:
            source = group.read(self._photo(sample, truth), self._instances, image_id, sample.photo.size_hw)
            clock = _clock_of(group.loaded)
            for variant in self.plan.variants:
                if variant.key not in group.segmenters:
                    continue
                features = group.features(variant, source)
                start = clock()
                answer = group.segmenters[variant.key].segment(features, self.vocabulary, self._options).label_map
                count(variant, answer, (clock() - start) * 1000)
        for variant in self.plan.variants:
            if variant.key in self._dinoisers:
                method, vocabulary = self._dinoisers[variant.key].method, self._dinoisers[variant.key].vocabulary
                encoded = method.encode([self._photo(sample, truth)])[0]
                clock = _clock_of(method)
                start = clock()
                answer = method.segment(encoded, vocabulary, self._options).label_map
                count(variant, answer, (clock() - start) * 1000)
            if variant.key in self._predictions:
                written = self._predictions[variant.key]
                count(variant, written.read(self.dataset, image_id, sample.photo.size_hw), 0.0)
        return Record(image_id, {variant.key: outcomes[variant.key] for variant in self.plan.variants})

    def look(self, image_id: str, key: str) -> Seen:
        """Segment one picture again with one variant, to show it."""
        sample = self.dataset.read(image_id)
        truth = self._truth(sample)
        pixels = sample.photo.pixels
        if key in self._predictions:
            written = self._predictions[key].read(self.dataset, image_id, sample.photo.size_hw)
            return Seen(pixels, truth, self._as_compared(written, truth).astype(np.uint16))
        if key in self._dinoisers:
            dinoiser = self._dinoisers[key]
            encoded = dinoiser.method.encode([self._photo(sample, truth)])[0]
            answer = dinoiser.method.segment(encoded, dinoiser.vocabulary, self._options).label_map
            return Seen(pixels, truth, self._as_compared(answer, truth))
        group = self._by_key[key]
        variant = next(variant for variant in self.plan.variants if variant.key == key)
        source = group.read(self._photo(sample, truth), self._instances, image_id, sample.photo.size_hw)
        segmentation = group.segmenters[key].segment(group.features(variant, source), self.vocabulary, self._options)
        prediction = self._as_compared(segmentation.label_map, truth)
        return Seen(pixels, truth, prediction)

    def _truth(self, sample: Sample) -> NDArray[np.uint8]:
        """Return the truth at the size of the comparison."""
        protocol = self.plan.protocol
        return protocol.resize(sample.truth, protocol.compared_size(sample.photo.size_hw, self.plan.short_px))

    def _photo(self, sample: Sample, truth: NDArray[np.uint8]) -> Photo:
        """Return the picture with the size that its label map is to have."""
        as_compared = truth.shape[0], truth.shape[1]
        return Photo(
            sample.photo.pixels, as_compared if self.plan.protocol.answer_as_compared else sample.photo.size_hw
        )

    def _counted(self, labels: NDArray[Label]) -> NDArray[Label]:
        """Turn positions into rows of the confusion matrix: without a background, the first class is row 0."""
        if self.dataset.background != "none":
            return labels
        rows: NDArray[Label] = np.where(labels == IGNORE, labels, labels - 1).astype(labels.dtype, copy=False)
        return rows

    def _as_compared(self, answer: NDArray[Label], truth: NDArray[np.uint8]) -> NDArray[Label]:
        return self.plan.protocol.resize(answer, (truth.shape[0], truth.shape[1]))


def _clock_of(method: Method[Any]) -> Callable[[], float]:
    """Return what times an answer: processor time, which does not count what else the machine does, but of a GPU."""
    return time.thread_time if method.device.type == "cpu" else time.perf_counter


def pin_dtype(config: CoreConfig) -> CoreConfig:
    """Let `auto` mean float32 on the CPU, whatever is faster there: figures are to be the same on every machine."""
    if config.dtype == "auto" and choose_device(config.device).type == "cpu":
        return replace(config, dtype="float32")
    return config


def _open_instances(plan: Plan) -> InstanceFile | None:
    asking = [variant.key for variant in plan.variants if variant.map_source(plan.config) == "instances"]
    if not asking:
        return None
    if plan.instances is None:
        raise ConfigError(
            f"variant {asking[0]!r} takes its objectness from instance masks: name a file of COCO results, such as "
            "CutLER's demo writes, with --instances FILE"
        )
    return open_instances(plan.instances)
