"""Which pictures a task shows, and what is said of tasks that show none."""

import pytest

from backend.errors import TaskError
from backend.images.pages import image_value, pictures_of
from backend.labeling.controls import MaskControl
from backend.labeling.reader import parse_label_config


def controls(*images: str) -> tuple[MaskControl, ...]:
    """A control for each image of these attributes."""
    made = "".join(
        f'<Image name="i{n}" {image}/><BrushLabels name="b{n}" toName="i{n}"><Label value="Cat"/></BrushLabels>'
        for n, image in enumerate(images)
    )
    return parse_label_config(f"<View>{made}</View>").controls


PICTURES: dict[str, tuple[tuple[str, ...], object, object]] = {
    "one": (('value="$a"',), {"a": "/x.png"}, {("a", None): "/x.png"}),
    "two images": (('value="$a"', 'value="$b"'), {"a": "/x", "b": "/y"}, {("a", None): "/x", ("b", None): "/y"}),
    "one field in two controls": (('value="$a"', 'value="$a"'), {"a": "/x"}, {("a", None): "/x"}),
    "pages": (('valueList="$p"',), {"p": ["/x", "/y"]}, {("p", 0): "/x", ("p", 1): "/y"}),
    "one address where pages may be": (('valueList="$p"',), {"p": "/x"}, {("p", 0): "/x"}),
    "a path": (('value="$doc.image"',), {"doc": {"image": "/x"}}, {("doc.image", None): "/x"}),
    "a path to pages": (('valueList="$doc.pages"',), {"doc": {"pages": ["/x"]}}, {("doc.pages", 0): "/x"}),
    "one field alone and as pages": (
        ('value="$a"', 'valueList="$a"'),
        {"a": "/x"},
        {("a", None): "/x", ("a", 0): "/x"},
    ),
}


@pytest.mark.parametrize(("images", "data", "pictures"), PICTURES.values(), ids=PICTURES)
def test_which_pictures_a_task_shows(images: tuple[str, ...], data: object, pictures: object) -> None:
    assert pictures_of(data, controls(*images)) == pictures


NO_PICTURES: dict[str, tuple[str, object, str, str]] = {
    "no page": ('valueList="$p"', {"p": []}, "missing-data", "1 to 100 pages in the task's 'p', got 0"),
    "too many pages": ('valueList="$p"', {"p": ["/x"] * 101}, "too-large", "1 to 100 pages in the task's 'p', got 101"),
    "a page that is none": ('valueList="$p"', {"p": ["/x", 7]}, "missing-data", r"task's 'p\[1\]', got int"),
    "an empty page": ('valueList="$p"', {"p": [" "]}, "missing-data", r"task's 'p\[0\]', got an empty text"),
    "a list where one is wanted": ('value="$a"', {"a": ["/x"]}, "missing-data", "task's 'a', got list"),
    "a path that leads nowhere": ('value="$doc.image"', {"doc": {}}, "missing-data", "no 'doc.image'; it has 'doc'"),
    "data that are none": ('valueList="$p"', ["/x"], "missing-data", "got list"),
}


@pytest.mark.parametrize(("image", "data", "reason", "message"), NO_PICTURES.values(), ids=NO_PICTURES)
def test_says_which_pictures_are_missing(image: str, data: object, reason: str, message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        pictures_of(data, controls(image))
    assert caught.value.reason == reason


def test_a_hundred_pages() -> None:
    assert len(pictures_of({"p": ["/x"] * 100}, controls('valueList="$p"'))) == 100


IMAGE_VALUES: dict[str, tuple[object, str]] = {
    "missing": ({"text": "a", "other": 1}, "has no 'image'; it has 'text', 'other'"),
    "empty data": ({}, "no field at all"),
    "null": ({"image": None}, "has no 'image'"),
    "null, beside an upload without a name": ({"image": None, "$undefined$": "/y.png"}, "has no 'image'"),
    "a list": ({"image": ["/x.png"]}, "got list"),
    "a number": ({"image": 7}, "got int"),
    "blank": ({"image": " "}, "an empty text"),
    "no fields": (["x"], "got list"),
    "nothing": (None, "got NoneType"),
}


@pytest.mark.parametrize(("data", "message"), IMAGE_VALUES.values(), ids=IMAGE_VALUES)
def test_says_what_is_missing_in_a_task(data: object, message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        image_value(data, "image")
    assert caught.value.reason == "missing-data"


def test_takes_the_value_out_of_a_task() -> None:
    assert image_value({"image": "/x.png", "$undefined$": "/y.png"}, "image") == "/x.png"
    assert image_value({"$undefined$": "/y.png"}, "image") == "/y.png"
