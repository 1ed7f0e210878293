"""What is asked of a picture for labels that a person wrote, and what is shown of the answer."""

import base64
import io

import numpy as np
import pytest
import torch
from learned import made_up
from PIL import Image

from backend.errors import RequestError
from backend.labeling.controls import Others
from backend.labeling.reader import parse_label_config
from backend.labeling.taught import Taught
from backend.predicting.trying import Tried
from backend.settings import Settings
from backend.web.page.trial import MAX_LABELS, config_as, config_for, show
from clipdiy.draw import OVERLAY_LONG_PX, palette
from clipdiy.explanation import ExplainedRegions, ExplainedStep, Explanation
from clipdiy.learning.calibration import Calibration
from clipdiy.others.choice import Choice, LeftOut
from clipdiy.others.kin import Kinship
from clipdiy.photo import Photo
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import Label, make_vocabulary

SETTINGS = Settings(_env_file=None, preset="starter")


def test_labels_become_a_control_as_a_project_without_wishes_has_it():
    [control] = config_for("cat, pet=dog|hamster, background=wall", SETTINGS).controls
    assert [label.value for label in control.drawn] == ["cat", "pet"]
    [template] = {prompt.replace("dog", "{}") for prompt in control.drawn[1].prompts[:1]}
    assert control.drawn[1].prompts == (template.format("dog"), template.format("hamster"))
    assert control.background == (template.format("wall"),)
    assert (control.refine, control.others) == (True, SETTINGS.chosen_others)
    assert control.others is not None


def test_some_labels_are_stuff():
    [control] = config_for("cat, sky, road=asphalt", SETTINGS, "road, sky").controls
    assert [label.is_stuff for label in control.drawn] == [False, True, True]
    assert control.vocabulary.stuff == (2, 3)
    [control] = config_for("cat, sky", SETTINGS, " ").controls
    assert control.vocabulary.stuff == ()
    with pytest.raises(RequestError, match="grass"):
        config_for("cat, sky", SETTINGS, "grass")


def test_stuff_by_words_where_none_is_written_down():
    usual = SETTINGS.model_copy(update={"stuff": "usual"})
    for written, stuff in (("", (2,)), ("cat", (1,)), ("none", ())):
        [control] = config_for("cat, sky", usual, written).controls
        assert control.vocabulary.stuff == stuff
    [control] = config_as(taught_project(PROJECT.replace("Dog", "Sky")), "Sky, road", usual).controls
    assert [label.is_stuff for label in control.drawn] == [False, True], "the project has said that its sky is none"


def test_stuff_beside_a_project():
    config = PROJECT.replace('<Label value="Dog"/>', '<Label value="Dog" stuff="true"/>')
    [control] = config_as(taught_project(config), "Dog, Cat, sky", SETTINGS, "sky, Cat").controls
    assert [label.is_stuff for label in control.drawn] == [True, True, True], "what the project says of its own stays"
    with pytest.raises(RequestError, match="write labels down"):
        config_as(taught_project(), "", SETTINGS, "Dog")


@pytest.mark.parametrize(
    ("settings", "refine", "has_others"),
    [({"refine": "asked"}, False, True), ({"refine": "never"}, False, True), ({"others": "off"}, True, False)],
)
def test_the_settings_hold(settings, refine, has_others):
    [control] = config_for("cat", Settings(_env_file=None, preset="starter", **settings)).controls
    assert (control.refine, control.others is not None) == (refine, has_others)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("", "no label"),
        ('"cat', "quotes"),
        ("cat=", "incomplete"),
        ("background", "at least one label"),
        (",".join(f"label {i}" for i in range(MAX_LABELS + 1)), "at most 100 labels, got 101"),
        ("x" * 301, "at most 300 characters"),
        ("cat=" + "x" * 301, "at most 300 characters"),
        ("cat=" + "|".join("ab" for _ in range(40_000)), "prompts"),
    ],
)
def test_labels_that_cannot_be_asked_for(labels, words):
    with pytest.raises(RequestError, match=words):
        config_for(labels, SETTINGS)


def tried(size_hw=(30, 40), choice=None, taken=True):
    vocabulary = make_vocabulary(["cat", "dog", "<b>cow</b>"])
    if choice:
        vocabulary = vocabulary.with_others(choice.competing)
    label_map = np.zeros(size_hw, np.uint16)
    label_map[: size_hw[0] // 3] = 2
    label_map[-1, -1] = 1
    area = np.bincount(label_map.ravel(), minlength=4) / label_map.size
    segmentation = Segmentation(label_map, area, np.array([0.9, 0.3, 0.7, 0], np.float32), 0.5)
    regions = torch.zeros(10, 10, dtype=torch.int16)
    regions[:3], regions[9, 0] = 2, 1
    pictures = (ExplainedRegions("taken by others", regions, ("cup", "tree")),) if taken else ()
    steps = (ExplainedStep("mean", "Eq. 2", torch.zeros(4, 8, 8), "similarity"),)
    pixels = np.full((*(min(side, 64) for side in size_hw), 3), 120, np.uint8)
    explanation = Explanation(pictures, steps, torch.zeros(4))
    return Tried(Photo(pixels, size_hw), vocabulary, segmentation, explanation, choice, ("a doubt",), 0.4)


def opened(drawn):
    kind, _, content = drawn.uri.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert kind == f"data:image/{image.format.lower()}"
    assert image.size == (drawn.width, drawn.height)
    return image


PROJECT = """<View><Image name="img" value="$image"/>
  <Choices name="kind" toName="img"><Choice value="Cat"/></Choices>
  <BrushLabels name="brush" toName="img" others="cup, plate">
    <Label value="Cat" predicted_values="tabby, kitten"/><Label value="Dog"/>
  </BrushLabels></View>"""


MANY = "".join(f'<Label value="l{i}"/>' for i in range(99))


def taught_project(config=PROJECT):
    read = parse_label_config(config)
    control = next(one for one in read.controls if one.kind == "brushlabels")
    return read.taught({"brush": Taught(3, made_up(control.vocabulary))})


def test_a_projects_own_labels_are_tried_as_it_has_learned_them():
    [control] = config_as(taught_project(), " ", SETTINGS).controls
    assert [label.value for label in control.drawn] == ["Cat", "Dog"]
    assert control.taught.number == 3
    assert control.others == Others(("cup", "plate"))


def test_among_labels_that_are_written_down_those_of_the_project_are_known():
    [control] = config_as(taught_project(), "Dog, Cat, cow, kitten=Cat", SETTINGS).controls
    project = {label.value: label for label in taught_project().controls[-1].drawn}
    assert [label.value for label in control.drawn] == ["Dog", "Cat", "cow", "kitten"]
    assert control.drawn[0] == project["Dog"]
    assert control.drawn[1] == project["Cat"], "with the phrases that it has there"
    assert control.drawn[3].prompts != project["Cat"].prompts
    assert control.taught.learned.examples_of(control.vocabulary) == (0, 1, 1, 0, 0)
    assert control.others == Others(("cup", "plate"))
    [again] = config_as(taught_project(), "Cat=cat", SETTINGS).controls
    assert again.drawn[0].prompts != project["Cat"].prompts, "phrases that were written down count"


@pytest.mark.parametrize(
    ("project", "words"),
    [
        (None, "load the page again"),
        (parse_label_config(PROJECT.replace("<BrushLabels", '<BrushLabels learn="false"')), "load the page again"),
        (
            parse_label_config(PROJECT.replace("<Label ", MANY + "<Label ", 1)),
            "more than 100 labels",
        ),
    ],
)
def test_projects_that_cannot_be_tried(project, words):
    with pytest.raises(RequestError, match=words):
        config_as(project, "", SETTINGS)


def test_who_has_learned_is_said():
    assert (show(tried()).version, show(tried()).is_calibrated) == (0, False)
    trial = show(tried(), Taught(4, calibration=Calibration(((0.0, 0.1), (1.0, 0.9)))))
    assert (trial.version, trial.is_calibrated) == (4, True)
    assert trial.taken, "calibrated only: the words still decide"
    assert show(tried(), taught_project().controls[-1].taught).taken == ()


def test_what_is_shown():
    trial = show(tried())
    colours = ["#" + bytes(colour).hex() for colour in palette(4)]
    assert [(found.name, found.colour) for found in trial.found] == [("dog", colours[2]), ("cat", colours[1])]
    assert trial.found[0].area == pytest.approx(1 / 3)
    assert trial.found[0].score == pytest.approx(0.7)
    assert trial.missing == ("<b>cow</b>",)
    assert trial.taken == (("tree", 0.3), ("cup", pytest.approx(0.01)))
    assert (trial.competing, trial.left_out) == (None, ())
    assert (trial.doubts, trial.seconds) == (("a doubt",), 0.4)
    picture, masks, panel = opened(trial.picture), opened(trial.masks), opened(trial.panel)
    assert picture.size == masks.size
    above, below = ((0, 0), (0, picture.height - 1))
    assert masks.getpixel(above) != pytest.approx(picture.getpixel(above), abs=20), "the mask shows"
    assert masks.getpixel(below) == pytest.approx(picture.getpixel(below), abs=3)
    assert panel.width > picture.width / 2


def test_who_competed_and_who_was_left_out_and_why():
    left_out = (LeftOut("kitten", "cat", Kinship.KIND), LeftOut("puppy", "dog", Kinship.CLOSE, 0.9))
    trial = show(tried(choice=Choice((Label("cup", ("cup",)), Label("tree", ("tree",))), left_out), taken=False))
    assert trial.competing == ("cup", "tree")
    assert trial.left_out == (
        ("cat", ("kitten is a kind of cat",)),
        ("dog", ("puppy is to CLIP nearly the same as dog (cosine 0.900)",)),
    )
    assert trial.taken == ()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 3000), (4000, 2)])
def test_no_more_pixels_are_drawn_than_are_seen(size_hw):
    trial = show(tried(size_hw))
    assert max(opened(trial.masks).size) <= OVERLAY_LONG_PX[1]
    assert trial.found[0].name == "dog" if size_hw[0] > 2 else trial.found
