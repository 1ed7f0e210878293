"""The seam between methods and those who use them: what every training-free method gives, and the registry of them.

A method turns photos into features once (`encode`, everything that is expensive) and answers any vocabulary from them
(`segment`, which runs no image network). The command line and the backend know nothing else of it; they come here:

    method = build_method(config, ...)            # whichever `config.method` names
    features = method.encode([photo])[0]          # kept as features.to_bytes(), read again by read_features
    segmentation = method.segment(features, vocabulary)

How to add one
--------------
Write a class that fits `Method` and a frozen dataclass of features that fits `Features`, and register them:

    register_method(MethodEntry("mine", "in one line", build=build_mine, magic=b"MINE_1", read_features=read_mine))

No other file changes. `CoreConfig(method="mine")`, `clipdiy segment --method mine`, `clipdiy bench`, `clipdiy weights`
and the service then use it. `tests/unit/clipdiy/test_method.py` does this with a toy.

Does another kind of method fit? Take CLIP-DINOiser (Wysoczanska et al., ECCV 2024), which differs wherever it can:

- *Features of its own type.* Pooled patch features, (h, w, 512) float16, about 1 MB a photo instead of 60 kB. Only the
  method looks into them: they are kept and read back as bytes, which begin with the entry's `magic`, so that features
  of several methods lie in one cache. `kept_bytes` tells those who size that cache what a photo costs.
- *No objectness.* Objectness is a part of CLIP-DIY's configuration, not of this seam; see `clipdiy.objectness.source`.
- *Weights of its own* (two small heads): `MethodEntry.required_files` lists them for `clipdiy weights`, and
  `clipdiy.weights.require` finds and checks them for `build`.
- *Settings of its own* (gamma, window size): a dataclass of its own in `CoreConfig.method_config`. What it shares with
  all methods (CLIP, device, dtype, clean-up, PAMR, pruning) it reads from `CoreConfig`.
- *80 prompt templates* instead of one: `MethodEntry.templates`.
- *Another panel for `--explain`* (features as colours, one patch's correlations, probabilities): `explain` returns
  captions and maps, not a picture, and `clipdiy.panel` draws whatever they are. It gets the photo besides the features,
  for a method that has to run its network again because it does not keep what it shows.

Learning from corrections needs three things of a method: *evidence*, embeddings (h, w, D) for a photo and what it takes
for an object, from its features alone, to be set against corrected masks (`MethodEntry.evidence`); a fit of these
(`MethodEntry.learn`); and weights that are *applied at segment time* (`SegmentOptions.learned`). CLIP-DINOiser's
patches are evidence like CLIP-DIY's crops, so both have one fit. They differ in where objectness starts: from FOUND, or
from the answer that the background head had a part in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from clipdiy.config import AS_CONFIGURED, CoreConfig, SegmentOptions, preset
from clipdiy.dinoiser.config import templates_of
from clipdiy.dinoiser.needs import dinoiser_files
from clipdiy.errors import ConfigError, FeaturesError
from clipdiy.needs import clip_diy_files
from clipdiy.weights import WeightFile, default_weights_dir, fetch_command, require_present

if TYPE_CHECKING:
    import torch

    from clipdiy.dinoiser.features import DinoiserFeatures
    from clipdiy.explanation import Explanation
    from clipdiy.features import ImageFeatures
    from clipdiy.learning.evidence import CorrectedPicture, Evidence
    from clipdiy.learning.learned import Learned
    from clipdiy.others.choice import Choice
    from clipdiy.photo import Photo
    from clipdiy.profile import Profile
    from clipdiy.segmentation import Segmentation
    from clipdiy.vocabulary import Vocabulary

MAGIC_BYTES = 6


class Features(Protocol):
    """What a method keeps of one photo, on the CPU. Knows no vocabulary; opaque to everybody but its method."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """The photo's own height and width in pixels."""

    @property
    def made_by(self) -> str:
        """`Method.encoder_identity` of what made them."""

    @property
    def picture(self) -> bytes | None:
        """The photo, reduced, as a JPEG, where the method keeps it; for a person to look at."""

    def to_bytes(self) -> bytes:
        """Pack into bytes that begin with the method's `MethodEntry.magic` and hold no code."""


F = TypeVar("F", bound=Features)


class Method(Protocol[F]):
    """A training-free method with loaded weights.

    Without state between calls: the same photo and vocabulary give the same answer, from any thread. `encode` is called
    from one thread at a time, `segment` from many.
    """

    @property
    def config(self) -> CoreConfig:
        """What it was built from."""

    @property
    def name(self) -> str:
        """What a person calls the weights (`ViT-B-32:laion2b_s34b_b79k`)."""

    @property
    def device(self) -> "torch.device":
        """Where the networks run."""

    @property
    def encoder_identity(self) -> str:
        """Changes whenever `encode` would give other features for the same photo. Letters and digits.

        Features are kept under it, so it must differ from that of every other method too.
        """

    @property
    def identity(self) -> str:
        """Changes whenever the same photo and vocabulary would give another segmentation. Letters and digits."""

    @property
    def description(self) -> dict[str, object]:
        """What computes, for a report beside the results; JSON can write it."""

    @property
    def keep_long_px(self) -> int:
        """A photo may be given reduced to this longer side (see `keep_short_px`); the method sees no more pixels."""

    @property
    def keep_short_px(self) -> int:
        """The shorter side of a reduced photo should not fall below this; 0 if it does not matter."""

    def kept_bytes(self, size_hw: tuple[int, int]) -> int:
        """Estimate how many bytes the features of a photo of this size take."""

    def doubts(self, vocabulary: "Vocabulary") -> tuple[str, ...]:
        """Return warnings for a person about words that these weights cannot know; most often there are none."""

    def choose_others(self, vocabulary: "Vocabulary", words: Sequence[str] | None = None) -> "Choice":
        """Choose what competes with a vocabulary's labels and stays empty: `vocabulary.with_others(choice.competing)`.

        Args:
            vocabulary: Background first.
            words: Others that a person named; `None` for a list of common things.
        """

    def other_prompts(self, words: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the texts that `choose_others` embeds, so that a caller can have it done before, in slices.

        Args:
            words: As for `choose_others`.
        """

    def encode(self, photos: "Sequence[Photo]") -> list[F]:
        """Encode photos: everything that is expensive, and nothing that depends on a vocabulary.

        Args:
            photos: Any number, of any sizes.

        Returns:
            Features of each, in order.
        """

    def embed_prompts(self, prompts: "Sequence[str]") -> None:
        """Embed prompts that are not known yet, so that `segment` has no need to: a caller may do it in slices.

        Args:
            prompts: Whole texts, at least one.
        """

    def segment(self, features: F, vocabulary: "Vocabulary", options: SegmentOptions = AS_CONFIGURED) -> "Segmentation":
        """Answer a vocabulary from the features of one photo.

        Args:
            features: Made by `encode` of the same `encoder_identity`.
            vocabulary: Background first.
            options: What this question asks for otherwise than the configuration does.

        Raises:
            FeaturesError: If the features were made by another core.
        """

    def explain(self, photo: "Photo", features: F, vocabulary: "Vocabulary") -> "Explanation":
        """Return what `segment` is made of, for a person to look at.

        Args:
            photo: The photo.
            features: Its features.
            vocabulary: Background first.

        Raises:
            FeaturesError: If the features were made by another core.
        """

    def with_config(self, config: CoreConfig) -> "Method[F]":
        """Return the same loaded weights under another configuration; its weights, device and dtype are not read.

        Raises:
            ConfigError: If the configuration does not fit the weights.
        """

    def for_pieces(self) -> "Method[F]":
        """Return the same weights as a piece of a picture is to be encoded, while a person waits: as fast as it may be.

        It may be the method itself.
        """


class Builder(Protocol):
    """Loads the weights of a method."""

    def __call__(
        self, config: CoreConfig, *, weights_dir: Path | None, cache_dir: Path | None, warm_up: bool
    ) -> Method[Any]:
        """Find, check and load; see `build_method`."""


def _one_template(config: CoreConfig) -> tuple[str, ...]:
    return (config.prompt_template,)


def _no_scales(_config: CoreConfig) -> tuple[int, ...]:
    return ()


def _nothing_to_fetch(_config: CoreConfig) -> tuple[WeightFile, ...]:
    return ()


@dataclass(frozen=True)
class MethodEntry:
    """A method, as the registry knows it. Whatever loads torch is imported by these functions when they are called.

    Attributes:
        name: What `CoreConfig.method` and `--method` call it.
        summary: One line for a person.
        build: Loads the weights.
        magic: The first `MAGIC_BYTES` bytes of its features; the last of them is the version of their layout.
        read_features: Undoes `Features.to_bytes`; raises `FeaturesError` for bytes that are damaged.
        required_files: What has to be fetched under a configuration; nothing by default.
        templates: Texts that a label is put into, under a configuration; `prompt_template` by default.
        scales: What `SegmentOptions.scales` may choose from, under a configuration; nothing by default.
        learn: Learns from corrected pictures (see `clipdiy.learning.learn.learn`), given the method, the pictures and
            the vocabulary that their shares are of; `None` for a method that does not.
        evidence: What is learned from of a picture's features, to be held for many pictures at once; goes with `learn`.
        profile: What `clipdiy bench` can time besides `encode` and `segment`, if anything.
    """

    name: str
    summary: str
    build: Builder
    magic: bytes
    read_features: Callable[[bytes], Features]
    required_files: Callable[[CoreConfig], tuple[WeightFile, ...]] = _nothing_to_fetch
    templates: Callable[[CoreConfig], tuple[str, ...]] = _one_template
    scales: Callable[[CoreConfig], tuple[int, ...]] = _no_scales
    learn: "Callable[[Any, Sequence[CorrectedPicture], Vocabulary], Learned] | None" = None
    evidence: "Callable[[Any], Evidence] | None" = None
    profile: "Callable[[Any, Photo, Vocabulary], Profile] | None" = None

    def __post_init__(self) -> None:
        if len(self.magic) != MAGIC_BYTES:
            raise ConfigError(f"the features of {self.name!r} must begin with {MAGIC_BYTES} bytes, got {self.magic!r}")
        if self.learn is not None and self.evidence is None:
            raise ConfigError(f"{self.name!r} is to learn, and nothing says from what: `evidence` is missing")


def register_method(entry: MethodEntry) -> None:
    """Make a method known by its name, in this process.

    Raises:
        ConfigError: If the name or the beginning of the features is taken.
    """
    for other in METHODS.values():
        if other.name == entry.name or other.magic == entry.magic:
            raise ConfigError(f"method {entry.name!r} has the name or the first bytes of {other.name!r}")
    METHODS[entry.name] = entry


def method_named(name: str) -> MethodEntry:
    """Return a method's entry.

    Raises:
        ConfigError: If there is none of this name. Names those there are.
    """
    if name not in METHODS:
        raise ConfigError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]


def build_method(
    config: str | CoreConfig = "paper",
    *,
    weights_dir: Path | None = None,
    cache_dir: Path | None = None,
    warm_up: bool = True,
) -> Method[Any]:
    """Find, check and load the weights of the method that a configuration names.

    Args:
        config: A preset's name, or a configuration.
        weights_dir: Where downloaded weights lie; the user's cache folder by default.
        cache_dir: Where what was computed once for these weights is kept for the next start; without it, it is
            forgotten with the process.
        warm_up: Run one small picture, so that the first real one is not slower than the others and broken weights show
            now.

    Raises:
        ConfigError: If the configuration names something that does not exist (method, preset, device, model).
        WeightsError: If weights are missing, damaged, or do not fit the model. No stand-in is ever used.
        RuntimeCheckError: If an optional runtime does not compute what torch does.
    """
    if isinstance(config, str):
        config = preset(config)
    build = method_named(config.method).build
    return build(config, weights_dir=weights_dir, cache_dir=cache_dir, warm_up=warm_up)


def read_features(data: bytes) -> Features:
    """Unpack features of any registered method.

    Args:
        data: What `Features.to_bytes` gave.

    Raises:
        FeaturesError: If they belong to no method here, or are cut off, changed, or of another version.
    """
    for entry in METHODS.values():
        if data.startswith(entry.magic):
            return entry.read_features(data)
    raise FeaturesError(f"features of no known method and version: they start with {data[:MAGIC_BYTES]!r}")


def required_files(config: CoreConfig) -> tuple[WeightFile, ...]:
    """List what has to be fetched for a configuration; empty where everything is bundled or in named folders.

    Raises:
        ConfigError: If it names a method or model that nobody knows.
    """
    return method_named(config.method).required_files(config)


def require_weights(config: CoreConfig, weights_dir: Path | None = None) -> None:
    """Look whether the files of a configuration are there, without reading any: what loading would say, at once.

    Raises:
        WeightsError: If one is missing. Names every missing file, its source, and the folder.
        ConfigError: As `required_files` does.
    """
    require_present(required_files(config), weights_dir or default_weights_dir(), fetch_command(config))


def _build_clip_diy(
    config: CoreConfig, *, weights_dir: Path | None, cache_dir: Path | None, warm_up: bool
) -> Method[Any]:
    from clipdiy.build import build_segmenter

    return build_segmenter(config, weights_dir=weights_dir, cache_dir=cache_dir, warm_up=warm_up)


def _read_clip_diy(data: bytes) -> Features:
    from clipdiy.features import ImageFeatures

    return ImageFeatures.from_bytes(data)


def _learn_clip_diy(method: Any, pictures: "Sequence[CorrectedPicture]", vocabulary: "Vocabulary") -> "Learned":
    from clipdiy.learning.learn import learn

    texts = method.clip.embed_vocabulary(vocabulary).cpu().numpy()
    return learn(pictures, vocabulary, texts, logit_scale=method.clip.logit_scale, encoder=method.encoder_identity)


def _evidence_clip_diy(features: "ImageFeatures") -> "Evidence":
    return replace(features, picture=None)


def _profile_clip_diy(method: Any, photo: "Photo", vocabulary: "Vocabulary") -> "Profile":
    from clipdiy.profile import profile_segmenter

    return profile_segmenter(method, photo, vocabulary)


def _build_dinoiser(
    config: CoreConfig, *, weights_dir: Path | None, cache_dir: Path | None, warm_up: bool
) -> Method[Any]:
    from clipdiy.dinoiser.build import build_dinoiser

    return build_dinoiser(config, weights_dir=weights_dir, cache_dir=cache_dir, warm_up=warm_up)


def _read_dinoiser(data: bytes) -> Features:
    from clipdiy.dinoiser.features import DinoiserFeatures

    return DinoiserFeatures.from_bytes(data)


def _evidence_dinoiser(features: "DinoiserFeatures") -> "Evidence":
    from clipdiy.dinoiser.learning import evidence_of

    return evidence_of(features)


def _learn_dinoiser(method: Any, pictures: "Sequence[CorrectedPicture]", vocabulary: "Vocabulary") -> "Learned":
    from clipdiy.learning.learn import learn

    return learn(
        pictures,
        vocabulary,
        method.clip.embed_vocabulary(vocabulary).cpu().numpy(),
        logit_scale=method.clip.logit_scale,
        encoder=method.encoder_identity,
        told_by=method.foreground_rule(vocabulary),
    )


def _profile_dinoiser(method: Any, photo: "Photo", vocabulary: "Vocabulary") -> "Profile":
    from clipdiy.dinoiser.profile import profile_dinoiser

    return profile_dinoiser(method, photo, vocabulary)


METHODS: dict[str, MethodEntry] = {
    entry.name: entry
    for entry in (
        MethodEntry(
            "clip-diy",
            "CLIP on crops of several sizes, guided by FOUND's objectness (arXiv 2309.14289)",
            build=_build_clip_diy,
            magic=b"CDIYF\x01",
            read_features=_read_clip_diy,
            required_files=clip_diy_files,
            scales=lambda config: config.grid.patch_px,
            learn=_learn_clip_diy,
            evidence=_evidence_clip_diy,
            profile=_profile_clip_diy,
        ),
        MethodEntry(
            "clip-dinoiser",
            "CLIP's own patch features, pooled by two small heads (arXiv 2312.12359)",
            build=_build_dinoiser,
            magic=b"CDINO\x01",
            read_features=_read_dinoiser,
            required_files=dinoiser_files,
            templates=templates_of,
            learn=_learn_dinoiser,
            evidence=_evidence_dinoiser,
            profile=_profile_dinoiser,
        ),
    )
}
