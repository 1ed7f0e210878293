"""What tells one data set from another, and what is said of files that are missing or hold other values."""

from pathlib import Path

import numpy as np
import pytest
from miniature import write_indexed

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import open_dataset
from clipdiy.evaluate.datasets.sample import fingerprint, read_truth, require_files


def test_fingerprints_tell_data_sets_apart(tmp_path):
    one, two = open_dataset("scenes:3:1", tmp_path), open_dataset("scenes:3:2", tmp_path)
    assert fingerprint(one) != fingerprint(two)
    assert fingerprint(one) == fingerprint(open_dataset("scenes:3:1", tmp_path))


def test_only_values_that_are_no_class_are_named(tmp_path):
    path = tmp_path / "a.png"
    write_indexed(path, np.array([[0, 2, 3], [7, 255, 1]], np.uint8))
    with pytest.raises(DatasetError, match=r"values \[3, 7\]; expected 0\.\.2 for 3 classes"):
        read_truth(path, 3)
    assert read_truth(path, 8).tolist() == [[0, 2, 3], [7, 255, 1]]


@pytest.mark.parametrize(
    ("count", "said"), [(3, r"3 of 9 files are missing \(0, 1, 2\)"), (5, r"5 of 9 .*\(0, 1, 2 and 2 more\)")]
)
def test_some_missing_files_are_named_and_all_are_counted(count, said):
    with pytest.raises(DatasetError, match=said):
        require_files("VOC", [Path(str(number)) for number in range(count)], 9, "Expected elsewhere.")


def test_with_all_files_there_nothing_is_missing():
    require_files("VOC", [], 9, "Expected elsewhere.")
