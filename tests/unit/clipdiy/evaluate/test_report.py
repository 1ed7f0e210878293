"""Tables of figures."""

from dataclasses import replace

from clipdiy.evaluate.datasets.voc import open_folder
from clipdiy.evaluate.report import completeness


def test_a_part_of_a_published_set_is_called_one(folder):
    dataset = open_folder(folder)
    assert completeness(dataset, 5) == ""
    assert "1449" in completeness(replace(dataset, published_count=1449), 5)
    assert completeness(replace(dataset, published_count=5), 5) == ""
    # What the protocol leaves out is not missing.
    assert completeness(replace(dataset, published_count=7, left_out=2), 5) == ""
    assert "7" in completeness(replace(dataset, published_count=7, left_out=2), 4)
