"""Data sets by their names."""

import pytest

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import open_dataset


@pytest.mark.parametrize(
    "spec",
    ["voc", "voc:", "cityscapes:/x", "scenes:x", "scenes:1:y", "scenes:1:2:three", "scenes:-1", "scenes:1:0",
     "scenes:1000"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path, spec):
    with pytest.raises(DatasetError):
        open_dataset(spec, tmp_path)
