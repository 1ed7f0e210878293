"""What annotations teach, worked by hand on small masks."""

import numpy as np
import pytest
from webhooks import LABELS

from backend.corrections.evidence import (
    ControlShares,
    as_class_shares,
    control_shares,
    in_vocabulary,
    inner_part,
    joined,
    majority,
)
from backend.errors import AnnotationError
from backend.labeling.reader import parse_label_config
from clipdiy.learning.evidence import CELLS

WHOLE = 255
[CONTROL] = parse_label_config(LABELS).controls
[WITH_GROUND] = parse_label_config(
    LABELS.replace('<Label value="Cat"/>', '<Label value="background"/><Label value="Cat"/>')
).controls


class Region:
    """A region whose mask is given."""

    def __init__(self, mask, *labels, kind="brush", size_hw=None):
        self._mask = mask
        self.labels = labels
        self.kind = kind
        self.size_hw = size_hw or mask.shape

    def mask(self):
        if self._mask is None:
            raise AnnotationError("cannot be read")
        return self._mask


def rows(first, last, side=CELLS):
    mask = np.zeros((side, side), bool)
    mask[first:last] = True
    return mask


def shares_of(*regions, control=CONTROL):
    found = control_shares(regions, control, None).shares
    return {position: found.of(position)[:, 0].tolist() for position in found.positions}


def test_what_no_region_covers_is_background():
    assert shares_of() == {0: [WHOLE] * CELLS}
    found = shares_of(Region(rows(0, 8), "Cat"), Region(rows(30, 32), "Dog"))
    assert found == {
        0: [0] * 8 + [WHOLE] * 22 + [0] * 2,
        1: [WHOLE] * 8 + [0] * 24,
        2: [0] * 30 + [WHOLE] * 2,
    }


def test_regions_of_one_label_add_up_to_a_whole_at_most():
    assert shares_of(Region(rows(0, 8), "Cat"), Region(rows(4, 12), "Cat"))[1] == [WHOLE] * 12 + [0] * 20


def test_where_labels_overlap_each_has_its_part():
    found = shares_of(Region(rows(0, 8), "Cat"), Region(rows(4, 8), "Dog"))
    assert found[1][:8] == [WHOLE] * 4 + [128] * 4
    assert found[2][:8] == [0] * 4 + [128] * 4
    assert found[0][:8] == [0] * 8


def test_a_rectangle_says_its_label_in_the_middle_only():
    found = shares_of(Region(rows(0, 16), "Cat", kind="rectangle"))
    assert found[1] == [0] * CELLS  # by side: the first column is not in the middle
    found = control_shares([Region(rows(0, 16), "Cat", kind="rectangle")], CONTROL, None).shares
    assert found.of(1)[:, 16].tolist() == [0] * 4 + [WHOLE] * 8 + [0] * 20
    assert found.of(0)[:, 16].tolist() == [0] * 16 + [WHOLE] * 16


@pytest.mark.parametrize("labels", [(), ("Fish",)], ids=["none", "another"])
def test_a_region_without_a_label_of_the_control_is_unknown(labels):
    assert shares_of(Region(rows(0, 8), *labels)) == {0: [0] * 8 + [WHOLE] * 24}


def test_the_first_of_several_labels_counts():
    assert set(shares_of(Region(rows(0, 8), "Fish", "Dog", "Cat"))) == {0, 2}


def test_a_region_of_the_background_is_background():
    found = shares_of(Region(rows(0, 8), "background"), Region(rows(20, 32), "Cat"), control=WITH_GROUND)
    assert found == {0: [WHOLE] * 20 + [0] * 12, 1: [0] * 20 + [WHOLE] * 12}


def test_what_cannot_be_read_makes_the_annotation_useless():
    with pytest.raises(AnnotationError, match="cannot be read"):
        shares_of(Region(rows(0, 8), "Cat"), Region(None, "Dog", size_hw=(32, 32)))
    with pytest.raises(AnnotationError, match="2 sizes"):
        shares_of(Region(rows(0, 8), "Cat"), Region(rows(0, 8, 64), "Dog"))


def test_inner_part_of_a_box():
    mask = np.zeros((20, 20), bool)
    mask[2:10, 4:20] = True
    expected = np.zeros((20, 20), bool)
    expected[4:8, 8:16] = True
    assert (inner_part(mask) == expected).all()
    assert not inner_part(np.zeros((3, 3), bool)).any()
    one = np.ones((1, 1), bool)
    assert inner_part(one).all()


def test_of_a_turned_box_it_is_the_middle_of_what_is_around_it():
    rows, cols = np.mgrid[:40, :40]
    diamond = np.abs(rows - 19.5) + np.abs(cols - 19.5) < 16
    found = control_shares([Region(diamond, "Cat", kind="rectangle")], CONTROL, None).shares
    inner = inner_part(diamond)
    assert inner[12:28, 12:28].sum() == inner.sum() > 0, "a square in the middle, as high as half of the diamond"
    assert (inner[19:21] == diamond[19:21] & (cols[19:21] >= 12) & (cols[19:21] < 28)).all()
    assert not (inner & ~diamond).any()
    assert found.of(1)[16, 16] == WHOLE
    assert found.of(1)[16, 6] == found.of(0)[16, 6] == 0, "in the box, and beside its middle: nothing is known"
    assert found.of(0)[0, 0] == WHOLE


@pytest.mark.parametrize(
    ("drawn", "there", "fits"),
    [
        ((480, 640), (480, 640), True),
        ((480, 640), (240, 320), True),
        ((480, 640), (481, 640), True),
        ((333, 500), (1000, 1500), True),
        ((480, 640), (640, 480), False),
        ((480, 640), (480, 480), False),
        (None, (480, 480), True),
    ],
)
def test_regions_are_of_a_picture_of_this_shape(drawn, there, fits):
    shares = control_shares([], CONTROL, None).shares
    assert ControlShares("brush", None, (), shares, drawn).fits(there) is fits


def cells(**by_position):
    """(3, CELLS, CELLS) with constant shares."""
    every = np.zeros((3, CELLS, CELLS))
    for name, value in by_position.items():
        every["0cd".index(name[-1])] = value
    return every


def test_labels_are_found_by_their_values_whatever_became_of_the_config():
    kept = control_shares([Region(rows(0, 8), "Cat"), Region(rows(8, 16), "Dog")], CONTROL, None)
    moved = in_vocabulary(kept, {"Dog": 1, "Fish": 2})
    assert moved.shape == (3, CELLS, CELLS)
    assert moved[1, :, 0].tolist() == [0] * 8 + [1] * 8 + [0] * 16
    assert moved[0, :, 0].tolist() == [0] * 16 + [1] * 16
    assert moved.sum(axis=0)[:8].max() == 0  # cats are no label any more: unknown


def test_two_controls_of_one_picture_say_it_together():
    together = joined([cells(w0=0.5, c=0.5), cells(w0=0.75, d=0.25)])
    assert together[:, 0, 0].tolist() == [0.25, 0.5, 0.25]
    # What one of them does not know is not known.
    assert joined([cells(w0=0.25, c=0.5), cells(w0=1)])[:, 0, 0].tolist() == [0.25, 0.5, 0]
    # More than a whole is shared.
    assert joined([cells(c=1), cells(d=1)])[:, 0, 0].tolist() == [0, 0.5, 0.5]


def test_the_majority():
    cat, dog, ground, unknown = cells(c=0.75, w0=0.25), cells(d=1), cells(w0=1), cells()
    assert majority([cat, cat, dog])[:, 0, 0].tolist() == [0.25, 0.75, 0]
    assert majority([cat, dog])[:, 0, 0].tolist() == [0, 0, 0]
    assert majority([cat, dog, ground])[:, 0, 0].tolist() == [0, 0, 0]
    assert majority([ground, ground, cat])[:, 0, 0].tolist() == [1, 0, 0]
    assert majority([unknown, unknown, cat])[:, 0, 0].tolist() == [0, 0, 0]


def test_rounding():
    found = as_class_shares(cells(w0=0.5, d=0.001))
    assert found.positions == (0,)
    assert found.of(0)[0, 0] == 128
