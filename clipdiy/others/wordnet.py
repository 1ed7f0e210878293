"""What do WordNet's own files say about nouns? Read when the list is made; the product itself needs no WordNet.

The format is that of wndb(5WN), WordNet 3.0, as Debian's package wordnet-base has it in /usr/share/wordnet.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clipdiy.errors import ConfigError

FOLDER = Path("/usr/share/wordnet")
ANIMAL, ARTIFACT, FOOD, PERSON, PLANT = 5, 6, 13, 18, 20  # lexicographer files, lexnames(5WN)
_NOUN_FIELD = "1"  # a sense key's digit for nouns, senseidx(5WN)


@dataclass(frozen=True)
class Synset:
    """One meaning.

    Attributes:
        words: Its lemmas as written (`hot_dog`), the usual one first.
        topic: Number of the lexicographer file it is kept in.
        parents: Offsets of what it is a kind of.
        wholes: Offsets of what it is a part, a member or the stuff of.
        is_instance: It is somebody or somewhere (Paris), not a kind of thing.
        gloss: Its definition.
    """

    words: tuple[str, ...]
    topic: int
    parents: tuple[int, ...]
    wholes: tuple[int, ...]
    is_instance: bool
    gloss: str


@dataclass
class WordNet:
    """The nouns.

    Attributes:
        synsets: By offset in `data.noun`, which is what people cite as the id of a synset.
        senses: Lemma in small letters -> offsets, the most frequent sense first.
        counts: (lemma, number of the sense from 1) -> how often it was seen in texts that people tagged.
        exceptions: Irregular plural -> singulars.
    """

    synsets: dict[int, Synset] = field(default_factory=dict)
    senses: dict[str, tuple[int, ...]] = field(default_factory=dict)
    counts: dict[tuple[str, int], int] = field(default_factory=dict)
    exceptions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def count(self, lemma: str, offset: int) -> int:
        """Return how often a lemma was seen with this meaning."""
        return self.counts.get((lemma, self.senses[lemma].index(offset) + 1), 0)

    def ancestors(self, offset: int) -> frozenset[int]:
        """Return everything that a synset is a kind of, itself left out."""
        found: set[int] = set()
        waiting = list(self.synsets[offset].parents)
        while waiting:
            parent = waiting.pop()
            if parent not in found:
                found.add(parent)
                waiting.extend(self.synsets[parent].parents)
        return frozenset(found)


def read_wordnet(folder: Path = FOLDER) -> WordNet:
    """Read `data.noun`, `index.noun`, `cntlist.rev` and `noun.exc`.

    Raises:
        ConfigError: If a file is not there.
    """
    made = WordNet()
    try:
        for line in _lines(folder / "data.noun"):
            made.synsets[int(line[:8])] = _synset(line)
        for line in _lines(folder / "index.noun"):
            fields = line.split()
            made.senses[fields[0]] = tuple(int(offset) for offset in fields[-int(fields[2]) :])
        for line in _lines(folder / "cntlist.rev"):
            key, number, count = line.split()
            lemma, _, rest = key.partition("%")
            if rest.startswith(_NOUN_FIELD):
                made.counts[lemma, int(number)] = int(count)
        for line in _lines(folder / "noun.exc"):
            plural, *singulars = line.split()
            made.exceptions[plural] = tuple(singulars)
    except OSError as err:
        raise ConfigError(f"WordNet is not in {folder} (Debian: wordnet-base): {err}") from err
    return made


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines that are no part of the licence on top, which is set off by two blanks."""
    with path.open(encoding="latin-1") as file:
        yield from (line for line in file if not line.startswith("  "))


def _synset(line: str) -> Synset:
    data, _, gloss = line.partition("|")
    fields = data.split()
    count = int(fields[3], 16)
    words = tuple(fields[4 : 4 + 2 * count : 2])
    start = 5 + 2 * count
    # Four fields a pointer: sign, offset, part of speech, which words it is between.
    pointers = [fields[i : i + 3] for i in range(start, start + 4 * int(fields[start - 1]), 4)]
    nouns = [(sign, int(offset)) for sign, offset, part_of_speech in pointers if part_of_speech == "n"]
    return Synset(
        words,
        int(fields[1]),
        tuple(offset for sign, offset in nouns if sign in ("@", "@i")),
        tuple(offset for sign, offset in nouns if sign in ("#p", "#m", "#s")),
        any(sign == "@i" for sign, _ in nouns),
        gloss.strip(),
    )
