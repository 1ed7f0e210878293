import pytest
import torch
import torch.nn.functional as F
from dinoiser_tiny import GOLDEN_DINOISER
from safetensors.torch import load_file, save_file
from torch import nn

from clipdiy.dinoiser.heads import DinoiserHeads, correlations, pool
from clipdiy.dinoiser.loading import load_heads
from clipdiy.errors import ShapeError, WeightsError


def unit_grid(*rows):
    """Lay vectors out as (channels, h, w), each made of unit length."""
    return F.normalize(torch.tensor(rows, dtype=torch.float32), dim=2).permute(2, 0, 1)


def test_pooling_by_hand():
    # Three patches: the first two at 60 degrees, the third opposite to the first.
    directions = unit_grid([[1.0, 0.0], [0.5, 0.75**0.5], [-1.0, 0.0]])
    dense = torch.tensor([[[2.0, 8.0, 100.0]]])
    pooled = pool(dense, directions, gamma=0.2)
    # Patch 1: (1 * 2 + 0.5 * 8) / 1.5; patch 2: (0.5 * 2 + 1 * 8) / 1.5; patch 3 is alone.
    torch.testing.assert_close(pooled, torch.tensor([[[4.0, 6.0, 100.0]]]), atol=2e-4, rtol=0)


def test_gamma_is_the_least_correlation_that_counts():
    directions = unit_grid([[1.0, 0.0], [0.6, 0.8]])
    dense = torch.tensor([[[0.0, 16.0]]])
    cosine = float(correlations(directions, slice(0, 1))[0, 1])
    assert float(pool(dense, directions, gamma=cosine)[0, 0, 0]) == pytest.approx(16 * 0.6 / 1.6, abs=1e-3)
    assert float(pool(dense, directions, gamma=cosine + 1e-6)[0, 0, 0]) == 0


@pytest.mark.parametrize("block_values", [1, 50, 77, 10**9], ids=["a row at a time", "1", "2 rows", "all"])
def test_blocks_change_nothing(block_values):
    made = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(4, 5, 7, generator=made), dim=0)
    dense = torch.randn(3, 5, 7, generator=made)
    flat = directions.flatten(1)
    weights = flat.T @ flat
    weights[weights < 0.3] = 0
    expected = (dense.flatten(1) @ weights / (weights.sum(dim=0) + 1e-6)).reshape(3, 5, 7)
    torch.testing.assert_close(pool(dense, directions, 0.3, block_values=block_values), expected, atol=1e-5, rtol=1e-5)


def test_correlations_are_never_held_whole(monkeypatch):
    held = []
    original = correlations

    def watched(directions, cells):
        made = original(directions, cells)
        held.append(made.numel())
        return made

    monkeypatch.setattr("clipdiy.dinoiser.heads.correlations", watched)
    pool(torch.rand(2, 20, 30), torch.rand(3, 20, 30), 0.2, block_values=1200)
    assert max(held) <= 1200
    assert sum(held) == 600 * 600


def test_other_grids_are_refused():
    with pytest.raises(ShapeError, match="grids differ"):
        pool(torch.rand(2, 4, 5), torch.rand(3, 5, 4), 0.2)


def test_directions_repeat_the_border():
    heads = DinoiserHeads(1, 2)
    with torch.no_grad():
        # The first channel sums all nine neighbours; the second is constant, so that the length can be told.
        heads.obj_proj.weight.zero_(), heads.obj_proj.bias.copy_(torch.tensor([0.0, 9.0]))
        heads.obj_proj.weight[0] = 1
        directions = heads.directions(torch.ones(1, 1, 3, 4))
    torch.testing.assert_close(directions[0, 0], torch.full((3, 4), 0.5**0.5))


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU: what is computed there can be compared without one."""

    device = property(lambda _: torch.device("cuda"))


@torch.inference_mode()
def test_directions_are_the_same_where_the_convolution_is_a_product(monkeypatch):
    made = torch.Generator().manual_seed(0)
    heads = DinoiserHeads(6, 5)
    seen = torch.randn(2, 6, 3, 4, generator=made)
    expected = F.normalize(heads.obj_proj(seen), dim=1)
    torch.testing.assert_close(heads.directions(seen), expected)
    monkeypatch.delattr(nn.Conv2d, "forward")  # no convolution is run there
    product = heads.directions(seen.as_subclass(OnGpu)).as_subclass(torch.Tensor)
    torch.testing.assert_close(product, expected)


@torch.inference_mode()
def test_each_picture_of_a_batch_has_a_background():
    heads = DinoiserHeads(6, 5)
    seen = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    logits = heads.background_logits(seen)
    assert logits.shape == (2, 3, 4)
    torch.testing.assert_close(logits, heads.bkg_decoder(F.normalize(seen, dim=1))[:, 0])


def test_the_background_head_sees_vectors_of_unit_length():
    heads = DinoiserHeads(2, 1)
    with torch.no_grad():
        heads.bkg_decoder.weight.copy_(torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)), heads.bkg_decoder.bias.fill_(-0.5)
        seen = torch.tensor([[30.0, 40.0], [0.1, 0.0]]).T.reshape(1, 2, 1, 2)
        torch.testing.assert_close(heads.background_logits(seen), torch.tensor([[[0.1, 0.5]]]))


class TestLoading:
    def test_the_published_form_and_the_tensors_alone_are_the_same(self):
        published = load_heads(GOLDEN_DINOISER / "last.pt").state_dict()
        plain = load_heads(GOLDEN_DINOISER / "heads.safetensors").state_dict()
        assert (
            published.keys()
            == plain.keys()
            == {f"{a}.{b}" for a in ("obj_proj", "bkg_decoder") for b in ("weight", "bias")}
        )
        assert all(torch.equal(published[name], plain[name]) for name in plain)

    def test_what_else_is_in_the_file_is_left_alone(self, tmp_path):
        state = load_file(GOLDEN_DINOISER / "heads.safetensors")
        state["clip_backbone.something"] = torch.ones(3)
        path = tmp_path / "last.pt"
        torch.save({"epoch": 3, "model_state_dict": state, "optimizer": {"lr": 1.0}}, path)
        heads = load_heads(path)
        assert torch.equal(heads.obj_proj.weight, state["obj_proj.weight"])
        assert not any(parameter.requires_grad for parameter in heads.parameters())

    @pytest.mark.parametrize("missing", ["obj_proj.bias", "bkg_decoder.weight"])
    def test_a_missing_tensor(self, tmp_path, missing):
        state = load_file(GOLDEN_DINOISER / "heads.safetensors")
        del state[missing]
        save_file(state, tmp_path / "heads.safetensors")
        with pytest.raises(WeightsError, match=missing):
            load_heads(tmp_path / "heads.safetensors")

    def test_a_kernel_of_another_size(self, tmp_path):
        state = load_file(GOLDEN_DINOISER / "heads.safetensors")
        state["obj_proj.weight"] = torch.zeros(32, 64, 1, 1)
        save_file(state, tmp_path / "heads.safetensors")
        with pytest.raises(WeightsError, match="heads"):
            load_heads(tmp_path / "heads.safetensors")

    def test_a_file_with_code_is_not_executed(self, tmp_path):
        path = tmp_path / "last.pt"
        torch.save({"epoch": print, "model_state_dict": {}}, path)
        with pytest.raises(WeightsError, match="nothing else is ever unpickled"):
            load_heads(path)

    def test_a_file_that_is_none(self, tmp_path):
        path = tmp_path / "last.pt"
        path.write_bytes(b"<html>not found</html>")
        with pytest.raises(WeightsError, match="cannot load"):
            load_heads(path)
