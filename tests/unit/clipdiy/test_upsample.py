"""The argmax of upsampled maps, against upsampling all of them."""

import pytest
import torch
import torch.nn.functional as F

from clipdiy import upsample
from clipdiy.upsample import upsampled_argmax

SIZES = {
    "larger": ((9, 12), (100, 131)),
    "much larger": ((5, 4), (97, 203)),
    "the same": ((8, 9), (8, 9)),
    "smaller": ((30, 40), (11, 17)),
    "one row": ((1, 6), (40, 50)),
    "one column": ((6, 1), (40, 50)),
    "one sample": ((1, 1), (7, 9)),
    "one pixel": ((7, 9), (1, 1)),
    "larger one way only": ((4, 60), (90, 20)),
}


def naive(maps, names, size_hw):
    full = F.interpolate(maps[None], size_hw, mode="bilinear", align_corners=False)[0]
    return names[full.argmax(dim=0)]


@pytest.mark.parametrize("whole_px", [0, 10**9], ids=["between samples", "whole maps"])
@pytest.mark.parametrize("count", [1, 2, 5, 40])
@pytest.mark.parametrize(("low_hw", "size_hw"), SIZES.values(), ids=SIZES)
def test_as_if_all_maps_were_upsampled(monkeypatch, low_hw, size_hw, count, whole_px):
    monkeypatch.setattr(upsample, "WHOLE_PX", whole_px)
    for seed in range(5):
        maps = torch.rand(count, *low_hw, generator=torch.Generator().manual_seed(seed))
        names = torch.arange(count, dtype=torch.int16) * 7 + 3
        found = upsampled_argmax(maps, names, size_hw)
        assert found.dtype == torch.int16
        differs = found != naive(maps, names, size_hw)
        # Where two maps are equal to the last bit, the order of the additions decides.
        assert differs.float().mean() <= 0.001
        ambiguous = F.interpolate(maps[None], size_hw, mode="bilinear", align_corners=False)[0]
        best = ambiguous.topk(min(2, count), dim=0).values
        assert ((best[0] - best[-1])[differs] < 1e-6).all()


@pytest.mark.parametrize("whole_px", [0, 10**9], ids=["between samples", "whole maps"])
def test_a_tie_goes_to_the_first(monkeypatch, whole_px):
    monkeypatch.setattr(upsample, "WHOLE_PX", whole_px)
    maps = torch.rand(1, 4, 5).expand(3, 4, 5)
    names = torch.tensor([9, 2, 4], dtype=torch.int16)
    assert (upsampled_argmax(maps, names, (20, 30)) == 9).all()


@pytest.mark.parametrize("whole_px", [0, 10**9], ids=["between samples", "whole maps"])
def test_a_photo_that_covers_part_of_the_samples_is_cut_from_the_whole(monkeypatch, whole_px):
    monkeypatch.setattr(upsample, "WHOLE_PX", whole_px)
    maps = torch.rand(4, 5, 7, generator=torch.Generator().manual_seed(0))
    names = torch.arange(4, dtype=torch.int16)
    found = upsampled_argmax(maps, names, (70, 101), (70 / 16, 101 / 16))
    assert (found == naive(maps, names, (80, 112))[:70, :101]).float().mean() >= 0.999


def test_maps_that_win_nowhere_are_not_upsampled():
    made = torch.Generator().manual_seed(0)
    sharp = (torch.rand(40, 12, 12, generator=made) * 12).softmax(dim=0)
    never = torch.full((160, 12, 12), 0.01)
    maps = torch.cat([never, sharp])
    kept = upsample.can_be_largest(maps)
    assert kept.tolist() == list(range(160, 200))
    assert upsample.can_be_largest(maps - 5).tolist() == kept.tolist()
    # A map that is second at all four corners can still be the first in their middle.
    middle = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]], [[0.4, 0.4], [0.4, 0.4]]])
    assert upsample.can_be_largest(middle).tolist() == [0, 1, 2]
    low = torch.tensor([[[0.5, 0.6], [0.6, 0.5]], [[0.49, 0.49], [0.49, 0.49]]])
    assert upsample.can_be_largest(low).tolist() == [0]
