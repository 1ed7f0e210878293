"""MaskCLIP against the features of a published program, masked attention, and uniform attention."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny import GOLDEN

from clipdiy.build import build_segmenter
from clipdiy.config import CoreConfig, CropGrid, ObjectnessConfig
from clipdiy.dinoiser.tower import fit_positions
from clipdiy.errors import ConfigError
from clipdiy.evaluate.maskclip import MaskClip
from clipdiy.photo import Photo

PUBLISHED = GOLDEN.parent / "golden_dinoiser"


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
def test_vit_gives_the_features_of_the_published_program():
    # `values` and `maskclip_features` of CLIP-DINOiser's own MaskCLIP on one photo, padded with black, not resized.
    expected = np.load(PUBLISHED / "expected.npz")
    clip = load(f"local-dir:{PUBLISHED / 'tiny_clip'}")
    with Image.open(GOLDEN / "photo.png") as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    height, width = pixels.shape[2:]
    normal = clip.normalise(F.pad(pixels, (0, -width % 16, 0, -height % 16)))
    torch.testing.assert_close(normal[0, :, -48:, -64:], torch.from_numpy(expected["input_corner"]), atol=1e-5, rtol=0)
    dense = MaskClip(clip).dense(normal).permute(2, 0, 1).numpy()
    assert np.abs(dense - expected["maskclip_features"]).max() < 1e-4


@torch.inference_mode()
def test_vit_is_the_last_block_with_every_token_for_itself(photo):
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
    alone = torch.full((seen["tokens"].shape[1],) * 2, -torch.inf).fill_diagonal_(0)
    block = last(seen["tokens"], attn_mask=alone)
    expected = F.normalize(visual.ln_post(block)[0, 1:] @ visual.proj, dim=-1)
    dense = masked.encode(photo)
    assert dense.shape == (7, 7, 32)
    torch.testing.assert_close(dense.flatten(0, 1).float(), expected, atol=1e-3, rtol=0)


@torch.inference_mode()
def test_resnet_pools_to_its_embedding_under_uniform_attention_without_positions(photo):
    clip = load("starter")
    masked = MaskClip(clip)
    masked.input_px = clip.input_px
    visual, pool = clip.network.visual, clip.network.visual.attnpool
    pixels = pixels_of(masked, clip, photo)
    with_positions = masked.dense(pixels)
    # The published head has no positions, so they must not matter; then OpenCLIP's own pool can be asked without them.
    pool.positional_embedding.zero_()
    dense = masked.dense(pixels)
    torch.testing.assert_close(dense, with_positions)
    # No query: attention is uniform over the positions and their mean, so pooling is the mean of the dense values.
    pool.q_proj.weight.zero_(), pool.q_proj.bias.zero_()
    torch.testing.assert_close(dense.mean(dim=(0, 1)), visual(pixels)[0], atol=1e-4, rtol=1e-4)
    assert dense.std(dim=(0, 1)).mean() > 1e-3, "positions differ"
    torch.testing.assert_close(masked.encode(photo).float(), F.normalize(dense, dim=-1), atol=1e-3, rtol=0)


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
    assert fit_positions(learned, (2, 2)) is learned
    torch.testing.assert_close(fit_positions(torch.ones(5, 3), (4, 6)), torch.ones(25, 3))


def test_other_towers_are_refused():
    class Other:
        network = type("Network", (), {"visual": torch.nn.Identity()})()

    with pytest.raises(ConfigError, match="ViT or ResNet"):
        MaskClip(Other())
