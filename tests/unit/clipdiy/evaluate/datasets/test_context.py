"""Pascal Context: a miniature set, with the background as a class and without it."""

import numpy as np
import pytest
from miniature import write_pair

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import counted_classes, open_dataset
from clipdiy.evaluate.datasets.context import CONTEXT_CLASSES
from clipdiy.evaluate.protocol import AUTHORS

TRUTHS = {"2008_000002": [[0, 1, 59], [30, 0, 255]], "2008_000009": [[47], [53]]}


def write(root):
    for name, values in TRUTHS.items():
        write_pair(root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClassContext" / f"{name}.png", values)
    (root / "ImageSets" / "SegmentationContext").mkdir(parents=True)
    (root / "ImageSets" / "SegmentationContext" / "val.txt").write_text("\n".join(TRUTHS) + "\n")
    return root


def test_classes_stand_at_their_published_positions():
    assert len(set(CONTEXT_CLASSES)) == 59
    assert [CONTEXT_CLASSES.index(name) + 1 for name in ("aeroplane", "grass", "potted plant", "sky", "wood")] == [
        1, 29, 40, 47, 59,
    ]  # fmt: skip
    assert {"tvmonitor", "shelves", "bedclothes"} < set(CONTEXT_CLASSES)


@pytest.mark.parametrize("below", ["", "VOC2010", "VOCdevkit/VOC2010"])
def test_with_the_background_it_is_a_class_of_its_own(tmp_path, below):
    write(tmp_path / below)
    dataset = open_dataset(f"context:{tmp_path}", tmp_path)
    assert (dataset.name, dataset.background, dataset.classes) == ("context", "plain", CONTEXT_CLASSES)
    assert counted_classes(dataset) == ("background", *CONTEXT_CLASSES)
    assert (dataset.turned, open_dataset(f"context:{tmp_path}", tmp_path, AUTHORS).turned) == (True, False)
    assert dataset.image_ids == tuple(TRUTHS)
    np.testing.assert_array_equal(dataset.read("2008_000002").truth, [[0, 1, 59], [30, 0, 255]])


def test_without_it_such_pixels_count_nowhere(tmp_path):
    write(tmp_path)
    dataset = open_dataset(f"context59:{tmp_path}", tmp_path)
    assert (dataset.name, dataset.background, len(counted_classes(dataset))) == ("context59", "none", 59)
    np.testing.assert_array_equal(dataset.read("2008_000002").truth, [[255, 1, 59], [30, 255, 255]])
    np.testing.assert_array_equal(dataset.read("2008_000009").truth, [[47], [53]])


@pytest.mark.parametrize("kind", ["context", "context59"])
def test_what_is_wrong_is_said_with_the_files_name(tmp_path, kind):
    write(tmp_path)
    dataset = open_dataset(f"{kind}:{tmp_path}", tmp_path)
    truth = tmp_path / "SegmentationClassContext" / "2008_000009.png"
    write_pair(tmp_path / "other.jpg", truth, [[60], [1]])
    with pytest.raises(DatasetError, match=r"2008_000009\.png holds the values \[60\]; expected 0\.\.59, 255"):
        dataset.read("2008_000009")
    truth.unlink()
    with pytest.raises(DatasetError, match=r"Pascal Context at .* 1 of 4 files are missing \(.*009\.png\).*MMSegm"):
        open_dataset(f"{kind}:{tmp_path}", tmp_path)
    (tmp_path / "ImageSets" / "SegmentationContext" / "val.txt").unlink()
    with pytest.raises(DatasetError, match=r"there is no ImageSets/SegmentationContext/val\.txt"):
        open_dataset(f"{kind}:{tmp_path}", tmp_path)
