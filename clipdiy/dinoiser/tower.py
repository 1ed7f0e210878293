"""One pass of CLIP's image tower over a picture of any size: dense features in the text space, and what the heads read.

Before the network: `pad_to_patches` and `fit_positions`. The network: `VitTower`, which is the published one, or
`ResNetTower`, which is that of the starter's small CLIP.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from clipdiy.errors import ConfigError, ShapeError
from clipdiy.recent import Recent

HEADS_READ_BLOCK = -3  # the 10th of 12
FIRST_STAGES_STRIDE = 8  # of a ResNet's stem and first two stages
KNOWN_GRIDS = 16  # of 3.7 MB each, for 30 x 40 patches of a ViT-B
SEEN_AT_ONE_OF = 2  # a ResNet sees the picture at this fraction of its size


def pad_to_patches(images: Tensor, patch_px: int) -> Tensor:
    """Pad pictures with black at the right and the bottom to whole patches.

    Before they are normalised, as CLIP-DINOiser does: a padded pixel is black, not grey.

    Args:
        images: (B, 3, H, W) uint8.
        patch_px: Side of the ViT's patches.

    Returns:
        (B, 3, h * patch_px, w * patch_px) uint8.
    """
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % patch_px, 0, -height % patch_px))


def fit_positions(learned: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Fit a learned position embedding to another grid: bicubic, not antialiased, the class token's kept.

    Args:
        learned: (1 + side * side, D), the class token's first.
        grid_hw: Rows and columns of patches.

    Returns:
        (1 + h * w, D) float32.
    """
    side = round((learned.shape[0] - 1) ** 0.5)
    values = learned.float()
    if grid_hw == (side, side):
        return values
    grid = values[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    fitted = F.interpolate(grid, grid_hw, mode="bicubic", align_corners=False)
    return torch.cat([values[:1], fitted.flatten(2).squeeze(0).T])


@dataclass(frozen=True)
class PatchFeatures:
    """What one pass gives, per patch, for a batch of pictures of one size.

    Attributes:
        intermediate: (B, width, h, w) float32: what both heads read. Of a ViT the second layer norm's output, so the
            MLP's input, in the third block from the last.
        dense: (B, D, h, w) float32: MaskCLIP's features in the text space. Not of unit length.
    """

    intermediate: Tensor
    dense: Tensor


BodyEngine = Callable[[Tensor, Tensor], Tensor]
"""Executes `VitTower.body` in torch's place, for one picture: both outputs, channels side by side, float32."""


class PatchTower(Protocol):
    """An image tower that is read patch by patch; its modules are those of a loaded CLIP, used and not copied."""

    @property
    def patch_px(self) -> int:
        """Side of the patches in pixels."""

    @property
    def width(self) -> int:
        """Channels of `PatchFeatures.intermediate`."""

    @property
    def embed_dim(self) -> int:
        """Channels of `PatchFeatures.dense`, D."""

    def __call__(self, images: Tensor) -> PatchFeatures:
        """Run a batch of pictures of one size.

        Args:
            images: (B, 3, H, W) float32, padded, then normalised.

        Raises:
            ShapeError: If H or W is no multiple of the patch size.
        """


def patch_tower(visual: nn.Module) -> PatchTower:
    """Return what reads an image tower patch by patch.

    Raises:
        ConfigError: If it is neither a plain ViT of OpenCLIP with at least three blocks nor its ResNet.
    """
    if isinstance(visual, ModifiedResNet):
        return ResNetTower(visual)
    return VitTower(visual)


class VitTower(nn.Module):
    """An OpenCLIP ViT whose last block attends to nothing, so that every patch keeps what it alone stands for.

    In the last block each token's value takes the place of the attention's mean of values. The residuals around it and
    the MLP stay: other MaskCLIPs drop them, and are other methods. Nothing mixes patches there, so that the class token
    ends before it.
    """

    def __init__(self, visual: nn.Module, engine: BodyEngine | None = None) -> None:
        """Take a loaded image tower; its modules are used, not copied.

        Args:
            visual: The tower.
            engine: What executes `body` in torch's place, if anything does.

        Raises:
            ConfigError: If it is not a plain ViT of OpenCLIP with at least three blocks.
        """
        super().__init__()
        if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None:
            pooled = " with an attention pool" if isinstance(visual, VisionTransformer) else ""
            raise ConfigError(
                "clip-dinoiser needs a CLIP whose image tower is OpenCLIP's plain ViT or ResNet, got "
                f"{type(visual).__name__}{pooled}; the published heads belong to ViT-B-16:laion2b_s34b_b88k"
            )
        blocks = list(visual.transformer.resblocks)
        if len(blocks) < -HEADS_READ_BLOCK or not all(type(block) is ResidualAttentionBlock for block in blocks):
            kinds = ", ".join(sorted({type(block).__name__ for block in blocks}))
            raise ConfigError(f"clip-dinoiser needs at least 3 ordinary attention blocks, got {len(blocks)} of {kinds}")
        self.visual = visual
        self._engine = engine
        self._known_positions: Recent[tuple[int, int], Tensor] = Recent(KNOWN_GRIDS)

    @property
    def patch_px(self) -> int:
        """Side of the patches in pixels."""
        return int(self.visual.conv1.stride[0])

    @property
    def width(self) -> int:
        """Channels of `PatchFeatures.intermediate`."""
        return int(self.visual.conv1.out_channels)

    @property
    def embed_dim(self) -> int:
        """Channels of `PatchFeatures.dense`, D."""
        return self.width if self.visual.proj is None else int(self.visual.proj.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        dtype: torch.dtype = self.visual.conv1.weight.dtype
        return dtype

    def forward(self, images: Tensor) -> PatchFeatures:
        """Run a batch of pictures of one size.

        Args:
            images: (B, 3, H, W) float32, padded, then normalised.

        Raises:
            ShapeError: If H or W is no multiple of the patch size.
        """
        grid_hw = _grid_hw(images, self.patch_px)
        positions = self._positions(grid_hw)
        if self._engine is None:
            intermediate, dense = self.body(images.to(self.dtype), positions)
        else:
            both = torch.cat([self._engine(image.float(), positions) for image in images.split(1)])
            intermediate, dense = both.split([self.width, self.embed_dim], dim=2)
        return PatchFeatures(_as_grid(intermediate, grid_hw), _as_grid(dense, grid_hw))

    def _positions(self, grid_hw: tuple[int, int]) -> Tensor:
        """Return the position embedding of a grid, fitted once."""
        known = self._known_positions.get(grid_hw)
        if known is not None:
            return known
        return self._known_positions.put(grid_hw, fit_positions(self.visual.positional_embedding, grid_hw))

    def body(self, images: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network itself.

        Args:
            images: (B, 3, H, W) in the tower's dtype.
            positions: (1 + h * w, width) float32, the position embedding for this size.

        Returns:
            (B, h * w, width) and (B, h * w, D): `PatchFeatures`, patch by patch.
        """
        visual = self.visual
        patches = visual.conv1(images).flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        tokens = visual.ln_pre(torch.cat([first, patches], dim=1) + positions.to(patches.dtype))
        *blocks, last = visual.transformer.resblocks
        reading = len(blocks) + 1 + HEADS_READ_BLOCK
        for i, block in enumerate(blocks):
            tokens = tokens + block.ls_1(_attend(block.attn, block.ln_1(tokens)))
            normal = block.ln_2(tokens)
            if i == reading:
                intermediate = normal[:, 1:]
            tokens = tokens + block.ls_2(block.mlp(normal))
        tokens = tokens[:, 1:]
        tokens = tokens + last.ls_1(own_values(last.attn, last.ln_1(tokens)))
        tokens = visual.ln_post(tokens + last.ls_2(last.mlp(last.ln_2(tokens))))
        return intermediate, tokens if visual.proj is None else tokens @ visual.proj


class ResNetTower(nn.Module):
    """OpenCLIP's ResNet, read where its first stages put a cell, as MaskCLIP reads its attention pool.

    The last two stages halve the grid, twice. Here they run once for every place at which their windows can lie on the
    grid before them, so that it stays as fine: the same numbers as those of pictures moved by a cell. A window of two
    or four cells has no cell in its middle; the mean of its neighbours has. The picture is seen at half its size, at
    which objects have about the size that they had in the crops of training.
    """

    def __init__(self, visual: ModifiedResNet) -> None:
        """Take a loaded image tower; its modules are used, not copied."""
        super().__init__()
        self.visual = visual

    @property
    def patch_px(self) -> int:
        """Side of the cells in pixels of the picture."""
        return FIRST_STAGES_STRIDE * SEEN_AT_ONE_OF

    @property
    def width(self) -> int:
        """Channels of `PatchFeatures.intermediate`, the last but one stage's output."""
        return int(self.visual.layer3[-1].conv3.out_channels)

    @property
    def embed_dim(self) -> int:
        """Channels of `PatchFeatures.dense`, D."""
        return int(self.visual.attnpool.c_proj.out_features)

    def forward(self, images: Tensor) -> PatchFeatures:
        """Run a batch of pictures of one size, as `PatchTower` says."""
        _grid_hw(images, self.patch_px)
        visual, pool = self.visual, self.visual.attnpool
        dtype = pool.c_proj.weight.dtype
        values = visual.stem(F.avg_pool2d(images, SEEN_AT_ONE_OF).to(dtype))
        values = visual.layer2(visual.layer1(values))
        intermediate = unstrided(visual.layer3, values, 2)
        last = unstrided(lambda part: visual.layer4(visual.layer3(part)), values, 4)
        # A value has the mean position: where in its window an object lies says nothing about what it is.
        tokens = last.flatten(2).transpose(1, 2) + pool.positional_embedding[1:].mean(dim=0).to(dtype)
        dense = pool.c_proj(pool.v_proj(tokens))
        grid_hw = values.shape[2], values.shape[3]
        return PatchFeatures(intermediate.float(), _as_grid(dense, grid_hw))


def unstrided(stage: Callable[[Tensor], Tensor], values: Tensor, stride: int) -> Tensor:
    """Run what reduces a grid by a stride, and keep the grid as fine as it was.

    Args:
        stage: (B, channels, stride * m, stride * n) to (B, channels', m, n).
        values: (B, channels, h, w).
        stride: Even.

    Returns:
        (B, channels', h, w): at each cell the mean of the four windows whose corner is nearest to its middle. Beyond
        the border the outermost cells are repeated.
    """
    height, width = values.shape[2:]
    half = stride // 2
    padded = F.pad(values, (half, half, half, half), mode="replicate")
    windows: Tensor | None = None
    for down in range(min(stride, height + 1)):
        for right in range(min(stride, width + 1)):
            rows, cols = ((side + stride - start) // stride for side, start in ((height, down), (width, right)))
            part = stage(padded[:, :, down : down + rows * stride, right : right + cols * stride])
            if windows is None:
                windows = part.new_empty(*part.shape[:2], height + 1, width + 1)
            windows[:, :, down::stride, right::stride] = part
    assert windows is not None, "there is a cell"
    return F.avg_pool2d(windows, 2, stride=1)


def _grid_hw(images: Tensor, patch_px: int) -> tuple[int, int]:
    height, width = images.shape[2:]
    if height % patch_px or width % patch_px:
        raise ShapeError(f"sides must be multiples of {patch_px}, got {height} x {width}: pad the picture")
    return height // patch_px, width // patch_px


def _attend(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """Attend without ever holding a (tokens x tokens) matrix, whichever axis the module has first.

    Args:
        attention: Its projections are used.
        tokens: (B, n, width).

    Returns:
        (B, n, width).
    """
    batch, count, width = tokens.shape
    qkv = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = qkv.reshape(batch, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, count, width)
    attended: Tensor = attention.out_proj(mixed)
    return attended


def own_values(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """Apply the value and output projections, as if every token attended to itself alone."""
    width = attention.embed_dim
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias[2 * width :]
    out: Tensor = attention.out_proj(F.linear(tokens, attention.in_proj_weight[2 * width :], bias))
    return out


def _as_grid(tokens: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Lay (B, h * w, channels) out as (B, channels, h, w) float32."""
    return tokens.float().transpose(1, 2).reshape(tokens.shape[0], -1, *grid_hw)
