"""PAMR: worked by hand on a line of pixels, its invariants, and its place in the segmenter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, VOCABULARY, photo

from clipdiy.build import build_segmenter
from clipdiy.config import CropGrid, Pamr
from clipdiy.errors import ConfigError, FeaturesError, ShapeError
from clipdiy.features import ImageFeatures, pack_picture, unpack_picture
from clipdiy.pamr import local_affinity, pamr
from clipdiy.prune import likely_classes


@pytest.fixture(scope="module")
def segmenter():
    return build_segmenter(TINY, warm_up=False)


def test_affinity_worked_by_hand():
    # One row 0, 1; every neighbour off the picture repeats the border. Of the left pixel's 8 neighbours 5 are 0
    # (left three, above, below) and 3 are 1: sigma = sqrt(15) / 8, k = -1 / sigma for the ones.
    image = torch.tensor([[[0.0, 1.0]]])
    weights, total = local_affinity(image, Pamr(dilations=(1,), temperature=1))
    affinity = weights / total
    weight = np.exp(-8 / np.sqrt(15))
    to_the_right = affinity[[2, 4, 7], 0, 0].numpy()
    np.testing.assert_allclose(to_the_right, weight / (5 + 3 * weight), rtol=1e-4)
    np.testing.assert_allclose(affinity.sum(dim=0).numpy(), 1, rtol=1e-6)
    refined = pamr(torch.tensor([[[1.0, 0.0]]]), image, Pamr(dilations=(1,), temperature=1, iterations=1))
    np.testing.assert_allclose(refined[0, 0, 0].item(), 5 / (5 + 3 * weight), rtol=1e-4)


def test_a_mask_moves_to_the_edge_of_the_picture():
    image = torch.zeros(3, 20, 20)
    image[:, :, 10:] = 1
    mask = torch.zeros(2, 20, 20)
    mask[1, :, 13:] = 1  # three columns short of the edge
    mask[0] = 1 - mask[1]
    refined = pamr(mask, image, Pamr(iterations=10, dilations=(1, 2, 4)))
    assert (refined.argmax(dim=0)[:, 10:] == 1).all()
    assert (refined.argmax(dim=0)[:, :10] == 0).all()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (5, 3), (33, 50)], ids=str)
def test_refined_masks_keep_their_sum_and_range_at_any_size(size_hw):
    rng = torch.Generator().manual_seed(0)
    masks = torch.rand(3, *size_hw, generator=rng).softmax(dim=0)
    refined = pamr(masks, torch.randint(0, 256, (3, *size_hw), dtype=torch.uint8, generator=rng), Pamr())
    assert refined.shape == masks.shape
    torch.testing.assert_close(refined.sum(dim=0), torch.ones(size_hw))
    assert refined.min() >= masks.min() - 1e-6
    assert refined.max() <= masks.max() + 1e-6


def test_uniform_masks_and_pictures_do_not_change():
    masks = torch.full((2, 8, 9), 0.5)
    torch.testing.assert_close(pamr(masks, torch.rand(3, 8, 9), Pamr()), masks)
    torch.testing.assert_close(pamr(masks, torch.zeros(3, 8, 9), Pamr()), masks)


def test_chunks_of_classes_change_nothing(monkeypatch):
    masks, image = torch.rand(5, 9, 9).softmax(dim=0), torch.rand(3, 9, 9)
    whole = pamr(masks, image, Pamr())
    monkeypatch.setattr("clipdiy.pamr.CHUNK_VALUES", 100)
    torch.testing.assert_close(pamr(masks, image, Pamr()), whole)


def test_masks_of_another_size_are_refused():
    with pytest.raises(ShapeError, match=r"\(3, H, W\)"):
        pamr(torch.zeros(2, 4, 4), torch.zeros(3, 4, 5), Pamr())


@pytest.mark.parametrize(
    "wrong", [{"long_px": 4}, {"iterations": 0}, {"dilations": ()}, {"dilations": (0,)}, {"temperature": 0}], ids=str
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="PAMR"):
        Pamr(**wrong)


@pytest.mark.parametrize("size_hw", [(1, 1), (40, 1), (217, 333), (640, 480)], ids=str)
def test_the_segmenter_refines_at_any_size(segmenter, size_hw):
    refining = segmenter.with_config(replace(TINY, pamr=Pamr(long_px=64)))
    features = refining.encode([photo(0, *size_hw)])[0]
    assert max(unpack_picture(features.picture).shape) <= 64
    result = refining.segment(features, VOCABULARY)
    assert result.label_map.shape == size_hw
    assert result.area.sum() == pytest.approx(1)
    # The picture travels with the features, so a cache changes nothing.
    again = refining.segment(ImageFeatures.from_bytes(features.to_bytes()), VOCABULARY)
    np.testing.assert_array_equal(again.label_map, result.label_map)


def test_features_without_a_picture_are_refused(segmenter):
    refining = segmenter.with_config(replace(TINY, pamr=Pamr()))
    assert refining.encoder_identity != segmenter.encoder_identity
    features = replace(segmenter.encode([photo(0, 60, 80)])[0], made_by=refining.encoder_identity)
    assert features.picture is None
    with pytest.raises(FeaturesError, match="no picture"):
        refining.segment(features, VOCABULARY)


def test_a_damaged_picture_is_refused():
    with pytest.raises(FeaturesError, match="damaged"):
        unpack_picture(pack_picture(photo(0, 60, 80), 64)[:40])


@pytest.mark.parametrize(
    ("margin", "kept"), [(1.0, [0, 2]), (5.0, [0, 2, 3]), (50.0, [0, 1, 2, 3])], ids=["strict", "some", "lax"]
)
def test_classes_far_below_the_best_at_the_coarsest_scale_are_left_out(margin, kept):
    # Position 0 is the background and stays however unlikely; of several crops the best counts.
    coarsest = torch.tensor([[-0.5, -0.5], [0.0, -0.1], [0.1, 0.3], [0.27, 0.0]])[:, None]
    assert likely_classes(coarsest, 100.0, margin).tolist() == kept


def test_pruned_classes_win_no_pixel(segmenter):
    pruning = segmenter.with_config(replace(TINY, prune_logits=1e-6))
    features = pruning.encode([photo(1, 90, 70)])[0]
    only = pruning.segment(features, VOCABULARY)
    assert len(only.present) <= 1
    assert (only.score[only.area == 0] == 0).all()
    everything = segmenter.with_config(replace(TINY, prune_logits=1e6))
    plain = segmenter.segment(features, VOCABULARY)
    np.testing.assert_array_equal(everything.segment(features, VOCABULARY).label_map, plain.label_map)
    assert pruning.identity != segmenter.identity == segmenter.with_config(TINY).identity


def test_a_subset_of_scales_is_what_fewer_scales_would_have_made(segmenter):
    coarse = segmenter.with_config(replace(TINY, grid=CropGrid(patch_px=(256,))))
    both, one = segmenter.encode([photo(2, 50, 50)])[0], coarse.encode([photo(2, 50, 50)])[0]
    taken = both.of_scales([0], coarse.encoder_identity)
    np.testing.assert_array_equal(
        coarse.segment(taken, VOCABULARY).label_map, coarse.segment(one, VOCABULARY).label_map
    )


def test_objectness_can_be_read_off_in_several_ways(segmenter):
    maps = segmenter.objectness(photo(3, 60, 60), ["found", "found-bkg", "none"])
    assert maps["none"] is None
    assert maps["found"].is_logit
    assert not maps["found-bkg"].is_logit
    torch.testing.assert_close(maps["found"].grid, segmenter.encode([photo(3, 60, 60)])[0].objectness.grid)
