"""PAMR: by hand on a line of pixels, against a plain reading of the authors' program, and in the segmenter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import TINY, VOCABULARY, photo

from clipdiy.build import build_segmenter
from clipdiy.config import Pamr
from clipdiy.errors import ConfigError, FeaturesError, ShapeError
from clipdiy.features import ImageFeatures, pack_picture, unpack_picture
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.pamr import _iterate_around, affinity_around, local_affinity, pamr, refined_label_map


@pytest.fixture(scope="module")
def segmenter():
    return build_segmenter(TINY, warm_up=False)


def test_affinity_worked_by_hand():
    # One row 0, 1; every neighbour off the picture repeats the border. Of the left pixel's 8 neighbours 5 are 0 (left
    # three, above, below) and 3 are 1, so that with the pixel itself 6 of 9 are 0: an unbiased variance of 2 / 8.
    image = torch.tensor([[[0.0, 1.0]]])
    weights, total = local_affinity(image, Pamr(dilations=(1,), temperature=0.5))
    affinity = weights / total
    weight = np.exp(-1 / (0.5 * np.sqrt(2 / 8)))
    to_the_right = affinity[[2, 4, 7], 0, 0].numpy()
    np.testing.assert_allclose(to_the_right, weight / (5 + 3 * weight), rtol=1e-4)
    np.testing.assert_allclose(affinity.sum(dim=0).numpy(), 1, rtol=1e-6)
    refined = pamr(torch.tensor([[[1.0, 0.0]]]), image, Pamr(dilations=(1,), temperature=0.5, iterations=1))
    np.testing.assert_allclose(refined[0, 0, 0].item(), 5 / (5 + 3 * weight), rtol=1e-4)


def plain_pamr(masks, image, dilations=(1, 2, 4, 8, 12, 24), iterations=10):
    """Read PAMR plainly, in float64, with every neighbourhood unfolded and the authors' constants."""
    height, width = image.shape[1:]

    def squares(values):
        """Return (channels, 9 * dilations, H, W), the outermost pixels repeated; the fifth of nine is the centre."""
        moved = []
        for dilation in dilations:
            for down in (-dilation, 0, dilation):
                for right in (-dilation, 0, dilation):
                    rows = np.clip(np.arange(height) + down, 0, height - 1)
                    cols = np.clip(np.arange(width) + right, 0, width - 1)
                    moved.append(values[:, rows[:, None], cols[None]])
        return np.stack(moved, axis=1)

    image, masks = image.numpy().astype(np.float64), masks.numpy().astype(np.float64)
    centres = np.arange(9 * len(dilations)) % 9 == 4
    around = squares(image)
    scale = 0.1 * around.std(axis=1, ddof=1) + 1e-8
    differences = np.abs(around[:, ~centres] - image[:, None])
    logits = -(differences / scale[:, None]).mean(axis=0)
    affinity = np.exp(logits - logits.max(axis=0))
    affinity /= affinity.sum(axis=0)
    for _ in range(iterations):
        masks = (squares(masks)[:, ~centres] * affinity).sum(axis=1)
    return masks


@pytest.mark.parametrize("size_hw", [(30, 41), (7, 60), (1, 1)], ids=str)
def test_pamr_is_the_plain_reading_of_the_published_program(size_hw):
    rng = np.random.default_rng(0)
    steps = rng.random((3, -(-size_hw[0] // 8), -(-size_hw[1] // 8)))
    image = np.kron(steps, np.ones((8, 8)))[:, : size_hw[0], : size_hw[1]] + rng.normal(0, 0.05, (3, *size_hw))
    image = torch.from_numpy(image.clip(0, 1)).float()
    masks = torch.from_numpy(rng.random((3, *size_hw))).float().softmax(dim=0)
    refined = pamr(masks, image, Pamr())
    expected = plain_pamr(masks, image)
    np.testing.assert_allclose(refined.numpy(), expected, atol=1e-5)


def test_probabilities_are_refined_under_clips_logit_scale():
    # Eq. 1 to 3 by hand at the picture's size, a softmax of 100 times them, the plain refinement, argmax.
    rng = np.random.default_rng(1)
    grid = torch.from_numpy(rng.normal(0.25, 0.02, (4, 5, 7))).float()
    image = torch.from_numpy(np.kron(rng.integers(0, 256, (3, 5, 7)), np.ones((8, 8))).astype(np.uint8))
    size_hw = (40, 56)
    maps = F.interpolate(grid[None], size_hw, mode="bilinear", align_corners=False)[0]
    winners = maps.argmax(dim=0).unique()
    assert len(winners) == 4
    for scale in (100.0, 1.0):
        expected = plain_pamr((maps * scale).softmax(dim=0), image.float() / 255).argmax(axis=0)
        labels = refined_label_map((grid,), None, image, size_hw, scale, Pamr())
        assert (labels.numpy() == expected).mean() > 0.999
        if scale == 100:
            sharp = expected
    assert (sharp != expected).mean() > 0.01, "the two scales refine to different maps"


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
    "wrong",
    [{"long_px": 4}, {"iterations": 0}, {"dilations": ()}, {"dilations": (0,)}, {"temperature": 0}],
    ids=str,
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


def test_stuff_that_wins_on_the_backgrounds_side_takes_part():
    # Cosines of 0.3 and 0.28 where objectness is 0.2: on the objects' side the stuff would lose to the background.
    grids = (torch.tensor([0.1, 0.28, 0.3]).reshape(3, 1, 1),)
    objectness = ObjectnessMap(torch.full((1, 1), 0.2), False, (1.0, 1.0))
    image = torch.zeros(3, 30, 40, dtype=torch.uint8)
    labels = [refined_label_map(grids, objectness, image, (60, 80), 100.0, Pamr(), ground) for ground in (1, 2)]
    assert [one.unique().tolist() for one in labels] == [[0], [1]]


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


def test_all_neighbours_at_once_weigh_the_same():
    image, config = torch.rand(3, 21, 34, generator=torch.manual_seed(0)), Pamr(dilations=(1, 3, 7))
    weights, total = local_affinity(image, config)
    around = affinity_around(image, config)
    assert around.shape == (3, 3, 3, 21, 34)
    neighbours = [0, 1, 2, 3, 5, 6, 7, 8]
    torch.testing.assert_close(around.flatten(1, 2)[:, neighbours].flatten(0, 1), weights / total, atol=1e-5, rtol=0)
    assert (around[:, 1, 1] == 0).all(), "the pixel itself is none of them"


def test_all_neighbours_at_once_refine_the_same():
    """What a GPU does; the masks are enough for two chunks elsewhere."""
    generator = torch.manual_seed(1)
    image, masks = torch.rand(3, 30, 41, generator=generator), torch.rand(5, 30, 41, generator=generator).softmax(0)
    config = Pamr()
    refined = _iterate_around(masks, affinity_around(image, config), config)
    torch.testing.assert_close(refined, pamr(masks, image, config), atol=1e-5, rtol=0)
