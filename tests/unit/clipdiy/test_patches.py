"""A ViT's first layer as one product: the numbers of the convolution, and nothing else is touched."""

import open_clip
import pytest
import torch
from torch import nn

from clipdiy.patches import PatchProduct, with_patch_products


@pytest.mark.parametrize("bias", [True, False])
def test_the_product_is_the_convolution(bias):
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 16, 8, 8, bias=bias).eval()
    images = torch.randn(2, 3, 24, 40)
    product = PatchProduct(convolution)
    assert product(images).shape == (2, 16, 3, 5)
    torch.testing.assert_close(product(images), convolution(images), atol=1e-5, rtol=0)
    assert product.weight is convolution.weight
    assert not product.training


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(3, 4, 3, 2),  # patches overlap
        nn.Conv2d(3, 4, 2, 3),  # pixels lie between them
        nn.Conv2d(3, 4, 4, 4, padding=1),
        nn.Conv2d(3, 4, 2, 2, dilation=2),
        nn.Conv2d(6, 4, 4, 4),
        nn.Conv2d(3, 3, 4, 4, groups=3),
        nn.Conv2d(3, 4, 1, 1),
    ],
)
def test_other_convolutions_stay(convolution):
    network = nn.Sequential(convolution)
    with_patch_products(network)
    assert network[0] is convolution


def test_patches_of_two_pixels_are_patches():
    network = nn.Sequential(nn.Conv2d(3, 4, 2, 2))
    with_patch_products(network)
    assert isinstance(network[0], PatchProduct)


@torch.inference_mode()
def test_clip_s_tower_says_the_same():
    torch.manual_seed(0)
    tower = open_clip.create_model("ViT-B-32").visual.eval()
    images = torch.randn(2, 3, 224, 224)
    before, names = tower(images), list(tower.state_dict())
    with_patch_products(tower)
    assert isinstance(tower.conv1, PatchProduct)
    torch.testing.assert_close(tower(images), before, atol=1e-4, rtol=0)
    assert list(tower.state_dict()) == names, "weights are found under the names they had"
