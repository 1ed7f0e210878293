"""Scores: how good may the masks of a picture be expected to be?"""

import torch
from torch import Tensor

from clipdiy.aggregate import mean_similarity
from clipdiy.guide import ObjectnessField, guide
from clipdiy.objectness.found import ObjectnessMap

SCORE_PX = 64  # scores are sums: they need no more of the maps, and cost a quarter of what 128 would
SCORE_SHARPNESS = 2.0


def class_scores(
    grids: tuple[Tensor, ...],
    objectness: ObjectnessMap | None,
    logit_scale: float,
    drawn: int | None = None,
    ground: int = 1,
) -> Tensor:
    """Say how good each class's mask may be expected to be.

    Eq. 4 has no temperature: over cosines that differ by hundredths its softmax is nearly flat and says nothing. Here a
    pixel is taken for background with probability 1 - objectness, and else for one of the classes by a softmax of
    their cosines (Eq. 2); where there is stuff, the background's side is shared out by a softmax of its own. With these
    probabilities p, the score of the class that won the pixels M is

        sum of p inside M / (number of pixels in M + sum of p outside M)

    which estimates the mask's IoU: it rises with every pixel inside that gets surer, and falls with every pixel
    outside that may have been missed. The softmax has twice CLIP's own logit scale, as the mean over crops of
    which most see little of the object pulls the cosines together; twice ranked masks and pictures better than once or
    four times (see benchmarks/scores.py). Not calibrated.

    Others are classes of the softmax like labels, and then part of the background, as which they are drawn.

    Args:
        grids: Per scale (C, h, w) float32 cosines, background first, C >= 2.
        objectness: As for `full_label_map`; without it the background is one of the classes of the softmax.
        logit_scale: CLIP's inverse temperature.
        drawn: How many of the classes are no others, which stand last; `None` for all.
        ground: How many of the first classes are on the background's side; see `guide`.

    Returns:
        (drawn,) float32 in [0, 1]; 0 for a class that wins nothing at this resolution.
    """
    side_hw = (SCORE_PX, SCORE_PX)
    similarity = mean_similarity(grids, side_hw)
    sharpened = similarity * (logit_scale * SCORE_SHARPNESS)
    if objectness is None:
        winner = similarity.argmax(dim=0).flatten()
        likely = sharpened.softmax(dim=0).flatten(1)
    else:
        foreground = ObjectnessField(objectness, side_hw).rows(0, SCORE_PX)
        winner = guide(similarity, foreground, ground).argmax(dim=0).flatten()
        sides = sharpened[:ground].softmax(dim=0) * (1 - foreground), sharpened[ground:].softmax(dim=0) * foreground
        likely = torch.cat(sides).flatten(1)
    if drawn is not None and drawn < likely.shape[0]:
        winner = winner.where(winner < drawn, 0)
        likely = torch.cat([likely[:1] + likely[drawn:].sum(dim=0), likely[1:drawn]])
    return expected_iou(likely, winner)


def expected_iou(likely: Tensor, winner: Tensor) -> Tensor:
    """Estimate the IoU of every class's mask from how likely each pixel is of each class; see `class_scores`.

    Args:
        likely: (C, pixels) float32 in [0, 1], sums to 1 over C.
        winner: (pixels,) int64, the class of each pixel's mask.

    Returns:
        (C,) float32 in [0, 1]; 0 for a class that has no pixel.
    """
    classes = likely.shape[0]
    pixels = torch.bincount(winner, minlength=classes)
    inside = torch.zeros(classes, device=likely.device).index_add_(0, winner, likely.gather(0, winner[None])[0])
    outside = (likely.sum(dim=1) - inside).clamp(min=0)  # for the rounding of float32
    return (inside / (pixels + outside).clamp(min=1e-6)).clamp(0, 1)


def picture_score(scores: Tensor, present: Tensor) -> float:
    """Say how good the masks of a picture may be expected to be, in [0, 1]: the mean over the classes that are there.

    Args:
        scores: (C,) float32 in [0, 1], background first.
        present: (C,) bool, which classes have a mask. Where only the background has, its own score counts.
    """
    drawn = scores[1:][present[1:]]
    return float(drawn.mean() if len(drawn) else scores[0])
