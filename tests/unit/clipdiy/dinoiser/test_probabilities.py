import pytest
import torch
import torch.nn.functional as F
from dinoiser_tiny import PHOTO

from clipdiy.config import Pamr
from clipdiy.dinoiser.labels import class_scores, direct_label_map, refined_label_map, strip_label_map
from clipdiy.dinoiser.probabilities import (
    ProbabilityField,
    ProbabilityTile,
    class_cosines,
    class_probabilities,
    refine_background,
)
from clipdiy.dinoiser.windows import Window, sliding_windows
from clipdiy.errors import ShapeError


def sharp(classes, rows, cols, seed=0):
    """Return probabilities that differ, (C, h, w)."""
    made = torch.Generator().manual_seed(seed)
    return (torch.randn(classes, rows, cols, generator=made) * 3).softmax(dim=0)


def test_cosines_and_softmax_by_hand():
    pooled = torch.tensor([[[3.0, 4.0], [0.0, 0.5]]])
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    cosines = class_cosines(pooled, texts)
    torch.testing.assert_close(cosines, torch.tensor([[[0.6, 0.0]], [[0.8, 1.0]]]))
    # 100 times 0.6 and 0.61: the odds are e.
    close = class_probabilities(torch.tensor([[[0.60]], [[0.61]]]))
    assert float(close[1] / close[0]) == pytest.approx(2.71828, rel=1e-3)


def test_texts_of_another_clip_are_refused():
    with pytest.raises(ShapeError, match="different CLIP"):
        class_cosines(torch.rand(2, 2, 8), torch.rand(3, 9))


ROWS = {
    "unsure and background": (0.5, -1.0, True),
    "a logit of 0 is background": (0.5, 0.0, True),
    "unsure but an object": (0.5, 0.1, False),
    "sure": (0.995, -1.0, False),
    "as sure as delta": (0.75, -1.0, False),
}


@pytest.mark.parametrize(("largest", "logit", "acts"), ROWS.values(), ids=ROWS)
def test_the_background_refinement(largest, logit, acts):
    probabilities = torch.tensor([1 - largest, largest]).reshape(2, 1, 1)
    delta = 0.75 if largest == 0.75 else 0.99
    refined = refine_background(probabilities, torch.tensor([[logit]]), delta)
    assert float(refined[0]) == (1.0 if acts else pytest.approx(1 - largest))
    assert float(refined[1]) == pytest.approx(largest), "the others stay"
    assert float(probabilities[0]) == pytest.approx(1 - largest), "what came in stays"


def padded(values, size_hw):
    return ProbabilityTile(values, Window(0, 0, *size_hw), (size_hw[0] / 16, size_hw[1] / 16))


class TestOnePass:
    def test_the_map_is_enlarged_16_times_and_cut(self):
        values = sharp(3, 3, 5)
        field = ProbabilityField([padded(values, (40, 70))], None, (40, 70))
        whole = F.interpolate(values[None], (48, 80), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(field.rows(0, 40), whole[:, :40, :70])
        torch.testing.assert_close(field.rows(7, 9, torch.tensor([2, 0])), whole[[2, 0], 7:9, :70])

    def test_a_larger_photo_covers_the_same_part(self):
        values = sharp(3, 3, 5)
        field = ProbabilityField([padded(values, (40, 70))], None, (80, 140))
        whole = F.interpolate(values[None], (96, 160), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(field.rows(0, 80), whole[:, :80, :140])


class TestWindows:
    """Against averaging at full size and resizing everything."""

    seen_hw = (50, 75)
    windows = sliding_windows(seen_hw, 32, 16)

    def tiles(self, classes=4):
        return [ProbabilityTile(sharp(classes, 2, 2, seed), window, (2, 2)) for seed, window in enumerate(self.windows)]

    def plain(self, size_hw, tiles):
        total, counts = torch.zeros(len(tiles[0].values), *self.seen_hw), torch.zeros(self.seen_hw)
        for tile in tiles:
            rows, cols = slice(tile.window.top, tile.window.bottom), slice(tile.window.left, tile.window.right)
            large = F.interpolate(tile.values[None], tile.window.size_hw, mode="bilinear", align_corners=False)[0]
            total[:, rows, cols] += large
            counts[rows, cols] += 1
        return F.interpolate((total / counts)[None], size_hw, mode="bilinear", align_corners=False)[0]

    @pytest.mark.parametrize("size_hw", [(50, 75), (200, 111), (20, 30), (1, 1)], ids=str)
    def test_mean_at_any_size(self, size_hw):
        tiles = self.tiles()
        field = ProbabilityField(tiles, self.seen_hw, size_hw)
        expected = self.plain(size_hw, tiles)
        torch.testing.assert_close(field.rows(0, size_hw[0]), expected, atol=1e-5, rtol=0)
        middle = size_hw[0] // 2
        torch.testing.assert_close(field.rows(middle, middle + 1), expected[:, middle : middle + 1], atol=1e-5, rtol=0)

    @pytest.mark.parametrize("strip_values", [1, 900, 10**9], ids=["a row at a time", "some rows", "whole"])
    def test_label_map(self, strip_values):
        tiles = self.tiles(classes=30)
        field = ProbabilityField(tiles, self.seen_hw, (120, 90))
        labels = strip_label_map(field, strip_values)
        assert labels.dtype == torch.int16
        assert (labels == self.plain((120, 90), tiles).argmax(dim=0)).float().mean() >= 0.999

    def test_a_window_that_reaches_into_padding_is_stretched(self):
        # 20 pixels of a 32 pixel grid: the published way enlarges the whole grid to the 20.
        values = sharp(2, 2, 2)
        field = ProbabilityField([ProbabilityTile(values, Window(0, 0, 20, 20), (2, 2))], (20, 20), (20, 20))
        torch.testing.assert_close(field.rows(0, 20), F.interpolate(values[None], (20, 20), mode="bilinear")[0])


def test_strips_hold_no_more_than_they_may(monkeypatch):
    values = sharp(300, 6, 6)
    field = ProbabilityField([padded(values, (90, 90))], None, (400, 500))
    held = []
    original = ProbabilityField.rows

    def watched(self, start, stop, classes):
        made = original(self, start, stop, classes)
        held.append(made.numel())
        return made

    monkeypatch.setattr(ProbabilityField, "rows", watched)
    strip_label_map(field, strip_values=400_000)
    assert max(held) <= 400_000


def test_classes_that_cannot_win_in_a_strip_are_not_read():
    values = torch.full((4, 8, 1), 0.01)
    values[0, :3], values[1, 3:] = 0.97, 0.97
    field = ProbabilityField([ProbabilityTile(values, Window(0, 0, 8, 1), (8, 1))], None, (80, 10))
    assert field.winners(0, 10).tolist() == [0]
    assert field.winners(0, 80).tolist() == [0, 1]
    assert field.winners(60, 80).tolist() == [1]


@pytest.mark.parametrize("size_hw", [(40, 70), (1100, 1000)], ids=["small", "large"])
def test_the_direct_map_is_the_strips_map(size_hw):
    values = sharp(12, 3, 5)
    tile = padded(values, (40, 70))
    direct = direct_label_map(values, tile.extent_hw, size_hw)
    assert (direct == strip_label_map(ProbabilityField([tile], None, size_hw))).float().mean() >= 0.999


class TestScores:
    def test_by_hand(self):
        # Four pixels read at their own size: two of class 0 (0.9, 0.8), two of class 1 (0.6, 1.0).
        values = torch.tensor([[[0.9, 0.8], [0.4, 0.0]], [[0.1, 0.2], [0.6, 1.0]]])
        field = ProbabilityField([ProbabilityTile(values, Window(0, 0, 2, 2), (2, 2))], None, (2, 2))
        scores = class_scores(field, torch.arange(2), 2)
        torch.testing.assert_close(scores, torch.tensor([1.7 / 2.4, 1.6 / 2.3]))
        # The same drawn as the positions 2 and 0 of three.
        moved = class_scores(field, torch.tensor([2, 0]), 3)
        torch.testing.assert_close(moved, torch.tensor([1.6 / 2.3, 0.0, 1.7 / 2.4]))

    def test_a_refined_background_counts_once(self):
        values = torch.tensor([[[1.0]], [[0.6]], [[0.0]]])
        field = ProbabilityField([ProbabilityTile(values, Window(0, 0, 1, 1), (1, 1))], None, (1, 1))
        torch.testing.assert_close(class_scores(field, torch.arange(3), 3), torch.tensor([1 / 1.6, 0.0, 0.0]))

    def test_what_is_drawn_as_background_counts_as_background(self):
        values = torch.tensor([[[0.2, 0.1]], [[0.3, 0.8]], [[0.5, 0.1]]])
        field = ProbabilityField([ProbabilityTile(values, Window(0, 0, 1, 2), (1, 2))], None, (1, 2))
        scores = class_scores(field, torch.tensor([0, 1, 0]), 2)
        torch.testing.assert_close(scores, torch.tensor([0.7 / 1.2, 0.8 / 1.3]))


class TestRefinedByColours:
    config = Pamr(long_px=48, iterations=5)

    def test_masks_follow_an_edge(self):
        image = torch.zeros(3, 32, 48, dtype=torch.uint8)
        image[:, :, 20:] = 255
        values = torch.tensor([[0.9, 0.8, 0.1]] * 2), torch.tensor([[0.1, 0.2, 0.9]] * 2)
        tile = padded(torch.stack(values), (32, 48))
        field = ProbabilityField([tile], None, (32, 48))
        edge = (strip_label_map(field) == 1).float().argmax(dim=1)
        assert (edge > 28).all()
        refined = refined_label_map(field, image, (64, 96), self.config)
        assert refined.shape == (64, 96)
        assert (((refined == 1).float().argmax(dim=1) / 2 - 20).abs() <= 2).all()

    def test_names_are_kept(self):
        values = torch.full((6, 2, 3), 0.01)
        values[4, :, 0], values[2, :, 1:] = 0.95, 0.95
        image = torch.from_numpy(PHOTO.pixels[:32, :48].transpose(2, 0, 1).copy())
        labels = refined_label_map(
            ProbabilityField([padded(values, (32, 48))], None, (32, 48)), image, (50, 60), self.config
        )
        assert set(labels.unique().tolist()) == {2, 4}

    def test_a_single_class(self):
        values = torch.zeros(3, 2, 3)
        values[2] = 1
        image = torch.zeros(3, 32, 48, dtype=torch.uint8)
        labels = refined_label_map(
            ProbabilityField([padded(values, (32, 48))], None, (32, 48)), image, (9, 8), self.config
        )
        assert labels.shape == (9, 8)
        assert (labels == 2).all()
