"""From a configuration to CLIP-DINOiser with loaded weights, on its device, warmed up."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from clipdiy.build import (
    choose_device,
    load_clip,
    locate_clip,
    starter_doubts,
    starter_others,
    with_worthwhile_runtime,
)
from clipdiy.config import CoreConfig
from clipdiy.dinoiser.config import METHOD, clip_of, heads_of, templates_of
from clipdiy.dinoiser.loading import load_heads, locate_heads
from clipdiy.dinoiser.method import Dinoiser
from clipdiy.dinoiser.needs import dinoiser_files
from clipdiy.errors import ConfigError
from clipdiy.loading import digest_of
from clipdiy.others.choice import Chooser
from clipdiy.photo import Photo
from clipdiy.vocabulary import make_vocabulary
from clipdiy.weights import default_weights_dir, fetch_command, require_present


def build_dinoiser(
    config: CoreConfig, *, weights_dir: Path | None = None, cache_dir: Path | None = None, warm_up: bool = True
) -> Dinoiser:
    """Find, check and load the weights, and run one small picture through them.

    Args:
        config: Names the method and, in `method_config`, what is its own.
        weights_dir: Where downloaded weights lie; the user's cache folder by default.
        cache_dir: Where text embeddings and converted networks are kept for the next start; without it they are made
            again.
        warm_up: Run one picture, so that the first real one is not slower than the others and broken weights show now.

    Raises:
        ConfigError: If the configuration names something that does not exist, or a runtime for a tower that is no ViT.
        RuntimeCheckError: If what a runtime computes differs too much from torch.
        WeightsError: If weights are missing, damaged, or do not fit. No stand-in is ever used.
    """
    if config.compiled:
        raise ConfigError(f"{METHOD} is not compiled: leave compiled at false")
    if weights_dir is None:
        weights_dir = default_weights_dir()
    name = clip_of(config)
    require_present(dinoiser_files(config), weights_dir, fetch_command(config))  # all that is missing, in one message
    device = choose_device(config.device)
    config = with_worthwhile_runtime(config, device)
    clip_files, heads_file = locate_clip(name, weights_dir), locate_heads(heads_of(config), weights_dir)
    clip = load_clip(clip_files, config, device, cache_dir)
    heads = load_heads(heads_file.path).to(device)
    weights_id = digest_of({**clip_files.digests, **heads_file.digests})
    tower = arithmetic = None
    if config.runtime != "torch":
        from clipdiy.dinoiser.handover import tower_executed_by
        from clipdiy.runtimes.handover import arithmetic_of

        if device.type != "cpu":
            raise ConfigError(f"runtime {config.runtime!r} runs on the CPU only, and the device is {device}")
        folder = cache_dir / "runtimes" if cache_dir else None
        tower = tower_executed_by(config.runtime, clip, folder=folder, weights_id=weights_id)
        arithmetic = arithmetic_of(config.runtime)
    served = replace(config, clip=name)
    # One template: 80 for each of hundreds of common things would be minutes of text, for what is drawn as nothing.
    templates = (config.prompt_template,)
    chooser = Chooser(clip.embed_texts, clip.embed_vocabulary, names=starter_others(served), templates=templates)
    method = Dinoiser(
        config,
        clip,
        heads,
        name=name,
        weights_id=weights_id,
        find_doubts=starter_doubts(served),
        chooser=chooser,
        tower=tower,
        arithmetic=arithmetic,
    )
    if warm_up:
        grey = Photo.from_array(np.full((64, 64, 3), 128, np.uint8))
        method.segment(method.encode([grey])[0], make_vocabulary(["object"], template=templates_of(config)[:1]))
    return method
