"""Which others compete with a vocabulary: WordNet first, then the text embeddings, then what a person named."""

import pytest
import torch

from clipdiy.others.choice import KEPT_CHOICES, LEAST_NOUNS, Chooser, kin_matrix, near_cosines
from clipdiy.others.kin import Kinship
from clipdiy.others.nouns import default_nouns
from clipdiy.vocabulary import make_vocabulary

LIST = ("dog", "cat", "car", "tree", "chair", "apple", "cup", "bird", "boat", "clock")


class Texts:
    """A text tower in which every text has an axis of its own, but those that are said to mean the same."""

    def __init__(self, same=()):
        self.axes, self.same, self.calls = {}, dict(same), 0

    def embed(self, texts):
        self.calls += 1
        rows = torch.zeros(len(texts), 4096)
        for row, text in zip(rows, texts, strict=True):
            row[self.axes.setdefault(self.same.get(text, text), len(self.axes))] = 1
        return rows

    def embed_vocabulary(self, vocabulary):
        means = torch.stack([self.embed(prompts).mean(dim=0) for prompts in vocabulary.prompts])
        return torch.nn.functional.normalize(means, dim=1)


def chooser(texts=None, names=LIST, **options):
    texts = texts or Texts()
    return Chooser(texts.embed, texts.embed_vocabulary, names=names, **options)


def names(choice):
    return [label.name for label in choice.competing]


def test_all_but_the_labels_kind_competes():
    choice = chooser().choose(make_vocabulary(["animal", "boat"]))
    assert names(choice) == ["car", "tree", "chair", "apple", "cup", "clock"]
    assert {(left.other, left.label, left.why) for left in choice.left_out} == {
        ("dog", "animal", Kinship.KIND),
        ("cat", "animal", Kinship.KIND),
        ("bird", "animal", Kinship.KIND),
        ("boat", "boat", Kinship.SAME),
    }


def test_others_are_asked_for_in_the_templates():
    choice = chooser(templates=("itap of a {}.", "the {}")).choose(make_vocabulary(["dog"]))
    assert choice.competing[0].prompts == ("itap of a cat.", "the cat")


def test_the_texts_that_a_choice_needs_are_known_before():
    one = chooser(templates=("itap of a {}.", "the {}"))
    assert one.prompts() == tuple(text for word in LIST for text in (f"itap of a {word}.", f"the {word}"))
    assert one.prompts(["flurb"]) == ("itap of a flurb.", "the flurb")
    assert len(chooser(names=None).prompts()) == len(default_nouns())


def test_the_list_of_the_product_is_the_default():
    choice = chooser(names=None).choose(make_vocabulary(["elephant"]))
    assert len(choice.competing) == len(default_nouns()) - 1


def test_what_is_nearly_the_same_text_goes():
    texts = Texts({"a photo of a Miez": "a photo of a cat"})
    choice = chooser(texts).choose(make_vocabulary(["Miez"]))
    (left,) = choice.left_out
    assert (left.other, left.label, left.why) == ("cat", "Miez", Kinship.CLOSE)
    assert str(left) == "cat is to CLIP nearly the same as Miez (cosine 1.000)"
    assert left in chooser(texts).choose(make_vocabulary(["boat", "Miez", "clock"])).left_out


@pytest.mark.parametrize(
    ("label", "goes"),
    [
        pytest.param("Miez", True, id="not known to WordNet"),
        pytest.param("zebra", False, id="known to WordNet, which says that it is no cat"),
    ],
)
def test_words_that_wordnet_knows_need_more(label, goes):
    texts = Texts()
    between = torch.zeros(4096)

    def embed_vocabulary(vocabulary):
        texts.embed(["a photo of a cat"])
        between[texts.axes["a photo of a cat"]] = 0.4
        return torch.stack([between, between])

    choice = Chooser(texts.embed, embed_vocabulary, names=LIST).choose(make_vocabulary([label]))
    assert ("cat" not in names(choice)) == goes


def test_a_short_list_says_nothing_about_cosines():
    unknown = near_cosines(torch.eye(LEAST_NOUNS - 1), torch.eye(LEAST_NOUNS - 1, dtype=torch.bool))
    assert unknown == (float("inf"), float("inf"))
    assert near_cosines(torch.eye(LEAST_NOUNS), torch.eye(LEAST_NOUNS, dtype=torch.bool)) == (0.5, 0)
    assert chooser(names=LIST[:4]).near() == unknown


def test_what_is_near_is_told_by_directions_whatever_the_templates_average_to():
    # Two of three templates say the same of both nouns of a pair: means of (2, 1, 0) and (2, 0, 1), a cosine of 0.8.
    templates = ("a {}", "the {}", "my {}")
    pairs = zip(LIST[::2], LIST[1::2], strict=True)
    same = {template.format(noun): pair[0] for pair in pairs for noun in pair for template in templates[:2]}
    close, apart = chooser(Texts(same), templates=templates).near()
    assert (close, apart) == (pytest.approx(0.9), pytest.approx(0.8))


def test_how_near_is_too_near_is_read_off_the_list():
    # Ten unit vectors, each with a cosine of 0.6 to one other, and a pair of kin that are the same.
    base = torch.eye(11)
    base[:10] = torch.nn.functional.normalize(base[:10] + base[10] * 1.5**0.5, dim=1)
    kin = torch.eye(11, dtype=torch.bool)
    base[10] = base[0]
    kin[0, 10] = kin[10, 0] = True
    close, apart = near_cosines(base, kin)
    assert apart == pytest.approx(0.6, abs=1e-5)
    assert close == pytest.approx(0.8, abs=1e-5)


def test_kin_matrix():
    nouns = {noun.name: noun for noun in default_nouns()}
    kin = kin_matrix([nouns[name] for name in ("dog", "puppy", "cat", "fire engine", "truck")])
    assert kin.int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]


def test_named_words_compete_whatever_they_are():
    choice = chooser().choose(make_vocabulary(["animal"]), ["dog", "cup", "animals", "dog"])
    assert names(choice) == ["dog", "cup"]
    assert [(left.other, left.why) for left in choice.left_out] == [("animals", Kinship.SAME)]


def test_no_word_is_no_other():
    assert chooser().choose(make_vocabulary(["dog"]), ()).competing == ()


def test_what_the_background_is_said_to_be_competes_too():
    choice = chooser().choose(make_vocabulary(["dog"], background=("wall", "background", "tree")))
    assert names(choice)[:2] == ["wall", "tree"]
    assert names(choice).count("tree") == 1
    assert choice.competing[0].prompts == ("a photo of a wall",)
    assert names(chooser().choose(make_vocabulary(["dog"], background=("wall",)), ["cup"])) == ["wall", "cup"]
    assert "wall" not in names(chooser().choose(make_vocabulary(["wall"], background=("wall",))))


def test_what_the_background_is_said_to_be_is_found_in_every_template():
    templates = ("a photo of a {}", "graffiti of a {}", "the origami {}.", "a {} in a video game")
    vocabulary = make_vocabulary(["dog"], template=templates, background=("brick wall", "background"))
    (wall,) = chooser().choose(vocabulary, ()).competing
    assert wall.name == "brick wall"
    assert wall.prompts == tuple(template.format("brick wall") for template in templates)


def test_the_background_itself_is_no_other_in_any_template():
    templates = ("a photo of a {}", "the origami {}.", "graffiti of the {}")
    assert chooser().choose(make_vocabulary(["dog"], template=templates), ()).competing == ()
    only = make_vocabulary(["dog"], template="the origami {}")
    assert chooser().choose(only, ()).competing == ()


def test_only_so_many_choices_are_kept():
    made = chooser()
    vocabularies = [make_vocabulary([f"label {i}"]) for i in range(KEPT_CHOICES + 1)]
    first, *_, second_last, _ = [made.choose(vocabulary, ()) for vocabulary in vocabularies]
    assert made.choose(vocabularies[-2], ()) is second_last
    assert made.choose(vocabularies[0], ()) is not first


def test_a_vocabulary_is_decided_once():
    texts = Texts()
    made = chooser(texts)
    first = made.choose(make_vocabulary(["dog"]))
    calls = texts.calls
    assert made.choose(make_vocabulary(["dog"]).with_others(first.competing)) is first
    assert texts.calls == calls
    assert made.choose(make_vocabulary(["cat"])) is not first
