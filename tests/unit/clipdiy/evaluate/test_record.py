"""Records of single pictures."""

import numpy as np

from clipdiy.evaluate.record import Outcome, Record


def test_records_survive_being_written():
    confusion = np.array([[5, 0], [2, 1]])
    record = Record("ä", {"x": Outcome(confusion, None, 1.5), "y": Outcome(confusion, confusion, 0.0)})
    again = Record.from_line(record.to_line(), 2)
    assert again.image_id == "ä"
    np.testing.assert_array_equal(again.outcomes["x"].confusion, confusion)
    assert again.outcomes["x"].boundary is None
    np.testing.assert_array_equal(again.outcomes["y"].boundary, confusion)
