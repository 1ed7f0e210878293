"""Does label propagation draw better edges than PAMR? LPOSS (Stojnić et al., CVPR 2025) over CLIP-DIY's own map.

    python -m benchmarks.lposs [--sets 1,2,3] [--count 60] [--single]
    python -m benchmarks.lposs --tune                  every number that was tried, on other scenes
    python -m benchmarks.lposs --keys                  what DINO's keys tell apart
    python -m benchmarks.lposs --cost [--classes N]    at the published networks' shapes

A trial; nothing of it is in the product. Numbers, units of distances and forms of weights are those of the authors'
program. Nodes of a graph hold class probabilities Y0, edges say how alike two nodes are, and

    Y = (1 - alpha) (I - alpha S)^-1 Y0,    S = D^-1/2 A D^-1/2

gives every node what its likes have, by ten steps of conjugate gradients. Two graphs, one after the other:

- `patches` (LPOSS): DINO's patches, each with its k nearest by cosine, weighted cos^3 exp(-0.01 d), d in pixels;
- `pixels` (LPOSS+): pixels with all others of a square of 13, weighted exp(-d / 0.01), d in Lab scaled to [0, 1].

The paper starts from MaskCLIP's probabilities and DINO's values; here Y0 is what PAMR is given in the product (guided
cosines under CLIP's logit scale, of the classes that win somewhere), and likeness that of DINO's keys, which FOUND's
pass through DINO has made anyway. An edge found from both ends counts twice. After each graph the classes of a node are
scaled to sum to 1.

Rows that are not `as published` have the numbers that did best on other 60 scenes (`--tune`).

The starter's DINO is a small stand-in that was trained for objectness: its keys tell object from background and hardly
one object from another. So there are rows for the truth's patches, which are alike by what they truly show: no network
can reach them.

Starter weights, scenes as of `clipdiy evaluate scenes:N`, 48 nouns and the background as labels, specks removed as in
the service. mIoU and boundary IoU are pooled, intervals are 95 % by bootstrap over scenes, differences paired. ms is
the median processor time, on one thread, from cosines of crops to a label map at full size: no network, no clean-up.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.fast import CLASSES, Pooled, cells_of
from benchmarks.timing import machine, medians_ms
from clipdiy.aggregate import grid_similarity, similarity_field
from clipdiy.build import build_segmenter
from clipdiy.clean_up import clean_up
from clipdiy.config import Pamr, preset
from clipdiy.evaluate.boundary import boundary_overlap
from clipdiy.evaluate.confusion import confusion_matrix
from clipdiy.evaluate.datasets.scenes import OBJECTS, SEED_STEP, SINGLE_OBJECT, SIZES_HW
from clipdiy.features import unpack_picture
from clipdiy.guide import ObjectnessField, guide
from clipdiy.label_maps import full_label_map
from clipdiy.objectness.found import FoundNetwork, ObjectnessMap, image_size_for, prepare
from clipdiy.pamr import pamr, refined_label_map
from clipdiy.photo import Photo
from clipdiy.segmenter import Segmenter
from clipdiy.starter.scenes import NOUNS, Sprites, compose_scene, load_sprites
from clipdiy.upsample import upsampled_argmax
from clipdiy.vocabulary import make_vocabulary

TUNING_SET = 9
STEPS = 10

Spread = Callable[[Tensor], Tensor]
"""The product with S: (C, ...) to the same shape, class by class."""


@dataclass(frozen=True)
class Patches:
    """The graph of patches; the paper's numbers by default.

    Attributes:
        neighbours: k, of each patch; all others where there are fewer.
        alpha: How much comes from other nodes.
        power: Of the cosine.
        decay: What a pixel of distance takes off, in pixels of the picture that DINO sees.
        truth: Whether likeness is the truth's instead of DINO's.
    """

    neighbours: int = 400
    alpha: float = 0.95
    power: float = 3.0
    decay: float = 0.01
    truth: bool = False


@dataclass(frozen=True)
class Pixels:
    """The graph of pixels; the paper's numbers by default.

    Attributes:
        reach: How far neighbours are away at most, down and across: half of a square without its middle.
        tau: The distance of colours at which a weight falls to 1/e.
        alpha: How much comes from other nodes.
    """

    reach: int = 6
    tau: float = 0.01
    alpha: float = 0.95


def patch_affinity(keys: Tensor, patch_px: int, settings: Patches) -> Tensor:
    """Weigh each patch's edges to those that look most like it.

    Args:
        keys: (D, h, w) float32.
        patch_px: Side of a patch in pixels.
        settings: k, power and decay.

    Returns:
        (h * w, h * w) float32, symmetric, at least 0; 0 for a patch and itself.
    """
    rows, cols = keys.shape[1:]
    unit = F.normalize(keys.flatten(1), dim=0)
    cosines = (unit.T @ unit).fill_diagonal_(-torch.inf)
    nearest = cosines.topk(min(settings.neighbours, rows * cols - 1), dim=1)
    row, col = torch.arange(rows * cols) // cols, torch.arange(rows * cols) % cols
    down, across = row[nearest.indices] - row[:, None], col[nearest.indices] - col[:, None]
    distance_px = patch_px * torch.hypot(down.float(), across.float())
    weights = nearest.values.clamp(min=0) ** settings.power * torch.exp(-settings.decay * distance_px)
    directed = torch.zeros_like(cosines).scatter_(1, nearest.indices, weights)
    return directed + directed.T


def normalised(affinity: Tensor) -> Tensor:
    """Return S, (N, N): each edge divided by the root of both ends' sums; a node without edges keeps none."""
    scale = _inverse_root(affinity.sum(dim=1))
    return scale[:, None] * affinity * scale


def _inverse_root(degree: Tensor) -> Tensor:
    return torch.where(degree > 0, degree.rsqrt(), 0)


class ColourGraph:
    """S over a picture's pixels: each tied to all in a square around it, the more the liker their colours."""

    def __init__(self, image: Tensor, settings: Pixels) -> None:
        """Weigh the edges of a picture, (3, H, W) uint8.

        Each edge is kept once, with all others of the same direction and length: 84 maps of the picture's size for a
        square of 13.
        """
        lab = scaled_lab(image)
        size_hw, reach = lab.shape[1:], settings.reach
        degree = torch.zeros(size_hw)
        self._edges = []
        for down in range(reach + 1):
            for right in range(-reach if down else 1, reach + 1):
                here, there = _ends(size_hw, down, right)
                weights = torch.exp((lab[here] - lab[there]).square().sum(dim=0).sqrt() / -settings.tau)
                degree[here[1:]] += weights
                degree[there[1:]] += weights
                self._edges.append((here, there, weights))
        scale = _inverse_root(degree)
        for here, there, weights in self._edges:
            weights.mul_(scale[here[1:]]).mul_(scale[there[1:]])

    def spread(self, values: Tensor) -> Tensor:
        """Return S times values, class by class: (C, H, W) float32."""
        spread = torch.zeros_like(values)
        for here, there, weights in self._edges:
            spread[here].addcmul_(values[there], weights)
            spread[there].addcmul_(values[here], weights)
        return spread


Window = tuple[slice, slice, slice]


def _ends(size_hw: Sequence[int], down: int, right: int) -> tuple[Window, Window]:
    """Return all pixels that have another so far below (0 or more) and to the right, and those others."""
    height, width = size_hw
    left = max(0, -right)
    wide = max(0, width - abs(right))
    every, high = slice(None), max(0, height - down)
    here = every, slice(0, high), slice(left, left + wide)
    there = every, slice(down, down + high), slice(left + right, left + right + wide)
    return here, there


def scaled_lab(image: Tensor) -> Tensor:
    """Return CIE Lab of an sRGB picture, (3, H, W) uint8 to float32, L in [0, 1] and a, b by the same 256 steps."""
    rgb = image.permute(1, 2, 0).numpy().astype(np.float32) / 255
    lab = torch.from_numpy(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)).permute(2, 0, 1)
    return lab / torch.tensor([100.0, 256.0, 256.0])[:, None, None]


def propagate(spread: Spread, given: Tensor, alpha: float, steps: int = STEPS) -> Tensor:
    """Solve (I - alpha S) Y = (1 - alpha) Y0 by conjugate gradients from 0, each class by itself.

    Args:
        spread: The product with S, which has to be symmetric.
        given: Y0, (C, ...) float32.
        alpha: Below 1.
        steps: How many; a class that is solved before stays as it is.

    Returns:
        Y, of the same shape.
    """
    each = (len(given), *(1 for _ in given.shape[1:]))
    residual = (1 - alpha) * given
    found, direction = torch.zeros_like(given), residual
    left = residual.flatten(1).square().sum(dim=1)
    for _ in range(steps):
        changed = direction - alpha * spread(direction)
        curvature = (direction * changed).flatten(1).sum(dim=1)
        step = torch.where(curvature > 0, left / curvature, 0).reshape(each)
        found = found + step * direction
        residual = residual - step * changed
        before, left = left, residual.flatten(1).square().sum(dim=1)
        direction = residual + torch.where(before > 0, left / before, 0).reshape(each) * direction
    return found


def over_patches(given: Tensor, keys: Tensor, patch_px: int, settings: Patches) -> Tensor:
    """Spread probabilities, (C, h, w), over the graph of patches."""
    matrix = normalised(patch_affinity(keys, patch_px, settings))

    def spread(values: Tensor) -> Tensor:
        return (values.flatten(1) @ matrix).reshape(values.shape)

    return _as_shares(propagate(spread, given, settings.alpha))


def over_pixels(given: Tensor, image: Tensor, settings: Pixels) -> Tensor:
    """Spread probabilities, (C, H, W), over the graph of a picture's pixels, (3, H, W) uint8."""
    return _as_shares(propagate(ColourGraph(image, settings).spread, given, settings.alpha))


def _as_shares(values: Tensor) -> Tensor:
    return values / values.sum(dim=0).clamp(min=torch.finfo(torch.float32).tiny)


@dataclass(frozen=True)
class Seen:
    """What a refinement is given.

    Attributes:
        grids: Per scale (C, h, w) float32 cosines, background first.
        objectness: Of the picture, whose whole grid it covers.
        image: The picture reduced, (3, H', W') uint8.
        keys: (D, h, w) float32, of DINO's last attention layer.
        truth: (C, h, w) float32 in [0, 1], how much of each patch every class truly covers.
        patch_px: Side of DINO's patches.
        size_hw: Of the answer.
        logit_scale: CLIP's inverse temperature.
    """

    grids: tuple[Tensor, ...]
    objectness: ObjectnessMap
    image: Tensor
    keys: Tensor
    truth: Tensor
    patch_px: int
    size_hw: tuple[int, int]
    logit_scale: float

    def winners(self) -> Tensor:
        """Return the classes that win somewhere before any refinement, and the background: ascending int64."""
        labels = full_label_map(self.grids, self.objectness, (self.image.shape[1], self.image.shape[2]))
        return torch.unique(torch.cat([labels.new_zeros(1), labels.flatten()])).long()

    def probabilities(self, winners: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Return those of Eq. 3's winners at a size, (len(winners), H, W) float32."""
        guided = similarity_field(self.grids, size_hw).rows(0, size_hw[0], winners)
        guided = guide(guided, ObjectnessField(self.objectness, size_hw).rows(0, size_hw[0]))
        return (guided * self.logit_scale).softmax(dim=0)


Way = Callable[[Seen], Tensor]
"""From what is seen to (H, W) int16, positions in the grids."""


def unrefined(seen: Seen) -> Tensor:
    """Answer by Eq. 1 to 4 alone, at full size."""
    return full_label_map(seen.grids, seen.objectness, seen.size_hw)


def by_pamr(seen: Seen) -> Tensor:
    """Refine as the product does."""
    return refined_label_map(seen.grids, seen.objectness, seen.image, seen.size_hw, seen.logit_scale, Pamr())


def by_lposs(patches: Patches | None, then: Pixels | Pamr | None = None) -> Way:
    """Refine over patches, then over pixels; either may be left out, and PAMR may take the second's place."""

    def refine(seen: Seen) -> Tensor:
        winners = seen.winners()
        image_hw = (seen.image.shape[1], seen.image.shape[2])
        if patches is None:
            refined = seen.probabilities(winners, image_hw)
        else:
            likeness = seen.truth if patches.truth else seen.keys
            given = seen.probabilities(winners, (likeness.shape[1], likeness.shape[2]))
            refined = over_patches(given, likeness, seen.patch_px, patches)
        if then is not None and patches is not None:
            refined = F.interpolate(refined[None], image_hw, mode="bilinear", align_corners=False)[0]
        if isinstance(then, Pixels):
            refined = over_pixels(refined, seen.image, then)
        elif then is not None:
            refined = pamr(refined, seen.image, then)
        return upsampled_argmax(refined, winners.to(torch.int16), seen.size_hw)

    return refine


BASE = "PAMR"
PATCHES, PIXELS = Patches(10, 0.6), Pixels(6, 0.03, 0.99)  # the best of `--tune`
CHEAP = Pixels(3, 0.03, 0.99)  # the best of those that take no more than twice what PAMR does
WAYS: dict[str, Way] = {
    "none": unrefined,
    BASE: by_pamr,
    "LPOSS as published": by_lposs(Patches()),
    "LPOSS+ as published": by_lposs(Patches(), Pixels()),
    "patches": by_lposs(PATCHES),
    "pixels": by_lposs(None, PIXELS),
    "pixels, square of 7": by_lposs(None, CHEAP),
    "patches, PAMR": by_lposs(PATCHES, Pamr()),
    "truth's patches, as published": by_lposs(Patches(truth=True)),
    "truth's patches, PAMR": by_lposs(Patches(truth=True), Pamr()),
    "truth's patches, k = 10, PAMR": by_lposs(Patches(10, truth=True), Pamr()),
}


def tuned_ways() -> dict[str, Way]:
    """Return the grids that `PATCHES`, `PIXELS` and `CHEAP` were chosen from."""
    ways: dict[str, Way] = {"none": unrefined, BASE: by_pamr}
    for k in (10, 25, 100, 400):
        for alpha in (0.6, 0.8, 0.95):
            ways[f"patches, k = {k}, alpha = {alpha}"] = by_lposs(Patches(k, alpha))
    for reach in (3, 6):
        for tau in (0.01, 0.03, 0.1):
            for alpha in (0.95, 0.99):
                name = f"pixels, square of {2 * reach + 1}, tau = {tau}, alpha = {alpha}"
                ways[name] = by_lposs(None, Pixels(reach, tau, alpha))
    return ways


@dataclass
class Measured:
    """What came out of one way, scene by scene."""

    whole: Pooled = field(default_factory=Pooled)
    boundary: Pooled = field(default_factory=Pooled)
    taken_ms: list[float] = field(default_factory=list)


@torch.inference_mode()
def see(segmenter: Segmenter, photo: Photo, labels: NDArray[np.uint8]) -> Seen:
    """Encode a photo with known labels, (H, W), and run FOUND's DINO for its keys."""
    network = segmenter._objectness_network
    assert isinstance(network, FoundNetwork), "the starter's is"
    (features,) = segmenter.encode([photo])
    assert features.objectness is not None, "the starter has it"
    assert features.picture is not None, "PAMR is on"
    pixels = torch.from_numpy(np.ascontiguousarray(photo.pixels.transpose(2, 0, 1)))
    seen_hw = image_size_for(photo.size_hw, segmenter.config.objectness)
    (keys,) = network(prepare(pixels, seen_hw, network.patch_px)[None]).keys
    covered = F.one_hot(torch.from_numpy(labels).long(), CLASSES).permute(2, 0, 1).float()
    texts = segmenter.clip.embed_vocabulary(make_vocabulary(NOUNS))
    return Seen(
        grid_similarity([scale.float() for scale in features.crop_embeddings], texts),
        features.objectness,
        unpack_picture(features.picture),
        keys,
        F.adaptive_avg_pool2d(covered, (keys.shape[1], keys.shape[2])),
        network.patch_px,
        photo.size_hw,
        segmenter.clip.logit_scale,
    )


def scenes(sets: Sequence[int], count: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield seed and size of each scene, as `clipdiy evaluate scenes:SET:COUNT` has them."""
    for number in sets:
        for i in range(count):
            yield number * SEED_STEP + i, SIZES_HW[i % len(SIZES_HW)]


@torch.inference_mode()
def measure(
    segmenter: Segmenter,
    ways: dict[str, Way],
    chosen: Iterator[tuple[int, tuple[int, int]]],
    objects: tuple[int, int],
    sprites: Sprites,
) -> dict[str, Measured]:
    """Refine every scene in every way."""
    measured = {name: Measured() for name in ways}
    for seed, size_hw in chosen:
        scene = compose_scene(seed, size_hw=size_hw, n_objects=objects, sprites=sprites)
        seen = see(segmenter, Photo.from_array(scene.image), scene.labels)
        for name, way in ways.items():
            start = time.process_time()
            drawn = way(seen)
            measured[name].taken_ms.append(1e3 * (time.process_time() - start))
            min_area_px = segmenter.config.clean_up.min_area * size_hw[0] * size_hw[1]
            labels = clean_up(drawn.numpy().view(np.uint16), min_area_px)
            counts = confusion_matrix(scene.labels, labels, CLASSES)
            hits = np.diag(counts)
            unions = counts.sum(axis=0) + counts.sum(axis=1) - hits
            measured[name].whole.pictures.append(np.stack([hits, unions], axis=1))
            measured[name].boundary.pictures.append(boundary_overlap(scene.labels, labels, CLASSES))
    return measured


def table(measured: dict[str, Measured]) -> None:
    """Print a row for each way."""
    base = measured[BASE]
    print("| refinement | mIoU | to PAMR | boundary IoU | to PAMR | ms | |\n|---|---:|---:|---:|---:|---:|---:|")
    for name, one in measured.items():
        cells = [*cells_of(one.whole, base.whole), *cells_of(one.boundary, base.boundary)]
        taken, pamrs = (statistics.median(way.taken_ms) for way in (one, base))
        print(f"| {name} | {' | '.join(cells)} | {taken:.0f} | {taken / pamrs:.1f}x |", flush=True)


def key_cosines(seen: Seen) -> dict[str, float]:
    """Return mean cosines of keys by what two patches show, of those that show one class alone.

    A kind of pair that a picture does not have is NaN.
    """
    share, shown = seen.truth.flatten(1).max(dim=0)
    alone = share == 1
    unit, shown = F.normalize(seen.keys.flatten(1)[:, alone], dim=0), shown[alone]
    cosines, alike, drawn = unit.T @ unit, shown[:, None] == shown, shown > 0
    both = drawn[:, None] & drawn
    other = ~torch.eye(len(shown), dtype=torch.bool)
    kinds = {
        "one object": both & alike & other,
        "two objects": both & ~alike,
        "object and background": drawn[:, None] & ~drawn,
        "background": ~drawn[:, None] & ~drawn & other,
    }
    return {name: float(cosines[kind].mean()) for name, kind in kinds.items()}


@torch.inference_mode()
def print_keys(segmenter: Segmenter, chosen: Iterator[tuple[int, tuple[int, int]]], sprites: Sprites) -> None:
    """Print the mean of `key_cosines` over scenes."""
    found = []
    for seed, size_hw in chosen:
        scene = compose_scene(seed, size_hw=size_hw, n_objects=OBJECTS, sprites=sprites)
        found.append(key_cosines(see(segmenter, Photo.from_array(scene.image), scene.labels)))
    for name in found[0]:
        print(f"| {name} | {np.nanmean([one[name] for one in found]):+.2f} |")


@torch.inference_mode()
def cost(classes: int, repeats: int) -> None:
    """Print what each way takes of a photo of 640x480 with ViT-B/32's and DINO ViT-S/8's shapes, random values."""
    torch.manual_seed(0)
    grids = tuple(torch.rand(classes, side, side) * 0.1 + 0.2 for side in (1, 3, 7))
    objectness = ObjectnessMap(torch.randn(60, 80), True, (60.0, 80.0))
    image = torch.randint(0, 256, (3, 240, 320), dtype=torch.uint8)
    keys, truth = torch.randn(384, 60, 80) + 1, torch.rand(classes, 60, 80)
    seen = Seen(grids, objectness, image, keys, truth, 8, (480, 640), 100.0)
    print(f"{machine()}; 640x480, 60 x 80 patches, {len(seen.winners())} classes, processor time")
    taken = medians_ms(
        {name: lambda way=way: way(seen) for name, way in WAYS.items()}, repeats, clock=time.process_time
    )
    print("| refinement | ms | |\n|---|---:|---:|")
    for name, ms in taken.items():
        print(f"| {name} | {ms:.0f} | {ms / taken[BASE]:.1f}x |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="1,2,3")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--single", action="store_true", help="one object a scene")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--keys", action="store_true")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--classes", type=int, default=5, help="that win somewhere, for --cost")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.cost:
        cost(arguments.classes, arguments.repeats)
        return
    segmenter = build_segmenter(preset("starter", device="cpu", dtype="float32", pamr=Pamr()), warm_up=False)
    sets = [TUNING_SET] if arguments.tune else [int(number) for number in arguments.sets.split(",")]
    if arguments.keys:
        print_keys(segmenter, scenes(sets, arguments.count), load_sprites())
        return
    objects = SINGLE_OBJECT if arguments.single else OBJECTS
    ways = tuned_ways() if arguments.tune else WAYS
    print(f"core {segmenter.identity}, sets {sets} of {arguments.count} scenes of {objects[0]} to {objects[1]} objects")
    table(measure(segmenter, ways, scenes(sets, arguments.count), objects, load_sprites()))


if __name__ == "__main__":
    main()
