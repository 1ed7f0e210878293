"""Words that are taken for stuff by what they mean."""

import pytest

from clipdiy.usual_stuff import USUAL_STUFF, is_usual_stuff


@pytest.mark.parametrize(
    "phrase",
    [
        *("sky", "Sky", " GRASS ", "roads", "beaches", "blue skies", "asphalt road", "brick wall", "wooden floors"),
        *("parking lots", "body of water", "stretches of sand", "sky in the evening", "wall behind a sofa"),
        *("sky-other", "Wall-brick"),
    ],
)
def test_stuff(phrase: str) -> None:
    assert is_usual_stuff([phrase])


@pytest.mark.parametrize(
    "phrase",
    [
        *(
            "cat",
            "wall clock",
            "water bottle",
            "grass skirt",
            "mountain bike",
            "sea lion",
            "man on a road",
            "lawn mower",
        ),
        *("skyscraper", "bass", "glass", "class", "wall-mounted lamp", "piece of cake", "house by the sea", "", "?"),
        *("tree", "building", "bridge", "fence", "curtain", "rug", "swimming pool", "tennis racket of grass"),
    ],
)
def test_no_stuff(phrase: str) -> None:
    assert not is_usual_stuff([phrase])


def test_all_phrases_of_a_label_have_to_be_stuff() -> None:
    assert is_usual_stuff(["road", "street"])
    assert not is_usual_stuff(["road", "car"])
    assert not is_usual_stuff([])


def test_the_list_is_of_small_letters_in_the_singular() -> None:
    words = {" ".join(entry) for entry in USUAL_STUFF}
    assert words == {word.lower() for word in words}
    assert {"sky", "parking lot"} <= words
    # Of a plural and its singular one is enough.
    assert not {word for word in words if f"{word}s" in words}
