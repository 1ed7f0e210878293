"""Whole, or not at all."""

import os

import pytest

from backend.errors import ExportError
from backend.export.atomic import PARTIAL, whole_folder


def test_it_gets_its_name_at_the_end(tmp_path):
    out = tmp_path / "new" / "set"
    with whole_folder(out) as folder:
        (folder / "a").write_text("1")
        assert not out.exists()
        assert folder.parent == out.parent
        assert folder.name.endswith(PARTIAL)
    assert (out / "a").read_text() == "1"
    assert [path.name for path in out.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_cut_leaves_nothing(tmp_path, error):
    def cut():
        with whole_folder(tmp_path / "set") as folder:
            (folder / "a").write_text("1")
            raise error

    with pytest.raises(error):
        cut()
    assert [*tmp_path.iterdir()] == []


def test_what_is_there_is_not_touched(tmp_path):
    out = tmp_path / "set"
    out.mkdir()
    (out / "mine").write_text("1")
    with pytest.raises(ExportError, match=r"there already.*--overwrite"), whole_folder(out):
        pytest.fail("it begins only if it can end")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_comes_meanwhile_is_not_touched(tmp_path):
    out = tmp_path / "set"

    def late():
        with whole_folder(out) as folder:
            (folder / "a").write_text("1")
            out.mkdir()
            (out / "theirs").write_text("2")

    with pytest.raises(ExportError, match="there already"):
        late()
    assert [path.name for path in out.iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_empty_folder_is_not_in_the_way(tmp_path):
    with whole_folder(tmp_path) as folder:
        (folder / "a").write_text("1")
    assert (tmp_path / "a").exists()


def test_overwriting_replaces_it_at_the_end(tmp_path):
    out = tmp_path / "set"
    out.mkdir()
    (out / "old").write_text("1")
    with pytest.raises(RuntimeError), whole_folder(out, overwrite=True):
        raise RuntimeError
    assert (out / "old").exists()
    with whole_folder(out, overwrite=True) as folder:
        (folder / "new").write_text("1")
        assert (out / "old").exists()
    assert [path.name for path in out.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_cannot_be_renamed_is_put_back(tmp_path, monkeypatch):
    out = tmp_path / "set"
    out.mkdir()
    (out / "old").write_text("1")
    rename = os.rename

    def fails(source, target):
        if str(source).endswith(PARTIAL):
            raise OSError("full")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(ExportError, match=r"cannot write .*set: full"), whole_folder(out, overwrite=True):
        pass
    assert [path.name for path in out.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("1")
    for overwrite, words in ((False, "there already"), (True, "is no folder")):
        with pytest.raises(ExportError, match=words), whole_folder(tmp_path / "file", overwrite=overwrite):
            pass
    with pytest.raises(ExportError, match="cannot make a folder"), whole_folder(tmp_path / "file" / "below"):
        pass


def test_it_has_the_rights_of_any_folder(tmp_path):
    with whole_folder(tmp_path / "set"):
        pass
    (tmp_path / "other").mkdir()
    assert (tmp_path / "set").stat().st_mode == (tmp_path / "other").stat().st_mode
