"""Pointing, drawing and typing: the right mask under the right label, and the networks run once a picture."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fakes import FakeLoader
from label_studio_sdk.label_interface.interface import LabelInterface
from learned import made_up

from backend.errors import RequestError
from backend.images.host import LabelStudioHost
from backend.labeling.reader import parse_label_config
from backend.labeling.taught import Taught
from backend.metrics import Metrics
from backend.outputs.brush import decode_mask
from backend.predicting.predictor import Predictor, PredictorOptions
from clipdiy.config import CoreConfig
from clipdiy.features import ImageFeatures
from clipdiy.photo import Photo
from clipdiy.segmentation import Segmentation

CAT, DOG = 10, 20
WORDS = {"cat": CAT, "kitten": CAT, "dog": DOG, "red ellipse": DOG}
HEIGHT, WIDTH = 40, 60


def scene() -> np.ndarray:
    """Two cats above, a dog below."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[4:14, 6:18] = CAT
    pixels[4:14, 36:48] = CAT
    pixels[24:36, 12:48] = DOG
    return pixels


class SceneCore:
    """Sees colours: a class is where its word's colour is. A class alone is wherever anything is, as CLIP would say."""

    name = "scene"
    identity = "scene"
    encoder_identity = "scene"
    config = CoreConfig()

    def __init__(self) -> None:
        self.encoded: list[tuple[int, int]] = []
        self.pieces: list[tuple[int, int]] = []
        self.asked: list[tuple[str, ...]] = []
        self.stuff: list[tuple[str, ...]] = []
        self.learned: list[object] = []

    def for_pieces(self):
        return PieceCore(self)

    def doubts(self, vocabulary):
        return ()

    def other_prompts(self, words=None):
        return ()

    def embed_prompts(self, prompts):
        """Every word is known."""

    def encode(self, photos):
        self.encoded += [photo.size_hw for photo in photos]
        return [
            ImageFeatures((), None, photo.size_hw, self.encoder_identity, np.ascontiguousarray(photo.pixels).tobytes())
            for photo in photos
        ]

    def segment(self, features, vocabulary, options):
        self.asked.append(vocabulary.names[1:])
        self.learned.append(options.learned)
        self.stuff.append(tuple(vocabulary.names[position] for position in vocabulary.stuff))
        pixels = np.frombuffer(features.picture, np.uint8).reshape(*features.size_hw, 3)[..., 0]
        label_map = np.zeros(features.size_hw, np.uint16)
        if len(vocabulary) == 2:
            label_map[pixels > 0] = 1
        for position, prompts in reversed([*enumerate(vocabulary.prompts[1:], 1)]):  # of equals, the earlier wins
            for prompt in prompts:
                label_map[pixels == WORDS.get(prompt.removeprefix("a photo of a ").lower(), 255)] = position
        area = np.bincount(label_map.ravel(), minlength=len(vocabulary)) / label_map.size
        return Segmentation(label_map, area, np.where(area > 0, 0.7, 0).astype(np.float32), 0.7)


class PieceCore(SceneCore):
    """The same for pieces: with an identity of its own, noting what it does in the other's lists."""

    encoder_identity = "scene, pieces"

    def __init__(self, whole: SceneCore) -> None:
        super().__init__()
        self.encoded = whole.pieces
        self.asked = whole.asked
        self.stuff = whole.stuff
        self.learned = whole.learned


class SceneLoader(FakeLoader):
    def decode(self, data, value, *, window=None, deadline=None):
        return Photo.from_array(np.ascontiguousarray(scene()[window or ...]))


CONFIG = """<View><Image name="img" value="$image"/>
  <BrushLabels name="brush" toName="img"><Label value="Cat"/><Label value="Dog" threshold="1"/><Label value="Owl"/>
  </BrushLabels>
  <KeyPointLabels name="kp" toName="img" smart="true"><Label value="Cat"/><Label value="Dog"/></KeyPointLabels>
  <RectangleLabels name="box" toName="img" smart="true"><Label value="Cat"/><Label value="Dog"/></RectangleLabels>
  <TextArea name="words" toName="img" smart="true"/></View>"""
TASK = {"id": 3, "data": {"image": "ok"}}


@pytest.fixture
def core():
    return SceneCore()


@pytest.fixture
def predictor(core):
    loader = SceneLoader()
    made = Predictor(core, loader, PredictorOptions(), Metrics())
    made.loader = loader
    yield made
    made.close()


def keypoint(row: float, col: float, label: str = "Cat", is_positive: bool = True) -> dict[str, Any]:
    value = {"x": col / WIDTH * 100, "y": row / HEIGHT * 100, "width": 0.2, "keypointlabels": [label]}
    return {"type": "keypointlabels", "to_name": "img", "from_name": "kp", "value": value, "is_positive": is_positive}


def rectangle(top: float, left: float, bottom: float, right: float, label: str = "Cat") -> dict[str, Any]:
    value = {
        "x": left / WIDTH * 100,
        "y": top / HEIGHT * 100,
        "width": (right - left) / WIDTH * 100,
        "height": (bottom - top) / HEIGHT * 100,
        "rotation": 0,
        "rectanglelabels": [label],
    }
    return {"type": "rectanglelabels", "to_name": "img", "from_name": "box", "value": value}


def words(*texts: str) -> dict[str, Any]:
    return {"type": "textarea", "to_name": "img", "from_name": "words", "value": {"text": [*texts]}}


def ask(predictor, *entries, xml=CONFIG, task=TASK, host=None):
    answer = predictor.interact(task, parse_label_config(xml), {"result": [*entries]}, host=host)
    labelled = [
        region for region in answer["result"] if "labels" not in region["type"] or region["type"] in region["value"]
    ]
    assert LabelInterface(xml).validate_prediction({**answer, "result": labelled}, return_errors=True) == []
    return answer["result"]


def mask(region) -> np.ndarray:
    return decode_mask(region["value"]["rle"], (HEIGHT, WIDTH)) > 0


def painted(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[top:bottom, left:right] = True
    return expected


LEFT_CAT, RIGHT_CAT, THE_DOG = painted(4, 6, 14, 18), painted(4, 36, 14, 48), painted(24, 12, 36, 48)

# --- what was learned -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ["a point", "a box", "a phrase"])
def test_gestures_name_as_corrections_taught(predictor, core, entry):
    gesture = {"a point": keypoint(8, 10), "a box": rectangle(0, 0, 20, 30), "a phrase": words("dog")}[entry]
    config = parse_label_config(CONFIG)
    vocabulary = config.controls[0].vocabulary
    fits = [made_up(vocabulary, encoder="scene", seed=seed) for seed in (0, 1)]
    for fit in fits:
        taught = config.taught({"brush": Taught(1, fit)})
        assert predictor.interact(TASK, taught, {"result": [gesture]}, host=None)["result"]
    assert core.learned == fits, "each asked for, and a newer one not answered from what the older had said"


# --- points -----------------------------------------------------------------------------------------------------------


def test_a_point_means_the_connected_part_under_it(predictor):
    [region] = ask(predictor, keypoint(8, 10))
    np.testing.assert_array_equal(mask(region), LEFT_CAT)
    assert (region["from_name"], region["type"], region["value"]["brushlabels"]) == ("brush", "brushlabels", ["Cat"])


def test_the_label_is_the_one_that_was_chosen_whatever_is_seen_there(predictor):
    [region] = ask(predictor, keypoint(8, 10, "Dog"))
    np.testing.assert_array_equal(mask(region), LEFT_CAT)
    assert region["value"]["brushlabels"] == ["Dog"], "also under the threshold of the label: a person asked for it"


def test_several_points_combine_and_a_negative_one_removes_its_part(predictor):
    both = keypoint(8, 10), keypoint(8, 40)
    [region] = ask(predictor, *both)
    np.testing.assert_array_equal(mask(region), LEFT_CAT | RIGHT_CAT)
    [region] = ask(predictor, *both, keypoint(10, 42, is_positive=False))
    np.testing.assert_array_equal(mask(region), LEFT_CAT)


@pytest.mark.parametrize(
    "entries",
    [[keypoint(19, 30)], [keypoint(8, 10, is_positive=False)], [keypoint(8, 10), keypoint(8, 10, "Cat", False)]],
)
def test_a_point_at_nothing_is_nothing(predictor, entries):
    assert ask(predictor, *entries) == []


# --- boxes ------------------------------------------------------------------------------------------------------------


def test_a_box_is_encoded_as_a_picture_of_its_own(predictor, core):
    [region] = ask(predictor, rectangle(2, 30, 30, 56))
    np.testing.assert_array_equal(mask(region), RIGHT_CAT)
    assert region["value"]["brushlabels"] == ["Cat"]
    assert (core.encoded, core.pieces) == ([(HEIGHT, WIDTH)], [(28, 26)])
    assert core.asked == [("Cat", "Dog", "Owl")], "against the other labels"


def test_a_label_that_loses_everywhere_is_asked_for_alone(predictor, core):
    [region] = ask(predictor, rectangle(20, 0, 40, 60, "Owl"))
    np.testing.assert_array_equal(mask(region), THE_DOG)
    assert region["value"]["brushlabels"] == ["Owl"]
    assert core.asked == [("Cat", "Dog", "Owl"), ("Owl",)]


def test_a_box_with_nothing_in_it(predictor):
    assert ask(predictor, rectangle(15, 0, 22, 60)) == []
    assert ask(predictor, rectangle(-20, -20, -10, -10)) == []


# --- phrases ----------------------------------------------------------------------------------------------------------


def test_a_phrase_of_no_label_is_left_to_the_label_that_is_selected(predictor):
    [region] = ask(predictor, words("red ellipse"))
    np.testing.assert_array_equal(mask(region), THE_DOG)
    assert region["type"] == "brushlabels"
    assert "brushlabels" not in region["value"], "Label Studio fills in the one that is chosen on the screen"


NAMED = {
    "by an arrow": ("red ellipse -> Owl", "Owl"),
    "by an arrow, in small letters": ("red ellipse -> owl", "Owl"),
    "by itself": ("dog", "Dog"),
}


@pytest.mark.parametrize(("text", "label"), NAMED.values(), ids=NAMED)
def test_a_phrase_that_names_its_label(predictor, text, label):
    [region] = ask(predictor, words("earlier", text))
    np.testing.assert_array_equal(mask(region), THE_DOG)
    assert region["value"]["brushlabels"] == [label]


def test_the_only_label_there_is(predictor):
    one = CONFIG.replace('<Label value="Dog" threshold="1"/><Label value="Owl"/>', "")
    [region] = ask(predictor, words("red ellipse"), xml=one)
    assert region["value"]["brushlabels"] == ["Cat"]


def test_a_label_does_not_compete_with_a_phrase_that_narrows_it_down(predictor, core):
    ask(predictor, words("a Grey cat -> Owl"))
    assert core.asked[0] == ("a Grey cat", "Dog")


def test_words_for_stuff_are_stuff(predictor, core):
    sky = CONFIG.replace('<Label value="Owl"/>', '<Label value="Owl" stuff="true"/>')
    ask(predictor, words("red ellipse -> Owl, kitten -> Cat"), xml=sky)
    # The label's phrase, then the other that was typed, each beside the labels that compete.
    assert core.stuff == [("red ellipse",), ("Owl", "red ellipse")]


@pytest.mark.parametrize(("said", "stuff"), [("usual", ("blue sky",)), ("none", ())])
def test_words_that_name_no_label_are_stuff_by_themselves(predictor, core, said, stuff):
    ask(predictor, words("blue sky"), xml=CONFIG.replace('name="brush"', f'name="brush" stuff="{said}"'))
    assert core.stuff[0] == stuff


@pytest.mark.parametrize("gesture", [keypoint(30, 20, "Owl"), rectangle(20, 0, 40, 60, "Owl")], ids=["point", "box"])
def test_stuff_that_is_pointed_at_is_stuff_also_alone(predictor, core, gesture):
    ask(predictor, gesture, xml=CONFIG.replace('<Label value="Owl"/>', '<Label value="Owl" stuff="true"/>'))
    assert core.stuff
    assert set(core.stuff) == {("Owl",)}


def test_several_phrases_give_several_masks(predictor):
    dog, cats = ask(predictor, words("red ellipse -> Dog, kitten -> Cat"))
    np.testing.assert_array_equal(mask(dog), THE_DOG)
    np.testing.assert_array_equal(mask(cats), LEFT_CAT | RIGHT_CAT)
    assert [region["value"]["brushlabels"] for region in (dog, cats)] == [["Dog"], ["Cat"]]


# --- where the answer goes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "regions"), [("BitmaskLabels", 1), ("PolygonLabels", 2), ("RectangleLabels", 2)], ids=lambda v: str(v)
)
def test_the_answer_has_the_form_of_the_control(predictor, tag, regions):
    found = ask(predictor, words("cat"), xml=CONFIG.replace("BrushLabels", tag))
    assert [region["type"] for region in found] == [tag.lower()] * regions


def test_a_shape_whose_labels_stand_elsewhere(predictor):
    xml = """<View><Image name="img" value="$image"/><Labels name="l" toName="img"><Label value="Cat"/>
        <Label value="Dog"/></Labels><Brush name="brush" toName="img"/></View>"""
    drawn, named = ask(predictor, words("cat"), xml=xml)
    assert (drawn["type"], named["value"]["labels"], drawn["id"]) == ("brush", ["Cat"], named["id"])
    [drawn] = ask(predictor, words("red ellipse"), xml=xml)
    assert drawn["type"] == "brush"


def test_a_page_of_several(predictor, core):
    xml = CONFIG.replace('value="$image"', 'valueList="$pages"')
    task = {"id": 3, "data": {"pages": ["ok", "ok:8x8"]}}
    [region] = ask(predictor, {**keypoint(8, 10), "item_index": 1}, xml=xml, task=task)
    assert region["item_index"] == 1
    assert [value for value, _, _ in predictor.loader.seen] == ["ok:8x8"]
    assert ask(predictor, {**keypoint(8, 10), "item_index": 2}, xml=xml, task=task) == []


def test_labels_that_stand_in_the_task(predictor):
    xml = '<View><Image name="img" value="$image"/><BrushLabels name="brush" toName="img" value="$labels"/></View>'
    task = {"id": 3, "data": {"image": "ok", "labels": ["Cat"]}}
    [region] = ask(predictor, keypoint(8, 10), xml=xml, task=task)
    assert region["value"]["brushlabels"] == ["Cat"]


def test_every_answer_has_new_ids(predictor):
    ids = [ask(predictor, keypoint(8, 10))[0]["id"] for _ in range(3)]
    assert len(set(ids)) == 3, "a suggestion is never taken for a region that is there already"


def test_another_image_of_the_config(predictor):
    assert ask(predictor, {**keypoint(8, 10), "to_name": "other"}) == []


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_networks_run_once_for_a_picture(predictor, core):
    gestures = [keypoint(8, 10), keypoint(30, 20, "Dog"), words("kitten"), rectangle(2, 30, 30, 56)]
    for entry in (*gestures, *gestures):
        ask(predictor, entry)
    assert core.encoded == [(HEIGHT, WIDTH)], "once the picture"
    assert core.pieces == [(28, 26)], "once the box"
    assert len(core.asked) == 3, "the same question is answered from memory"
    assert len(predictor.loader.seen) == 2, "the file of the picture is fetched again only for the first box"
    ask(predictor, rectangle(2, 30, 30, 56, "Dog"))
    assert len(core.pieces) == 1, "another label for the same box"


def test_segmentations_are_kept_within_a_limit(monkeypatch, core):
    """One of 100 megapixels takes 200 MB: eight of them would be kept for good."""
    size = HEIGHT * WIDTH * 2
    monkeypatch.setattr("backend.interactive.interactor.SEGMENTATION_BYTES", size * 2)
    predictor = Predictor(core, SceneLoader(), PredictorOptions(), Metrics())
    for entry in (words("kitten"), words("dog"), words("red ellipse"), words("dog")):
        ask(predictor, entry)
    assert len(core.asked) == 3
    ask(predictor, words("kitten"))
    assert len(core.asked) == 4, "there was room for two"
    predictor.close()


def test_large_pictures_are_worked_on_one_after_the_other(monkeypatch, core):
    monkeypatch.setattr("backend.interactive.interactor.WORKING_PX", HEIGHT * WIDTH)
    predictor = Predictor(core, SceneLoader(), PredictorOptions(), Metrics())
    entered, may_go_on = threading.Event(), threading.Event()
    segment = core.segment

    def slow(*question, **options):
        entered.set()
        assert may_go_on.wait(10)
        return segment(*question, **options)

    monkeypatch.setattr(core, "segment", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, predictor, keypoint(8, 10))
        assert entered.wait(10)
        entered.clear()
        second = pool.submit(ask, predictor, keypoint(8, 40))
        assert not entered.wait(0.1), "its pixels wait"
        may_go_on.set()
        np.testing.assert_array_equal(mask(first.result(10)[0]), LEFT_CAT)
        np.testing.assert_array_equal(mask(second.result(10)[0]), RIGHT_CAT)
    predictor.close()


def test_the_features_are_those_of_the_prediction(core):
    from backend.predicting.feature_cache import FeatureCache

    cache = FeatureCache(None, memory_bytes=10**6, disk_bytes=0)
    predictor = Predictor(core, SceneLoader(), PredictorOptions(), Metrics(), cache)
    predictor.predict([TASK], parse_label_config(CONFIG))
    ask(predictor, keypoint(8, 10))
    predictor.close()
    assert core.encoded == [(HEIGHT, WIDTH)]


def test_what_one_host_loaded_is_not_shown_to_another(predictor):
    for host in (LabelStudioHost("http://a", "1"), LabelStudioHost("http://b", "2"), LabelStudioHost("http://a", "1")):
        ask(predictor, keypoint(8, 10), host=host)
    assert [host.url for _, _, host in predictor.loader.seen] == ["http://a", "http://b"]


def test_a_picture_is_forgotten_after_a_while(predictor, core, monkeypatch):
    monkeypatch.setattr("backend.interactive.interactor.REMEMBERED_S", -1.0)
    ask(predictor, keypoint(8, 10))
    ask(predictor, keypoint(8, 10))
    assert len(predictor.loader.seen) == 2


def test_a_failure_is_an_empty_answer_and_logged(predictor, caplog):
    broken = {"id": 9, "data": {"image": "fail:timeout"}}
    assert ask(predictor, keypoint(8, 10), task=broken) == []
    assert ask(predictor, keypoint(8, 10), task={"id": 8, "data": {}}) == []
    assert "task 9, interactive: timeout" in caplog.text
    assert "task 8, interactive: missing-data" in caplog.text


def test_a_context_of_something_else(predictor):
    config = parse_label_config(CONFIG)
    assert predictor.interact(TASK, config, {"result": []})["result"] == []
    with pytest.raises(RequestError):
        predictor.interact(TASK, config, "click")


def test_a_gesture_neither_asks_others_nor_waits_for_their_words(predictor, core):
    """A person has said that it is there."""
    embedded = []
    core.embed_prompts = embedded.extend
    core.other_prompts = lambda words=None: ("a photo of a bowl",)
    core.choose_others = lambda *_: pytest.fail("others were asked")
    config = parse_label_config(CONFIG.replace('name="brush"', 'name="brush" others="bowl"'))
    assert predictor.interact(TASK, config, {"result": [keypoint(8, 10)]})["result"]
    assert embedded
    assert "a photo of a bowl" not in embedded
