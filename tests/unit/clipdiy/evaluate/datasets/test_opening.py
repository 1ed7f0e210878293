"""Data sets by their names."""

import pytest

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import open_dataset


@pytest.mark.parametrize(
    "spec",
    ["voc", "voc:", "camvid:/x", "zoo:1", "scenes:x", "scenes:1:y", "scenes:1:2:three", "scenes:-1", "scenes:1:0",
     "scenes:1000"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path, spec):
    with pytest.raises(DatasetError):
        open_dataset(spec, tmp_path)


def test_scenes_are_opened_by_seed_and_count(tmp_path):
    assert len(open_dataset("scenes:3:1", tmp_path).image_ids) == 1
