"""Drawings of an evaluation: what lies where, and in which colour."""

import numpy as np
import pytest

from clipdiy.draw import INK, LINE, palette
from clipdiy.evaluate.evaluator import Seen
from clipdiy.evaluate.figures import comparison_panel, confusion_picture

NAMES = ("background", "cat", "dog", "cow")
WHITE = [255, 255, 255]
LIST_PX, LEFT_OF_LIST_PX, TOP_PX = 380, 22, 79


def matrix(counts, names=NAMES):
    """The picture of a matrix, and the upper left corner of its first cell."""
    picture = np.asarray(confusion_picture(np.array(counts), names, "x"))
    side = len(names) * 44
    return picture, picture.shape[1] - (side + LEFT_OF_LIST_PX + LIST_PX + 22), TOP_PX


def test_a_cell_is_the_darker_the_more_of_its_row_it_has():
    picture, left, top = matrix([[64, 16, 0, 0], [0, 100, 0, 0], [0, 0, 0, 0], [9, 0, 0, 1]])
    # Beside the lines of a cell, above the number in it.
    shown = picture[top + 3 : top + 4 * 44 : 44, left + 3 : left + 4 * 44 : 44].astype(int).sum(axis=2)
    assert shown.shape == (4, 4)
    assert shown[1, 1] < shown[3, 0] < shown[0, 0] < shown[0, 1] < shown[0, 2] == 3 * 255
    assert (shown[2] == 3 * 255).all(), "nothing can be said of a class that the truth does not have"
    assert shown[1, 0] == shown[0, 3] == 3 * 255


def test_cells_are_ruled():
    picture, left, top = matrix(np.eye(4, dtype=int))
    for offset in range(0, 4 * 44 + 1, 44):
        assert (picture[top + offset, left : left + 4 * 44 + 1] == LINE).all()
        assert (picture[top : top + 4 * 44 + 1, left + offset] == LINE).all()
    longest_name = left - 22
    assert picture.shape[0] == TOP_PX + 4 * 44 + longest_name + 22, "there is room for the names below"


def test_names_stand_beside_and_below_their_cells():
    picture, left, top = matrix(np.eye(4, dtype=int))
    for i in range(4):
        beside = picture[top + 44 * i + 8 : top + 44 * i + 36, left - 60 : left - 4]
        below = picture[top + 4 * 44 + 4 : top + 4 * 44 + 40, left + 44 * i + 8 : left + 44 * i + 36]
        for text in (beside, below):
            assert (text == INK).all(axis=2).any()
        assert (picture[top + 44 * i - 2 : top + 44 * i + 3, left - 60 : left - 8] == WHITE).all()


def test_the_worst_mistakes_are_named_below_each_other():
    picture, left, top = matrix([[9, 8, 4, 2], [0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 9]])
    listed = picture[top:, left + 4 * 44 + LEFT_OF_LIST_PX :]
    for i in range(3):
        line = listed[30 + 22 * i : 30 + 22 * i + 18]
        assert (line != 255).any(), f"mistake {i}"
    assert (listed[30 + 22 * 3 :] == 255).all()


def test_cells_of_many_classes_are_small_and_bare():
    names = [f"class {i}" for i in range(81)]
    picture = confusion_picture(np.eye(81, dtype=np.int64), names, "x")
    assert picture.height < TOP_PX + 81 * 14 + 200
    array = np.asarray(picture)
    left = picture.width - (81 * 14 + LEFT_OF_LIST_PX + LIST_PX + 22)
    assert (array[TOP_PX + 1 : TOP_PX + 14, left + 1 : left + 14] == array[TOP_PX + 1, left + 1]).all(), "no number"


@pytest.fixture
def seen():
    """Dog above, cat below, in a picture of 40x60; a corner is ignored, one background; half a cat is called cow."""
    truth = np.full((40, 60), 2, np.uint8)
    truth[22:], truth[:10, :10], truth[:10, 50:] = 1, 255, 0
    prediction = truth.copy().astype(np.uint16)
    prediction[truth == 255] = 0
    prediction[22:, 30:] = 3
    return Seen(np.full((40, 60, 3), 100, np.uint8), truth, prediction)


def test_pictures_stand_side_by_side_and_classes_below(seen):
    sheet = np.asarray(comparison_panel(seen, NAMES, "x"))
    width, height = 420, 280
    top = 22 + 17 + 14 + 14 + 10
    legend = top + height + 22
    assert sheet.shape[:2] == (legend + 26 + 11, 4 * 22 + 3 * width), "four classes, in one line"
    starts = [22 + i * (width + 22) for i in range(3)]
    for start in starts:
        frame = (sheet[top - 1, start - 1 : start + width + 1], sheet[top + height, start - 1 : start + width + 1])
        assert all((line == LINE).all() for line in frame)
    photo, truth, prediction = (sheet[top : top + height, start : start + width] for start in starts)
    assert (photo == 100).all()
    inside = (slice(200, 260), slice(280, 400))
    assert len(np.unique(truth[inside].reshape(-1, 3), axis=0)) == 1
    assert (truth[inside][0, 0] == truth[200, 40]).all()
    assert (prediction[inside][0, 0] != prediction[200, 40]).any()
    ignored = truth[20, 20]
    assert ignored[0] == ignored[1] == ignored[2]
    assert ignored[0] > 100, "what is ignored lies under light grey"


def test_the_largest_classes_have_the_first_colours(seen):
    sheet = np.asarray(comparison_panel(seen, NAMES, "x"))
    legend = 22 + 17 + 14 + 14 + 10 + 280 + 22
    columns = (sheet.shape[1] - 22) // 240
    column_px = (sheet.shape[1] - 22) // columns
    colours = [sheet[legend + 9, 22 + i * column_px + 8].tolist() for i in range(4)]
    assert colours == palette(4)[[1, 2, 3, 0]].tolist(), "dog, cat, what is called a cow, and the background last"
    _, _, prediction = (sheet[77 : 77 + 280, 22 + i * 442 : 442 + i * 442].astype(int) for i in range(3))
    dog, cat, cow = (prediction[place] for place in ((120, 200), (220, 60), (220, 350)))
    laid_over = (palette(4)[1:4].astype(int) + 100) // 2  # about: the picture shines through
    assert [np.abs(laid_over - shown).sum(axis=1).argmin() for shown in (dog, cat, cow)] == [0, 1, 2]
