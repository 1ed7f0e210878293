"""Which pictures are meant by what was typed."""

import os

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from backend.bulk.listing import list_pictures
from backend.bulk.places import Stores
from backend.errors import BackendError

FILES = ("b.jpg", "a.PNG", "sub/c.jpeg", "sub/deep/d.webp", "notes.md", ".hidden/e.jpg", "sub/.f.jpg")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def below(folder, names):
    return [os.path.relpath(name, folder) for name in names]


def listed(source, **options):
    return list_pictures(str(source), Stores(), **options)


def test_a_folder_is_the_pictures_below_it_in_order(folder):
    assert below(folder, listed(folder)) == ["a.PNG", "b.jpg", "sub/c.jpeg", "sub/deep/d.webp"]
    assert listed(f"{folder}/") == listed(folder)


def test_names_are_whole_wherever_one_stands(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert listed("photos") == listed(folder)
    assert all(os.path.isabs(name) for name in listed("photos"))


def test_one_picture_is_itself(folder):
    assert listed(folder / "b.jpg") == [str(folder / "b.jpg")]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jpg", ["b.jpg"]),
        ("[ab].*", ["a.PNG", "b.jpg"]),
        ("**/*.[jw]*", ["b.jpg", "sub/c.jpeg", "sub/deep/d.webp"]),
        ("sub/?.jpeg", ["sub/c.jpeg"]),
    ],
)
def test_patterns_mean_the_same_here_and_in_a_bucket(folder, s3, pattern, found):
    s3.bucket("b").objects = {f"photos/{name}": b"" for name in FILES}
    place = "s3://b/photos"
    stores = Stores.of(f"{place}?{s3.options}")
    assert below(folder, listed(folder / pattern)) == found
    assert list_pictures(f"{place}/{pattern}", stores) == [f"{place}/{name}" for name in found]


def test_a_bucket_is_the_pictures_in_it(s3):
    s3.bucket("b").objects = {f"photos/{name}": b"" for name in FILES}
    place = f"s3://b/photos?{s3.options}"
    assert list_pictures(place, Stores.of(place)) == [
        f"s3://b/photos/{name}" for name in ("a.PNG", "b.jpg", "sub/c.jpeg", "sub/deep/d.webp")
    ]


class TestLists:
    NAMES = (
        "b.jpg",
        "/elsewhere/x.jpg",
        "s3://b/y.jpg",
        "https://example.org/z.jpg?w=1",
        "sub/any.dat",
        "b.jpg",
    )

    def expected(self, folder):
        beside = [str(folder / "b.jpg"), "/elsewhere/x.jpg", "s3://b/y.jpg", "https://example.org/z.jpg?w=1"]
        return [*beside, str(folder / "sub/any.dat")]

    def test_a_text_file(self, folder):
        (folder / "list.txt").write_text("# what we want\n\n" + "\n".join(self.NAMES) + "\n")
        assert listed(folder / "list.txt") == self.expected(folder)

    @pytest.mark.parametrize("ending", ["parquet", "csv", "tsv"])
    def test_a_column_of_a_table(self, folder, ending):
        table = pa.table({"number": range(6), "image": self.NAMES})
        path = str(folder / f"table.{ending}")
        if ending == "parquet":
            parquet.write_table(table, path)
        else:
            csv.write_csv(table, path, csv.WriteOptions(delimiter="\t" if ending == "tsv" else ","))
        assert listed(path, column="image") == self.expected(folder)
        with pytest.raises(BackendError, match=r"name the column.*there are: number, image"):
            listed(path)
        with pytest.raises(BackendError, match="no column 'picture'"):
            listed(path, column="picture")
        with pytest.raises(BackendError, match="expected addresses of pictures as texts, got int"):
            listed(path, column="number")

    def test_the_only_column_need_not_be_named(self, folder):
        parquet.write_table(pa.table({"image": ["b.jpg", None, ""]}), folder / "one.parquet")
        assert listed(folder / "one.parquet") == [str(folder / "b.jpg")]

    def test_a_list_in_a_bucket_counts_from_there(self, s3):
        s3.bucket("b").objects = {"lists/one.txt": b"a.jpg\n/c.jpg\ns3://other/b.jpg?region=1\n"}
        place = f"s3://b/lists/one.txt?{s3.options}"
        names = list_pictures(place, Stores.of(place))
        assert names == ["s3://b/lists/a.jpg", "s3://b/lists/c.jpg", "s3://other/b.jpg"]

    def test_a_table_that_is_none(self, folder):
        (folder / "x.parquet").write_text("nonsense")
        with pytest.raises(BackendError, match="cannot be read as a table"):
            listed(folder / "x.parquet")
        (folder / "x.txt").write_bytes(b"\xff\xfe")
        with pytest.raises(BackendError, match="cannot be read as a list"):
            listed(folder / "x.txt")

    def test_columns_are_for_tables(self, folder):
        with pytest.raises(BackendError, match="a column is for tables"):
            listed(folder, column="image")


@pytest.mark.parametrize("name", ["none", "none/*.jpg", "photos/.hidden/nothing.*"])
def test_nothing_is_said_to_be_nothing(folder, name):
    with pytest.raises(BackendError, match=r"no such file or folder|no pictures there"):
        listed(folder.parent / name)


def test_an_empty_folder(tmp_path):
    with pytest.raises(BackendError, match="no pictures there"):
        listed(tmp_path)
