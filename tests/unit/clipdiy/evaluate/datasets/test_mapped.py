"""Truths with identifiers of their own: what each value becomes, and what is said of one that means nothing."""

import numpy as np
import pytest
from miniature import write_indexed, write_pair
from PIL import Image

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets.mapped import MappedSet, find_root, listed_names, read_mapped, require_pairs

POSITIONS = {0: 255, 7: 1, 8: 2, 9: 3, 200: 4, 255: 255}


def one_picture(tmp_path, values):
    pair = tmp_path / "photo.jpg", tmp_path / "truth.png"
    write_pair(*pair, values)
    return MappedSet("mine", "Mine", ("a", "b", "c", "d"), "none", {"p": pair}, POSITIONS)


def test_every_value_becomes_the_position_of_its_class(tmp_path):
    dataset = one_picture(tmp_path, [[0, 7, 200], [255, 8, 9]])
    sample = dataset.read("p")
    assert sample.truth.dtype == np.uint8
    np.testing.assert_array_equal(sample.truth, [[255, 1, 4], [255, 2, 3]])
    assert sample.photo.size_hw == (2, 3)
    assert (dataset.image_ids, dataset.photo_name("p")) == (("p",), "photo")
    write_indexed(tmp_path / "indexed.png", [[7, 9]])
    np.testing.assert_array_equal(read_mapped(tmp_path / "indexed.png", POSITIONS), [[1, 3]])


def test_what_cannot_be_right_is_refused_with_the_files_name(tmp_path):
    dataset = one_picture(tmp_path, [[0, 10, 7], [6, 0, 10]])
    with pytest.raises(DatasetError, match=r"truth\.png holds the values \[6, 10\]; expected 0, 7\.\.9, 200, 255"):
        dataset.read("p")
    write_indexed(tmp_path / "truth.png", [[7, 8]])
    with pytest.raises(DatasetError, match=r"photo\.jpg: the picture is \(2, 3\).*truth \(1, 2\)"):
        dataset.read("p")
    Image.new("RGB", (3, 2)).save(tmp_path / "truth.png")
    with pytest.raises(DatasetError, match=r"truth\.png must be an indexed"):
        dataset.read("p")


def test_a_photo_is_turned_where_the_truths_size_says_so_if_it_may_be(tmp_path):
    pair = tmp_path / "photo.jpg", tmp_path / "truth.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3, 2)).save(pair[0], exif=exif)
    write_indexed(pair[1], [[7, 7], [7, 7], [7, 7]])
    dataset = MappedSet("mine", "Mine", ("a",), "none", {"p": pair}, POSITIONS)
    assert dataset.read("p").photo.size_hw == (3, 2)
    with pytest.raises(DatasetError, match=r"the picture is \(2, 3\)"):
        MappedSet("mine", "Mine", ("a",), "none", {"p": pair}, POSITIONS, turned=False).read("p")


def test_missing_folders_lists_and_pictures_are_said(tmp_path):
    with pytest.raises(DatasetError, match=r"no Mine at .*: there is no truths/val\. Expected is this"):
        find_root([tmp_path, tmp_path / "below"], "truths/val", "Mine", "Expected is this")
    (tmp_path / "below" / "truths" / "val").mkdir(parents=True)
    assert find_root([tmp_path, tmp_path / "below"], "truths/val", "Mine", "") == tmp_path / "below"
    names = tmp_path / "val.txt"
    names.write_text("\n  \n")
    with pytest.raises(DatasetError, match=r"val\.txt names no picture"):
        listed_names(names, "")
    names.write_text("a\nb\n a \n")
    with pytest.raises(DatasetError, match=r"val\.txt names a twice"):
        listed_names(names, "")
    with pytest.raises(DatasetError, match=r"Mine at .* has no picture\. Expected is this"):
        require_pairs(tmp_path, "Mine", {}, "Expected is this")
