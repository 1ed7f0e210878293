"""ADE20K: a miniature set."""

import numpy as np
import pytest
from miniature import write_pair

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import counted_classes, open_dataset
from clipdiy.evaluate.datasets.ade20k import ADE20K_CLASSES
from clipdiy.evaluate.protocol import AUTHORS


def write(root):
    for number, values in ((2, [[0, 150]]), (1, [[1, 3, 0], [21, 0, 13]])):
        name = f"ADE_val_0000000{number}"
        write_pair(
            root / "images" / "validation" / f"{name}.jpg", root / "annotations" / "validation" / f"{name}.png", values
        )
    return root


def test_classes_stand_at_their_published_positions():
    assert len(set(ADE20K_CLASSES)) == 150
    found = [ADE20K_CLASSES.index(name) + 1 for name in ("wall", "sky", "person", "car", "chest of drawers", "flag")]
    assert found == [1, 3, 13, 21, 45, 150]


@pytest.mark.parametrize("below", ["", "ADEChallengeData2016"])
def test_0_is_none_of_the_classes(tmp_path, below):
    write(tmp_path / below)
    # Copies made on a Mac bring such files along.
    (tmp_path / below / "annotations" / "validation" / "._ADE_val_00000001.png").write_bytes(b"")
    dataset = open_dataset(f"ade20k:{tmp_path}", tmp_path)
    assert (dataset.name, dataset.background, dataset.published_count) == ("ade20k", "none", 2000)
    assert counted_classes(dataset) == dataset.classes == ADE20K_CLASSES
    assert (dataset.turned, open_dataset(f"ade20k:{tmp_path}", tmp_path, AUTHORS).turned) == (True, False)
    assert dataset.image_ids == ("ADE_val_00000001", "ADE_val_00000002")
    np.testing.assert_array_equal(dataset.read("ADE_val_00000001").truth, [[1, 3, 255], [21, 255, 13]])
    np.testing.assert_array_equal(dataset.read("ADE_val_00000002").truth, [[255, 150]])


def test_what_is_wrong_is_said_with_the_files_name(tmp_path):
    write(tmp_path)
    truths = tmp_path / "annotations" / "validation"
    dataset = open_dataset(f"ade20k:{tmp_path}", tmp_path)
    write_pair(tmp_path / "other.jpg", truths / "ADE_val_00000002.png", [[151, 1]])
    with pytest.raises(DatasetError, match=r"ADE_val_00000002\.png holds the values \[151\]; expected 0\.\.150, 255"):
        dataset.read("ADE_val_00000002")
    (tmp_path / "images" / "validation" / "ADE_val_00000001.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 of 4 files are missing \(.*00000001\.jpg\)"):
        open_dataset(f"ade20k:{tmp_path}", tmp_path)
    write(tmp_path)
    (truths / "ADE_val_00000001.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 4 files are missing \(.*00000001\.png\).*ADEChallengeData2016\.zip"):
        open_dataset(f"ade20k:{tmp_path}", tmp_path)
    with pytest.raises(DatasetError, match=r"no ADE20K at .*: there is no annotations/validation"):
        open_dataset(f"ade20k:{tmp_path / 'images'}", tmp_path)
