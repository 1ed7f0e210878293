"""The tower against OpenCLIP's own blocks, run one by one."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from dinoiser_tiny import load_dinoiser
from open_clip.transformer import VisionTransformer

from clipdiy.dinoiser.tower import ResNetTower, VitTower, fit_positions, pad_to_patches, patch_tower, unstrided
from clipdiy.errors import ConfigError, ShapeError
from clipdiy.weights import STARTER_DIR


@pytest.fixture(scope="module")
def visual():
    return load_dinoiser().clip.network.visual


def picture(batch, height, width):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(height * width))


@torch.inference_mode()
def plain(visual, images):
    """Read the page's steps 2 to 4 with OpenCLIP's blocks and an attention mask; return z and F, patch by patch."""
    patches = visual.conv1(images)
    grid_hw = patches.shape[2:]
    learned = visual.positional_embedding
    side = round((len(learned) - 1) ** 0.5)
    grid = learned[1:].T.reshape(1, -1, side, side)
    grid = F.interpolate(grid, grid_hw, mode="bicubic", align_corners=False).flatten(2)[0].T
    tokens = torch.cat([visual.class_embedding.expand(len(images), 1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    tokens = visual.ln_pre(tokens + torch.cat([learned[:1], grid]))
    blocks = visual.transformer.resblocks
    seen = []
    hook = blocks[-3].ln_2.register_forward_hook(lambda module, inputs, output: seen.append(output))
    for block in blocks[:-1]:
        tokens = block(tokens)
    hook.remove()
    # A token that may look at nobody but itself gets its own value.
    alone = torch.full((tokens.shape[1],) * 2, -torch.inf).fill_diagonal_(0)
    tokens = blocks[-1](tokens, attn_mask=alone)
    return seen[0][:, 1:], visual.ln_post(tokens[:, 1:]) @ visual.proj


@torch.inference_mode()
def test_positions_are_fitted_once_for_each_grid(visual, monkeypatch):
    fitted = []

    def fit(learned, grid_hw):
        fitted.append(grid_hw)
        return fit_positions(learned, grid_hw)

    monkeypatch.setattr("clipdiy.dinoiser.tower.fit_positions", fit)
    tower = VitTower(visual)
    once, _, again = (tower(picture(1, *size)) for size in ((32, 48), (48, 32), (32, 48)))
    assert fitted == [(2, 3), (3, 2)]
    assert torch.equal(once.dense, again.dense)


SIZES = {
    "one patch": (1, 16, 16),
    "the trained grid": (1, 64, 64),
    "wide, two at once": (2, 32, 176),
    "tall, three at once": (3, 112, 48),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_against_openclips_blocks(visual, size):
    images = picture(*size)
    read = VitTower(visual)(images)
    intermediate, dense = plain(visual, images)
    rows, cols = size[1] // 16, size[2] // 16
    assert read.intermediate.shape == (size[0], 64, rows, cols)
    for ours, theirs in ((read.intermediate, intermediate), (read.dense, dense)):
        theirs = theirs.reshape(size[0], rows, cols, -1).permute(0, 3, 1, 2)
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


def test_a_batch_is_its_pictures(visual):
    tower, images = VitTower(visual), picture(3, 48, 80)
    together = tower(images)
    for i, image in enumerate(images):
        alone = tower(image[None])
        torch.testing.assert_close(together.dense[i], alone.dense[0], atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(together.intermediate[i], alone.intermediate[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("size_hw", "padded_hw"),
    [((1, 1), (16, 16)), ((16, 32), (16, 32)), ((17, 31), (32, 32)), ((300, 451), (304, 464))],
    ids=["one pixel", "whole patches", "odd", "a photo"],
)
def test_padding_is_black_and_at_the_right_and_bottom(size_hw, padded_hw):
    images = torch.full((2, 3, *size_hw), 200, dtype=torch.uint8)
    padded = pad_to_patches(images, 16)
    assert padded.shape[2:] == padded_hw
    assert torch.equal(padded[:, :, : size_hw[0], : size_hw[1]], images)
    assert int(padded.sum()) == int(images.sum())


def test_positions_of_the_trained_grid_are_the_learned_ones():
    learned = torch.rand(17, 6)
    assert torch.equal(fit_positions(learned, (4, 4)), learned)


def test_positions_of_another_grid_keep_rows_and_columns_apart():
    rising = torch.arange(4.0)[:, None].expand(4, 4)  # grows from top to bottom only
    learned = torch.cat([torch.tensor([[9.0]]), rising.reshape(16, 1)])
    fitted = fit_positions(learned, (2, 8))
    assert fitted[0] == 9
    grid = fitted[1:].reshape(2, 8)
    torch.testing.assert_close(grid, grid[:, :1].expand(2, 8))
    assert grid[0, 0] < grid[1, 0]


def test_sides_that_are_no_multiple_of_a_patch_are_refused(visual):
    with pytest.raises(ShapeError, match="multiples of 16"):
        VitTower(visual)(picture(1, 32, 40))


def test_other_towers_are_refused():
    with pytest.raises(ConfigError, match="plain ViT"):
        VitTower(torch.nn.Identity())
    shallow = VisionTransformer(32, 16, 32, 2, 2, 4, output_dim=8)
    with pytest.raises(ConfigError, match="at least 3 ordinary attention blocks, got 2"):
        VitTower(shallow)
    pooled = VisionTransformer(32, 16, 32, 3, 2, 4, output_dim=8, attentional_pool=True, attn_pooler_heads=2)
    with pytest.raises(ConfigError, match="with an attention pool"):
        VitTower(pooled)


class TestUnstrided:
    """A stage that sums each window: what comes out says which cells it saw."""

    @pytest.mark.parametrize("stride", [2, 4])
    @pytest.mark.parametrize("size_hw", [(1, 1), (3, 5), (8, 6)], ids=str)
    def test_every_cell_is_the_mean_of_the_windows_around_its_middle(self, stride, size_hw):
        values = torch.rand(2, 3, *size_hw, generator=torch.Generator().manual_seed(0))
        seen = unstrided(lambda part: F.avg_pool2d(part, stride), values, stride)
        half = stride // 2
        padded = F.pad(values, (half,) * 4, mode="replicate")
        expected = F.avg_pool2d(F.avg_pool2d(padded, stride, stride=1), 2, stride=1)
        torch.testing.assert_close(seen, expected)

    def test_a_symmetric_picture_stays_symmetric(self):
        values = torch.rand(1, 1, 6, 7)
        values = values + values.flip(2, 3)
        seen = unstrided(lambda part: F.max_pool2d(part, 4), values, 4)
        torch.testing.assert_close(seen, seen.flip(2, 3))


@pytest.fixture(scope="module")
def starter():
    return open_clip.create_model(f"local-dir:{STARTER_DIR / 'clip'}", require_pretrained=True).eval().visual


class TestResNet:
    @torch.inference_mode()
    def test_a_cell_is_what_the_network_says_of_pictures_moved_by_a_cell(self, starter):
        tower = patch_tower(starter)
        assert isinstance(tower, ResNetTower)
        assert (tower.patch_px, tower.width, tower.embed_dim) == (16, 256, 128)
        images = picture(1, 320, 352)
        read = tower(images)
        assert read.intermediate.shape == (1, 256, 20, 22)
        assert read.dense.shape == (1, 128, 20, 22)
        half = F.avg_pool2d(images, 2)
        total = torch.zeros(256)
        # Far from the border, where neither padding nor anything else is seen: cell (9, 10), four windows of 2 x 2.
        for row, col in ((8, 9), (8, 10), (9, 9), (9, 10)):
            moved = half[:, :, row % 2 * 8 :, col % 2 * 8 :]
            moved = moved[:, :, : moved.shape[2] // 16 * 16, : moved.shape[3] // 16 * 16]
            stages = starter.layer3(starter.layer2(starter.layer1(starter.stem(moved))))
            total += stages[0, :, row // 2, col // 2] / 4
        torch.testing.assert_close(read.intermediate[0, :, 9, 10], total, atol=1e-3, rtol=1e-3)

    @torch.inference_mode()
    def test_sides_and_batches(self, starter):
        tower = ResNetTower(starter)
        with pytest.raises(ShapeError, match="multiples of 16"):
            tower(picture(1, 32, 40))
        images = picture(2, 16, 48)
        together = tower(images)
        assert together.dense.shape == (2, 128, 1, 3)
        torch.testing.assert_close(tower(images[1:]).dense[0], together.dense[1], atol=1e-4, rtol=1e-4)
