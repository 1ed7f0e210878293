"""A whole request, from pixels to brush codes, against the plain reading of the paper.

    python -m benchmarks.request [--repeats N] [--clock wall|cpu] [--classes C] [--size WxH] [--runtimes a,b]

Random weights of the published shapes, nothing cached but text embeddings (the reference embeds all prompts on every
call, which is part of what it is). All ways run in turns. Beside the time, how many pixels of the label map
differ from float32's, with class embeddings mixed from what tells the picture's own crops apart, so that many
classes compete closely: harder than a real vocabulary.
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from backend.outputs.brush import encode_label_map
from benchmarks.networks import DEFAULT_DIR, random_config, reference_of
from benchmarks.text import names
from benchmarks.timing import CLOCKS, add_options, machine, medians_ms
from clipdiy.build import build_segmenter
from clipdiy.errors import ClipDiyError
from clipdiy.photo import Photo
from clipdiy.segmenter import Segmenter
from clipdiy.starter.scenes import compose_scene
from clipdiy.vocabulary import Vocabulary, make_vocabulary

RUNTIMES = "onnxruntime,openvino,openvino-int8"


def request(segmenter: Segmenter, photo: Photo, vocabulary: Vocabulary) -> dict[int, list[int]]:
    """Do what the service does with a picture it has not seen."""
    segmentation = segmenter.segment(segmenter.encode([photo])[0], vocabulary)
    return encode_label_map(segmentation.label_map, segmentation.present)


def hard_classes(segmenter: Segmenter, photo: Photo, count: int) -> torch.Tensor:
    """Return (count, D) unit vectors: what all crops have in common, and mixes of what tells them apart."""
    crops = torch.cat([scale.flatten(0, 1).float() for scale in segmenter.encode([photo])[0].crop_embeddings])
    mean = crops.mean(dim=0)
    mixes = torch.randn(count, len(crops), generator=torch.Generator().manual_seed(0))
    return F.normalize(F.normalize(mean, dim=0) + F.normalize(mixes @ (crops - mean), dim=-1), dim=-1)


def main() -> None:
    """Run the benchmark and print its lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--runtimes", default=RUNTIMES, help="comma-separated; empty for torch alone")
    options = parser.parse_args()
    logging.getLogger("clipdiy").setLevel(logging.INFO)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    width, height = map(int, options.size.split("x"))
    photo = Photo.from_array(compose_scene(7, size_hw=(height, width)).image)
    vocabulary = make_vocabulary(names(options.classes - 1))
    prompts = [prompts[0] for prompts in vocabulary.prompts]

    config = random_config(options.architecture, device="cpu")
    cache_dir = Path(DEFAULT_DIR) / "cache"
    exact = build_segmenter(replace(config, dtype="float32"), cache_dir=cache_dir)
    reference = reference_of(exact)
    segmenters = {"float32": exact, "auto": build_segmenter(config, cache_dir=cache_dir)}
    for runtime in filter(None, options.runtimes.split(",")):
        try:
            segmenters[runtime] = build_segmenter(replace(config, runtime=runtime), cache_dir=cache_dir)
        except ClipDiyError as err:
            print(f"{runtime}: {err}")
    ways = {"reference": lambda: reference.predict(photo.pixels, prompts)}
    for name, segmenter in segmenters.items():
        ways[name] = lambda segmenter=segmenter: request(segmenter, photo, vocabulary)
    for segmenter in segmenters.values():
        segmenter.clip.embed_vocabulary(vocabulary)
    ms = medians_ms(ways, options.repeats, warm_up=0, clock=CLOCKS[options.clock])

    print(
        f"\n{machine()}, {options.clock} clock\n"
        f"{options.architecture}, {options.size}, {options.classes} classes, {options.repeats} runs"
    )
    hard = hard_classes(exact, photo, options.classes)
    labels = {}
    for name, segmenter in segmenters.items():
        segmenter.clip.embed_vocabulary = lambda _vocabulary: hard
        labels[name] = segmenter.segment(segmenter.encode([photo])[0], vocabulary).label_map
    used = len(np.unique(labels["float32"]))
    print(f"{'reference':<14} {ms['reference'] / 1e3:7.2f} s")
    for name, segmenter in segmenters.items():
        changed = float((labels[name] != labels["float32"]).mean())
        print(
            f"{name:<14} {ms[name] / 1e3:7.2f} s  {ms['reference'] / ms[name]:5.2f}x  {changed:6.2%} of the pixels"
            f" change ({used} classes in the map)  {segmenter.clip.arithmetic}"
        )


if __name__ == "__main__":
    main()
