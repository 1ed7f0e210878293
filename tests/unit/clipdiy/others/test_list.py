"""The list of others: what is in it, that it was made of what lies beside it, and how WordNet's files are read."""

import hashlib
import lzma
from pathlib import Path

import pytest

from clipdiy.errors import ConfigError
from clipdiy.others import make
from clipdiy.others.nouns import LIST_VERSION, NOUNS_FILE, default_nouns
from clipdiy.others.phrases import named_nouns
from clipdiy.others.relations import RELATIONS_FILE, Relations, load_relations
from clipdiy.others.wordnet import read_wordnet
from clipdiy.starter.scenes import NOUNS

REVIEWED = (Path(make.__file__).parent / "reviewed.txt").read_text(encoding="utf-8")


def test_the_list_is_what_was_reviewed():
    entries, _ = make.read_reviewed(REVIEWED)
    assert {noun.name for noun in default_nouns()} == {entry.word for entry in entries}
    assert 300 <= len(default_nouns()) <= 1000


def test_the_list_knows_the_starters_nouns():
    assert set(NOUNS) <= {noun.name for noun in default_nouns()}


def test_every_noun_has_a_meaning_that_can_be_seen():
    (physical,) = load_relations().senses("physical entity")
    assert [noun.name for noun in default_nouns() if not noun.synsets or physical not in noun.kind_of] == []


def test_vague_words_stuff_and_parts_are_not_in_it():
    assert not {"object", "thing", "sky", "grass", "water", "food", "face", "hand", "wheel"} & {
        noun.name for noun in default_nouns()
    }


def test_the_lookup_agrees_with_the_list():
    relations = load_relations()
    for noun in default_nouns():
        assert relations.above(noun.synsets) == noun.synsets | noun.kind_of, noun.name


def test_the_data_is_small_and_its_licence_is_there():
    assert NOUNS_FILE.stat().st_size + RELATIONS_FILE.stat().st_size < 1_500_000
    assert "WordNet 3.0 Copyright 2006" in (NOUNS_FILE.parent / "LICENSE-WordNet.txt").read_text()


@pytest.mark.parametrize(
    ("phrase", "lemmas"),
    [
        pytest.param("dog", ("dog",), id="as it is"),
        pytest.param("Dogs", ("dog",), id="plural"),
        pytest.param("women", ("woman",), id="irregular"),
        pytest.param("fire trucks", ("firetruck",), id="two words"),
        pytest.param("hot air balloon", ("hotairballoon",), id="a hyphen elsewhere"),
        pytest.param("dog house", ("doghouse",), id="written together"),
        pytest.param("Hund", (), id="not known"),
        pytest.param("", (), id="empty"),
    ],
)
def test_words_are_found(phrase, lemmas):
    assert load_relations().lemmas(phrase) == lemmas


@pytest.mark.parametrize(
    ("prompt", "nouns"),
    [
        ("dog", ("dog",)),
        ("a photo of a dog", ("dog",)),
        ("a bad photo of the dog.", ("dog",)),
        ("A Red Dog, running", ("dog",)),
        ("hot dog", ("hot dog",)),
        ("dog house", ("house",)),
        ("cup of coffee", ("cup", "coffee")),
        ("a dog with a hat", ("dog",)),
        ("hat", ("hat",)),
        ("in", ()),
        ("xyz", ()),
        ("", ()),
    ],
)
def test_the_nouns_of_a_prompt(prompt, nouns):
    words = {"dog", "hot dog", "house", "cup", "coffee", "hat", "photo"}
    assert named_nouns(prompt, words.__contains__) == nouns


# WordNet in five synsets: entity > physical entity > animal > dog, with a tail, and a person called dog.
DATA = """\
  1 This is the licence.
00000001 03 n 01 physical_entity 0 000 | that can be seen
00000002 05 n 02 animal 0 beast 0 001 @ 00000001 n 0000 | a living thing
00000003 05 n 01 dog 0 002 @ 00000002 n 0000 ~ 00000009 v 0000 | barks; "a good dog"
00000004 08 n 01 tail 0 002 @ 00000001 n 0000 #p 00000003 n 0000 | it wags
00000005 18 n 01 dog 0 001 @ 00000001 n 0000 | a fellow
00000006 05 n 01 Lassie 0 001 @i 00000003 n 0000 | a dog on television
"""
INDEX = """\
  1 This is the licence.
physical_entity n 1 0 1 0 00000001
animal n 1 1 @ 1 1 00000002
beast n 1 1 @ 1 0 00000002
dog n 2 1 @ 2 1 00000003 00000005
tail n 1 1 @ 1 0 00000004
lassie n 1 1 @ 1 0 00000006
"""


@pytest.fixture
def wordnet(tmp_path):
    (tmp_path / "data.noun").write_text(DATA)
    (tmp_path / "index.noun").write_text(INDEX)
    (tmp_path / "cntlist.rev").write_text("animal%1:05:00:: 1 87\ndog%1:05:00:: 1 42\ndog%2:38:00:: 1 7\n")
    (tmp_path / "noun.exc").write_text("dogges dog\n")
    return read_wordnet(tmp_path)


def test_wordnets_files_are_read(wordnet):
    assert wordnet.synsets[2].words == ("animal", "beast")
    assert wordnet.synsets[3].gloss == 'barks; "a good dog"'
    assert wordnet.synsets[4].wholes == (3,)
    assert wordnet.senses["dog"] == (3, 5)
    assert wordnet.count("dog", 3) == 42, "verbs are not counted"
    assert wordnet.ancestors(3) == {1, 2}
    assert wordnet.synsets[6].is_instance


def test_wordnet_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="wordnet-base"):
        read_wordnet(tmp_path)


def test_what_is_written_can_be_read(wordnet):
    others, labels = make.read_reviewed("# a comment\ndog puppy<dog\nlabels:\nrex=dog\n")
    by_hand = make.add_by_hand(wordnet, [*others, *labels])
    own = {word: by_hand[word] for word in ("puppy", "rex")}
    relations = Relations(lzma.decompress(make.write_relations(wordnet, own)).decode())
    assert relations.senses("dogges") == {3}, "the fellow is left out"
    assert relations.senses("rex") == {3}
    assert relations.senses("lassie") == frozenset(), "somebody, not a kind of thing"
    assert relations.above(relations.senses("puppies")) == {make.FIRST_OWN_ID, 3, 2, 1}
    assert relations.wholes(relations.senses("tail")) == {3}
    header, row, _ = make.write_nouns(wordnet, {"dog": by_hand["dog"], "puppy": by_hand["puppy"]}, {"dog": "C"}).split(
        "\n", 2
    )
    assert row.split("\t") == [
        "dog",
        "00000003",
        "42",
        "C",
        "",
        "00000001:physical_entity 00000002:animal",
        "00000004:tail",
        "",
    ]
    assert header.startswith("noun\tsynsets")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("dog dog", "twice", id="twice"),
        pytest.param("dog#x", "cannot read", id="no number"),
        pytest.param("dog#3", "no dog#3", id="no such sense"),
        pytest.param("tailor", "no tailor", id="not in WordNet"),
    ],
)
def test_mistakes_in_the_reviewed_list(text, message, wordnet):
    with pytest.raises(ConfigError, match=message):
        make.add_by_hand(wordnet, make.read_reviewed(text)[0])


def test_a_changed_list_has_another_version():
    """Predictions change with it, and so has the model version to: raise LIST_VERSION, then put the digest here."""
    digest = hashlib.sha256(NOUNS_FILE.read_bytes()).hexdigest()
    assert (LIST_VERSION, digest[:16]) == (1, "0721d7fc4ab774bc")
