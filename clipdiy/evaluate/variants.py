"""Which systems are compared: the rows of the paper's tables, and our own, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from clipdiy.config import PRESETS, CleanUp, CoreConfig, ObjectnessName, Pamr
from clipdiy.dinoiser.config import METHOD, settings_of
from clipdiy.errors import ConfigError
from clipdiy.weights import STARTER

Encoder = Literal["clip-diy", "maskclip", "clip-dinoiser", "predictions"]
MapSource = ObjectnessName | Literal["instances"]


@dataclass(frozen=True)
class Variant:
    """One system, as a change to the configuration that is evaluated. `None` leaves that configuration's value.

    Attributes:
        key: Its name on the command line.
        title: Its row in a table.
        encoder: Crops (CLIP-DIY), one dense pass (`clipdiy.evaluate.maskclip`), what the method CLIP-DINOiser does, or
            none: the label maps of another program.
        preset: Another preset's weights.
        scales: Which scales s, with crops of square / 2^s.
        stride_ratio: Stride of the crops as a share of their side.
        objectness: Where the objectness comes from; `instances` is Eq. 5 over a file of masks.
        clean_up: Whether specks and holes are removed.
        pamr: Whether masks are refined by the picture.
        prune_logits: Margin below which classes count as absent.
        predictions: Where those label maps lie.
        published: mIoU in percent as the paper states it, by data set.
    """

    key: str
    title: str
    encoder: Encoder = "clip-diy"
    preset: str | None = None
    scales: tuple[int, ...] | None = None
    stride_ratio: float | None = None
    objectness: MapSource | None = None
    clean_up: bool | None = None
    pamr: bool = False
    prune_logits: float | None = None
    predictions: Path | None = None
    published: Mapping[str, float] = field(default_factory=dict)

    def configure(self, base: CoreConfig) -> CoreConfig:
        """Return the configuration that this variant is evaluated with.

        Args:
            base: What is evaluated; of another preset only device and dtype are taken from it.
        """
        if self.encoder == METHOD:
            return _dinoiser(base)
        config = base if base.method != METHOD else replace(base, method=CoreConfig().method, method_config=None)
        if self.preset is not None:
            other = PRESETS[self.preset]
            kept = {"device": base.device, "dtype": base.dtype, "label_map": base.label_map, "clean_up": base.clean_up}
            config = replace(other, **kept)  # type: ignore[arg-type]
        grid = config.grid
        if self.scales is not None:
            grid = replace(grid, patch_px=tuple(grid.square_px >> scale for scale in self.scales))
        if self.encoder == "maskclip":
            grid = replace(grid, patch_px=(grid.square_px,))  # one grid; what is on it comes from elsewhere
        if self.stride_ratio is not None:
            grid = replace(grid, stride_ratio=self.stride_ratio)
        objectness = config.objectness
        if self.objectness is not None:
            method: ObjectnessName = "none" if self.objectness == "instances" else self.objectness
            objectness = replace(objectness, method=method)
        clean_up = config.clean_up
        if self.clean_up is not None:
            clean_up = CleanUp() if self.clean_up else CleanUp(0)
        return replace(
            config,
            grid=grid,
            objectness=objectness,
            clean_up=clean_up,
            pamr=(config.pamr or Pamr()) if self.pamr else config.pamr,
            prune_logits=self.prune_logits if self.prune_logits is not None else config.prune_logits,
        )

    def map_source(self, base: CoreConfig) -> str:
        """Return where this variant's objectness comes from."""
        return self.objectness or self.configure(base).objectness.method


def _dinoiser(base: CoreConfig) -> CoreConfig:
    """Return CLIP-DINOiser's configuration: the published weights, unless the starter or other ones are evaluated.

    Where figures are made as they were published, it looks through windows of 448 pixels. The starter has no published
    way: it sees pictures whole, at the size that it was trained on.
    """
    config = base
    if base.method != METHOD and base.clip != STARTER:
        kept = {"device": base.device, "dtype": base.dtype, "label_map": base.label_map, "clean_up": base.clean_up}
        config = replace(PRESETS["dinoiser"], **kept)  # type: ignore[arg-type]
    config = replace(config, method=METHOD)
    if config.label_map == "square" and config.clip != STARTER:
        config = replace(config, method_config=replace(settings_of(config), way="windows"))
    return config


@dataclass(frozen=True)
class Table:
    """A named list of variants.

    Attributes:
        title: What the printed table is headed with.
        keys: Its rows. Differences are taken to the first one.
    """

    title: str
    keys: tuple[str, ...]


def _scale_set(scales: tuple[int, ...], voc: float, coco: float) -> Variant:
    digits = "".join(map(str, scales))
    title = f"scales {', '.join(map(str, scales))}"
    return Variant(f"scales-{digits}", title, scales=scales, published={"voc": voc, "coco": coco})


PUBLISHED_FULL = {"voc": 59.9, "coco": 31.0}
PUBLISHED_B16 = {"voc": 59.0, "coco": 30.4}

VARIANTS: dict[str, Variant] = {
    variant.key: variant
    for variant in (
        Variant("clip-diy", "CLIP-DIY", published=PUBLISHED_FULL),
        Variant("b32", "CLIP-DIY, ViT-B/32", preset="paper", published=PUBLISHED_FULL),
        Variant("b16", "CLIP-DIY, ViT-B/16", preset="paper-b16", published=PUBLISHED_B16),
        Variant("no-multi-scale", "w/o multi-scale", scales=(0,), published={"voc": 56.0, "coco": 25.9}),
        Variant("no-objectness", "w/o objectness", objectness="none", published={"voc": 24.1, "coco": 15.5}),
        _scale_set((0,), 56.0, 25.9),
        _scale_set((0, 1), 58.8, 28.7),
        _scale_set((0, 1, 2), 59.9, 31.0),
        _scale_set((0, 1, 2, 3), 59.5, 29.9),
        _scale_set((0, 1, 2, 3, 4), 59.3, 29.4),
        _scale_set((1, 2, 3), 53.8, 26.4),
        Variant("scales-12", "scales 1, 2", scales=(1, 2)),
        Variant("found-bkg", "FOUND-bkg", objectness="found-bkg", published={"voc": 48.4}),
        Variant("found", "FOUND", objectness="found", published={"voc": 59.9}),
        Variant("cutler", "CutLER (Eq. 5)", objectness="instances", published={"voc": 55.4}),
        Variant("stride-half", "stride P/2", stride_ratio=0.5),
        Variant("stride-full", "stride P", stride_ratio=1.0),
        Variant("dinoiser", "CLIP-DINOiser", encoder=METHOD),
        Variant("maskclip", "MaskCLIP + objectness", encoder="maskclip"),
        Variant("maskclip-no-objectness", "MaskCLIP", encoder="maskclip", objectness="none"),
        Variant("plain", "not refined", clean_up=False),
        Variant("clean-up", "clean-up", clean_up=True),
        Variant("pamr", "PAMR", clean_up=False, pamr=True),
        Variant("pamr-clean-up", "PAMR + clean-up", clean_up=True, pamr=True),
        *(
            Variant(f"prune-{margin}", f"pruned below -{margin} logits", prune_logits=margin)
            for margin in (2, 4, 8, 16)
        ),
    )
}

TABLES: dict[str, Table] = {
    "1": Table("Table 1: backbones", ("b32", "b16")),
    "2": Table("Table 2: ablation", ("clip-diy", "no-multi-scale", "no-objectness")),
    "3": Table(
        "Table 3: scales",
        ("scales-012", "scales-0", "scales-01", "scales-0123", "scales-01234", "scales-123", "scales-12"),
    ),
    "4": Table("Table 4: objectness", ("found", "found-bkg", "cutler")),
    "methods": Table("Two methods", ("clip-diy", "dinoiser")),
    "stride": Table("Stride of the crops", ("stride-half", "stride-full")),
    "peer": Table("A training-free peer", ("clip-diy", "no-objectness", "maskclip", "maskclip-no-objectness")),
    "refine": Table("Refinement", ("plain", "clean-up", "pamr", "pamr-clean-up")),
    "prune": Table("Absent classes left out", ("clip-diy", "prune-16", "prune-8", "prune-4", "prune-2")),
}
OWN_BACKBONE = Table("Table 1: backbone", ("clip-diy",))
WHOLE_SYSTEM = ("clip-diy", "scales-012", "found")


def _beside(variant: Variant, preset_name: str) -> Variant:
    """Return a row with what the paper says of its backbone: of ViT-B/16 it has the whole system's figure only."""
    if preset_name != "paper-b16" or variant.preset is not None or not variant.published:
        return variant
    return replace(variant, published=PUBLISHED_B16 if variant.key in WHOLE_SYSTEM else {})


def choose(table: str | None, keys: Sequence[str], preset_name: str) -> tuple[str, tuple[Variant, ...]]:
    """Turn what a person asked for into variants.

    Args:
        table: A table's name, several with commas between them, or `None`.
        keys: Names of variants, after those of the table.
        preset_name: What is evaluated. Table 1 compares the paper's backbones; any other preset is its own only row.

    Returns:
        A heading, and the variants, each once; the preset's method alone if nothing was asked for.

    Raises:
        ConfigError: If there is no such table or variant.
    """
    names = [name.strip() for name in (table or "").split(",") if name.strip()]
    wrong = [name for name in names if name not in TABLES]
    if wrong:
        raise ConfigError(f"there is no table {', '.join(map(repr, wrong))}; there are: {', '.join(TABLES)}")
    own = {"1": OWN_BACKBONE} if preset_name not in ("paper", "paper-b16") else {}
    tables = [own.get(name, TABLES[name]) for name in names]
    wanted = [*(key for rows in tables for key in rows.keys), *keys]
    unknown = [key for key in wanted if key not in VARIANTS]
    if unknown:
        raise ConfigError(f"there is no variant {', '.join(map(repr, unknown))}; there are: {', '.join(VARIANTS)}")
    own_method = "dinoiser" if preset_name == "dinoiser" else "clip-diy"
    chosen = tuple(_beside(VARIANTS[key], preset_name) for key in dict.fromkeys(wanted or [own_method]))
    return "; ".join(rows.title for rows in tables) or "Comparison", chosen
