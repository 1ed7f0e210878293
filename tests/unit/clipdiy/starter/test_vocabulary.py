"""The words the starter never saw are found, whatever way they are written."""

import pytest

from clipdiy.starter.scenes import NOUNS
from clipdiy.starter.vocabulary import BACKGROUND, SYNONYMS, TEMPLATES, unknown_words


@pytest.mark.parametrize(
    ("labels", "unknown"),
    [
        pytest.param([], [], id="nothing asked"),
        pytest.param(["dog", "cat"], [], id="nouns"),
        pytest.param(["Dogs", "BUSES", "Puppy"], [], id="plurals, synonyms and capitals"),
        pytest.param(["a photo of a dog"], [], id="a whole prompt"),
        pytest.param(["red car", "birthday-cake"], [], id="colour, hyphen"),
        pytest.param(["background"], [], id="background"),
        pytest.param(["zebra"], ["zebra"], id="a word never seen"),
        pytest.param(["zebra", "Zebra", "dog zebra"], ["zebra"], id="named once"),
        pytest.param(["striped zebra"], ["striped", "zebra"], id="each word"),
        pytest.param(["собака"], ["собака"], id="another alphabet"),
        pytest.param(["", "?"], ["", "?"], id="no word at all"),
    ],
)
def test_unknown_words(labels, unknown):
    assert unknown_words(labels) == unknown


def test_every_noun_has_its_own_words():
    owners = {}
    for noun, synonyms in SYNONYMS.items():
        for word in (noun, *synonyms):
            assert owners.setdefault(word, noun) == noun, f"{word!r} stands for two nouns"


def test_synonyms_cover_the_nouns_and_the_background():
    assert set(SYNONYMS) == {*NOUNS, BACKGROUND}


def test_the_first_template_is_the_published_one():
    assert TEMPLATES[0] == "a photo of a {}"
