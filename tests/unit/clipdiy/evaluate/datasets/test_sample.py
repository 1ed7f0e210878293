"""What tells one data set from another."""

from clipdiy.evaluate.datasets import open_dataset
from clipdiy.evaluate.datasets.sample import fingerprint


def test_fingerprints_tell_data_sets_apart(tmp_path):
    one, two = open_dataset("scenes:3:1", tmp_path), open_dataset("scenes:3:2", tmp_path)
    assert fingerprint(one) != fingerprint(two)
    assert fingerprint(one) == fingerprint(open_dataset("scenes:3:1", tmp_path))
