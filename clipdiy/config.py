"""What can be configured in the core, with the defaults, and the named presets."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from clipdiy.errors import ConfigError

if TYPE_CHECKING:
    from clipdiy.learning.learned import Learned

DtypeName = Literal["float32", "bfloat16", "float16"]
ObjectnessName = Literal["found", "found-bkg", "none"]
LabelMapSize = Literal["full", "square"]
RuntimeName = Literal["torch", "onnxruntime", "openvino", "openvino-int8"]

PUBLISHED_TEMPLATE = "a photo of a {}"
FAST_PRESET = "paper-fast"
FAST_OBJECTNESS_PX = 448
"""Longer side of the picture that FOUND sees with `paper-fast`: 2,352 patches of a 640x480 photo instead of 4,800, and
FOUND is what a photo costs most. `benchmarks/fast.py` measures what that saves, and what it costs in masks."""


@dataclass(frozen=True)
class CropGrid:
    """The multi-scale grid of crops on the square image (CLIP-DIY section 3.1).

    Attributes:
        square_px: Side of the square that the image is resized to before it is cut; the aspect ratio is not kept.
        patch_px: Crop side P of each scale, coarsest first, in pixels of the square.
        stride_ratio: Stride of the crops as a share of P. 0.5 (half-overlapping crops: 1 + 9 + 49 of them) is what
            the published numbers were made with; 1.0 (1 + 4 + 16) is the text of the paper to the letter.
    """

    square_px: int = 256
    patch_px: tuple[int, ...] = (256, 128, 64)
    stride_ratio: float = 0.5

    def __post_init__(self) -> None:
        if self.square_px < 8:
            raise ConfigError(f"square_px must be at least 8, got {self.square_px}")
        if not self.patch_px:
            raise ConfigError("patch_px is empty: name at least one scale, for example (256, 128, 64)")
        for patch_px in self.patch_px:
            if not 1 <= patch_px <= self.square_px:
                raise ConfigError(f"every patch size must lie in 1..square_px={self.square_px}, got {patch_px}")
        if not 0 < self.stride_ratio <= 1:
            raise ConfigError(f"stride_ratio must lie in (0, 1], got {self.stride_ratio}")


@dataclass(frozen=True)
class ObjectnessConfig:
    """Which objectness guides the class maps, and on what size of image it is computed.

    Attributes:
        method: `found` (trained head), `found-bkg` (the same features without it), `none` (Eq. 3 is left out), or
            another source that was registered (`clipdiy.objectness.source`).
        long_px: FOUND sees the image at its own size, scaled down to this longer side if it is larger.
        square_px: If set, FOUND sees the image squashed to a square of this side instead.
    """

    method: str = "found"
    long_px: int = 640
    square_px: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("long_px", self.long_px), ("square_px", self.square_px)):
            if value is not None and value < 8:
                raise ConfigError(f"objectness {name} must be at least 8 (one patch), got {value}")


@dataclass(frozen=True)
class CleanUp:
    """Removal of specks and holes from the finished label map.

    Attributes:
        min_area: Connected parts of a class smaller than this share of the picture are dropped; holes smaller than
            this are closed. In [0, 1); 0 switches the clean-up off.
    """

    min_area: float = 0.001

    def __post_init__(self) -> None:
        if not 0 <= self.min_area < 1:
            raise ConfigError(f"min_area is a share of the picture in [0, 1), got {self.min_area}")


@dataclass(frozen=True)
class Pamr:
    """Refinement of the masks by the colours of the picture (`clipdiy.pamr`).

    Attributes:
        long_px: The picture is reduced to this longer side for it. It is kept in the features, as a JPEG.
        iterations: How often every pixel takes the mean of its neighbours.
        dilations: Distances of the neighbours, 8 at each, in pixels.
        temperature: Differences in colour count as multiples of this share of their local standard deviation.
    """

    long_px: int = 320
    iterations: int = 10
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.long_px < 8 or self.iterations < 1 or not self.dilations or min(self.dilations) < 1:
            raise ConfigError(f"PAMR needs long_px >= 8, iterations >= 1 and dilations >= 1, got {self}")
        if not self.temperature > 0:
            raise ConfigError(f"PAMR's temperature must be above 0, got {self.temperature}")


@dataclass(frozen=True)
class OthersConfig:
    """How words compete that are no labels (`clipdiy.others`). Nothing of it matters to a vocabulary without others.

    Both values were chosen on scenes that no result is reported on (`benchmarks/others.py --tune`).

    Attributes:
        gate_logits: An other takes part in a picture if at some crop it lies this many logits (cosine x logit scale)
            above every label. 2 is seven times as likely.
        absent_quantile: A label whose best crop resembles it less than this share of the others' best crops resemble
            them is taken for absent; `None` switches the test off. In [0, 1].
    """

    gate_logits: float = 2.0
    absent_quantile: float | None = 0.85

    def __post_init__(self) -> None:
        if self.absent_quantile is not None and not 0 <= self.absent_quantile <= 1:
            raise ConfigError(f"absent_quantile is a share of the others in [0, 1], got {self.absent_quantile}")


@dataclass(frozen=True)
class CoreConfig:
    """Everything the core needs to know besides the image and the vocabulary.

    Attributes:
        method: Which method, by its name in `clipdiy.method.METHODS`.
        method_config: What that method has to be told besides, in a frozen dataclass of its own; `None` for its
            defaults. CLIP-DIY has none: what it needs is here.
        clip: OpenCLIP model: an architecture with its weights' tag (`ViT-B-32:laion2b_s34b_b79k`), a folder with
            `open_clip_config.json` and weights (`local-dir:/path`), or `starter` for the bundled one.
        found: FOUND weights: `dino-vits8` (DINO ViT-S/8, 300 epochs, with the published head), a folder with
            `vit.json`, `vit.safetensors` and `decoder_weights.pt` (`local-dir:/path`), or `starter`.
        grid: Scales, stride and square size of the crops.
        objectness: Which objectness, at what size.
        label_map: `full`: class maps and objectness are brought to the photo's size before the argmax.
            `square`: the published way, argmax on the square, then nearest to the photo's size.
        clean_up: Specks and holes.
        pamr: Refinement of the masks along the picture's edges, or `None` for none. Its result is always of full size.
        prune_logits: Classes this many logits below the best one at the coarsest scale are taken for absent; `None`
            keeps all. See `clipdiy.prune`.
        others: How words compete that are no labels.
        prompt_template: Text a label is put into, `{}` standing for the label.
        device: A torch device, or `auto` (CUDA if there is one).
        dtype: What the image towers compute in, or `auto`: float16 on CUDA; on the CPU bfloat16 where a short
            measurement at the start says that this processor gains from it, else float32.
        runtime: What executes the image towers: `torch`, or on the CPU one of the optional `onnxruntime` (int8 weights,
            activations quantised dynamically), `openvino` (bfloat16) and `openvino-int8` (calibrated). See
            `clipdiy.runtimes`.
        compiled: Let torch compile CLIP's image tower: fewer and larger kernels, and on a GPU a graph of them that is
            launched at once. Costs half a minute or more at every start. `benchmarks/gpu.py` measures the gain.
        crop_batch: How many crops go through the image tower at once, or `None` for the device's default.
    """

    method: str = "clip-diy"
    method_config: object | None = None
    clip: str = "ViT-B-32:laion2b_s34b_b79k"
    found: str = "dino-vits8"
    grid: CropGrid = field(default_factory=CropGrid)
    objectness: ObjectnessConfig = field(default_factory=ObjectnessConfig)
    label_map: LabelMapSize = "full"
    clean_up: CleanUp = field(default_factory=CleanUp)
    pamr: Pamr | None = None
    prune_logits: float | None = None
    others: OthersConfig = field(default_factory=OthersConfig)
    prompt_template: str = PUBLISHED_TEMPLATE
    device: str = "auto"
    dtype: DtypeName | Literal["auto"] = "auto"
    runtime: RuntimeName = "torch"
    compiled: bool = False
    crop_batch: int | None = None

    def __post_init__(self) -> None:
        if self.runtime not in get_args(RuntimeName):
            raise ConfigError(f"runtime must be one of {', '.join(get_args(RuntimeName))}, got {self.runtime!r}")
        if self.runtime != "torch" and self.dtype not in ("auto", "float32"):
            raise ConfigError(f"runtime {self.runtime!r} has an arithmetic of its own: leave dtype at auto")
        if self.runtime != "torch" and self.compiled:
            raise ConfigError(f"runtime {self.runtime!r} compiles the image towers by itself: leave compiled at false")
        if self.label_map not in ("full", "square"):
            raise ConfigError(f"label_map must be 'full' or 'square', got {self.label_map!r}")
        if self.dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise ConfigError(f"dtype must be auto, float32, bfloat16 or float16, got {self.dtype!r}")
        if "{}" not in self.prompt_template:
            raise ConfigError(f"prompt_template must hold {{}} where the label goes, got {self.prompt_template!r}")
        if self.prune_logits is not None and not self.prune_logits > 0:
            raise ConfigError(f"prune_logits must be above 0, got {self.prune_logits}")
        if self.crop_batch is not None and self.crop_batch < 1:
            raise ConfigError(f"crop_batch must be at least 1, got {self.crop_batch}")


@dataclass(frozen=True)
class SegmentOptions:
    """What one question asks for otherwise than the configuration does. A method ignores what it has no part for.

    Attributes:
        scales: Crop sizes to look at, of those in `CropGrid.patch_px`; `None` for all. Sizes that the features do not
            have are ignored; if none is left, all are looked at.
        refine: `False` leaves edges as they are where the configuration refines them.
        learned: What corrections of this project taught, by a core with the same CLIP; `None` for the words alone.
        background: `False`: there is no background, every pixel gets one of the labels. Nothing but labels competes
            then, nothing learned is applied, and nothing is cleaned up (a dropped speck would be background).
    """

    scales: tuple[int, ...] | None = None
    refine: bool = True
    learned: "Learned | None" = None
    background: bool = True


AS_CONFIGURED = SegmentOptions()

PRESETS: dict[str, CoreConfig] = {
    "paper": CoreConfig(),
    FAST_PRESET: CoreConfig(objectness=ObjectnessConfig(long_px=FAST_OBJECTNESS_PX)),
    "paper-b16": CoreConfig(clip="ViT-B-16:laion2b_s34b_b88k"),
    "dinoiser": CoreConfig(method="clip-dinoiser", clip="ViT-B-16:laion2b_s34b_b88k"),
    "starter": CoreConfig(clip="starter", found="starter", objectness=ObjectnessConfig(square_px=256)),
}


def preset(name: str, **changes: object) -> CoreConfig:
    """Return the named preset, with some fields replaced.

    Args:
        name: `paper`, `paper-fast`, `paper-b16`, `dinoiser` or `starter`.
        **changes: Fields of `CoreConfig` to replace.

    Raises:
        ConfigError: If there is no such preset or field.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; there are: {', '.join(PRESETS)}")
    try:
        return replace(PRESETS[name], **changes)  # type: ignore[arg-type]
    except TypeError as err:
        raise ConfigError(str(err)) from err


def with_faster_objectness(config: CoreConfig) -> CoreConfig | None:
    """Return a configuration with FOUND's picture as small as `paper-fast` has it; `None` if that makes no difference.

    Args:
        config: Any.
    """
    objectness = config.objectness
    if config.method != "clip-diy" or objectness.method == "none" or objectness.square_px is not None:
        return None
    if objectness.long_px <= FAST_OBJECTNESS_PX:
        return None
    return replace(config, objectness=replace(objectness, long_px=FAST_OBJECTNESS_PX))
