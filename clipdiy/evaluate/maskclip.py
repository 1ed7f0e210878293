"""MaskCLIP, a training-free peer: dense features out of one pass of CLIP (Zhou et al., ECCV 2022).

A second way to encode: it fills the place of CLIP-DIY's crops, everything after it is shared. The last attention
layer's query and key are dropped; its value and output projections are applied to every position by itself, as 1x1
convolutions. Of a ViT the rest of the last block stays, its residual and its MLP; of a ResNet's attention pool nothing
but the two projections does, so no position embedding is added. Both are the published program's form; dropping the
residual and the MLP makes another method (ClearCLIP). We implement the training-free step, without the paper's key
smoothing, prompt denoising and MaskCLIP+.
"""

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor

from clipdiy.clip import ClipEncoder
from clipdiy.crops import resize_uint8
from clipdiy.dinoiser.tower import fit_positions, own_values
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
        return F.normalize(self.dense(pixels), dim=-1).half().cpu()

    @torch.inference_mode()
    def dense(self, pixels: Tensor) -> Tensor:
        """Run the network on one picture of any size.

        Args:
            pixels: (1, 3, H, W), normalised, in the tower's dtype. Sides are whole patches (of a ViT), or multiples of
                32 (of a ResNet).

        Returns:
            (h, w, D) float32 in the text space, not of unit length.
        """
        visual = self._visual
        return (_vit(visual, pixels) if isinstance(visual, VisionTransformer) else _resnet(visual, pixels)).float()


def _vit(visual: VisionTransformer, pixels: Tensor) -> Tensor:
    """Return (h, w, D), not normalised."""
    patches = visual.conv1(pixels)
    rows, cols = patches.shape[2:]
    tokens = torch.cat(
        [visual.class_embedding.to(patches.dtype).expand(1, 1, -1), patches.flatten(2).transpose(1, 2)], dim=1
    )
    tokens = visual.ln_pre(tokens + fit_positions(visual.positional_embedding, (rows, cols)).to(tokens.dtype))
    blocks = list(visual.transformer.resblocks)
    last = blocks[-1]
    if not last.attn.batch_first:
        tokens = tokens.transpose(0, 1)
    for block in blocks[:-1]:
        tokens = block(tokens)
    tokens = tokens[0, 1:] if last.attn.batch_first else tokens[1:, 0]  # nothing mixes them any more
    tokens = tokens + last.ls_1(own_values(last.attn, last.ln_1(tokens)))
    tokens = visual.ln_post(tokens + last.ls_2(last.mlp(last.ln_2(tokens))))
    if visual.proj is not None:
        tokens = tokens @ visual.proj
    dense: Tensor = tokens.reshape(rows, cols, -1)
    return dense


def _resnet(visual: ModifiedResNet, pixels: Tensor) -> Tensor:
    """Return (h, w, D), not normalised."""
    features = visual.stem(pixels)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        features = layer(features)
    rows, cols = features.shape[2:]
    pool = visual.attnpool
    dense: Tensor = pool.c_proj(pool.v_proj(features[0].flatten(1).T))
    return dense.reshape(rows, cols, -1)
