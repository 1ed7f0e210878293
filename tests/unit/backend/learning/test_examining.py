"""Which version had predicted, how much of that was kept, and what the labels' own words would have predicted."""

from dataclasses import replace

import numpy as np
import pytest
from webhooks import LABELS, brushed, left_half

from backend.corrections.store import BesideWords
from backend.labeling.reader import parse_label_config
from backend.labeling.taught import Taught
from backend.learning.examining import Examined, Version, examine, number_in

CONFIG = parse_label_config(LABELS)
TASK = {"id": 1, "data": {"image": "ok"}}
WORDS = Version(0, 0.0, {})


def version(number):
    return Version(number, 100.0 * number, {"brush": Taught(number, None, None)})


class Predicting:
    """Covers as much of the picture's left half as a version's entry says, from the left."""

    def __init__(self, **widths):
        self.widths = widths
        self.asked = []

    def model_version(self, config):
        return f"fake-learned{config.version}-x" if config.version else "fake"

    def answer(self, task, config, features, *, version):
        self.asked.append(version)
        assert version == self.model_version(config)
        width = self.widths["words" if not config.version else f"v{config.version}"]
        if not width:
            return {"result": []}
        mask = np.zeros((50, 50), bool)
        mask[:, :width] = True
        return {"result": [brushed(mask, region=f"{version}-cat", origin="prediction")]}


def look(predicting, result, versions, /, **shown):
    pictures = {("image", None): ("its digest", None)}
    return examine({"result": result, "prediction": shown}, TASK, CONFIG, pictures, versions, predicting)


def kept_as(mask):
    return [brushed(mask, region="fake-learned3-x-cat", origin="prediction-changed")]


def test_a_fit_is_held_beside_the_words_on_the_same_picture():
    predicting = Predicting(v3=20, words=5)
    found = look(predicting, kept_as(left_half()), [version(3), WORDS], model_version="fake-learned3-x")
    assert found.version == "fake-learned3-x"
    assert [(one.number, one.iou) for one in found.agreements] == [(3, 20 / 25)]
    assert found.beside_words == BesideWords(3, 20 / 25, 5 / 25)
    assert predicting.asked == ["fake-learned3-x", "fake"], "one answer more"


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        pytest.param({"v3": 20, "words": 0}, BesideWords(3, 20 / 25, 0.0), id="the words find nothing"),
        pytest.param({"v3": 0, "words": 20}, BesideWords(3, 0.0, 20 / 25), id="the fit finds nothing"),
    ],
)
def test_what_is_not_found_counts_nothing(widths, expected):
    found = look(Predicting(**widths), kept_as(left_half()), [version(3)], model_version="fake-learned3-x")
    assert found.beside_words == expected


def test_nothing_where_nothing_is():
    found = look(Predicting(v3=0, words=20), [], [version(3)], model_version="fake-learned3-x")
    assert (found.agreements, found.beside_words) == ((), BesideWords(3, 1.0, 0.0))
    found = look(Predicting(v3=20, words=0), [], [version(3)], model_version="fake-learned3-x")
    assert found.beside_words == BesideWords(3, 0.0, 1.0)


def test_words_are_beside_nothing_else():
    predicting = Predicting(v3=20, words=20)
    found = look(predicting, kept_as(left_half()), [version(3), WORDS], model_version="fake")
    assert (found.version, found.beside_words) == ("fake", None)
    assert predicting.asked == ["fake"]


def test_a_fit_that_does_nothing_here_is_no_other_than_the_words():
    predicting = Predicting(words=20)
    found = look(predicting, kept_as(left_half()), [Version(5, 500.0, {}), WORDS], model_version="fake")
    assert ([one.number for one in found.agreements], found.beside_words) == ([0], None)
    assert predicting.asked == ["fake"]


def test_what_a_version_says_of_a_picture_that_it_was_learned_from_is_not_compared():
    told = replace(version(3), pictures=frozenset({"another's", "its digest"}))
    result = kept_as(left_half())
    found = look(Predicting(v3=20, words=5), result, [told, WORDS], model_version="fake-learned3-x")
    assert found == Examined("fake-learned3-x")
    # What another version had predicted of it is.
    of_words = look(Predicting(v3=20, words=5), result, [told, WORDS], model_version="fake")
    assert [one.number for one in of_words.agreements] == [0]
    earlier = look(Predicting(v2=20, v3=20, words=5), result, [told, version(2)], model_version="fake-learned2-x")
    assert [one.number for one in earlier.agreements] == [2]
    # Nor what it said with weights that are here no more.
    shown = {"model_version": "older-learned3-x", "result": [brushed(left_half(), region="x")]}
    assert look(Predicting(), result, [told, WORDS], **shown) == Examined()
    assert look(Predicting(), result, [version(3), WORDS], **shown).agreements


def test_what_cannot_be_made_again_is_not_paired():
    shown = {"model_version": "older-learned7-x", "result": [brushed(left_half(), region="x")]}
    predicting = Predicting()
    found = look(predicting, [brushed(left_half(), region="x", origin="prediction")], [version(3), WORDS], **shown)
    assert (found.version, found.beside_words, predicting.asked) == ("older-learned7-x", None, [])
    assert [(one.number, one.state) for one in found.agreements] == [(7, "accepted")]
    assert look(predicting, [], [], model_version="unknown") == Examined()


def test_the_number_in_a_version():
    assert [number_in(name) for name in ("clip-diy-a-learned12-b", "clip-diy-a", "learned", "")] == [12, 0, 0, 0]
