"""Can FOUND's tokens be merged without changing its map?

    python -m benchmarks.merging [--sets 1,2,3] [--count 60] [--keeps 0.9,0.75,0.5,0.25]
    python -m benchmarks.merging --photos FILE...     how near on photos, to the network's own map without merging
    python -m benchmarks.merging --time [--repeats N] [--clock wall|cpu] [--size WxH]

Token merging (Bolya et al., ICLR 2023): behind the attention of a block, tokens are split in turns into two sets, every
one of the first set finds the one of the second whose keys are nearest by cosine, and as many of the nearest pairs as
are to go become their mean, weighed by how many patches each stands for; from then on attention counts a token as often
as that (log of the size added to its logits). Before the last block's keys are read, every patch gets the token that
it has become. FOUND reads its map off these keys patch by patch, so what is merged has one answer.

A block can halve its tokens at most, so down to a half all goes at once in the first block, where it saves most, and
below that the second block goes on. `spread` merges the same number, the same share in every block but the last.

Quality is that of the starter's FOUND (4 blocks, 1,024 patches) on composed scenes: cosine of the keys of every patch
with those of the network as it is, and IoU of the foreground (logit above 0) with its own. Bar: 0.99 for both. Time is
that of DINO ViT-S/8's shape with random weights, float32 on the CPU, ways in turns.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models.vision_transformer import Block
from torch import Tensor

from benchmarks.networks import random_config
from benchmarks.timing import CLOCKS, add_options, machine, medians_ms
from clipdiy.build import build_segmenter
from clipdiy.config import preset
from clipdiy.evaluate.datasets.scenes import SEED_STEP, SIZES_HW
from clipdiy.objectness.found import FoundNetwork, image_size_for, prepare
from clipdiy.starter.scenes import compose_scene, load_sprites

BAR = 0.99


class MergedFound(FoundNetwork):
    """FOUND whose backbone merges tokens on the way."""

    def __init__(self, network: FoundNetwork, keep: float, spread: bool = False) -> None:
        """Take a loaded network.

        Args:
            network: Weights.
            keep: Share of the patches' tokens that the last block is to see, in (0, 1].
            spread: Whether every block but the last merges the same share, instead of the first ones all they can.
        """
        super().__init__(network.backbone, network.head)
        self.shares = shares(keep, len(network.backbone.blocks) - 1, spread)

    def body(self, images: Tensor, positions: Tensor) -> Tensor:
        """See `FoundNetwork.body`."""
        if images.shape[0] > 1:
            return torch.cat([self.body(image, positions) for image in images.split(1)])
        vit = self.backbone
        patches = vit.patch_embed.proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([vit.cls_token, patches], dim=1) + positions.to(images.dtype)
        sizes = torch.ones(tokens.shape[1], dtype=tokens.dtype)
        became = torch.arange(tokens.shape[1])  # which token each patch, and CLS, is part of
        *blocks, last = vit.blocks
        for block, share in zip(blocks, self.shares, strict=True):
            tokens, keys = attend(block, tokens, sizes)
            if share < 1:
                tokens, sizes, part_of = merge(tokens, sizes, keys, share)
                became = part_of[became]
            tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        qkv: Tensor = last.attn.qkv(last.norm1(tokens))
        return qkv[:, became]


def shares(keep: float, blocks: int, spread: bool) -> list[float]:
    """Return what share of the patches' tokens each block leaves, the first block first."""
    if spread:
        return [keep ** (1 / blocks)] * blocks
    left = []
    for _ in range(blocks):
        left.append(max(keep, 0.5))
        keep /= left[-1]
    return left


def attend(block: Block, tokens: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Run the first half of a block on tokens that stand for several.

    Args:
        block: A plain pre-norm block.
        tokens: (1, n, D).
        sizes: (n,) how many patches each stands for.

    Returns:
        Tokens behind the attention, (1, n, D), and their keys, (n, D / heads), the mean over the heads.
    """
    attention = block.attn
    count, width = tokens.shape[1:]
    qkv = attention.qkv(block.norm1(tokens)).reshape(1, count, 3, attention.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    mask = None if bool((sizes == 1).all()) else sizes.log()[None, None, None].expand(1, 1, count, count)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    mixed = attention.proj(mixed.transpose(1, 2).reshape(1, count, width))
    return tokens + block.ls1(mixed), key[0].mean(dim=0)


def merge(tokens: Tensor, sizes: Tensor, keys: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the tokens whose keys are nearest; the first, CLS, stays by itself.

    Args:
        tokens: (1, n, D).
        sizes: (n,) how many patches each stands for.
        keys: (n, d).
        share: Of the patches' tokens that are to be left, at least a half.

    Returns:
        The tokens that are left, their sizes, and for each of the old ones the position of the one it is part of.
    """
    count = tokens.shape[1]
    go = min(round((count - 1) * (1 - share)), count // 2)
    unit = F.normalize(keys, dim=-1)
    first, second = torch.arange(1, count, 2), torch.arange(0, count, 2)
    cosine = unit[first] @ unit[second].T
    cosine[:, 0] = -torch.inf  # nothing becomes part of CLS
    nearest, target = cosine.max(dim=1)
    order = nearest.argsort(descending=True)
    gone, stay = order[:go], order[go:].sort().values
    part_of = torch.empty(count, dtype=torch.int64)
    part_of[second] = torch.arange(len(second))
    part_of[first[stay]] = len(second) + torch.arange(len(stay))
    part_of[first[gone]] = target[gone]
    left = len(second) + len(stay)
    new_sizes = torch.zeros(left, dtype=sizes.dtype).index_add_(0, part_of, sizes)
    summed = torch.zeros(left, tokens.shape[2], dtype=tokens.dtype).index_add_(0, part_of, tokens[0] * sizes[:, None])
    return (summed / new_sizes[:, None])[None], new_sizes, part_of


def scenes(sets: Sequence[int], count: int) -> Iterator[Tensor]:
    """Yield drawn scenes, (3, H, W) uint8."""
    sprites = load_sprites()
    for number in sets:
        for i in range(count):
            scene = compose_scene(number * SEED_STEP + i, size_hw=SIZES_HW[i % len(SIZES_HW)], sprites=sprites)
            yield torch.from_numpy(scene.image.copy()).permute(2, 0, 1)


def photos(paths: Sequence[Path]) -> Iterator[Tensor]:
    """Yield photos, (3, H, W) uint8."""
    for path in paths:
        with Image.open(path) as image:
            yield torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@torch.inference_mode()
def quality(images: Iterable[Tensor], keeps: Sequence[float]) -> None:
    """Print how near the merged network's keys and foreground come to those of the network as it is."""
    starter = build_segmenter(preset("starter", device="cpu", dtype="float32"), warm_up=False)
    exact = starter._objectness_network
    assert isinstance(exact, FoundNetwork)
    ways = {(keep, spread): MergedFound(exact, keep, spread) for keep in keeps for spread in (False, True)}
    cosines: dict[tuple[float, bool], list[float]] = {way: [] for way in ways}
    ious: dict[tuple[float, bool], list[float]] = {way: [] for way in ways}
    for image in images:
        size_hw = image_size_for((image.shape[1], image.shape[2]), starter.config.objectness)
        batch = prepare(image, size_hw, exact.patch_px)[None]
        keys = exact(batch).keys
        there = exact.logits(keys) > 0
        for way, network in ways.items():
            merged = network(batch).keys
            found = network.logits(merged) > 0
            cosines[way].append(float(F.cosine_similarity(keys, merged).mean()))
            union = int((there | found).sum())
            ious[way].append(int((there & found).sum()) / union if union else 1.0)
    print(f"{len(next(iter(ious.values())))} pictures; bar {BAR}")
    print("| tokens left | merged | cosine of the keys | the worst | IoU of the foreground | the worst |")
    print("|---:|---|---:|---:|---:|---:|")
    for (keep, spread), near in cosines.items():
        iou = ious[keep, spread]
        where = "in every block" if spread else "as early as can be"
        print(f"| {keep:.0%} | {where} | {np.mean(near):.4f} | {min(near):.4f} | {np.mean(iou):.3f} | {min(iou):.3f} |")


@torch.inference_mode()
def times(keeps: Sequence[float], options: argparse.Namespace) -> None:
    """Print what merging saves at the published shapes."""
    width, height = map(int, options.size.split("x"))
    image = torch.from_numpy(compose_scene(7, size_hw=(height, width)).image.copy()).permute(2, 0, 1)
    base = build_segmenter(random_config(device="cpu", dtype="float32"), warm_up=False)
    exact = base._objectness_network
    assert isinstance(exact, FoundNetwork)
    batch = prepare(image, (height, width), exact.patch_px)[None]
    networks = {"all": exact}
    for keep in keeps:
        networks[f"{keep:.0%}, early"] = MergedFound(exact, keep)
        networks[f"{keep:.0%}, in every block"] = MergedFound(exact, keep, spread=True)
    taken = medians_ms(
        {name: lambda one=one: one(batch) for name, one in networks.items()},
        options.repeats,
        clock=CLOCKS[options.clock],
    )
    print(f"{machine()}, {options.clock} clock, {options.size}, {options.repeats} runs in turns")
    print("| tokens left | FOUND | |\n|---|---:|---:|")
    for name, ms in taken.items():
        print(f"| {name} | {ms:.0f} ms | {taken['all'] / ms:.2f}x |")


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--sets", default="1,2,3")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--keeps", default="0.9,0.75,0.5,0.25")
    parser.add_argument("--photos", type=Path, nargs="+", help="files to look at in place of scenes")
    parser.add_argument("--time", action="store_true", help="time instead of quality")
    parser.add_argument("--size", default="640x480")
    options = parser.parse_args()
    keeps = [float(keep) for keep in options.keeps.split(",")]
    if options.time:
        times(keeps, options)
    else:
        sets = [int(number) for number in options.sets.split(",")]
        quality(photos(options.photos) if options.photos else scenes(sets, options.count), keeps)


if __name__ == "__main__":
    main()
