"""Which nouns stand in labels and templates, by a table."""

import pytest

from clipdiy.others.phrases import named_nouns, whole_phrases

WHOLE = {
    "a word": ("Dog", ("dog",)),
    "an article": ("a dog", ("dog",)),
    "an article that is part of a name": ("dog of the year", ("dog", "year")),
    "a template": ("a photo of a dog", ("dog",)),
    "what is photographed last": ("itap of a photo of my dog.", ("dog",)),
    "what kind of photo": ("a group photo of dogs", ("dogs",)),
    "a photo that is something else": ("a photo album of a trip", ("photo album", "trip")),
    "a photo that is meant": ("a photo", ("photo",)),
    "a photo beside a thing": ("a photo and a dog", ("photo", "dog")),
    "a photo in a list": ("a photo, a dog", ("photo", "dog")),
    "a part of something": ("cup of coffee", ("cup", "coffee")),
    "one or the other": ("cat or dog", ("cat", "dog")),
    "signs between": ("cat, dog; cow / sheep | pig", ("cat", "dog", "cow", "sheep", "pig")),
    "where it is": ("a cat on the sofa", ("cat",)),
    "where each of them is": ("a cat on the sofa and a dog in a car", ("cat", "dog")),
    "it begins with where": ("in the street", ("street",)),
    "a part that begins with where": ("a cat, in the street", ("cat", "street")),
    "nothing before a joint": (", photo of a dog", ("dog",)),
    "two joints": ("cat and of a dog", ("cat", "dog")),
    "twice the same": ("dog and Dog", ("dog",)),
    "hyphen and apostrophe": ("t-shirt and a dog's bone", ("t-shirt", "dog's bone")),
    "other letters": ("Käfer", ("käfer",)),
    "nothing": ("", ()),
    "only articles": ("the a", ()),
}


@pytest.mark.parametrize(("prompt", "phrases"), WHOLE.values(), ids=WHOLE)
def test_whole_phrases(prompt: str, phrases: tuple[str, ...]) -> None:
    assert whole_phrases(prompt) == phrases


KNOWN = {"dog", "hot dog", "truck", "fire truck", "coffee"}
NAMED = {
    "a compound that is a word": ("a red fire truck", ("fire truck",)),
    "one that is none": ("police dog", ("dog",)),
    "the longest": ("a hot dog", ("hot dog",)),
    "each part": ("dog and cup of coffee", ("dog", "coffee")),
    "each once": ("dog and a police dog", ("dog",)),
    "an unknown ending": ("dog house", ()),
    "nothing": ("", ()),
}


@pytest.mark.parametrize(("prompt", "nouns"), NAMED.values(), ids=NAMED)
def test_named_nouns(prompt: str, nouns: tuple[str, ...]) -> None:
    assert named_nouns(prompt, KNOWN.__contains__) == nouns
