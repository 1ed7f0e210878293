"""Labels and their prompts."""

import pytest

from clipdiy.errors import VocabularyError
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


def test_several_templates_make_several_prompts():
    vocabulary = make_vocabulary([("pet", ["cat", "dog"])], template=("a {}", "the {}"), background=("wall",))
    assert vocabulary.prompts == (("a wall", "the wall"), ("a cat", "the cat", "a dog", "the dog"))


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
