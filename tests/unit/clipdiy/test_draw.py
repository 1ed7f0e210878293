"""The pictures that `clipdiy segment` draws."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clipdiy.draw import (
    OVERLAY_LONG_PX,
    LegendEntry,
    draw_text,
    font,
    font_for,
    label_image,
    overlay,
    palette,
    percent,
    with_legend,
)
from clipdiy.errors import ShapeError


def read_again(image):
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return Image.open(buffer)


def test_palette_is_black_then_all_different_and_never_changes():
    colours = palette(256)
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    assert not colours[0].any()
    assert len({tuple(colour) for colour in colours.tolist()}) == 256
    np.testing.assert_array_equal(palette(5), colours[:5])


def test_first_colours_are_far_apart():
    colours = palette(21).astype(int)
    distance = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 1000 * np.eye(21, dtype=int)
    assert distance.min() > 70


@pytest.mark.parametrize(
    ("classes", "mode"), [pytest.param(2, "P", id="few"), (256, "P"), pytest.param(257, "I;16", id="many")]
)
def test_label_image_holds_positions(classes, mode):
    label_map = np.array([[0, 1, classes - 1], [classes - 1, 0, 1]], np.uint16)
    image = read_again(label_image(label_map, palette(classes)))
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image), label_map)
    if mode == "P":
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), palette(classes)[label_map])


def test_label_image_of_one_pixel():
    assert read_again(label_image(np.zeros((1, 1), np.uint16), palette(2))).size == (1, 1)


def test_label_image_needs_a_colour_for_every_position():
    with pytest.raises(ShapeError, match="position 3, and there are 2"):
        label_image(np.full((2, 2), 3, np.uint16), palette(2))


@pytest.mark.parametrize(
    ("size_hw", "size_wh"),
    [
        pytest.param((1, 1), (720, 720), id="one pixel"),
        pytest.param((33, 61), (720, 390), id="small and odd"),
        pytest.param((1001, 333), (333, 1001), id="as it is"),
        pytest.param((3000, 4000), (1600, 1200), id="large"),
        pytest.param((1, 3000), (1600, 1), id="a line"),
    ],
)
def test_overlay_has_a_size_to_look_at(size_hw, size_wh):
    photo = np.full((*size_hw, 3), 100, np.uint8)
    assert overlay(photo, np.zeros(size_hw, np.uint16), palette(2)).size == size_wh
    assert OVERLAY_LONG_PX == (720, 1600)


def test_overlay_tints_the_mask_and_leaves_the_background():
    photo, label_map = np.full((800, 800, 3), 100, np.uint8), np.zeros((800, 800), np.uint16)
    label_map[200:600, 200:600] = 1
    picture = np.asarray(overlay(photo, label_map, palette(2))).astype(int)
    red = palette(2)[1].astype(int)
    assert picture[50, 50].tolist() == [100, 100, 100]
    np.testing.assert_allclose(picture[400, 400], 100 + 0.45 * (red - 100), atol=1)
    np.testing.assert_allclose(picture[400, 200], red, atol=2)  # the outline
    levels = {int(value) for value in picture[400, 190:210, 0]}
    assert len(levels) > 3, "the outline is not antialiased"


def test_overlay_takes_a_photo_with_fewer_pixels_than_the_label_map():
    label_map = np.zeros((900, 1200), np.uint16)
    assert overlay(np.zeros((300, 400, 3), np.uint8), label_map, palette(2)).size == (1200, 900)


ENTRIES = [LegendEntry(f"label {i}", (200, 10 * i, 0), 0.5, 0.1) for i in range(9)]


@pytest.mark.parametrize(
    ("entries", "not_found"),
    [
        ([], []),
        (ENTRIES[:1], []),
        (ENTRIES, ["dog"]),
        ([], ["dog"] * 99),
        ([LegendEntry("w" * 500, (1, 2, 3), 1, 1)], []),
    ],
    ids=["nothing", "one", "nine", "nothing found of many", "long name"],
)
@pytest.mark.parametrize("size", [(720, 300), (5, 720), (1600, 900)])
def test_legend_goes_below_the_picture(entries, not_found, size):
    picture = Image.new("RGB", size, (10, 200, 10))
    sheet = np.asarray(with_legend(picture, entries, not_found))
    assert sheet.shape[0] > size[1]
    assert sheet.shape[1] == max(size[0], 320)
    left = (sheet.shape[1] - size[0]) // 2
    assert (sheet[: size[1], left : left + size[0]] == (10, 200, 10)).all()
    below = sheet[size[1] :]
    assert (below[[0, -1]] == 255).all(), "no margin"
    assert (below < 200).any(), "nothing is written"
    for entry in entries:
        assert (below == entry.colour).all(axis=2).any()


@pytest.mark.parametrize(("width", "columns"), [(320, 1), (720, 2), (1600, 3)])
def test_a_legend_has_as_many_columns_as_fit(width, columns):
    below = np.asarray(with_legend(Image.new("RGB", (width, 10)), ENTRIES))[10:]
    patches = [np.argwhere((below == entry.colour).all(axis=2)) for entry in ENTRIES]
    sides = {tuple(found.max(axis=0) - found.min(axis=0)) for found in patches}
    assert len(sides) == 1, "no patch lies on another"
    corners = [tuple(found.min(axis=0).tolist()) for found in patches]
    rows, lefts = sorted({row for row, _ in corners}), sorted({left for _, left in corners})
    assert corners == [(row, left) for row in rows for left in lefts][:9], "row by row"
    assert len(lefts) == columns
    assert len(set(np.diff(lefts))) <= 1
    written = np.flatnonzero((below < 200).any(axis=(0, 2)))
    margin = lefts[0]
    assert written[0] == margin
    assert width - margin - columns - 2 <= written[-1] <= width - margin, "numbers end at the right edge"


def test_text_ends_where_it_must():
    sheet = Image.new("RGB", (300, 40), "white")
    draw_text(ImageDraw.Draw(sheet), (0, 0), "many words that do not fit into this line", 20, max_px=120)
    columns = np.flatnonzero((np.asarray(sheet) < 255).any(axis=(0, 2)))
    assert 60 < columns.max() <= 122


def test_letters_the_built_in_font_lacks_never_stop_the_drawing():
    assert font_for("cat", 20) is font(20)
    assert font_for("кошка", 20).getbbox("кошка")[2] > 20


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0.0 %"), (0.004, "0.4 %"), (0.0996, "10 %"), (0.314, "31 %"), (1, "100 %")]
)
def test_percent(share, text):
    assert percent(share) == text
