"""CLIP-DIY read plainly from the paper: slow, short, and the oracle that the product is compared with.

One crop at a time through Pillow, float32 throughout, every prompt embedded on every call over the whole context,
attention in FOUND written out, every class map brought to full size, Label Studio's own RLE. It shares weights with the
product and nothing else: not the crops' cutting, not the upsampling, not the order of the steps.

`tests/unit/benchmarks/test_reference.py` holds the product against it on random sizes, vocabularies and seeds; the
benchmarks time the product against it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from label_studio_sdk.converter.brush import mask2rle
from numpy.typing import NDArray
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from clipdiy.config import CoreConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Reference:
    """Loaded networks in float32 and what is needed to read pixels for them.

    Attributes:
        clip: An `open_clip` model.
        tokenizer: Texts to (B, context) token rows.
        input_px: Side of CLIP's input.
        mean: CLIP's mean per channel, on the 0..1 scale.
        std: CLIP's standard deviation.
        vit: FOUND's backbone.
        head: FOUND's 1x1 convolution.
        config: Scales and sizes.
    """

    clip: Any
    tokenizer: Callable[[list[str]], Tensor]
    input_px: int
    mean: Sequence[float]
    std: Sequence[float]
    vit: VisionTransformer
    head: nn.Conv2d
    config: CoreConfig

    @torch.inference_mode()
    def predict(self, pixels: NDArray[np.uint8], prompts: Sequence[str]) -> list[list[int]]:
        """Return Label Studio's RLE of every class but the background that is anywhere in the picture."""
        labels = self.segment(pixels, prompts)
        masks = [labels == position for position in range(1, len(prompts))]
        return [mask2rle(mask.astype(np.uint8) * 255) for mask in masks if mask.any()]

    @torch.inference_mode()
    def segment(self, pixels: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.int64]:
        """Return the label map, (H, W).

        Args:
            pixels: (H, W, 3) RGB.
            prompts: One prompt a class, that of the background first.
        """
        labels: NDArray[np.int64] = self.guided(pixels, self.embed(prompts)).softmax(dim=0).argmax(dim=0).cpu().numpy()
        return labels

    @torch.inference_mode()
    def guided(self, pixels: NDArray[np.uint8], texts: Tensor) -> Tensor:
        """Return Eq. 3 at the picture's own size, (C, H, W)."""
        similarity = self.similarity(pixels, texts)
        objectness = self.objectness(pixels)
        return torch.cat([similarity[:1] * (1 - objectness), similarity[1:] * objectness])

    @torch.inference_mode()
    def similarity(self, pixels: NDArray[np.uint8], texts: Tensor) -> Tensor:
        """Return Eq. 1 and 2 at the picture's own size, (C, H, W)."""
        maps = [
            F.interpolate(grid[None], pixels.shape[:2], mode="bilinear", align_corners=False)[0]
            for grid in self.grids(pixels, texts)
        ]
        return torch.stack(maps).mean(dim=0)

    @torch.inference_mode()
    def grids(self, pixels: NDArray[np.uint8], texts: Tensor) -> list[Tensor]:
        """Return the cosines of every crop with every class, per scale (C, h, w)."""
        side = self.config.grid.square_px
        square = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
        grids = []
        for patch in self.config.grid.patch_px:
            starts = range(0, side - patch + 1, max(1, round(patch * self.config.grid.stride_ratio)))
            rows = [
                torch.stack([self.look((left, top, left + patch, top + patch), square) @ texts.T for left in starts])
                for top in starts
            ]
            grids.append(torch.stack(rows).permute(2, 0, 1))
        return grids

    def look(self, box_xyxy: tuple[int, int, int, int], square: Image.Image) -> Tensor:
        """Show CLIP one crop; return its unit embedding, (D,)."""
        crop = square.crop(box_xyxy).resize((self.input_px, self.input_px), Image.Resampling.BICUBIC)
        return F.normalize(self.clip.encode_image(_normalised(crop, self.mean, self.std)).float(), dim=-1)[0]

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Return the unit embedding of every prompt, (C, D)."""
        return F.normalize(self.clip.encode_text(self.tokenizer(list(prompts))).float(), dim=-1)

    @torch.inference_mode()
    def objectness(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return FOUND's soft map at the picture's own size, (H, W) in [0, 1]."""
        height, width = pixels.shape[:2]
        image = Image.fromarray(pixels)
        square, longest = self.config.objectness.square_px, self.config.objectness.long_px
        if square is not None:
            image = image.resize((square, square), Image.Resampling.BILINEAR)
        elif max(height, width) > longest:
            factor = longest / max(height, width)
            image = image.resize((round(width * factor), round(height * factor)), Image.Resampling.BILINEAR)
        patch = int(self.vit.patch_embed.patch_size[0])
        images = _normalised(image, IMAGENET_MEAN, IMAGENET_STD)
        images = F.pad(images, (0, -image.width % patch, 0, -image.height % patch))
        logits = F.conv2d(self.keys(images), self.head.weight, self.head.bias)
        if image.size == (width, height):
            fine = F.interpolate(logits, scale_factor=patch, mode="bilinear", align_corners=False)
            return fine[0, 0, :height, :width].sigmoid()
        # FOUND saw another size than the photo's: from its grid straight to the photo, one axis after the other.
        values = logits[0, 0].cpu().numpy()
        rows = (np.arange(height) + 0.5) * (image.height / patch / height) - 0.5
        cols = (np.arange(width) + 0.5) * (image.width / patch / width) - 0.5
        values = np.stack([np.interp(rows, np.arange(values.shape[0]), column) for column in values.T], axis=1)
        values = np.stack([np.interp(cols, np.arange(values.shape[1]), row) for row in values])
        return torch.tensor(values).float().sigmoid()

    def keys(self, images: Tensor) -> Tensor:
        """Return the keys of the last attention layer, (B, D, h, w), with every layer run to its end."""
        vit, patch = self.vit, int(self.vit.patch_embed.patch_size[0])
        rows, cols = images.shape[2] // patch, images.shape[3] // patch
        tokens = vit.patch_embed.proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([vit.cls_token.expand(len(images), -1, -1), tokens], dim=1) + self._positions(rows, cols)
        key = tokens
        for block in vit.blocks:
            attention = block.attn
            batch, count, width = tokens.shape
            heads = attention.num_heads
            qkv = attention.qkv(block.norm1(tokens)).reshape(batch, count, 3, heads, width // heads)
            query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, count, width / heads)
            weights = (query @ key.transpose(-2, -1) * (width // heads) ** -0.5).softmax(dim=-1)
            tokens = tokens + attention.proj((weights @ value).transpose(1, 2).reshape(batch, count, width))
            tokens = tokens + block.mlp(block.norm2(tokens))
        return key[:, :, 1:].transpose(2, 3).reshape(len(images), -1, rows, cols)

    def _positions(self, rows: int, cols: int) -> Tensor:
        """Fit the learned positions to the grid as DINO does, with its factor that is a little too large."""
        learned = self.vit.pos_embed
        side = round((learned.shape[1] - 1) ** 0.5)
        if (rows, cols) == (side, side):
            return learned
        grid = learned[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        factor = ((rows + 0.1) / side, (cols + 0.1) / side)
        fitted = F.interpolate(grid, scale_factor=factor, mode="bicubic", align_corners=False)
        return torch.cat([learned[:, :1], fitted.permute(0, 2, 3, 1).reshape(1, rows * cols, -1)], dim=1)


def _normalised(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return (1, 3, H, W) float32, on torch's default device: where a benchmark has put the networks."""
    values = torch.tensor(np.array(image)).float() / 255
    return ((values - torch.tensor(mean)) / torch.tensor(std)).permute(2, 0, 1)[None]
