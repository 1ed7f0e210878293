"""CLIP-DINOiser small enough for unit tests, with the weights and the photo of its golden files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from clipdiy.config import CleanUp, CoreConfig
from clipdiy.dinoiser.build import build_dinoiser
from clipdiy.dinoiser.config import DinoiserConfig
from clipdiy.dinoiser.method import Dinoiser
from clipdiy.photo import Photo

FIXTURES = Path(__file__).parents[1] / "fixtures"
GOLDEN_DINOISER = FIXTURES / "golden_dinoiser"
CONFIG = CoreConfig(
    method="clip-dinoiser",
    method_config=DinoiserConfig(heads=f"local-dir:{GOLDEN_DINOISER}", prompt_templates=("a photo of a {}",)),
    clip=f"local-dir:{GOLDEN_DINOISER / 'tiny_clip'}",
    clean_up=CleanUp(0),
    device="cpu",
    dtype="float32",
)


def changed(config: CoreConfig, **changes: object) -> CoreConfig:
    """Replace fields, those of the method's own part too."""
    own = {name: changes.pop(name) for name in list(changes) if name in DinoiserConfig.__dataclass_fields__}
    return replace(config, method_config=replace(config.method_config, **own), **changes)


def load_dinoiser(config: CoreConfig = CONFIG) -> Dinoiser:
    """Load the tiny weights."""
    return build_dinoiser(config, warm_up=False)


def _read(path: Path) -> Photo:
    with Image.open(path) as image:
        return Photo.from_array(np.array(image.convert("RGB")))


PHOTO = _read(FIXTURES / "golden" / "photo.png")
