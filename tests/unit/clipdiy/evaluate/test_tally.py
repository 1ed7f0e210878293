"""What is counted while pictures go by."""

import numpy as np

from clipdiy.evaluate.tally import Worst


def test_the_worst_pictures_come_lowest_first():
    worst = Worst(2)
    for name, hits in (("good", 9), ("bad", 1), ("fair", 5), ("worse", 1)):
        worst.add(name, np.array([[hits, 10 - hits], [0, 0]]))
    worst.add("empty", np.zeros((2, 2), np.int64))
    assert worst.image_ids == ("bad", "worse")
    assert Worst(0).image_ids == ()
