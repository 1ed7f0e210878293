"""The whole service with CLIP-DINOiser on the starter's weights: forms of answers, gestures, what is kept, and why."""

import threading

import cv2
import numpy as np
import pytest
from clocks import HandClock
from dinoiser_tiny import CONFIG as TINY
from dinoiser_tiny import changed, load_dinoiser
from fakes import CONFIG, FakeLoader, tasks
from on_screen import iou, stored_mask
from pictures import data_uri, png, scene

from backend.deadline import Deadline
from backend.labeling.reader import parse_label_config
from backend.metrics import Metrics
from backend.predicting.feature_cache import FeatureCache
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.service import build_service
from backend.settings import Settings
from backend.web.app import create_app
from clipdiy.dinoiser.config import Windows
from clipdiy.dinoiser.method import Dinoiser

LABELS = '<Label value="elephant"/><Label value="dog"/>'
WHOLE = (1, 3, 192, 256)  # how the starter sees a picture of 240 x 320


def view(*controls):
    return f'<View><Image name="img" value="$image"/>{"".join(controls)}</View>'


def control(tag, name, attributes="", labels=LABELS):
    return f'<{tag} name="{name}" toName="img" {attributes}>{labels}</{tag}>'


FORMS = view(
    control("BrushLabels", "brush"),
    control("BitmaskLabels", "bitmask"),
    control("PolygonLabels", "polygon"),
    control("RectangleLabels", "box"),
    control("Choices", "choice", 'choice="multiple"', LABELS.replace("Label", "Choice")),
)
GESTURES = view(
    control("BrushLabels", "brush"),
    control("KeyPointLabels", "point", 'smart="true"'),
    control("RectangleLabels", "frame", 'smart="true"'),
    '<TextArea name="words" toName="img" smart="true"/>',
)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    given = {"METHOD": "clip-dinoiser", "PRESET": "starter", "DEVICE": "cpu", "DTYPE": "float32"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(f"CLIPDIY_{name}", value)
        settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    made = build_service(settings)
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(service):
    return create_app(service).test_client()


@pytest.fixture(scope="module")
def picture():
    return scene(7102, nouns=("elephant",))


@pytest.fixture
def passes(monkeypatch):
    """The shape of everything that goes through the network."""
    seen, read = [], Dinoiser.read

    def noted(self, images):
        seen.append(tuple(images.shape))
        return read(self, images)

    monkeypatch.setattr(Dinoiser, "read", noted)
    return seen


def ask(client, config, image, *gesture):
    body = {"tasks": [{"id": 1, "data": {"image": data_uri(png(image))}}], "label_config": config}
    if gesture:
        body["params"] = {"context": {"result": [*gesture]}}
    [result] = client.post("/predict", json=body).get_json()["results"]
    return result


def regions(prediction, name, label="elephant"):
    return [
        region
        for region in prediction["result"]
        if region["from_name"] == name and label in region["value"].get(region["type"], ())
    ]


def drawn(prediction, name):
    masks = [stored_mask(region) for region in regions(prediction, name)]
    assert masks, f"{name} found no elephant"
    return np.any(masks, axis=0)


def test_every_form_of_an_answer_shows_the_object(client, picture):
    answered = ask(client, FORMS, picture.image)
    brush = drawn(answered, "brush")
    assert iou(brush, picture.objects) > 0.5
    np.testing.assert_array_equal(drawn(answered, "bitmask"), brush)
    assert iou(drawn(answered, "polygon"), brush) > 0.9
    assert (drawn(answered, "box") >= brush).all()
    [choice] = [region for region in answered["result"] if region["from_name"] == "choice"]
    assert "elephant" in choice["value"]["choices"]
    assert all(0 < region["score"] <= 1 for region in answered["result"])
    assert 0 < answered["score"] <= 1


def test_a_point_a_phrase_and_a_box_mean_the_object(client, picture, passes):
    image, objects = picture.image[:, ::-1], picture.objects[:, ::-1]
    (height, width), (rows, cols) = objects.shape, np.nonzero(objects)
    row, col = rows[len(rows) // 2], cols[len(rows) // 2]
    about = {"to_name": "img", "original_width": width, "original_height": height}
    point = {
        **about,
        "from_name": "point",
        "type": "keypointlabels",
        "is_positive": True,
        "value": {
            "x": 100 * float(col) / width,
            "y": 100 * float(row) / height,
            "width": 0.5,
            "keypointlabels": ["elephant"],
        },
    }
    top, left = max(0, int(rows.min()) - 12), max(0, int(cols.min()) - 12)
    bottom, right = min(height, int(rows.max()) + 13), min(width, int(cols.max()) + 13)
    frame = {
        **about,
        "from_name": "frame",
        "type": "rectanglelabels",
        "value": {
            "x": 100 * left / width,
            "y": 100 * top / height,
            "width": 100 * (right - left) / width,
            "height": 100 * (bottom - top) / height,
            "rotation": 0,
            "rectanglelabels": ["elephant"],
        },
    }
    words = {**about, "from_name": "words", "type": "textarea", "value": {"text": ["elephant"]}}
    found = {}
    for kind, entry, times in (("point", point, 1), ("phrase", words, 1), ("box", frame, 2)):
        [region] = ask(client, GESTURES, image, entry)["result"]
        found[kind] = stored_mask(region)
        assert len(passes) == times, f"{kind}: the picture once, and the piece in a box once"
        assert iou(found[kind], objects) > 0.5, kind
        assert region["value"]["brushlabels"] == ["elephant"]
        assert 0 < region["score"] <= 1
    piece = passes[1][2:]
    assert passes[0] == WHOLE
    assert max(abs(piece[0] - (bottom - top)), abs(piece[1] - (right - left))) <= 1, "seen as a picture of its own"
    outside = found["box"].copy()
    outside[top : bottom + 1, left : right + 1] = False
    assert not outside.any()


def test_another_question_costs_no_network_not_even_after_a_restart(service, client, picture, passes):
    image = np.flipud(picture.image)
    first = ask(client, FORMS, image)
    assert passes == [WHOLE]
    ask(client, view(control("BrushLabels", "brush", labels='<Label value="car"/><Label value="elephant"/>')), image)
    assert passes == [WHOLE]
    again = build_service(service.settings)
    passes.clear()  # it ran a small picture to warm up
    assert ask(create_app(again).test_client(), FORMS, image) == first
    assert passes == []
    again.close()


def test_masks_follow_the_edges_unless_a_control_says_otherwise(client, picture):
    both = view(control("BrushLabels", "follows"), control("BrushLabels", "plain", 'refine="none"'))
    answered = ask(client, both, picture.image)
    follows, plain = (iou(drawn(answered, name), picture.objects) for name in ("follows", "plain"))
    assert follows > plain + 0.01


def test_each_part_is_a_region_of_its_own(client, picture):
    twins = np.concatenate([picture.image, picture.image[:, ::-1]], axis=1)
    config = view(control("BrushLabels", "parts", 'parts="separate"'), control("BrushLabels", "whole"))
    answered = ask(client, config, twins)
    parts, whole = [stored_mask(region) for region in regions(answered, "parts")], drawn(answered, "whole")
    assert len(parts) == cv2.connectedComponents(whole.astype(np.uint8))[0] - 1 >= 2
    np.testing.assert_array_equal(np.sum(parts, axis=0), whole)
    sizes = [int(part.sum()) for part in parts]
    assert sizes == sorted(sizes, reverse=True)


def test_the_page_shows_how_an_answer_came_about(client, picture, passes):
    image = np.rot90(picture.image, 2)
    body = {"picture": data_uri(png(image)), "labels": "elephant, dog", "stuff": ""}
    answer = client.post("/page/try", json=body)
    assert answer.status_code == 200
    assert passes == [WHOLE, WHOLE], "once for the answer, and once for what is not kept of it"
    assert "of 2 labels were found" in answer.text
    assert "data:image/webp" in answer.text


def test_a_deadline_between_two_windows_loses_no_work(monkeypatch):
    """The request is answered, the windows that are left are run all the same, and the next request needs none."""
    windows = Windows(short_px=None, window_px=48, stride_px=24)
    dinoiser = load_dinoiser(changed(TINY, way="windows", windows=windows))
    clock, let_go, read, passes = HandClock(), threading.Event(), Dinoiser.read, []

    def reading(self, images):
        passes.append(len(images))
        if len(passes) == 2:
            clock.now += 1000
            assert let_go.wait(10)
        return read(self, images)

    monkeypatch.setattr(Dinoiser, "read", reading)
    cache = FeatureCache(None, memory_bytes=10**7, disk_bytes=0)
    predictor = Predictor(dinoiser, FakeLoader(), PredictorOptions(), Metrics(), cache)
    asked, config = tasks("ok:48x150"), parse_label_config(CONFIG)
    assert predictor.predict(asked, config, deadline=Deadline.after(0.05, clock)) == [[]]
    assert len(passes) == 2
    let_go.set()
    predictor._networks.submit(lambda: None).result(10)
    predictor._pictures._keeping.submit(lambda: None).result(10)
    assert len(passes) == 6, "every 24 of 150 columns"
    [answered] = predictor.predict(asked, config, deadline=Deadline.never())
    assert answered["model_version"] == predictor.model_version(config)
    assert len(passes) == 6
    predictor.close()
