"""Which classes can be in the picture at all? What the whole does not resemble is not looked for in its parts."""

from collections.abc import Sequence

import torch
from torch import Tensor


def likely_classes(coarsest: Tensor, logit_scale: float, margin: float, stuff: Sequence[int] = ()) -> Tensor:
    """Leave out classes whose similarity at the coarsest scale is far below the best.

    Small crops show little, and methods like this one then name classes that are nowhere in the picture. Where the
    coarsest scale has several crops, the best one of each class counts. Objects are held against objects alone: a
    picture that is mostly grass resembles the cow in it far less.

    Args:
        coarsest: (C, h, w) float32 cosines of the coarsest scale, background first.
        logit_scale: CLIP's inverse temperature: it makes a margin mean the same for any CLIP model.
        margin: A class stays if it lies at most this many logits (cosine x logit scale) below the best one. 5 keeps all
            that are not 150 times less likely.
        stuff: Rows of the labels that are stuff.

    Returns:
        Ascending positions, int64: always the background and at least one other.
    """
    logits = coarsest.flatten(1).amax(dim=1) * logit_scale
    kept = logits >= logits[1:].max() - margin
    objects = torch.ones_like(kept)
    objects[[0, *stuff]] = False
    if objects.any():
        kept |= objects & (logits >= logits[objects].max() - margin)
    kept[0] = True
    return torch.nonzero(kept).squeeze(1)
