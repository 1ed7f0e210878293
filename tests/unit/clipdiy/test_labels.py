"""What a person means who writes labels, after `--labels` for example."""

import pytest

from clipdiy.errors import VocabularyError
from clipdiy.labels import parse_labels, parse_vocabulary


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        pytest.param("cat", [("cat", ("cat",))], id="one"),
        pytest.param("cat, dog", [("cat", ("cat",)), ("dog", ("dog",))], id="two"),
        pytest.param("cat,dog,", [("cat", ("cat",)), ("dog", ("dog",))], id="comma at the end"),
        pytest.param("cat\ndog\n", [("cat", ("cat",)), ("dog", ("dog",))], id="lines"),
        pytest.param('cat, "bread, sliced"', [("cat", ("cat",)), ("bread, sliced", ("bread, sliced",))], id="comma"),
        pytest.param('"a ""big"" cat"', [('a "big" cat', ('a "big" cat',))], id="quotes inside"),
        pytest.param("pet=dog|hamster", [("pet", ("dog", "hamster"))], id="phrases"),
        pytest.param(" pet = dog | hamster ", [("pet", ("dog", "hamster"))], id="spaces"),
        pytest.param('"food=bread, sliced|toast"', [("food", ("bread, sliced", "toast"))], id="comma in a phrase"),
        pytest.param("a=b=c", [("a", ("b=c",))], id="second equals sign"),
        pytest.param("cat, cat", [("cat", ("cat",)), ("cat", ("cat",))], id="one name twice"),
        pytest.param("Kätzchen=kitten", [("Kätzchen", ("kitten",))], id="not ASCII"),
    ],
)
def test_labels(text, labels):
    assert parse_labels(text) == labels


@pytest.mark.parametrize("text", ["", "  ", ",", "cat=", "=cat", "cat=dog|", '"cat', '"cat" dog'])
def test_labels_that_cannot_be_meant(text):
    with pytest.raises(VocabularyError, match="label"):
        parse_labels(text)


def test_vocabulary_puts_phrases_into_the_template():
    vocabulary = parse_vocabulary("cat, pet=dog|hamster", "a {} here")
    assert vocabulary.names == ("background", "cat", "pet")
    assert vocabulary.prompts == (("a background here",), ("a cat here",), ("a dog here", "a hamster here"))


@pytest.mark.parametrize(
    ("text", "prompts"),
    [("cat, Background", ("background",)), ("background=wall|floor, cat", ("wall", "floor")), ("cat", ("background",))],
)
def test_background_is_position_0_however_it_is_written(text, prompts):
    vocabulary = parse_vocabulary(text, "{}")
    assert vocabulary.names == ("background", "cat")
    assert vocabulary.prompts[0] == prompts


def test_stuff_is_named_as_labels_are():
    vocabulary = parse_vocabulary('cat, "sky, blue", road=street', "{}", '"sky, blue", road')
    assert [label.stuff for label in vocabulary.labels] == [False, False, True, True]
    with pytest.raises(VocabularyError, match="'grass' is none"):
        parse_vocabulary("cat, sky", "{}", "sky, grass")


def test_background_alone_is_no_vocabulary():
    with pytest.raises(VocabularyError):
        parse_vocabulary("background")


@pytest.mark.parametrize("name", ["apple", "zebra"])
def test_only_the_background_is_the_background(name):
    vocabulary = parse_vocabulary(f"{name}, background=wall")
    assert vocabulary.names == ("background", name)
    assert vocabulary.prompts == (("a photo of a wall",), (f"a photo of a {name}",))


@pytest.mark.parametrize(
    ("stuff", "which"), [("usual", (2, 4)), (" Usual ", (2, 4)), ("none", ()), (None, ()), ("cat", (1,))]
)
def test_stuff_by_words(stuff, which):
    text = "cat, sky, wall clock, pavement=sidewalk|road, floor=carpet|floor, background=wall"
    assert parse_vocabulary(text, ("a map of a {}",), stuff).stuff == which
