"""MaskCLIP against attention with a mask that lets every token see itself alone, and against uniform attention."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import GOLDEN

from clipdiy.build import build_segmenter
from clipdiy.config import CoreConfig, CropGrid, ObjectnessConfig
from clipdiy.errors import ConfigError
from clipdiy.maskclip import MaskClip, fit_positions
from clipdiy.photo import Photo


def load(name):
    grid = CropGrid(patch_px=(256,))
    config = CoreConfig(clip=name, grid=grid, objectness=ObjectnessConfig(method="none"), device="cpu")
    return build_segmenter(config, warm_up=False).clip


@pytest.fixture
def photo():
    return Photo.from_array(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))


def pixels_of(masked, clip, photo):
    image = torch.from_numpy(photo.pixels.transpose(2, 0, 1).copy())[None]
    size = (masked.input_px, masked.input_px)
    return clip.normalise(F.interpolate(image, size, mode="bicubic", antialias=True))


@torch.inference_mode()
def test_vit_is_the_last_attention_with_every_token_for_itself(photo):
    clip = load(f"local-dir:{GOLDEN / 'tiny_clip'}")
    masked = MaskClip(clip)
    masked.input_px = clip.input_px  # at the trained size OpenCLIP's own forward pass can be asked
    visual, seen = clip.network.visual, {}
    last = visual.transformer.resblocks[-1]

    def note(module, inputs):
        seen["tokens"] = inputs[0]

    handle = last.register_forward_pre_hook(note)
    visual(pixels_of(masked, clip, photo))
    handle.remove()
    normal = last.ln_1(seen["tokens"])
    alone = torch.full((normal.shape[1],) * 2, -torch.inf).fill_diagonal_(0)
    attended = last.attn(normal, normal, normal, attn_mask=alone, need_weights=False)[0]
    expected = F.normalize(visual.ln_post(attended)[0, 1:] @ visual.proj, dim=-1)
    dense = masked.encode(photo)
    assert dense.shape == (7, 7, 32)
    torch.testing.assert_close(dense.flatten(0, 1).float(), expected, atol=1e-3, rtol=0)


@torch.inference_mode()
def test_resnet_pools_to_its_embedding_under_uniform_attention(photo):
    clip = load("starter")
    masked = MaskClip(clip)
    masked.input_px = clip.input_px
    pool = clip.network.visual.attnpool
    # No query: attention is uniform over the positions and their mean, so pooling is the mean of the dense values.
    pool.q_proj.weight.zero_(), pool.q_proj.bias.zero_()
    pool.positional_embedding[0] = pool.positional_embedding[1:].mean(dim=0)
    embedding = clip.network.visual(pixels_of(masked, clip, photo))[0]
    features = clip.network.visual.stem(pixels_of(masked, clip, photo))
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        features = getattr(clip.network.visual, layer)(features)
    side = features.shape[-1]
    tokens = features[0].flatten(1).T + pool.positional_embedding[1:]
    dense = pool.c_proj(pool.v_proj(tokens))
    torch.testing.assert_close(dense.mean(dim=0), embedding, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        masked.encode(photo).float(), F.normalize(dense, dim=-1).reshape(side, side, -1), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("name", ["starter", f"local-dir:{GOLDEN / 'tiny_clip'}"], ids=["resnet", "vit"])
def test_a_larger_picture_gives_a_finer_grid_of_unit_vectors(name, photo):
    masked = MaskClip(load(name))
    small = masked.encode(photo)
    assert small.dtype == torch.float16
    torch.testing.assert_close(small.float().norm(dim=-1), torch.ones(small.shape[:2]), atol=2e-3, rtol=0)
    masked.input_px *= 2
    assert masked.encode(photo).shape[:2] == (2 * small.shape[0], 2 * small.shape[1])


def test_positions_are_kept_where_the_grid_is_the_trained_one():
    learned = torch.rand(5, 3)
    assert fit_positions(learned, 2, 2) is learned
    torch.testing.assert_close(fit_positions(torch.ones(5, 3), 4, 6), torch.ones(25, 3))


def test_other_towers_are_refused():
    class Other:
        network = type("Network", (), {"visual": torch.nn.Identity()})()

    with pytest.raises(ConfigError, match="ViT or ResNet"):
        MaskClip(Other())
