"""Which common things are there to compete with labels? The list, read once when it is first asked for."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

NOUNS_FILE = Path(__file__).parent / "data" / "nouns.tsv"
LIST_VERSION = 1
"""To be raised when the list changes: predictions do."""
HEADER = ("noun", "synsets", "frequency", "seen_in", "synonyms", "kind_of", "parts", "wholes")


@dataclass(frozen=True)
class Noun:
    """One thing that photos show.

    Attributes:
        name: As CLIP is asked for it.
        synsets: Its meanings in WordNet 3.0 (offsets in `data.noun`; from 90,000,000 on, things that WordNet does not
            have), the one that is meant first.
        synonyms: Other words for them.
        kind_of: Everything that it is a kind of, up to *physical entity*.
        parts: What is a part of it.
        wholes: What it is a part of.
    """

    name: str
    synsets: frozenset[int]
    synonyms: tuple[str, ...]
    kind_of: frozenset[int]
    parts: frozenset[int]
    wholes: frozenset[int]


@cache
def default_nouns() -> tuple[Noun, ...]:
    """Return the list that comes with the product, the most frequent noun first."""
    rows = (line.split("\t") for line in NOUNS_FILE.read_text(encoding="utf-8").splitlines()[1:])
    return tuple(
        Noun(
            name,
            frozenset(int(offset) for offset in synsets.split()),
            tuple(word.replace("_", " ") for word in synonyms.split()),
            *(frozenset(int(entry.partition(":")[0]) for entry in column.split()) for column in (kinds, parts, wholes)),
        )
        for name, synsets, _, _, synonyms, kinds, parts, wholes in rows
    )
