"""MaskCLIP, a training-free peer: dense features out of one pass of CLIP (Zhou et al., ECCV 2022).

A second way to encode: it fills the place of CLIP-DIY's crops, everything after it is shared. The last attention
layer's query and key are dropped; its value and output projections are applied to every position by itself, as 1x1
convolutions. We implement the training-free step, without the paper's key smoothing, prompt denoising and MaskCLIP+.
"""

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from clipdiy.clip import ClipEncoder
from clipdiy.crops import resize_uint8
from clipdiy.errors import ConfigError
from clipdiy.photo import Photo

INPUT_SCALE = 2  # the picture is seen at twice the size CLIP was trained on: 14 x 14 positions with ViT-B/32


class MaskClip:
    """Dense embeddings with the weights of a loaded CLIP."""

    def __init__(self, clip: ClipEncoder) -> None:
        """Take loaded towers.

        Raises:
            ConfigError: If the image tower is neither OpenCLIP's own ViT nor its ResNet.
        """
        visual = clip.network.visual
        pooled = isinstance(visual, VisionTransformer) and visual.attn_pool is not None
        if pooled or not isinstance(visual, VisionTransformer | ModifiedResNet):
            raise ConfigError(
                f"MaskCLIP needs a CLIP whose image tower is OpenCLIP's ViT or ResNet, got {type(visual).__name__}"
                f"{' with an attention pool' if pooled else ''}"
            )
        self._clip = clip
        self._visual: VisionTransformer | ModifiedResNet = visual
        self.input_px = INPUT_SCALE * clip.input_px

    @torch.inference_mode()
    def encode(self, photo: Photo) -> Tensor:
        """Encode one photo, squashed to a square.

        Returns:
            (h, w, D) float16 unit vectors on the CPU: one scale of `ImageFeatures.crop_embeddings`.
        """
        image = torch.from_numpy(photo.pixels.transpose(2, 0, 1).copy()).unsqueeze(0).to(self._clip.device)
        square = resize_uint8(image, (self.input_px, self.input_px), "bicubic")
        pixels = self._clip.normalise(square).to(self._clip.dtype)
        dense = (
            _vit(self._visual, pixels) if isinstance(self._visual, VisionTransformer) else _resnet(self._visual, pixels)
        )
        return F.normalize(dense.float(), dim=-1).half().cpu()


def _vit(visual: VisionTransformer, pixels: Tensor) -> Tensor:
    """Return (h, w, D), not normalised."""
    patches = visual.conv1(pixels)
    rows, cols = patches.shape[2:]
    tokens = torch.cat(
        [visual.class_embedding.to(patches.dtype).expand(1, 1, -1), patches.flatten(2).transpose(1, 2)], dim=1
    )
    tokens = visual.ln_pre(tokens + fit_positions(visual.positional_embedding, rows, cols).to(tokens.dtype))
    blocks = list(visual.transformer.resblocks)
    last = blocks[-1]
    if not last.attn.batch_first:
        tokens = tokens.transpose(0, 1)
    for block in blocks[:-1]:
        tokens = block(tokens)
    values = _values(last.attn, last.ln_1(tokens))
    if not last.attn.batch_first:
        values = values.transpose(0, 1)
    values = visual.ln_post(last.ls_1(values)[0, 1:])
    if visual.proj is not None:
        values = values @ visual.proj
    dense: Tensor = values.reshape(rows, cols, -1)
    return dense


def _values(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """Apply the value and output projections, as if every token attended to itself alone."""
    width = attention.embed_dim
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias[2 * width :]
    out: Tensor = attention.out_proj(F.linear(tokens, attention.in_proj_weight[2 * width :], bias))
    return out


def _resnet(visual: ModifiedResNet, pixels: Tensor) -> Tensor:
    """Return (h, w, D), not normalised."""
    features = visual.stem(pixels)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        features = layer(features)
    rows, cols = features.shape[2:]
    pool = visual.attnpool
    tokens = features[0].flatten(1).T + fit_positions(pool.positional_embedding, rows, cols)[1:].to(features.dtype)
    dense: Tensor = pool.c_proj(pool.v_proj(tokens))
    return dense.reshape(rows, cols, -1)


def fit_positions(learned: Tensor, rows: int, cols: int) -> Tensor:
    """Fit a learned position embedding to another grid, bicubic.

    Args:
        learned: (1 + side * side, D), the class token's first.
        rows: Positions from top to bottom.
        cols: Positions from left to right.

    Returns:
        (1 + rows * cols, D).
    """
    side = round((learned.shape[0] - 1) ** 0.5)
    if (rows, cols) == (side, side):
        return learned
    grid = learned[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    fitted = F.interpolate(grid, (rows, cols), mode="bicubic", align_corners=False)
    return torch.cat([learned[:1].float(), fitted.flatten(2).squeeze(0).T])
