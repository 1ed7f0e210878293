"""Evidence: exact shares at any size, Eq. 2 on embeddings, draws that depend on the picture alone."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from clipdiy.aggregate import grid_similarity, mean_similarity
from clipdiy.errors import FeaturesError, ShapeError
from clipdiy.features import ImageFeatures
from clipdiy.learning.evidence import (
    CELLS,
    ClassShares,
    CorrectedPicture,
    area_means,
    cell_embeddings,
    cell_objectness,
    class_shares,
    draw_cells,
    drawing_order,
    in_order,
    shares_of_masks,
)
from clipdiy.objectness.found import ObjectnessMap


def features(objectness=None, dim=6, seed=0, sides=((1, 1), (3, 3), (7, 7))):
    random = torch.Generator().manual_seed(seed)
    scales = [torch.nn.functional.normalize(torch.randn(*side, dim, generator=random), dim=-1) for side in sides]
    return ImageFeatures(tuple(scale.half() for scale in scales), objectness, (40, 60), "core")


@pytest.mark.parametrize(
    "size_hw",
    [
        pytest.param((32, 32), id="one pixel a cell"),
        pytest.param((96, 64), id="whole pixels"),
        pytest.param((101, 37), id="odd, H != W"),
        pytest.param((5, 3), id="smaller than the grid"),
        pytest.param((1, 1), id="one pixel"),
        pytest.param((300, 40), id="several strips"),
    ],
)
def test_area_means_are_exact(size_hw, monkeypatch):
    monkeypatch.setattr("clipdiy.learning.evidence.STRIP_PX", 7_000)
    height, width = size_hw
    mask = np.random.default_rng(1).random(size_hw) < 0.4
    # Exact by another way: the integral of the mask, linear between pixel borders.
    integral = np.zeros((height + 1, width + 1))
    integral[1:, 1:] = mask.cumsum(0).cumsum(1)
    edges = [np.arange(CELLS + 1) * size / CELLS for size in size_hw]
    at_rows = np.stack([np.interp(edges[0], np.arange(height + 1), column) for column in integral.T], axis=1)
    at_both = np.stack([np.interp(edges[1], np.arange(width + 1), row) for row in at_rows])
    expected = np.diff(np.diff(at_both, axis=0), axis=1) / (height * width / CELLS**2)
    means = area_means(mask)
    assert means.shape == (CELLS, CELLS)
    assert_allclose(means, expected, atol=1e-6)
    assert means.mean() == pytest.approx(mask.mean(), abs=1e-9)


@pytest.mark.parametrize("shape", [(0, 4), (4,), (2, 3, 4)])
def test_area_means_refuses_what_is_no_mask(shape):
    with pytest.raises(ShapeError, match="at least one pixel"):
        area_means(np.zeros(shape, bool))


def test_class_shares_of_a_label_map():
    labels = np.zeros((64, 64), np.int32)
    labels[:, 32:] = 3
    labels[:2, :1] = 7  # half of the first cell
    labels[-2:, -2:] = -1  # unknown: the whole last cell
    shares = class_shares(labels)
    assert shares.positions == (0, 3, 7)
    assert_array_equal(shares.of(3)[1], [0] * 16 + [255] * 16)
    assert shares.of(7)[0, 0] == 128
    assert shares.of(7).sum() == 128
    assert shares.of(0)[0, 0] == 128
    assert shares.shares[:, -1, -1].sum() == 0
    assert shares.of(5).sum() == 0


def test_overlapping_masks_share_the_doubt_and_what_covers_nothing_is_left_out():
    left, all_over = np.zeros((32, 32), bool), np.ones((32, 32), bool)
    left[:, :16] = True
    shares = shares_of_masks({2: left, 1: all_over, 9: np.zeros((32, 32), bool)})
    assert shares.positions == (1, 2)
    assert_array_equal(shares.of(1)[0], [128] * 16 + [255] * 16)
    assert_array_equal(shares.of(2)[0], [128] * 16 + [0] * 16)


def test_shares_of_nothing():
    shares = shares_of_masks({})
    assert shares.positions == ()
    assert ClassShares.from_bytes(shares.to_bytes()).positions == ()


def test_moved_to_another_vocabulary():
    shares = shares_of_masks({c: np.eye(32, k=c, dtype=bool) for c in (0, 1, 2)})
    moved = shares.moved({0: 0, 1: 5, 2: 3})
    assert moved.positions == (0, 3, 5)
    assert_array_equal(moved.of(5), shares.of(1))
    assert_array_equal(moved.of(3), shares.of(2))
    assert shares.moved({0: 0}).positions == (0,)


def test_shares_survive_their_bytes():
    labels = np.random.default_rng(0).integers(0, 5, (90, 70))
    shares = class_shares(labels)
    again = ClassShares.from_bytes(shares.to_bytes())
    assert again.positions == shares.positions
    assert_array_equal(again.shares, shares.shares)


def test_what_is_kept_of_a_mask_is_small():
    rows, cols = np.mgrid[:480, :640]
    labels = (np.hypot(rows - 200, cols - 300) < 150) + 2 * (np.hypot(rows - 300, cols - 500) < 90)
    assert len(class_shares(labels).to_bytes()) < 3_000


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda data: data[:-3], id="cut off"),
        pytest.param(lambda data: data[:5], id="only the start"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:-1] + bytes([data[-1] ^ 1]), id="a bit changed"),
        pytest.param(lambda data: b"XXXX" + data[4:], id="something else"),
        pytest.param(lambda data: data[:4] + b"\x63" + data[5:], id="another layout"),
        pytest.param(lambda data: data[:5] + b"\x09\x00\x00\x00" + data[9:], id="more classes than there are"),
        pytest.param(lambda data: data[:5] + b"\x01\x00\x00\x00" + data[9:], id="fewer classes than there are"),
    ],
)
def test_damaged_bytes_are_refused(spoil):
    data = class_shares(np.arange(4).reshape(2, 2)).to_bytes()
    with pytest.raises(FeaturesError):
        ClassShares.from_bytes(spoil(data))


@pytest.mark.parametrize(
    ("positions", "shape", "dtype"),
    [
        pytest.param((0,), (2, 32, 32), np.uint8, id="another number"),
        pytest.param((0,), (1, 16, 16), np.uint8, id="another grid"),
        pytest.param((0,), (1, 32, 32), np.float32, id="another dtype"),
        pytest.param((1, 0), (2, 32, 32), np.uint8, id="not ascending"),
        pytest.param((1, 1), (2, 32, 32), np.uint8, id="twice"),
        pytest.param((-1,), (1, 32, 32), np.uint8, id="negative"),
    ],
)
def test_shares_check_themselves(positions, shape, dtype):
    with pytest.raises(ShapeError):
        ClassShares(positions, np.zeros(shape, dtype))


@pytest.mark.parametrize(
    "sides", [((1, 1), (3, 3), (7, 7)), ((16, 16),), ((5, 9),)], ids=["crops", "patches", "patches of a wide picture"]
)
def test_cell_embeddings_are_eq_2_on_embeddings(sides):
    made = features(sides=sides)
    texts = torch.nn.functional.normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(3)), dim=-1)
    grids = grid_similarity([scale.float() for scale in made.crop_embeddings], texts)
    expected = mean_similarity(grids, (CELLS, CELLS)).flatten(1).T.numpy()
    cells = cell_embeddings(made)
    assert_allclose(cells.dot(texts.T.numpy().copy()), expected, atol=1e-6)
    chosen = np.array([0, 5, 1023])
    assert_allclose(cells.at(chosen) @ texts.T.numpy(), expected[chosen], atol=1e-6)


def test_cell_objectness():
    assert cell_objectness(features()) is None
    ramp = torch.arange(4.0).repeat(4, 1)
    read = cell_objectness(features(ObjectnessMap(ramp.half(), True, (4.0, 4.0)))).reshape(CELLS, CELLS)
    assert_allclose(read[:, 0], 1 / (1 + np.exp(0.0)), atol=1e-6)
    assert_allclose(read[:, -1], 1 / (1 + np.exp(-3.0)), atol=1e-6)
    assert_allclose(read[7, 16], 1 / (1 + np.exp(-(16.5 * 4 / 32 - 0.5))), atol=1e-6)


def test_draws_depend_on_the_picture_alone():
    assert_array_equal(drawing_order("a"), drawing_order("a"))
    assert (drawing_order("a") != drawing_order("b")).any()
    # Fixed for good: what is learned today is learned again tomorrow.
    assert_allclose(drawing_order("a")[:3], [0.21767697, 0.12846276, 1.65518505], rtol=1e-7)


def test_draws_are_in_proportion_to_the_weights():
    weights = np.zeros(CELLS * CELLS, np.int64)
    weights[[3, 500, 900]] = [50, 100, 200]
    first = [int(draw_cells(drawing_order(str(i)), weights, 1)[0]) for i in range(2000)]
    for cell, share in ((3, 1 / 7), (500, 2 / 7), (900, 4 / 7)):
        assert first.count(cell) / 2000 == pytest.approx(share, abs=0.04)
    assert_array_equal(draw_cells(drawing_order("a"), weights, 9), [3, 500, 900])
    assert len(draw_cells(drawing_order("a"), np.zeros(CELLS * CELLS, np.int64), 6)) == 0


def test_pictures_are_put_in_an_order_of_their_own():
    nothing = shares_of_masks({})
    pictures = [CorrectedPicture(name, features(), nothing) for name in "abcdef"]
    ordered = [picture.identity for picture in in_order(pictures)]
    assert ordered == [picture.identity for picture in in_order(pictures[::-1])]
    assert ordered != sorted(ordered)
    without = [picture.identity for picture in in_order(pictures[1:])]
    assert without == [name for name in ordered if name != "a"]
    with pytest.raises(ShapeError, match="same identity"):
        in_order([*pictures, pictures[0]])
