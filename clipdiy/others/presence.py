"""Which labels are in the picture at all, and which others dispute them? Two tests, before anything is drawn."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clipdiy.config import OthersConfig

LEAST_OTHERS = 16  # of fewer, one cannot tell what words get that are not there


def competing_classes(
    grids: tuple[Tensor, ...], drawn: int, logit_scale: float, config: OthersConfig, stuff: Sequence[int] = ()
) -> Tensor:
    """Choose the classes that take part in one picture.

    An absolute test: a label whose best crop, over all scales, resembles it less than most of the others' best crops
    resemble them is not there. Words that have nothing to do with a picture also have a best crop; what the others get
    is how good that is.

    A relative test: an other takes part if at some crop it is `gate_logits` above every label that is left. A list of
    hundreds always holds a word that is a little nearer than the right label. Labels that are stuff do not count there:
    they compete on the background's side, and a crop that is full of sky says nothing of whose the object in it is.

    Args:
        grids: Per scale (C, h, w) float32 cosines: the background, the labels, then the others.
        drawn: How many of the classes are no others, the background among them.
        logit_scale: CLIP's inverse temperature.
        config: Where the two tests draw the line.
        stuff: Positions of the labels that are stuff.

    Returns:
        Ascending positions, int64: 0, and at least one class besides.
    """
    classes = grids[0].shape[0]
    if drawn == classes:
        return torch.arange(classes, device=grids[0].device)
    crops = torch.cat([grid.flatten(1) for grid in grids], dim=1)
    labels, others = crops[1:drawn], crops[drawn:]
    evidence = others.amax(dim=1)
    there = torch.ones(len(labels), dtype=torch.bool, device=crops.device)
    if len(others) >= LEAST_OTHERS and config.absent_quantile is not None:
        there = labels.amax(dim=1) >= evidence.quantile(config.absent_quantile)
    disputed = there.clone()
    disputed[[position - 1 for position in stuff]] = False
    if disputed.any():
        lead = (others - labels[disputed].amax(dim=0)).amax(dim=1)
        disputing = lead * logit_scale >= config.gate_logits
    else:
        # No object will be drawn; one class is enough to leave the objects to.
        disputing = evidence >= evidence.amax()
    kept = torch.cat([torch.ones(1, dtype=torch.bool, device=crops.device), there, disputing])
    return kept.nonzero().squeeze(1)
