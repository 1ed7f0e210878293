"""What is a word a kind of, and what is it a part of? WordNet's relations between nouns that can be seen.

A lookup of some 60,000 words in 500 kB, made by `clipdiy.others.make` and read when it is first asked.
"""

import lzma
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path

RELATIONS_FILE = Path(__file__).parent / "data" / "relations.xz"

# Endings of plurals and what stands for them in the singular: WordNet's own rules of detachment, morphy(7WN).
ENDINGS = (
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)


_JOINTS = str.maketrans("", "", "_- ")


def spelling(phrase: str) -> str:
    """Return a phrase as it is compared: small letters, no blank, hyphen or underscore (`dog house` is *doghouse*)."""
    return phrase.lower().translate(_JOINTS)


class Relations:
    """Synsets of words, and the synsets above them. Synsets are offsets in WordNet 3.0's `data.noun`."""

    def __init__(self, text: str) -> None:
        """Take what `clipdiy.others.make` wrote, decompressed."""
        synsets, lemmas, plurals = (block.split("\n") for block in text.split("\n\n"))
        offsets = []
        offset = 0
        for line in synsets:
            offset += int(line[: line.index("\t")])
            offsets.append(offset)
        self._parents: dict[int, tuple[int, ...]] = {}
        self._wholes: dict[int, tuple[int, ...]] = {}
        for number, line in enumerate(synsets):
            _, parents, wholes = line.split("\t")
            for table, column in ((self._parents, parents), (self._wholes, wholes)):
                if column:
                    table[offsets[number]] = tuple(offsets[number - int(back)] for back in column.split(","))
        self._senses: dict[str, tuple[int, ...]] = {}
        for lemma, numbers in (line.split("\t") for line in lemmas):
            word = spelling(lemma)
            found = tuple(offsets[int(number)] for number in numbers.split(","))
            self._senses[word] = tuple(dict.fromkeys((*self._senses.get(word, ()), *found)))
        self._singulars = {
            spelling(plural): tuple(map(spelling, words.split(",")))
            for plural, words in (line.split("\t") for line in plurals)
        }

    def senses(self, phrase: str) -> frozenset[int]:
        """Return the synsets that a phrase can mean, in the singular or in the plural; empty if it is not known."""
        return frozenset(synset for lemma in self.lemmas(phrase) for synset in self._senses[lemma])

    def main_senses(self, phrase: str) -> frozenset[int]:
        """Return the most usual synset alone, of every spelling that is known."""
        return frozenset(self._senses[lemma][0] for lemma in self.lemmas(phrase))

    def lemmas(self, phrase: str) -> tuple[str, ...]:
        """Return what a phrase is looked up as: itself or its singular, in the lookup's `spelling`."""
        word = spelling(phrase)
        forms = (word, *self._singulars.get(word, ()), *_singulars(word))
        return tuple(form for form in dict.fromkeys(forms) if form in self._senses)

    def above(self, synsets: Iterable[int]) -> frozenset[int]:
        """Return everything that some synsets are kinds of, themselves included."""
        return self._closure(synsets, self._parents)

    def wholes(self, synsets: Iterable[int]) -> frozenset[int]:
        """Return everything that some synsets are parts of, and what that is a part of, and so on."""
        start = frozenset(synsets)
        return self._closure(start, self._wholes) - start

    @cached_property
    def words(self) -> int:
        """How many words are known."""
        return len(self._senses)

    @staticmethod
    def _closure(synsets: Iterable[int], table: dict[int, tuple[int, ...]]) -> frozenset[int]:
        waiting = list(synsets)
        found = set(waiting)
        while waiting:
            for above in table.get(waiting.pop(), ()):
                if above not in found:
                    found.add(above)
                    waiting.append(above)
        return frozenset(found)


def _singulars(word: str) -> list[str]:
    return [word[: -len(ending)] + instead for ending, instead in ENDINGS if word.endswith(ending) and word != ending]


@cache
def load_relations() -> Relations:
    """Return the lookup that comes with the product; it is read once."""
    return Relations(lzma.decompress(RELATIONS_FILE.read_bytes()).decode())
