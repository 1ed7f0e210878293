"""The two trained convolutions: which patches belong together, and which are background.

    A_nm = cos(g_n, g_m),  g = obj_proj(z)               taught by DINO's correlations of values
    b_n  = bkg_decoder(z_n / |z_n|)                      taught by FOUND's mask; above 0 is foreground
    F+_n = sum_m A_nm F_m / (sum_m A_nm + 1e-6)          over the m with A_nm >= gamma

with z what `PatchTower` gives as `intermediate` and F as `dense`; sections 3.2 to 3.4 of the paper. All in float32,
whatever the tower computes in: gamma is a hard threshold. A is never held whole.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipdiy.errors import ShapeError

BLOCK_VALUES = 4_000_000  # of A at once, 16 MB of float32
TINY = 1e-6


class DinoiserHeads(nn.Module):
    """`obj_proj`, 3x3 with the border repeated, and `bkg_decoder`, 1x1; both with a bias, in float32."""

    def __init__(self, width: int, directions: int) -> None:
        """Make empty heads.

        Args:
            width: Channels of what they read.
            directions: Channels that correlations are taken over (256 in the published ones).
        """
        super().__init__()
        self.obj_proj = nn.Conv2d(width, directions, 3, padding=1, padding_mode="replicate")
        self.bkg_decoder = nn.Conv2d(width, 1, 1)

    def directions(self, intermediate: Tensor) -> Tensor:
        """Give every patch the direction whose cosine with another patch's says how far they belong together.

        Args:
            intermediate: (B, width, h, w) float32.

        Returns:
            (B, directions, h, w) float32, of unit length over the channels.
        """
        if intermediate.device.type == "cuda":
            # cuDNN's convolution computes with 10 bits of mantissa unless told otherwise for the whole process.
            padded = F.pad(intermediate, (1, 1, 1, 1), mode="replicate")
            flat = self.obj_proj.weight.flatten(1) @ F.unfold(padded, 3) + _bias(self.obj_proj)[:, None]
            return F.normalize(flat.unflatten(2, intermediate.shape[2:]), dim=1)
        return F.normalize(self.obj_proj(intermediate), dim=1)

    def background_logits(self, intermediate: Tensor) -> Tensor:
        """Say which patches are background.

        Args:
            intermediate: (B, width, h, w) float32.

        Returns:
            (B, h, w) float32, logits: above 0 is foreground.
        """
        unit = F.normalize(intermediate, dim=1)
        logits: Tensor = self.bkg_decoder.weight.flatten() @ unit.flatten(2) + _bias(self.bkg_decoder)
        return logits.reshape(-1, *intermediate.shape[2:])


def correlations(directions: Tensor, cells: Tensor | slice) -> Tensor:
    """Return how far some patches belong together with each patch of the picture.

    Args:
        directions: (directions, h, w) float32 of unit length.
        cells: Which patches, row by row.

    Returns:
        (len(cells), h * w) float32 cosines, in [-1, 1]; before gamma.
    """
    flat = directions.flatten(1)
    return flat[:, cells].T @ flat


def pool(dense: Tensor, directions: Tensor, gamma: float, *, block_values: int = BLOCK_VALUES) -> Tensor:
    """Replace every patch's features by the mean over the patches it belongs together with.

    Args:
        dense: (D, h, w) float32, as they are: not of unit length.
        directions: (directions, h, w) float32 of unit length.
        gamma: Correlations below count as 0.
        block_values: How many values of A are held at once; changes nothing else.

    Returns:
        (D, h, w) float32, not of unit length.

    Raises:
        ShapeError: If the grids differ.
    """
    if dense.shape[1:] != directions.shape[1:]:
        raise ShapeError(f"grids differ: features {tuple(dense.shape[1:])}, directions {tuple(directions.shape[1:])}")
    values = dense.flatten(1).T
    count = values.shape[0]
    pooled = torch.empty_like(values)
    step = max(1, block_values // count)
    for start in range(0, count, step):
        block = slice(start, min(start + step, count))
        weights = correlations(directions, block)
        weights.masked_fill_(weights < gamma, 0)
        pooled[block] = weights @ values / (weights.sum(dim=1, keepdim=True) + TINY)
    return pooled.T.reshape(dense.shape)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None, "both heads have one"
    return layer.bias
