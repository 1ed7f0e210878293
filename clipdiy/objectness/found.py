"""FOUND and FOUND-bkg: objectness out of a self-supervised ViT (Simeoni et al., CVPR 2023).

In this package the word "found" in a name always means this model. Before the network: `prepare`. The network:
`FoundNetwork` (keys of the last attention layer, and CLS attention where FOUND-bkg asks for it). After it:
`FoundNetwork.logits` or `background_objectness`. All of it in order: `FoundNetwork.maps`.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from clipdiy.config import ObjectnessConfig
from clipdiy.crops import resize_uint8
from clipdiy.errors import ConfigError, ShapeError
from clipdiy.recent import Recent

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BACKGROUND_SIMILARITY = 0.3  # FOUND's threshold for "looks like the background seed"

KNOWN_GRIDS = 16  # of 7.4 MB at most, for 60 x 80 patches of a ViT-S in float32

BodyEngine = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ObjectnessMap:
    """Objectness on the ViT's patch grid, with what is needed to lay it over the photo.

    Attributes:
        grid: (h, w) float32 or float16. Logits if `is_logit` (the sigmoid comes after the upsampling, as FOUND does
            it), else probabilities in [0, 1].
        is_logit: Whether `grid` holds logits.
        extent_hw: How many rows and columns of the grid the photo covers; not whole numbers where the image was
            padded to a multiple of the patch size. The rest of the grid lies outside the photo.
    """

    grid: Tensor
    is_logit: bool
    extent_hw: tuple[float, float]


def on_cpu(objectness: ObjectnessMap) -> ObjectnessMap:
    """Return a map whose grid is in the computer's memory, if need be after a GPU has made it."""
    return ObjectnessMap(objectness.grid.cpu(), objectness.is_logit, objectness.extent_hw)


@dataclass(frozen=True)
class LastAttention:
    """What FOUND reads off the backbone's last attention layer.

    Attributes:
        keys: (B, D, h, w) float32, keys of the last attention layer, heads side by side, without the CLS token.
        cls_attention: (B, heads, h, w) float32, attention from the CLS token, summing to less than 1 per head (the
            CLS token's attention to itself is left out).
    """

    keys: Tensor
    cls_attention: Tensor


def image_size_for(size_hw: tuple[int, int], config: ObjectnessConfig) -> tuple[int, int]:
    """Return the size, in pixels, at which FOUND sees a photo of the given size."""
    if config.square_px is not None:
        return config.square_px, config.square_px
    height, width = size_hw
    longer = max(height, width)
    if longer <= config.long_px:
        return height, width
    scale = config.long_px / longer
    return max(1, round(height * scale)), max(1, round(width * scale))


def prepare(image: Tensor, size_hw: tuple[int, int], patch_px: int) -> Tensor:
    """Resize, normalise with ImageNet's statistics and pad to whole patches.

    Padding goes to the bottom and right, with zeros, after the normalisation, as FOUND does.

    Args:
        image: (3, H, W) uint8.
        size_hw: Size at which the backbone is to see it.
        patch_px: Patch size of the ViT.

    Returns:
        (3, h, w) float32, h and w multiples of `patch_px`.
    """
    small = resize_uint8(image.unsqueeze(0), size_hw, "bilinear").squeeze(0)
    mean, std = imagenet_statistics(image.device)
    normal = (small.float() / 255 - mean) / std
    height, width = size_hw
    return F.pad(normal, (0, -width % patch_px, 0, -height % patch_px))


@lru_cache(maxsize=16)
def imagenet_statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ImageNet's mean and standard deviation, (3, 1, 1) float32 each, on a device.

    Made once: a GPU that is given numbers first does all that it was asked before.
    """
    with torch.inference_mode(False):  # kept for whoever asks next
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std


def position_embedding(learned: Tensor, rows: int, cols: int) -> Tensor:
    """Fit a ViT's learned position embedding to another grid of patches, exactly as DINO does.

    DINO asks for a scale factor a little too large (0.1 patch) so that rounding never loses a row, and the factor
    itself moves the sampling points. timm samples at the exact ratio with antialiasing, which is not what FOUND's head
    was trained on (correlation of the logits 0.9999 instead of 1).

    Args:
        learned: (1, 1 + side * side, D), the CLS token's first.
        rows: Patches from top to bottom.
        cols: Patches from left to right.

    Returns:
        (1, 1 + rows * cols, D).
    """
    side = round((learned.shape[1] - 1) ** 0.5)
    if (rows, cols) == (side, side):
        return learned
    cls, grid = learned[:, :1], learned[:, 1:]
    square = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    factor = ((rows + 0.1) / side, (cols + 0.1) / side)
    fitted = F.interpolate(square, scale_factor=factor, mode="bicubic", align_corners=False)
    return torch.cat([cls, fitted.permute(0, 2, 3, 1).flatten(1, 2).to(learned.dtype)], dim=1)


class FoundNetwork(nn.Module):
    """The frozen ViT and FOUND's 1x1 convolution. Gives objectness in two ways: `found` and `found-bkg`."""

    ways = ("found", "found-bkg")

    def __init__(self, backbone: VisionTransformer, head: nn.Conv2d, engine: BodyEngine | None = None) -> None:
        """Take loaded parts.

        Args:
            backbone: A plain ViT (CLS token, learned positions).
            head: The convolution that belongs to it.
            engine: What executes `body` in torch's place, if anything does.
        """
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._engine = engine
        self._known_positions: Recent[tuple[int, int], Tensor] = Recent(KNOWN_GRIDS)

    def executed_by(self, engine: BodyEngine | None) -> "FoundNetwork":
        """Return the same weights with something else than torch to execute `body`; `None` is torch."""
        return FoundNetwork(self.backbone, self.head, engine)

    def grid_hw(self, size_hw: tuple[int, int], config: ObjectnessConfig) -> tuple[int, int]:
        """Return rows and columns of the map of a photo of this size."""
        height, width = image_size_for(size_hw, config)
        return -(-height // self.patch_px), -(-width // self.patch_px)

    @torch.inference_mode()
    def maps(
        self, images: Sequence[Tensor], config: ObjectnessConfig, ways: Sequence[str]
    ) -> dict[str, list[ObjectnessMap]]:
        """Run the network over images, those of one size together, and read it off in each way that is asked for.

        Args:
            images: (3, H, W) uint8 each, of any sizes, on the network's device.
            config: At what size the network sees them.
            ways: `found`, `found-bkg` or both.

        Returns:
            By way, one map for each image, in order, float16 on the CPU.

        Raises:
            ConfigError: If a way is none of FOUND's.
        """
        unknown = [way for way in ways if way not in self.ways]
        if unknown:
            raise ConfigError(f"FOUND gives objectness by {' or '.join(self.ways)}, not by {unknown[0]!r}")
        by_size: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            by_size[image_size_for((image.shape[1], image.shape[2]), config)].append(i)
        read: dict[str, dict[int, ObjectnessMap]] = {way: {} for way in ways}
        for (height, width), members in by_size.items():
            batch = torch.stack([prepare(images[i], (height, width), self.patch_px) for i in members])
            attention = self(batch.to(self.backbone.cls_token.dtype))
            extent_hw = height / self.patch_px, width / self.patch_px
            for way in ways:
                is_logit = way == "found"
                grids = (self.logits(attention.keys) if is_logit else background_objectness(attention)).half()
                for i, grid in zip(members, grids, strict=True):
                    read[way][i] = ObjectnessMap(grid, is_logit, extent_hw)
        # Only now is anything waited for.
        return {way: [on_cpu(by_image[i]) for i in range(len(images))] for way, by_image in read.items()}

    @property
    def patch_px(self) -> int:
        """Side of the ViT's patches in pixels."""
        return int(self.backbone.patch_embed.patch_size[0])

    def forward(self, images: Tensor) -> LastAttention:
        """Return the last layer's keys and CLS attention.

        The last block is cut after its query-key-value projection: FOUND uses nothing that comes later, and all
        blocks before it use the fused attention kernel, which holds no (tokens x tokens) matrix.

        Args:
            images: (B, 3, H, W), normalised, H and W multiples of the patch size; the backbone's dtype.
        """
        rows, cols = images.shape[2] // self.patch_px, images.shape[3] // self.patch_px
        positions = self._positions(rows, cols)
        if self._engine is not None:
            qkv = torch.cat([self._engine(image.float(), positions.float()) for image in images.split(1)])
        else:
            qkv = self.body(images, positions)
        batch, count = qkv.shape[:2]
        attention = self.backbone.blocks[-1].attn
        heads = attention.num_heads
        # (B, count, heads, width / heads); the values are of no use, and of the queries that of the CLS token alone
        query, key, _ = qkv.reshape(batch, count, 3, heads, -1).unbind(2)
        query, key = query[:, :1].float(), key.float()
        weights = (query.transpose(1, 2) * attention.scale @ key.permute(0, 2, 3, 1)).softmax(dim=-1)
        keys = key.flatten(2)[:, 1:].transpose(1, 2).unflatten(2, (rows, cols))
        return LastAttention(keys, weights[:, :, 0, 1:].reshape(batch, heads, rows, cols))

    def _positions(self, rows: int, cols: int) -> Tensor:
        """Return the position embedding of a grid, fitted once: a GPU has no fast way to do it."""
        known = self._known_positions.get((rows, cols))
        if known is not None and known.device == self.backbone.pos_embed.device:
            return known
        return self._known_positions.put((rows, cols), position_embedding(self.backbone.pos_embed, rows, cols))

    def body(self, images: Tensor, positions: Tensor) -> Tensor:
        """Run what is expensive: all blocks but the last, and that one's query-key-value projection.

        Args:
            images: (B, 3, H, W), as for `forward`.
            positions: (1, 1 + h * w, D), the position embedding for this size.

        Returns:
            (B, 1 + h * w, 3 * D): queries, keys and values, heads side by side.
        """
        vit = self.backbone
        patches = vit.patch_embed.proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([vit.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        tokens = tokens + positions.to(tokens.dtype)
        *blocks, last = vit.blocks
        for block in blocks:
            tokens = block(tokens)
        qkv: Tensor = last.attn.qkv(last.norm1(tokens))
        return qkv

    def logits(self, keys: Tensor) -> Tensor:
        """Apply the trained head (FOUND's soft map is the sigmoid of this, upsampled).

        Args:
            keys: (B, D, h, w) float32.

        Returns:
            (B, h, w) float32, logits.
        """
        weight, bias = self.head.weight.float(), self.head.bias
        by_patch = keys.permute(0, 2, 3, 1)  # as they lie in memory
        return F.linear(by_patch, weight.flatten(1), None if bias is None else bias.float()).squeeze(-1)


def background_objectness(read: LastAttention, similarity: float = BACKGROUND_SIMILARITY) -> Tensor:
    """FOUND-bkg: everything that does not look like the least attended patch.

    FOUND section 3.1: heads whose attention is spread over much of the image say little, so each head h is weighted
    by beta_h = log(sum_k q_k / q_h), with q_h the share of patches that it attends to more than the mean. The
    background seed is the patch with the least weighted attention; background are the patches whose weighted keys
    have a cosine above the threshold with the seed's.

    Args:
        read: Keys and CLS attention of a batch.
        similarity: Cosine above which a patch counts as background.

    Returns:
        (B, h, w) float32, 0 on the background and 1 elsewhere (hard: the method has no soft map).

    Raises:
        ShapeError: If the keys do not divide into as many heads as the attention has.
    """
    batch, heads, rows, cols = read.cls_attention.shape
    if read.keys.shape[1] % heads:
        raise ShapeError(f"{read.keys.shape[1]} key channels do not divide into {heads} heads")
    attention = read.cls_attention.flatten(2)  # (B, heads, patches)
    tiny = 1e-10
    share = (attention > attention.mean(dim=(1, 2), keepdim=True)).float().mean(dim=2)  # (B, heads)
    beta = torch.log((share + tiny).sum(dim=1, keepdim=True) / (share + tiny))
    keys = read.keys.reshape(batch, heads, -1, rows * cols) * beta[:, :, None, None]
    unit = F.normalize(keys.flatten(1, 2), dim=1)  # (B, D, patches)
    seed = (attention * beta[:, :, None]).sum(dim=1).argmin(dim=1)  # (B,)
    seed_key = unit.gather(2, seed[:, None, None].expand(-1, unit.shape[1], 1))  # (B, D, 1)
    background = (unit * seed_key).sum(dim=1) > similarity
    return 1 - background.float().reshape(batch, rows, cols)
