"""Where the time of a method goes: what `clipdiy bench` can time apart, and that of CLIP-DIY."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch.utils.flop_counter import FlopCounterMode

from clipdiy.config import FAST_PRESET, with_faster_objectness
from clipdiy.objectness.found import FoundNetwork
from clipdiy.photo import Photo
from clipdiy.segmenter import Segmenter
from clipdiy.vocabulary import Vocabulary


@dataclass(frozen=True)
class Profile:
    """Parts of a method that can be run by themselves.

    Attributes:
        encoding: Name -> runs one part of encoding a photo.
        asking: Name -> runs one part of answering a vocabulary.
        networks: Which of `encoding` are the image networks.
        work_gflop: Multiplications and additions of each of these for one photo, in units of 10^9.
        dtype: What they compute in.
        sizes: Sizes that the work depends on, for a person.
        ways: What was chosen where there is a choice: `image towers` -> `torch.bfloat16`.
        less_work: By the name of a preset that does less, the work of those networks that it leaves less to do.
    """

    encoding: Mapping[str, Callable[[], object]]
    asking: Mapping[str, Callable[[], object]]
    networks: tuple[str, ...]
    work_gflop: Mapping[str, float]
    dtype: torch.dtype
    sizes: str
    ways: Mapping[str, str]
    less_work: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def profile_segmenter(segmenter: Segmenter, photo: Photo, vocabulary: Vocabulary) -> Profile:
    """Take CLIP-DIY apart."""
    prompts = [prompt for prompts in vocabulary.prompts for prompt in prompts]
    rounds = iter(range(10**6))

    def new_texts() -> None:
        number = next(rounds)
        segmenter.clip.embed_texts([f"{prompt} {number}" for prompt in prompts])

    crops = segmenter.crops([photo])
    way, grid = segmenter.config.objectness.method, segmenter.config.grid
    fast = with_faster_objectness(segmenter.config)
    return Profile(
        {
            "cutting crops": lambda: segmenter.crops([photo]),
            "CLIP's image tower": lambda: segmenter.clip.embed_crops(crops),
            "FOUND": lambda: segmenter.objectness(photo, [way]),
        },
        {"text, new": new_texts, "text, known": lambda: segmenter.clip.embed_vocabulary(vocabulary)},
        ("CLIP's image tower", "FOUND"),
        {"CLIP's image tower": crops_gflop(segmenter), "FOUND": objectness_gflop(segmenter, photo)},
        segmenter.clip.dtype,
        f"{grid.patch_px} of {grid.square_px}, objectness {way}",
        {
            "image towers": segmenter.clip.arithmetic,
            "text tower": "tokens that count" if segmenter.clip.trims_texts else "whole context",
            "edges": "refined (PAMR)" if segmenter.config.pamr else "as they are",
            "label map": (
                "strips on the GPU" if segmenter.device.type == "cuda" else "blocks, over classes that can win"
            ),
        },
        {FAST_PRESET: {"FOUND": objectness_gflop(segmenter.with_config(fast), photo)}} if fast else {},
    )


def segmenter_gflop(segmenter: Segmenter, photo: Photo) -> float:
    """Count the multiplications and additions of both image towers for one photo, in units of 10^9."""
    return crops_gflop(segmenter) + objectness_gflop(segmenter, photo)


def crops_gflop(segmenter: Segmenter) -> float:
    """Count the multiplications and additions of CLIP's image tower for the crops of one photo, in units of 10^9."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not see into it
    try:
        with FlopCounterMode(display=False) as crop:
            images = torch.zeros(1, 3, segmenter.clip.input_px, segmenter.clip.input_px, device=segmenter.device)
            segmenter.clip.network.encode_image(images.to(segmenter.clip.dtype))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return float(crop.get_total_flops() * segmenter.crop_count) / 1e9


def objectness_gflop(segmenter: Segmenter, photo: Photo) -> float:
    """Count those of the objectness network for one photo, whatever executes it."""
    way, network = segmenter.config.objectness.method, segmenter._objectness_network
    if network is None or way not in network.ways:
        return 0.0
    if isinstance(network, FoundNetwork):
        network = network.executed_by(None)  # the counter sees torch alone
    with FlopCounterMode(display=False) as counter:
        network.maps([segmenter._image(photo)], segmenter.config.objectness, [way])
    return float(counter.get_total_flops()) / 1e9
