"""Which files are meant by what was typed, and what their results are called."""

import json

import pytest
from PIL import Image

from clipdiy.cli.photos import LABELS, OVERLAY, REPORT, find_photos, name_results


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "sub/c.webp", ".hidden/d.png", ".e.png", "a.overlay.png", "a.labels.png", "f.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def test_a_folder_stands_for_its_pictures(folder):
    photos, problems = find_photos([str(folder)])
    assert [photo.relative_to(folder).as_posix() for photo in photos] == ["a.PNG", "b.jpg", "sub/c.webp"]
    assert problems == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.jpg", ["b.jpg"]), ("**/*", ["a.PNG", "b.jpg", "sub/c.webp"]), ("[ab].*", ["a.PNG", "b.jpg"])],
)
def test_a_pattern_stands_for_what_it_matches(folder, pattern, expected):
    photos, problems = find_photos([f"{folder}/{pattern}"])
    assert [photo.relative_to(folder).as_posix() for photo in photos] == expected
    assert problems == []


def test_a_name_is_taken_as_it_is_and_once(folder):
    photos, problems = find_photos([f"{folder}/f.txt", f"{folder}/b.jpg", str(folder / "sub" / ".." / "b.jpg")])
    assert [photo.name for photo in photos] == ["f.txt", "b.jpg"]
    assert problems == []


def test_brackets_in_a_file_name_are_no_pattern(tmp_path):
    (tmp_path / "a[1].png").write_bytes(b"x")
    assert find_photos([f"{tmp_path}/a[1].png"]) == ([tmp_path / "a[1].png"], [])


def test_what_stands_for_nothing_is_said(tmp_path):
    photos, problems = find_photos([f"{tmp_path}/no.png", f"{tmp_path}/*.png", str(tmp_path)])
    assert photos == []
    assert [problem.removeprefix(str(tmp_path)) for problem in problems] == [
        "/no.png: no such file or folder",
        "/*.png: no picture matches",
        ": no pictures in this folder",
    ]


def test_photos_of_one_name_get_results_of_their_own(tmp_path):
    photos = [tmp_path / name for name in ("a/cat.jpg", "b/cat.jpg", "b/cat.png", "b/CAT.gif", "dog.jpg")]
    assert name_results(photos, tmp_path / "out") == ["cat", "cat-2", "cat-3", "CAT-4", "dog"]


def test_results_of_another_photo_are_never_replaced_and_its_own_are(tmp_path):
    first, second, third = (tmp_path / name for name in ("a/cat.jpg", "b/cat.jpg", "c/cat.jpg"))
    (tmp_path / f"cat{REPORT}").write_text(json.dumps({"photo": str(first)}))
    (tmp_path / f"cat-2{REPORT}").write_text(json.dumps({"photo": str(second)}))
    assert name_results([first], tmp_path) == ["cat"]
    assert name_results([second], tmp_path) == ["cat-2"]
    assert name_results([third], tmp_path) == ["cat-3"]


@pytest.mark.parametrize("ending", [LABELS, OVERLAY, REPORT])
def test_files_of_unknown_origin_are_never_replaced(tmp_path, ending):
    Image.new("P", (1, 1)).save(tmp_path / f"cat{ending}", "png")
    assert name_results([tmp_path / "cat.jpg"], tmp_path) == ["cat-2"]
