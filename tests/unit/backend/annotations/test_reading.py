"""Regions of every form read back: against what writes them, Label Studio's SDK, and whoever is hostile."""

import base64
import contextlib
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_studio_sdk.converter import brush as sdk
from PIL import Image

from backend.annotations import reading
from backend.annotations.reading import KeptChoices, read_regions
from backend.errors import AnnotationError
from backend.labeling.reader import parse_label_config
from backend.outputs.regions import make_regions
from clipdiy.segmentation import Segmentation

HEIGHT, WIDTH = 40, 60


def blob():
    """Two parts, one of them with a hole."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:25, 5:30] = True
    mask[10:20, 12:20] = False
    mask[30:38, 40:58] = True
    return mask


def segmentation(mask):
    label_map = mask.astype(np.uint16)
    area = np.bincount(label_map.ravel(), minlength=2) / mask.size
    return Segmentation(label_map, area, np.array([0.9, 0.75], np.float32), 0.75)


def config(tag, labels="Labels", label="Label"):
    if labels == "own":
        inner = '<Labels name="names" toName="img"><Label value="Cat"/></Labels>'
        return parse_label_config(f'<View><Image name="img" value="$i"/><{tag} name="c" toName="img"/>{inner}</View>')
    inner = f'<{tag}Labels name="c" toName="img"><Label value="Cat"/></{tag}Labels>'
    return parse_label_config(f'<View><Image name="img" value="$i"/>{inner}</View>')


def region(kind="brush", **changes):
    made = {
        "id": "r1",
        "from_name": "c",
        "to_name": "img",
        "type": f"{kind}labels",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": [], f"{kind}labels": ["Cat"]},
    }
    return {**made, **changes}


def together(regions):
    return np.logical_or.reduce([one.mask() for one in regions])


@pytest.mark.parametrize("labels", ["Labels", "own"])
@pytest.mark.parametrize("tag", ["Brush", "Bitmask", "Polygon"])
def test_what_we_write_is_read_back_to_the_pixel(tag, labels):
    made = config(tag, labels)
    [control] = made.controls
    written = make_regions(segmentation(blob()), control, task_id=1, model_version="v", item_index=None)
    read = read_regions(json.loads(json.dumps(written)), made)
    assert read.problems == ()
    assert (together(read.regions) == blob()).all()
    assert {one.labels for one in read.regions} == {("Cat",)}
    assert {one.control for one in read.regions} == {"c"}
    assert {one.kind for one in read.regions} == {tag.lower()}
    assert {one.score for one in read.regions} == {0.75}
    assert {one.size_hw for one in read.regions} == {(HEIGHT, WIDTH)}
    assert {one.origin for one in read.regions} == {"manual"}


def test_boxes_that_we_write():
    made = config("Rectangle")
    written = make_regions(segmentation(blob()), made.controls[0], task_id=1, model_version="v")
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[5:25, 5:30] = expected[30:38, 40:58] = True
    assert (together(read_regions(written).regions) == expected).all()


def test_brushes_as_label_studios_own_decoder_reads_them():
    alpha = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
    rle = sdk.encode_rle(np.repeat(alpha.ravel(), 4))
    [read] = read_regions([region(value={"rle": rle, "brushlabels": ["Cat"]})]).regions
    theirs = sdk.decode_rle(rle).reshape(HEIGHT, WIDTH, 4)[:, :, 3]
    assert (read.mask() == (theirs >= 128)).all()


def test_a_turned_rectangle():
    # A square of 20 x 20 pixels around (30, 20), on its corner: an area of 400.
    value = {"x": 50, "y": (20 - 200**0.5) / HEIGHT * 100, "width": 20 / 60 * 100, "height": 50, "rotation": 45}
    [read] = read_regions([region("rectangle", value={**value, "rectanglelabels": ["Cat"]})]).regions
    mask = read.mask()
    assert abs(mask.sum() - 400) < 25
    assert (mask[20, 17:43].all(), mask[7, 30], mask[7, 22]) == (True, True, False)


def test_an_ellipse():
    value = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 25, "rotation": 0, "ellipselabels": ["Cat"]}
    [read] = read_regions([region("ellipse", value=value)]).regions
    assert read.mask().sum() == pytest.approx(math.pi * 15 * 10, rel=0.02)
    [turned] = read_regions([region("ellipse", value={**value, "rotation": 90})]).regions
    assert turned.mask().sum() == pytest.approx(math.pi * 15 * 10, rel=0.02)
    assert turned.mask()[6, 30]
    assert not read.mask()[6, 30]


def test_origin_page_labels_and_choices():
    result = [
        region(origin="prediction-changed", item_index=3, score=0.5),
        region(id="r2", value={"brushlabels": ["Cat", "Dog", 5]}),
        region(id="r3", value={}),
        {"type": "choices", "from_name": "q", "value": {"choices": ["good", 1]}, "item_index": 2},
        {"type": "relation", "from_id": "r1", "to_id": "r2"},
        {"type": "textarea", "value": {"text": ["x"]}},
    ]
    read = read_regions(result)
    assert [one.labels for one in read.regions] == [("Cat",), ("Cat", "Dog"), ()]
    assert (read.regions[0].origin, read.regions[0].page, read.regions[0].score) == ("prediction-changed", 3, 0.5)
    assert read.choices == (KeptChoices("q", ("good",), 2),)
    assert read.problems == ()


def test_controls_that_the_config_does_not_have_are_left_out():
    read = read_regions([region(), region(from_name="other")], config("Brush"))
    assert len(read.regions) == 1


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (5, "expected an object"),
        (region(original_width=None), "original_width"),
        (region(original_width=float("nan")), "original_width"),
        (region(original_height="40"), "original_height"),
        (region(original_height=0), "original_height"),
        (region(original_height=True), "original_height"),
        (region(original_height=10**9), "original_height"),
        (region(original_height=10**6, original_width=10**6), "more than 200,000,000"),
        (region(image_rotation=90), "turned picture"),
        (region(value=None), "no value"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_a_region_becomes_a_sentence(entry, said):
    read = read_regions([entry, region(id="good")])
    [problem] = read.problems
    assert said in problem
    assert [one.region_id for one in read.regions] == ["good"]


@pytest.mark.parametrize("result", [None, {}, "x", 5])
def test_a_result_that_is_no_list(result):
    assert read_regions(result).regions == ()
    assert bool(read_regions(result).problems) == (result is not None)


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "field", ["id", "from_name", "type", "score", "origin", "item_index", "image_rotation", "value"]
)
@pytest.mark.parametrize(
    "odd",
    [nested(5000), 10**400, -(10**400), 10**5000, float("nan"), "\ud800", {"a": nested(5000)}, [None], True, ""],
    ids=["deep", "large", "small", "too long to write", "nan", "half a character", "object", "list", "true", "empty"],
)
@pytest.mark.parametrize("kind", ["brushlabels", "choices", "labels"])
def test_nothing_odd_stops_the_reading(kind, odd, field):
    value = {"rle": [], "choices": [odd], "labels": [odd], "brushlabels": [odd]}
    read = read_regions([{**region(type=kind, value=value), field: odd}, region(id="good")])
    assert read.regions[-1].region_id == "good"
    assert all(one.score is None or math.isfinite(one.score) for one in read.regions)


def test_an_id_may_be_a_number():
    shape = region(id=7, type="brush", value={"rle": []})
    names = region(id=7, type="labels", from_name="names", value={"labels": ["Cat"]})
    assert [(one.region_id, one.labels) for one in read_regions([shape, names]).regions] == [("7", ("Cat",))]


def png(size, mode="RGBA"):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


GIGABYTES = [255, 255, 255, 255, 57, 27, 252] + [255] * 50


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("brush", {"rle": GIGABYTES}),
        ("brush", {"rle": []}),
        ("brush", {"rle": "x"}),
        ("brush", {"rle": [300, -1]}),
        ("brush", {"rle": [None]}),
        ("brush", {}),
        ("bitmask", {"imageDataURL": png((9, 9))}),
        ("bitmask", {"imageDataURL": png((30_000, 30_000), "1")}),
        ("bitmask", {"imageDataURL": "data:image/png;base64,AAAA"}),
        ("bitmask", {"imageDataURL": "data:image/png;base64,???"}),
        ("bitmask", {"imageDataURL": "https://example.org/x.png"}),
        ("bitmask", {"imageDataURL": None}),
        ("polygon", {"points": "x"}),
        ("polygon", {"points": [[0, 0], [1]]}),
        ("polygon", {"points": [[0, 0], [1, "a"], [2, 2]]}),
        ("polygon", {"points": [[0, 0], [float("nan"), 1], [2, 2]]}),
        ("polygon", {"points": [[0, 0], [float("inf"), 1], [2, 2]]}),
        ("polygon", {"points": [[0, 0], [1e300, 1], [2, 2]]}),
        ("polygon", {"points": [[i % 100, i % 7] for i in range(100_000)]}),
        ("polygon", {}),
        ("rectangle", {"x": 1, "y": 1, "width": 5}),
        ("rectangle", {"x": 1, "y": 1, "width": float("nan"), "height": 5}),
        ("rectangle", {"x": 1, "y": 1, "width": 1e30, "height": 5}),
        ("rectangle", {"x": "1", "y": 1, "width": 1, "height": 5}),
        ("ellipse", {"x": 1, "y": 1, "radiusX": None, "radiusY": 5}),
    ],
)
def test_damage_is_told_when_the_mask_is_asked_for(kind, value):
    [read] = read_regions([region(kind, value=value)]).regions
    with pytest.raises(AnnotationError, match="region 'r1'"):
        read.mask()


@settings(max_examples=300)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=6))
def test_a_damaged_png_is_read_or_refused(at, put):
    good = bytearray(base64.b64decode(png((WIDTH, HEIGHT)).partition(",")[2]))
    at %= len(good)
    good[at : at + len(put)] = put
    url = "data:image/png;base64," + base64.b64encode(bytes(good)).decode()
    [read] = read_regions([region("bitmask", value={"imageDataURL": url})]).regions
    with contextlib.suppress(AnnotationError):
        assert read.mask().shape == (HEIGHT, WIDTH)


def test_a_rectangle_counts_the_centres_of_pixels_as_every_other_form():
    value = {"x": 10.6 / WIDTH * 100, "y": 10.4 / HEIGHT * 100, "width": 2 / WIDTH * 100, "height": 2 / HEIGHT * 100}
    [read] = read_regions([region("rectangle", value=value)]).regions
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[10:12, 11:13] = True
    assert (read.mask() == expected).all()


def test_a_polygon_that_goes_to_and_fro_is_refused():
    # Few points, but each of them crosses all rows: gigabytes of crossings.
    points = [[0, 100 * (i % 2)] for i in range(40_000)]
    [read] = read_regions(
        [region("polygon", original_height=100_000, original_width=1000, value={"points": points})]
    ).regions
    with pytest.raises(AnnotationError, match="cross more than"):
        read.mask()


@pytest.mark.parametrize("points", [[], [[1, 1]], [[1, 1], [5, 5]], [[200, 200], [300, 200], [300, 300]]])
def test_polygons_of_nothing(points):
    [read] = read_regions([region("polygon", value={"points": points})]).regions
    assert not read.mask().any()


def test_a_polygon_that_reaches_out_of_the_picture():
    points = [[-50, -50], [50, -50], [50, 150], [-50, 150]]
    [read] = read_regions([region("polygon", value={"points": points})]).regions
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:, :30] = True
    assert (read.mask() == expected).all()


def test_too_much_together_is_said(monkeypatch):
    monkeypatch.setattr(reading, "MOST_REGIONS", 3)
    read = read_regions([region(id=str(i)) for i in range(9)])
    assert (len(read.regions), read.problems) == (3, ("more than 3 regions",))
    monkeypatch.setattr(reading, "MOST_PX_TOGETHER", 2 * HEIGHT * WIDTH)
    read = read_regions([region(id=str(i)) for i in range(3)])
    assert len(read.regions) == 2
    assert "together" in read.problems[0]
    assert len(read_regions([5] * 1000).problems) == reading.PROBLEMS_SAID
