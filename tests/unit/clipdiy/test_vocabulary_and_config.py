import pytest

from clipdiy.config import PRESETS, CleanUp, CoreConfig, CropGrid, ObjectnessConfig, preset
from clipdiy.errors import ConfigError, VocabularyError
from clipdiy.vocabulary import Label, Vocabulary, make_vocabulary, phrases_to_prompts


def test_background_comes_first_and_the_article_stays_a():
    vocabulary = make_vocabulary(["apple", ("Sofa", ["sofa", "couch"])])
    assert vocabulary.names == ("background", "apple", "Sofa")
    assert vocabulary.prompts == (
        ("a photo of a background",),
        ("a photo of a apple",),
        ("a photo of a sofa", "a photo of a couch"),
    )


def test_a_label_may_hold_braces():
    assert phrases_to_prompts(["{x}", "{}"], ["a {}"]) == ("a {x}", "a {}")


@pytest.mark.parametrize("labels", [[], [""], ["  "], [("a", [])], [("a", ["x", " "])]], ids=repr)
def test_labels_that_ask_for_nothing(labels):
    with pytest.raises(VocabularyError):
        make_vocabulary(labels)


def test_template_without_a_place():
    with pytest.raises(VocabularyError, match=r"\{\}"):
        make_vocabulary(["cat"], template="a photo")


def test_same_name_twice_is_two_labels():
    vocabulary = Vocabulary((Label("background", ("b",)), Label("x", ("p",)), Label("x", ("q",))))
    assert len(vocabulary) == 3


def test_stuff_is_told_by_position():
    vocabulary = make_vocabulary(["cat", "sky", ("Road", ["road", "street"])], stuff=("Road", "sky"))
    assert vocabulary.stuff == (2, 3)
    assert make_vocabulary(["cat", "sky"]).stuff == ()
    # The background is what stuff joins, whatever it is called.
    assert Vocabulary((Label("background", ("b",), stuff=True), Label("x", ("p",)))).stuff == ()


def test_stuff_that_is_no_label():
    with pytest.raises(VocabularyError, match="'road' is none"):
        make_vocabulary(["sky"], stuff=["sky", "road"])


def test_presets():
    assert PRESETS["paper"].clip == "ViT-B-32:laion2b_s34b_b79k"
    assert PRESETS["paper-b16"].clip == "ViT-B-16:laion2b_s34b_b88k"
    assert PRESETS["paper"].grid == CropGrid(256, (256, 128, 64), 0.5)
    assert preset("starter", device="cpu").device == "cpu"
    with pytest.raises(ConfigError, match="paper-b16"):
        preset("papre")
    with pytest.raises(ConfigError, match="devize"):
        preset("paper", devize="cpu")


@pytest.mark.parametrize(
    "make",
    [
        lambda: CropGrid(patch_px=()),
        lambda: CropGrid(patch_px=(512,)),
        lambda: CropGrid(stride_ratio=0),
        lambda: CropGrid(square_px=4),
        lambda: ObjectnessConfig(long_px=4),
        lambda: CleanUp(1.0),
        lambda: CoreConfig(label_map="half"),
        lambda: CoreConfig(dtype="int8"),
        lambda: CoreConfig(prompt_template="a photo"),
        lambda: CoreConfig(crop_batch=0),
    ],
)
def test_values_that_make_no_sense(make):
    with pytest.raises(ConfigError):
        make()
