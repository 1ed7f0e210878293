"""Is an other of a label's own kind? Then it must not compete: a dog is no rival of the label *animal*.

Decided by WordNet's relations alone; what words look like to CLIP is decided in `clipdiy.others.choice`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from clipdiy.others.nouns import Noun
from clipdiy.others.phrases import named_nouns, whole_phrases
from clipdiy.others.relations import Relations, spelling

_Key = TypeVar("_Key", int, str)


class Kinship(StrEnum):
    """How an other belongs to a label, as a sentence to put both into."""

    SAME = "{other} is a word for {label}"
    SYNONYM = "{other} means the same as {label}"
    KIND = "{other} is a kind of {label}"
    WIDER = "{label} is a kind of {other}"
    PART = "{other} is a part of {label}"
    WHOLE = "{label} is a part of {other}"
    CLOSE = "{other} is to CLIP nearly the same as {label}"


@dataclass(frozen=True)
class Meaning:
    """What a label can mean, by all of its prompts.

    Attributes:
        phrases: The words themselves, in the singular too, in the lookup's `spelling`.
        synsets: Synsets of the nouns in them.
        above: All that these are kinds of, themselves included.
        main_above: The same of the most usual meaning of each noun alone. Parts go by it: WordNet also knows the ball
            of a foot and the cup of a flower.
        wholes: All that the most usual meanings themselves are parts of. Not what those are kinds of: an antler is an
            organ, and organs are parts of every animal.
    """

    phrases: frozenset[str]
    synsets: frozenset[int]
    above: frozenset[int]
    main_above: frozenset[int]
    wholes: frozenset[int]


def meaning_of(prompts: Iterable[str], relations: Relations) -> Meaning:
    """Look up everything that some prompts name; empty sets where WordNet knows none of it."""
    phrases: set[str] = set()
    synsets: frozenset[int] = frozenset()
    main: frozenset[int] = frozenset()
    for prompt in prompts:
        phrases.update(map(spelling, whole_phrases(prompt)))
        for noun in named_nouns(prompt, lambda phrase: bool(relations.lemmas(phrase))):
            phrases.update((spelling(noun), *relations.lemmas(noun)))
            synsets |= relations.senses(noun)
            main |= relations.main_senses(noun)
    above, main_above = relations.above(synsets), relations.above(main)
    return Meaning(frozenset(phrases), synsets, above, main_above, relations.wholes(main))


def noun_for(word: str, relations: Relations, known: Mapping[str, Noun]) -> Noun:
    """Return a word as an other: out of the list if it stands there, else by what WordNet says of it.

    A word that WordNet does not know is an other without relations.
    """
    if word in known:
        return known[word]
    meaning = meaning_of((word,), relations)
    # A table's legs are parts of every kind of table, so parts go by what stands above.
    return Noun(word, meaning.synsets, (), meaning.above - meaning.synsets, frozenset(), meaning.wholes)


class Kin:
    """Which of some nouns belong to a label, and how. Indexed, because every label is asked of every noun."""

    def __init__(self, nouns: Sequence[Noun], relations: Relations) -> None:
        """Take the nouns of a list, or those that a person named."""
        self._spelt: defaultdict[str, list[int]] = defaultdict(list)
        # Synset -> nouns that mean it, that are kinds of it, that are parts of it.
        self._own, self._kinds, self._parts = (defaultdict[int, list[int]](list) for _ in range(3))
        for number, noun in enumerate(nouns):
            for word in {spelling(noun.name), *relations.lemmas(noun.name)}:
                self._spelt[word].append(number)
            for index, synsets in (
                (self._own, noun.synsets),
                (self._kinds, noun.kind_of),
                (self._parts, relations.wholes(noun.synsets)),
            ):
                for synset in synsets:
                    index[synset].append(number)

    def of(self, label: Meaning) -> dict[int, Kinship]:
        """Return number of the noun -> how it belongs to a label; the rest may compete. The first that holds counts."""
        found: dict[int, Kinship] = {}

        def put(why: Kinship, index: Mapping[_Key, list[int]], keys: Iterable[_Key]) -> None:
            for key in keys:
                for number in index.get(key, ()):
                    found.setdefault(number, why)

        put(Kinship.SAME, self._spelt, label.phrases)
        put(Kinship.SYNONYM, self._own, label.synsets)
        put(Kinship.KIND, self._kinds, label.synsets)
        put(Kinship.WIDER, self._own, label.above)
        put(Kinship.WHOLE, self._own, label.wholes)
        put(Kinship.WHOLE, self._kinds, label.wholes)
        # Parts of what a label is a kind of are parts of the label: a vehicle's wheel is a car's.
        put(Kinship.PART, self._parts, label.main_above)
        return found
