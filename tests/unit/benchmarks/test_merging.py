"""Merging FOUND's tokens: who becomes part of whom, by hand, and that nothing changes where nothing is merged."""

import pytest
import torch

from benchmarks.merging import MergedFound, merge, shares


def test_the_first_blocks_merge_all_they_can():
    assert shares(0.75, 3, spread=False) == [0.75, 1, 1]
    assert shares(0.25, 3, spread=False) == [0.5, 0.5, 1]


def test_every_block_merges_the_same_share():
    left = shares(0.5, 3, spread=True)
    assert len(set(left)) == 1
    assert left[0] ** 3 == pytest.approx(0.5)


def test_the_nearest_become_their_mean():
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.1], [0.1, 1.0]])  # CLS, a, b, c, d
    tokens = torch.arange(5.0)[None, :, None]
    sizes = torch.tensor([1.0, 1.0, 1.0, 1.0, 3.0])
    left, new_sizes, part_of = merge(tokens, sizes, keys, share=0.75)
    # a's nearest is d; c's would be CLS, with which nothing is merged.
    assert left.flatten().tolist() == [0.0, 2.0, (1 * 1 + 4 * 3) / 4, 3.0]
    assert new_sizes.tolist() == [1.0, 1.0, 4.0, 1.0]
    assert part_of.tolist() == [0, 2, 1, 3, 2]


def test_a_half_goes_at_most():
    torch.manual_seed(0)
    left, sizes, part_of = merge(torch.randn(1, 9, 4), torch.ones(9), torch.randn(9, 4), share=0.1)
    assert left.shape == (1, 5, 4)
    assert sizes.sum() == 9
    assert part_of[0] == 0


@pytest.fixture(scope="module")
def network():
    from clipdiy.build import build_segmenter
    from clipdiy.config import preset

    return build_segmenter(preset("starter", device="cpu", dtype="float32"), warm_up=False)._objectness_network


def test_all_tokens_kept_is_the_network_itself(network):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(MergedFound(network, 1.0)(images).keys, network(images).keys, atol=1e-4, rtol=1e-4)


def test_tokens_that_are_the_same_are_merged_for_nothing(network, monkeypatch):
    # Without positions every patch of an even picture is one and the same token.
    monkeypatch.setattr("clipdiy.objectness.found.position_embedding", lambda learned, rows, cols: learned[:, :1] * 0)
    network._known_positions = type(network._known_positions)(16)
    images = torch.full((1, 3, 64, 64), 0.3)
    with torch.inference_mode():
        merged = MergedFound(network, 0.25)(images).keys
        torch.testing.assert_close(merged, network(images).keys, atol=1e-4, rtol=1e-4)
