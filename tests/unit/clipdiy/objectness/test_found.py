"""FOUND and FOUND-bkg in small, worked by hand; against the authors' outputs in test_golden.py."""

import pytest
import torch
import torch.nn.functional as F
from tiny import GOLDEN, TINY

from clipdiy.config import ObjectnessConfig
from clipdiy.errors import ConfigError, ShapeError
from clipdiy.objectness.found import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LastAttention,
    background_objectness,
    image_size_for,
    position_embedding,
    prepare,
)
from clipdiy.objectness.loading import load_found, locate_found


@pytest.fixture(scope="module")
def network():
    return load_found(locate_found(TINY.found, GOLDEN))


def image(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("size_hw", "config", "seen_hw"),
    [
        pytest.param((480, 640), ObjectnessConfig(), (480, 640), id="as large as may be"),
        pytest.param((100, 60), ObjectnessConfig(), (100, 60), id="small ones do not grow"),
        pytest.param((1280, 640), ObjectnessConfig(), (640, 320), id="reduced"),
        pytest.param((3, 5000), ObjectnessConfig(), (1, 640), id="never to nothing"),
        pytest.param((480, 640), ObjectnessConfig(square_px=256), (256, 256), id="squashed"),
        pytest.param((10, 20), ObjectnessConfig(square_px=64), (64, 64), id="squashed and grown"),
    ],
)
def test_size_that_the_network_sees(network, size_hw, config, seen_hw):
    assert image_size_for(size_hw, config) == seen_hw
    assert network.grid_hw(size_hw, config) == (-(-seen_hw[0] // 8), -(-seen_hw[1] // 8))


@pytest.mark.parametrize("size_hw", [(16, 24), (17, 23), (1, 1), (8, 9)], ids=str)
def test_padding_is_zero_after_the_normalisation_at_the_bottom_and_right(size_hw):
    pixels = image(*size_hw)
    ready = prepare(pixels, size_hw, 8)
    height, width = size_hw
    assert (ready.shape[1] % 8, ready.shape[2] % 8) == (0, 0)
    assert ready.shape[1] - height < 8 > ready.shape[2] - width
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(ready[:, :height, :width], (pixels / 255 - mean) / std)
    assert (ready[:, height:] == 0).all()
    assert (ready[:, :, width:] == 0).all()


def test_positions_of_the_learned_grid_are_the_learned_ones():
    learned = torch.randn(1, 1 + 9, 4)
    assert position_embedding(learned, 3, 3) is learned


@pytest.mark.parametrize(("rows", "cols"), [(2, 5), (7, 3), (1, 1), (30, 40)])
def test_positions_of_another_grid(rows, cols):
    learned = torch.randn(1, 1 + 9, 4)
    fitted = position_embedding(learned, rows, cols)
    assert fitted.shape == (1, 1 + rows * cols, 4)
    assert torch.equal(fitted[:, 0], learned[:, 0]), "the CLS token has no place"
    # DINO's own: a scale factor that is a tenth of a patch too large.
    grid = learned[:, 1:].reshape(1, 3, 3, 4).permute(0, 3, 1, 2)
    factor = ((rows + 0.1) / 3, (cols + 0.1) / 3)
    expected = F.interpolate(grid, scale_factor=factor, mode="bicubic", align_corners=False)
    torch.testing.assert_close(fitted[:, 1:], expected.permute(0, 2, 3, 1).flatten(1, 2))


def test_keys_and_attention_are_those_of_the_whole_last_layer(network):
    """Against timm's own attention, asked for everything instead of cut short."""
    pixels = torch.stack([prepare(image(64, 64, seed), (64, 64), 8) for seed in range(2)])
    with torch.inference_mode():
        read = network(pixels)
        vit = network.backbone
        tokens = vit.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([vit.cls_token.expand(2, -1, -1), tokens], dim=1) + position_embedding(vit.pos_embed, 8, 8)
        for block in vit.blocks[:-1]:
            tokens = block(tokens)
        attention = vit.blocks[-1].attn
        qkv = attention.qkv(vit.blocks[-1].norm1(tokens)).reshape(2, 65, 3, attention.num_heads, -1)
        query, key = qkv[:, :, 0].transpose(1, 2), qkv[:, :, 1].transpose(1, 2)
        weights = (query @ key.transpose(2, 3) / key.shape[-1] ** 0.5).softmax(dim=-1)
    torch.testing.assert_close(read.cls_attention.flatten(2), weights[:, :, 0, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(read.keys.flatten(2).transpose(1, 2), qkv[:, 1:, 1].flatten(2), atol=1e-5, rtol=0)
    assert (read.cls_attention.flatten(2).sum(dim=2) < 1).all(), "attention of the CLS token to itself is left out"


def test_images_of_all_sizes_come_out_in_order(network):
    images = [image(*size_hw, seed) for seed, size_hw in enumerate([(40, 64), (24, 24), (40, 64), (33, 47)])]
    config = ObjectnessConfig()
    together = network.maps(images, config, ["found", "found-bkg"])
    for way, is_logit in (("found", True), ("found-bkg", False)):
        for one, read in zip(images, together[way], strict=True):
            [alone] = network.maps([one], config, [way])[way]
            torch.testing.assert_close(read.grid, alone.grid, atol=2e-2, rtol=0)
            assert (read.is_logit, read.grid.dtype) == (is_logit, torch.float16)
            assert read.grid.shape == (-(-one.shape[1] // 8), -(-one.shape[2] // 8))
            assert read.extent_hw == (one.shape[1] / 8, one.shape[2] / 8)
    assert not network.training


def test_the_network_runs_once_for_both_ways(network):
    runs = []
    handle = network.backbone.blocks[0].register_forward_pre_hook(lambda *_: runs.append(1))
    network.maps([image(24, 24), image(24, 24, 1)], ObjectnessConfig(), ["found", "found-bkg"])
    handle.remove()
    assert runs == [1]


def test_a_position_embedding_is_fitted_once_for_each_grid(network, monkeypatch):
    fitted = []

    def fit(learned, rows, cols):
        fitted.append((rows, cols))
        return position_embedding(learned, rows, cols)

    network = network.executed_by(None)
    monkeypatch.setattr("clipdiy.objectness.found.position_embedding", fit)
    images = [image(24, 32), image(40, 24), image(24, 32, 2)]
    once, again = (network.maps(images, ObjectnessConfig(), ["found"])["found"] for _ in range(2))
    assert fitted == [(3, 4), (5, 3)]
    for one, other in zip(once, again, strict=True):
        assert torch.equal(one.grid, other.grid)


def test_a_position_embedding_follows_the_network_to_another_device(network):
    network = network.executed_by(None)
    known = network._positions(3, 4)
    network._known_positions.put((3, 4), known.to("meta"))
    assert network._positions(3, 4).device == known.device


def test_no_images_and_no_ways(network):
    assert network.maps([], ObjectnessConfig(), ["found"]) == {"found": []}
    assert network.maps([image(8, 8)], ObjectnessConfig(), []) == {}


def test_a_way_of_another_source_is_refused(network):
    with pytest.raises(ConfigError, match="found or found-bkg, not by 'cutler'"):
        network.maps([image(8, 8)], ObjectnessConfig(), ["found", "cutler"])


def test_something_else_executes_the_body_of_a_new_network_only(network):
    pixels = prepare(image(24, 32), (24, 32), 8)[None]
    seen = []

    def engine(images, positions):
        seen.append((images.shape, positions.shape))
        return network.body(images, positions) * 2

    other = network.executed_by(engine)
    with torch.inference_mode():
        torch.testing.assert_close(other(pixels).keys, network(pixels).keys * 2)
    width = network.backbone.embed_dim
    assert seen == [((1, 3, 24, 32), (1, 1 + 3 * 4, width))]
    with torch.inference_mode():
        network(pixels)
    assert len(seen) == 1, "the first one is as it was"


def test_logits_are_a_weighted_sum_of_the_keys(network):
    keys = torch.randn(2, network.backbone.embed_dim, 3, 4)
    with torch.inference_mode():
        logits = network.logits(keys)
    weight, bias = network.head.weight.flatten(), network.head.bias
    torch.testing.assert_close(logits, torch.einsum("bdhw,d->bhw", keys, weight) + bias, atol=1e-5, rtol=0)


class TestBackground:
    """One head of two numbers; four patches in a row."""

    def read(self, keys, attention):
        return LastAttention(torch.tensor(keys).T.reshape(1, -1, 1, 4), torch.tensor(attention).reshape(1, -1, 1, 4))

    def test_what_looks_like_the_least_attended_patch_is_background(self):
        keys = [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.2]]
        attention = [[0.05, 0.2, 0.4, 0.3], [0.05, 0.2, 0.3, 0.4]]
        # The seed is the first patch: cosines to it are 1, 0.71, 0 and below 0. Two heads, so keys are one number each.
        objectness = background_objectness(self.read(keys, attention))
        assert objectness.shape == (1, 1, 4)
        assert objectness.flatten().tolist() == [0, 0, 1, 1]

    @pytest.mark.parametrize(
        ("threshold", "expected"), [(0.3, [0, 0, 1, 1]), (0.9, [0, 1, 1, 1]), (-2.0, [0, 0, 0, 0])]
    )
    def test_the_threshold_is_a_cosine(self, threshold, expected):
        keys = [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.2]]
        attention = [[0.05, 0.2, 0.4, 0.3], [0.05, 0.2, 0.3, 0.4]]
        assert background_objectness(self.read(keys, attention), threshold).flatten().tolist() == expected

    def test_a_head_that_looks_at_few_patches_weighs_more(self):
        # The first head attends to one patch of four, the second to three: its keys and its seed hardly count.
        attention = [[0.0, 0.1, 0.1, 0.9], [0.35, 0.0, 0.35, 0.35]]
        keys = [[1.0, 0.0], [1.0, 5.0], [-1.0, 0.0], [-1.0, 12.0]]
        # Weights log(4 / 1) = 1.39 and log(4 / 3) = 0.29. So patch 0 is the seed, although patch 1 has the least
        # attention in all; and patch 1, which differs from it by the second head only, is background too.
        objectness = background_objectness(self.read(keys, attention)).flatten().tolist()
        assert objectness == [0, 0, 1, 1]

    def test_keys_that_do_not_divide_into_heads_are_refused(self):
        with pytest.raises(ShapeError, match="3 key channels do not divide into 2 heads"):
            background_objectness(LastAttention(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, 2)))
