"""CLIP-DINOiser and corrections: what is learned from of a picture, where objectness starts, and how a fit is applied.

Names are learned from pooled patches as from crops (`clipdiy.learning.naming`). Objectness starts from the method's own
answer: with f the best of 100 times the cosines with objects, g that of the background's side, b the background head's
logit and P the largest probability, an object is told where

    z = f - g            where a class is sure (P >= delta), or the background is not refined
    z = min(f - g, b)    elsewhere

is above 0. With the two terms b and z - b it is corrected as CLIP-DIY's rule is (`clipdiy.learning.objectness`). The
corrected rule takes the place of the background's word and of the head's test, but where a class without examples is
named: there both stay.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clipdiy.dinoiser.features import DinoiserFeatures
from clipdiy.dinoiser.probabilities import (
    TEMPERATURE,
    ProbabilityField,
    ProbabilityTile,
    class_probabilities,
    refine_background,
)
from clipdiy.learning.apply import AdaptedMaps
from clipdiy.learning.evidence import CELLS
from clipdiy.learning.objectness import LEAST_CHANCE
from clipdiy.objectness.found import ObjectnessMap

EVIDENCE_SIDE = 16  # patches to a side; of 512 numbers a thousand pictures then take 260 MB
MOST_LOGIT = float(np.log((1 - LEAST_CHANCE) / LEAST_CHANCE))


@dataclass(frozen=True)
class PatchEvidence:
    """What is learned from of a picture: `clipdiy.learning.evidence.Evidence`.

    Attributes:
        crop_embeddings: A single grid, (h, w, D) float16 unit vectors, at most `EVIDENCE_SIDE` to a side.
        objectness: The background head's logits.
        size_hw: The photo's own height and width in pixels.
        made_by: `Dinoiser.encoder_identity`.
    """

    crop_embeddings: tuple[Tensor, ...]
    objectness: ObjectnessMap
    size_hw: tuple[int, int]
    made_by: str


@torch.inference_mode()
def evidence_of(features: DinoiserFeatures) -> PatchEvidence:
    """Lay pooled patches over the whole picture, whichever windows they come from, no finer than is learned from."""
    first, is_whole = features.tiles[0], features.seen_hw is None
    rows, cols = (min(EVIDENCE_SIDE, side) for side in first.background.shape) if is_whole else (EVIDENCE_SIDE,) * 2
    tiles = [
        ProbabilityTile(tile.pooled.permute(2, 0, 1).float(), tile.window, tile.extent_hw) for tile in features.tiles
    ]
    field = ProbabilityField(tiles, features.seen_hw, (rows, cols))
    # A row at a time: of windows, every row that is read is held at the size of the picture.
    patches = torch.cat([field.rows(row, row + 1) for row in range(rows)], dim=1)
    grid = F.normalize(patches, dim=0).half().permute(1, 2, 0).contiguous()
    if is_whole:
        objectness = ObjectnessMap(first.background, True, first.extent_hw)
    else:
        tiles = [ProbabilityTile(tile.background[None].float(), tile.window, tile.extent_hw) for tile in features.tiles]
        logits = ProbabilityField(tiles, features.seen_hw, (CELLS, CELLS)).rows(0, CELLS)[0]
        objectness = ObjectnessMap(logits, True, (CELLS, CELLS))
    return PatchEvidence((grid,), objectness, features.size_hw, features.made_by)


def foreground_terms(objects: Tensor, ground: Tensor, is_sure: Tensor | None, background_logits: Tensor) -> Tensor:
    """Write the method's own answer as two terms that a fit can weigh.

    Args:
        objects: (...) float32, the best cosine with the words of an object.
        ground: (...) float32, the best cosine on the background's side.
        is_sure: (...) bool: where a class has a probability of at least delta (see `refine_background`); `None` where
            the background is not refined.
        background_logits: (...) float32, above 0 on the foreground.

    Returns:
        (2, ...) float32: b and z - b. Their sum is above 0 where the method puts an object, and neither b nor z is
        further from 0 than the logit of `LEAST_CHANCE`.
    """
    head = background_logits.clamp(-MOST_LOGIT, MOST_LOGIT)
    margin = (TEMPERATURE * (objects - ground)).clamp(-MOST_LOGIT, MOST_LOGIT)
    if is_sure is not None:
        margin = torch.where(is_sure, margin, torch.minimum(margin, head))
    return torch.stack([head, margin - head])


@dataclass(frozen=True)
class OwnAnswer:
    """The method's own answer as a `clipdiy.learning.objectness.ForegroundRule`.

    Attributes:
        delta: As for `refine_background`; `None` where the background is not refined.
    """

    delta: float | None

    def __call__(
        self,
        cosines: NDArray[np.float32],
        objects: NDArray[np.float32],
        ground: NDArray[np.float32],
        objectness: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return (n, 2) float64: `foreground_terms` of n cells."""
        best = np.maximum(objects, ground)
        is_sure = None if self.delta is None else torch.from_numpy(_largest_probability(cosines, best) >= self.delta)
        logits = torch.from_numpy(objectness).float()
        terms = foreground_terms(torch.from_numpy(objects), torch.from_numpy(ground), is_sure, logits)
        return terms.T.double().numpy()


def _largest_probability(cosines: NDArray[np.float32], best: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest of `class_probabilities` of (n, C) cosines whose best is known, (n,) float32."""
    below = np.subtract(cosines, best[:, None])
    below *= np.float32(TEMPERATURE)
    np.exp(below, out=below)
    largest: NDArray[np.float32] = 1 / below.sum(axis=1)
    return largest


def adapted_probabilities(
    maps: AdaptedMaps, is_ground: Tensor, background_logits: Tensor, delta: float | None
) -> Tensor:
    """Return a window's class probabilities under a fit.

    Names compete within their side, and each side is as likely as its best word makes it, refined as ever. Where the
    corrected rule holds it says how likely each side is: a side's first name gets all of that.

    Args:
        maps: Of one grid, without objectness; the background first.
        is_ground: (C,) bool: which classes are on the background's side.
        background_logits: (h, w) float32, above 0 on the foreground.
        delta: As for `refine_background`; `None` where the background is not refined.

    Returns:
        (C, h, w) float32; sums to 1 or more over C.
    """
    words, naming = maps.words[0], maps.naming[0]
    sides = [side for side in (is_ground, ~is_ground) if side.any()]
    below, level = torch.empty_like(naming), torch.empty_like(naming)
    for side in sides:
        below[side] = naming[side] - naming[side].amax(dim=0)
        level[side] = below[side] + words[side].amax(dim=0)
    probabilities = class_probabilities(level)
    if delta is not None:
        probabilities = refine_background(probabilities, background_logits, delta)
    rule = maps.rule
    if rule is None or len(sides) < 2:
        return probabilities
    is_sure = None if delta is None else class_probabilities(words).amax(dim=0) >= delta
    best, lowest = (words[side].amax(dim=0) for side in (~is_ground, is_ground))
    head, rest = foreground_terms(best, lowest, is_sure, background_logits)
    z = rule.on_objectness * head + rule.on_margin * rest + rule.constant
    if rule.grids is not None:
        z = z + rule.grids[0][0]
    chance = torch.where(is_ground[:, None, None], -z, z).sigmoid()
    named = naming.masked_fill(is_ground[:, None, None], -torch.inf).argmax(dim=0)
    return torch.where(maps.has_examples[named], chance * (TEMPERATURE * below).exp(), probabilities)
