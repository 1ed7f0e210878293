"""Which weight files CLIP-DINOiser needs under a configuration. Loads no torch."""

from clipdiy.config import CoreConfig
from clipdiy.dinoiser.config import PUBLISHED, clip_of, heads_of
from clipdiy.weights import WeightFile, clip_files

COMMIT = "a954aae6fb61f5ff18834e50a0c78a2258cd9afb"
HEADS = WeightFile(
    "CLIP-DINOiser's two heads",
    "clip_dinoiser/last.pt",
    f"https://raw.githubusercontent.com/wysoczanska/clip_dinoiser/{COMMIT}/checkpoints/last.pt",
    git_sha1="0b6c94d9c439ebac7bcb07fe805be3654ea03c7f",
)


def dinoiser_files(config: CoreConfig) -> tuple[WeightFile, ...]:
    """List what has to be fetched; empty where everything is bundled or in named folders.

    Raises:
        ConfigError: If a model is named that nobody knows, or heads that do not belong to it.
    """
    heads = (HEADS,) if heads_of(config) == PUBLISHED else ()
    return (*clip_files(clip_of(config)), *heads)
