"""What do prompts cost: over the whole context against over the tokens that count, and when they are known?

    python -m benchmarks.text [--repeats N] [--clock wall|cpu] [--classes C] [--architecture NAME]

Random weights of the architecture's shape; prompts as a project would have them, one to four words in the published
template. All ways run in turns.
"""

import argparse
import random
import tempfile
from functools import partial
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F

from benchmarks.timing import CLOCKS, add_options, machine, medians_ms
from clipdiy.clip import TEXT_BATCH, ClipEncoder
from clipdiy.text_cache import TextCache
from clipdiy.text_tower import causal_text_tower
from clipdiy.vocabulary import make_vocabulary

SYLLABLES = ("wall", "stone", "fruit", "metal", "river", "table", "window", "leaf", "floor", "cloth", "sand", "tile")


def names(count: int, seed: int = 0) -> list[str]:
    """Return different names of one to four short words, most of one or two, like those of COCO-Stuff."""
    rng = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        made[" ".join(rng.choices(SYLLABLES, k=rng.choice((1, 1, 2, 2, 2, 3, 4))))] = None
    return list(made)


def main() -> None:
    """Run the benchmark and print its lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--classes", type=int, default=171)
    parser.add_argument("--architecture", default="ViT-B-32")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = open_clip.create_model(options.architecture).eval().requires_grad_(False)
    tokenizer = open_clip.get_tokenizer(options.architecture)

    def encoder(cache: TextCache | None = None) -> ClipEncoder:
        return ClipEncoder(
            network,
            tokenizer,
            input_px=224,
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            device=torch.device("cpu"),
            dtype=torch.float32,
            crop_batch=16,
            text_cache=cache,
        )

    @torch.inference_mode()
    def untrimmed(texts: list[str]) -> torch.Tensor:
        parts = [network.encode_text(tokenizer(texts[i : i + TEXT_BATCH])) for i in range(0, len(texts), TEXT_BATCH)]
        return F.normalize(torch.cat(parts), dim=-1)

    vocabulary = make_vocabulary(names(options.classes - 1))
    prompts = [prompts[0] for prompts in vocabulary.prompts]
    difference = float((untrimmed(prompts) - encoder().embed_texts(prompts)).abs().max())
    tower = causal_text_tower(network)
    lengths = tower.lengths(tokenizer(prompts)) if tower else torch.tensor([77])
    with tempfile.TemporaryDirectory() as folder:
        encoder(TextCache(Path(folder), "e")).embed_vocabulary(vocabulary)
        known = encoder()
        known.embed_vocabulary(vocabulary)
        again = partial(make_vocabulary, [label.name for label in vocabulary.labels[1:]])  # as each request does
        ms = medians_ms(
            {
                "whole context": lambda: untrimmed(prompts),
                "tokens that count": lambda: encoder().embed_vocabulary(vocabulary),
                "known on disk": lambda: encoder(TextCache(Path(folder), "e")).embed_vocabulary(vocabulary),
                "known": lambda: known.embed_vocabulary(again()),
            },
            options.repeats,
            clock=CLOCKS[options.clock],
        )
    print(
        f"{machine()}\n{options.architecture}, {options.classes} prompts of {lengths.min()} to {lengths.max()} tokens"
    )
    for name, taken in ms.items():
        print(f"{name:<18} {taken:9.2f} ms   {ms['whole context'] / taken:7.1f}x")
    print(f"largest difference of a number: {difference:.1e}")


if __name__ == "__main__":
    main()
