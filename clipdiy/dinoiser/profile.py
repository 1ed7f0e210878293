"""Where the time of CLIP-DINOiser goes: what `clipdiy bench` can time apart."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from clipdiy.dinoiser.heads import pool
from clipdiy.dinoiser.method import Dinoiser
from clipdiy.photo import Photo
from clipdiy.profile import Profile
from clipdiy.vocabulary import Vocabulary


def profile_dinoiser(method: Dinoiser, photo: Photo, vocabulary: Vocabulary) -> Profile:
    """Take CLIP-DINOiser apart."""
    prompts = [prompt for prompts in vocabulary.prompts for prompt in prompts]
    rounds = iter(range(10**6))

    def new_texts() -> None:
        number = next(rounds)
        method.clip.embed_texts([f"{prompt} {number}" for prompt in prompts])

    passes = method.passes(photo)

    def networks() -> None:
        for image in passes:
            method.read(image[None])

    readings = [method.read(image[None]) for image in passes]

    @torch.inference_mode()
    def pooling() -> None:
        for read in readings:
            pool(read.dense[0], read.directions[0], method.settings.gamma)

    with FlopCounterMode(display=False) as counter:
        networks()
    sizes = ", ".join(sorted({f"{image.shape[1]} x {image.shape[2]}" for image in passes}))
    return Profile(
        {"CLIP's image tower and heads": networks, "correlations and pooling": pooling},
        {"text, new": new_texts, "text, known": lambda: method.clip.embed_vocabulary(vocabulary)},
        ("CLIP's image tower and heads",),
        {"CLIP's image tower and heads": float(counter.get_total_flops()) / 1e9},
        method.clip.dtype,
        f"{len(passes)} x {sizes}, {method.settings.way}",
        {
            "image towers": method.arithmetic,
            "text tower": "tokens that count" if method.clip.trims_texts else "whole context",
            "edges": "refined (PAMR)" if method.config.pamr else "as they are",
        },
    )
