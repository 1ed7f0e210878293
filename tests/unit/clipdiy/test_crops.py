import numpy as np
import pytest
import torch
from PIL import Image

from clipdiy.config import CropGrid
from clipdiy.crops import crop_boxes, cut_crops, resize_in_float, resize_uint8, scale_boxes, squares_of
from clipdiy.errors import ConfigError, ShapeError


@pytest.mark.parametrize(
    ("square", "patch", "stride", "grid", "last"),
    [
        pytest.param(256, 256, 128, (1, 1), [0, 0, 256, 256], id="whole image"),
        pytest.param(256, 128, 64, (3, 3), [128, 128, 256, 256], id="half overlap"),
        pytest.param(256, 64, 32, (7, 7), [192, 192, 256, 256], id="half overlap, fine"),
        pytest.param(256, 64, 64, (4, 4), [192, 192, 256, 256], id="no overlap"),
        pytest.param(8, 1, 1, (8, 8), [7, 7, 8, 8], id="one pixel crops"),
    ],
)
def test_crop_boxes(square, patch, stride, grid, last):
    boxes = crop_boxes(square, patch, stride)
    assert boxes.grid_hw == grid
    assert boxes.boxes_xyxy.shape == (grid[0] * grid[1], 4)
    assert boxes.boxes_xyxy[0].tolist() == [0, 0, patch, patch]
    assert boxes.boxes_xyxy[-1].tolist() == last


def test_crops_go_row_by_row():
    assert crop_boxes(4, 2, 2).boxes_xyxy.tolist() == [[0, 0, 2, 2], [2, 0, 4, 2], [0, 2, 2, 4], [2, 2, 4, 4]]


@pytest.mark.parametrize(
    ("square", "patch", "stride"),
    [(256, 100, 50), (256, 300, 10), (256, 64, 0), (256, 64, 65)],
    ids=["rest left over", "patch too large", "no stride", "gaps"],
)
def test_crops_that_do_not_cover_the_square_are_refused(square, patch, stride):
    with pytest.raises(ConfigError):
        crop_boxes(square, patch, stride)


def test_the_paper_has_59_crops():
    assert sum(len(boxes.boxes_xyxy) for boxes in scale_boxes(CropGrid())) == 59
    assert sum(len(boxes.boxes_xyxy) for boxes in scale_boxes(CropGrid(stride_ratio=1.0))) == 21


def test_crops_move_by_a_pixel_at_least():
    assert [boxes.grid_hw for boxes in scale_boxes(CropGrid(8, (4, 2), 0.25))] == [(5, 5), (7, 7)]


@pytest.mark.parametrize("patch", [256, 128, 64])
def test_crops_equal_pillow(patch):
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    boxes = crop_boxes(256, patch, patch // 2 if patch < 256 else 256)
    crops = cut_crops(torch.from_numpy(pixels).permute(2, 0, 1)[None], boxes, 224)[0]
    for box, crop in zip(boxes.boxes_xyxy.tolist(), crops, strict=True):
        whole = Image.fromarray(pixels).crop(box).resize((224, 224), Image.Resampling.BICUBIC)
        difference = np.abs(crop.permute(1, 2, 0).numpy().astype(int) - np.asarray(whole).astype(int))
        assert difference.max() <= 2


def test_cut_crops_of_a_batch_keeps_images_apart():
    squares = torch.stack([torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (10, 200)])
    crops = cut_crops(squares, crop_boxes(8, 4, 2), 4)
    assert crops.shape == (2, 9, 3, 4, 4)
    assert crops[0].unique().tolist() == [10]
    assert crops[1].unique().tolist() == [200]


@pytest.mark.parametrize(
    "squares",
    [
        torch.zeros(1, 3, 256, 255, dtype=torch.uint8),
        torch.zeros(3, 256, 256, dtype=torch.uint8),
        torch.zeros(1, 3, 256, 256),
    ],
    ids=["not square", "no batch", "not uint8"],
)
def test_cut_crops_refuses(squares):
    with pytest.raises(ShapeError, match="got"):
        cut_crops(squares, crop_boxes(256, 128, 64), 224)


def test_squares_of_antialiases():
    stripes = np.zeros((64, 2048, 3), np.uint8)
    stripes[:, ::2] = 255
    [square] = squares_of([torch.from_numpy(stripes).permute(2, 0, 1)], 32)
    assert square.shape == (3, 32, 32)
    assert (square.int() - 127).abs().max() <= 2, "fine stripes become grey, not stripes of another width"


def test_squares_of_images_of_several_sizes_keep_their_order():
    rng = np.random.default_rng(3)
    images = [torch.from_numpy(rng.integers(0, 256, (3, *hw), np.uint8)) for hw in ((40, 30), (25, 64), (40, 30))]
    together = squares_of(images, 32)
    assert torch.equal(together, torch.cat([squares_of([image], 32) for image in images]))
    assert not torch.equal(together[0], together[2])


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_stay_so_in_float(value):
    flat = torch.full((1, 3, 9, 7), value, dtype=torch.uint8)
    assert (resize_in_float(flat, (20, 31), "bicubic") == value).all()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size_hw", [(33, 91), (224, 224), (10, 70), (50, 30)], ids=str)
def test_resize_in_float_is_resize_uint8(mode, size_hw):
    """What runs on a GPU against what runs on the CPU, on noise, where they could differ most."""
    image = torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    exact, floating = resize_uint8(image, size_hw, mode), resize_in_float(image, size_hw, mode)
    difference = (exact.int() - floating.int()).abs()
    assert difference.max() <= 2
    assert (difference > 1).float().mean() < 1e-4
    assert (difference > 0).float().mean() < 0.1
