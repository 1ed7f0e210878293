"""Tables of figures."""

from dataclasses import replace

import pytest
from miniature import blocks, write_voc

from clipdiy.evaluate.datasets.voc import open_folder
from clipdiy.evaluate.report import completeness

CLASSES = ("cat", "dog", "sofa")


SIZES = [(60, 80), (80, 50), (64, 64), (33, 47), (90, 40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "voc"
    write_voc(root, [blocks(i, *size, 4) for i, size in enumerate(SIZES)], ending="png")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def test_a_part_of_a_published_set_is_called_one(folder):
    dataset = open_folder(folder)
    assert completeness(dataset, 5) == ""
    assert "1449" in completeness(replace(dataset, published_count=1449), 5)
    assert completeness(replace(dataset, published_count=5), 5) == ""
    # What the protocol leaves out is not missing.
    assert completeness(replace(dataset, published_count=7, left_out=2), 5) == ""
    assert "7" in completeness(replace(dataset, published_count=7, left_out=2), 4)
