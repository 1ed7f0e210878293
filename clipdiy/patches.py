"""A ViT's first layer as one product, which is what a GPU has fast kernels for."""

import torch.nn.functional as F
from torch import Tensor, nn


class PatchProduct(nn.Conv2d):
    """A convolution whose kernels lie side by side: patches, each a row of numbers, times one matrix.

    The same weights, under the same names. For three channels cuDNN has no kernel that uses a GPU's matrix units well.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Take over a convolution's weights, which are shared and not copied."""
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            _pair(convolution.kernel_size),
            _pair(convolution.stride),
            bias=convolution.bias is not None,
            device="meta",
        )
        self.weight, self.bias = convolution.weight, convolution.bias
        self.train(convolution.training)

    def forward(self, images: Tensor) -> Tensor:
        """Return what the convolution returns.

        Args:
            images: (B, channels, H, W), H and W multiples of the kernel's side.

        Returns:
            (B, out, H / side, W / side), with the channels last in memory.
        """
        side_h, side_w = self.kernel_size
        batch, channels, height, width = images.shape
        rows, cols = height // side_h, width // side_w
        apart = images.reshape(batch, channels, rows, side_h, cols, side_w)
        patches = apart.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * cols, -1)
        made: Tensor = F.linear(patches, self.weight.flatten(1), self.bias).transpose(1, 2)
        return made.reshape(batch, -1, rows, cols)  # a view


def with_patch_products(network: nn.Module) -> None:
    """Put a `PatchProduct` in the place of every convolution that takes a picture apart into patches."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and _takes_patches(child):
                setattr(module, name, PatchProduct(child))


def _pair(sides: tuple[int, ...]) -> tuple[int, int]:
    height, width = sides
    return height, width


def _takes_patches(convolution: nn.Conv2d) -> bool:
    return (
        convolution.in_channels == 3
        and convolution.kernel_size == convolution.stride
        and max(convolution.kernel_size) > 1
        and convolution.padding in (0, (0, 0))
        and convolution.dilation == (1, 1)
        and convolution.groups == 1
    )
