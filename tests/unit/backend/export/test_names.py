"""Names of files."""

import re

import pytest

from backend.export.names import class_name, picture_name, slug


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/3/0a1b2c3d-Photo_1.jpg", "000007-Photo_1"),
        ("/data/local-files/?d=cats%2FTom%20Cat.JPG", "000007-Tom-Cat"),
        ("https://h/a/b.c/x.y.png?sig=secret", "000007-x-y"),
        ("s3://bucket/Äpfel.png", "000007-Apfel"),
        ("data:image/png;base64,AAAA/BBB", "000007"),
        ("https://[half/x.png", "000007-x"),
        ("图.png", "000007"),
        ("..", "000007"),
        ("C:\\pictures\\a.png", "000007-a"),
        ("a/../../b", "000007-b"),
        ("con", "000007-con"),
    ],
)
def test_names_are_safe_and_say_what_it_was(address, name):
    assert picture_name(7, address) == name
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name)


def test_pages_and_images_are_told_apart():
    names = {picture_name(7, "a.png", image=i, page=p) for i in (None, 0, 1) for p in (None, 0, 1, 2)}
    assert len(names) == 12
    assert "000007-i1-p2-a" in names


def test_names_are_not_long():
    assert len(picture_name(7, "x" * 1000 + ".png")) < 100


def test_class_names():
    assert class_name(3, "dining table") == "003-dining-table"
    assert class_name(3, "犬") == "003"
    assert slug("../a b\0") == "a-b"
