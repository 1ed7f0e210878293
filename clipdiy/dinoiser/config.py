"""What can be configured in CLIP-DINOiser besides what all methods share, and what follows. Loads no torch."""

from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from clipdiy.config import PUBLISHED_TEMPLATE, CoreConfig
from clipdiy.errors import ConfigError
from clipdiy.weights import LOCAL_DIR, STARTER

METHOD: Final = "clip-dinoiser"
Way = Literal["whole", "windows"]
BackgroundUse = Literal["auto", "refined", "plain", "none"]

PUBLISHED_CLIP = "ViT-B-16:laion2b_s34b_b88k"
PUBLISHED, AUTO = "published", "auto"
MOST_SIDE_PX = 2048  # 16,384 patches: attention and pooling grow with their square


@dataclass(frozen=True)
class Windows:
    """How the published evaluation cuts a picture up.

    Attributes:
        short_px: The picture is brought to this shorter side, also if it is smaller; `None` leaves its size alone.
        long_px: But its longer side not beyond this.
        window_px: Side of the square windows.
        stride_px: From the start of one to that of the next.
    """

    short_px: int | None = 448
    long_px: int = MOST_SIDE_PX
    window_px: int = 448
    stride_px: int = 224

    def __post_init__(self) -> None:
        for name, value in (("short_px", self.short_px), ("long_px", self.long_px), ("window_px", self.window_px)):
            if value is not None and not 16 <= value <= MOST_SIDE_PX:
                raise ConfigError(f"{name} of the windows must lie in 16..{MOST_SIDE_PX}, got {value}")
        if not 1 <= self.stride_px <= self.window_px:
            raise ConfigError(f"stride_px must lie in 1..window_px={self.window_px}, got {self.stride_px}")


@dataclass(frozen=True)
class DinoiserConfig:
    """What CLIP-DINOiser needs to know besides `CoreConfig`, whose `method_config` it is.

    Attributes:
        heads: Which two heads: `published`, `starter`, a folder with `last.pt` or `heads.safetensors`
            (`local-dir:/path`), or `auto`: the starter's with the starter's CLIP, the published ones with all others.
        way: `whole`: the picture in one pass, as the authors' demo. `windows`: as their published numbers.
        long_px: The whole picture is seen at its own size, reduced to this longer side if it is larger.
        windows: Sizes of the other way.
        gamma: Correlations of patches below this count as 0.
        delta: The background refinement leaves alone what is at least this sure.
        background: What position 0 of a vocabulary is. `plain`: a class like the others. `refined`: it also gets every
            patch that no class is sure of and that looks like background (published: for lists of objects). `none`: no
            class at all, every pixel gets a label (published: for lists with stuff). `auto`: refined, unless a label
            of the vocabulary is stuff; then plain.
        prompt_templates: Texts a label is put into, `{}` standing for the label; the mean of the embeddings is used.
            `None`: CLIP's 80 for ImageNet, as published, unless `CoreConfig.prompt_template` is changed or the starter
            is asked, which knows few words.
    """

    heads: str = AUTO
    way: Way = "whole"
    long_px: int = 640
    windows: Windows = field(default_factory=Windows)
    gamma: float = 0.2
    delta: float = 0.99
    background: BackgroundUse = "auto"
    prompt_templates: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.heads not in (AUTO, PUBLISHED, STARTER) and not self.heads.startswith(LOCAL_DIR):
            raise ConfigError(f"heads must be {AUTO}, {PUBLISHED}, {STARTER} or {LOCAL_DIR}FOLDER, got {self.heads!r}")
        if self.way not in get_args(Way):
            raise ConfigError(f"way must be 'whole' or 'windows', got {self.way!r}")
        if self.background not in get_args(BackgroundUse):
            raise ConfigError(
                f"background must be one of {', '.join(get_args(BackgroundUse))}, got {self.background!r}"
            )
        if not 16 <= self.long_px <= MOST_SIDE_PX:
            raise ConfigError(f"long_px must lie in 16..{MOST_SIDE_PX}, got {self.long_px}")
        for name, value in (("gamma", self.gamma), ("delta", self.delta)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {value}")
        if self.prompt_templates is not None:
            if not self.prompt_templates:
                raise ConfigError("prompt_templates is empty: name at least one, or None for CLIP's 80")
            for template in self.prompt_templates:
                if "{}" not in template:
                    raise ConfigError(f"a prompt template must hold {{}} where the label goes, got {template!r}")


# The starter was trained on pictures of 256 pixels and a logit scale of 16: its cosines lie further apart than those of
# the published CLIP, so that 100 times them are nearly always sure. Chosen on scenes that no figure is reported on
# (set 4 of `benchmarks/methods.py`).
STARTER_SETTINGS = DinoiserConfig(long_px=256, gamma=0.4, delta=1.0)


def settings_of(config: CoreConfig) -> DinoiserConfig:
    """Return the method's own part of a configuration; where it has none, the defaults of its weights.

    Raises:
        ConfigError: If it belongs to another method.
    """
    if config.method_config is None:
        return STARTER_SETTINGS if config.clip == STARTER else DinoiserConfig()
    if not isinstance(config.method_config, DinoiserConfig):
        raise ConfigError(f"method_config of {METHOD} must be a DinoiserConfig, got {config.method_config!r}")
    return config.method_config


def clip_of(config: CoreConfig) -> str:
    """Return which CLIP serves.

    The heads belong to one CLIP. Where nobody named any, so that the configuration says CLIP-DIY's ViT-B/32, it is the
    one that the published heads were trained on.
    """
    return PUBLISHED_CLIP if config.clip == CoreConfig().clip else config.clip


def heads_of(config: CoreConfig) -> str:
    """Return which heads serve: `published`, `starter` or `local-dir:FOLDER`.

    Raises:
        ConfigError: If these heads were trained on another CLIP than the configuration names.
    """
    heads, clip = settings_of(config).heads, clip_of(config)
    if heads == AUTO:
        heads = STARTER if clip == STARTER else PUBLISHED
    owner = {PUBLISHED: PUBLISHED_CLIP, STARTER: STARTER}.get(heads)
    if owner is not None and owner != clip:
        raise ConfigError(
            f"the {heads} heads of {METHOD} belong to the CLIP {owner!r}, and {clip!r} is configured. Leave the CLIP "
            f"out, or name heads that were trained on it: {LOCAL_DIR}FOLDER"
        )
    return heads


def templates_of(config: CoreConfig) -> tuple[str, ...]:
    """Return the texts that a label is put into; see `DinoiserConfig.prompt_templates`."""
    chosen = settings_of(config).prompt_templates
    if chosen is not None:
        return chosen
    if config.prompt_template != PUBLISHED_TEMPLATE or clip_of(config) == STARTER:
        return (config.prompt_template,)
    from clipdiy.dinoiser.prompts import imagenet_templates

    return imagenet_templates()
