"""Does this processor gain from bfloat16 weights? A short measurement decides: there is no list to look it up in.

Where the processor has instructions for it (AVX-512 BF16, AMX), matrix products take half the time or less and the
label map hardly changes; where it has none, torch emulates them and they take several times as long. Autocast is never
used on a CPU: converting the weights again for every small batch costs more than it gains.
"""

import logging
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

logger = logging.getLogger(__name__)

LEAST_PARAMETERS = 20_000_000  # smaller towers take so little time that nobody would notice
LEAST_GAIN = 1.3
ROWS = 800  # tokens of 16 crops of a ViT-B/32
REPEATS = 7


def cpu_dtype(tower: nn.Module) -> torch.dtype:
    """Choose what an image tower on the CPU should compute in; the reason is logged.

    Both dtypes run in turns and the best time of each counts, so that the answer is the same at the next start even if
    the machine is busy then.

    Args:
        tower: In float32, on the CPU.
    """
    parameters = sum(parameter.numel() for parameter in tower.parameters())
    if parameters < LEAST_PARAMETERS:
        return torch.float32
    weight = max((p for p in tower.parameters() if p.ndim == 2), key=lambda p: p.numel(), default=None)
    if weight is None:
        return torch.float32
    gain = bfloat16_gain(weight)
    chosen = torch.bfloat16 if gain >= LEAST_GAIN else torch.float32
    logger.info("bfloat16 is %.1f times as fast as float32 here: the image towers compute in %s", gain, chosen)
    return chosen


@torch.inference_mode()
def bfloat16_gain(weight: Tensor) -> float:
    """Return how many times faster a product with this (out, in) float32 matrix is in bfloat16."""
    rows = torch.randn(ROWS, weight.shape[1])
    ways = {"float32": (rows, weight), "bfloat16": (rows.bfloat16(), weight.bfloat16())}
    best = dict.fromkeys(ways, float("inf"))
    for repeat in range(REPEATS + 1):
        for name, (left, right) in ways.items():
            start = time.perf_counter()
            F.linear(left, right)
            if repeat:  # the first run prepares
                best[name] = min(best[name], time.perf_counter() - start)
    return best["float32"] / best["bfloat16"]
