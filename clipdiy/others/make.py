"""How were the list of others and the lookup of WordNet's relations made?

    python -m clipdiy.others.make [--wordnet FOLDER] [--show]

Reads what was reviewed by hand (`reviewed.txt`), which data sets' class names each noun is (`class_names.txt`), and
WordNet 3.0, and writes `data/nouns.tsv` and `data/relations.xz`. `--show` prints each noun's sense instead. The same
input gives the same bytes.
"""

import argparse
import lzma
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clipdiy.errors import ConfigError
from clipdiy.others.nouns import HEADER, NOUNS_FILE
from clipdiy.others.relations import RELATIONS_FILE
from clipdiy.others.wordnet import ANIMAL, ARTIFACT, FOLDER, FOOD, PERSON, PLANT, Synset, WordNet, read_wordnet

HERE = Path(__file__).parent
VISIBLE = (ANIMAL, ARTIFACT, FOOD, PLANT)
GROWN = (ANIMAL, FOOD, PLANT)  # a photo of a banana shows what grows on one and what is eaten
COMMON = 10  # times that a meaning was seen in tagged texts: what was never seen beside it is not meant
FIRST_OWN_ID = 90_000_000  # beyond WordNet's offsets: things that it does not have
_ENTRY = re.compile(r"(?P<word>[^#<+=]+)(#(?P<sense>\d+))?((?P<sign>[<+=])(?P<targets>.+))?")


@dataclass(frozen=True)
class Entry:
    """One word of `reviewed.txt`.

    Attributes:
        word: As CLIP is asked for it, blanks as they are.
        sense: Number of WordNet's sense, if it was written.
        sign: What the targets are: `<` the word is no sense of WordNet's but a kind of them, `+` it is a kind of them
            too, `=` the word, as a label, stands for them; empty without targets.
        targets: (lemma, number of the sense or `None`).
    """

    word: str
    sense: int | None
    sign: str
    targets: tuple[tuple[str, int | None], ...]

    @property
    def lemma(self) -> str:
        """As WordNet spells it."""
        return self.word.replace(" ", "_")


def read_reviewed(text: str) -> tuple[list[Entry], list[Entry]]:
    """Read `reviewed.txt`; returns the others and, behind `labels:`, what only labels are called.

    Raises:
        ConfigError: If an entry cannot be read, or a word stands there twice.
    """
    parts: tuple[list[Entry], list[Entry]] = ([], [])
    seen: set[str] = set()
    part = parts[0]
    for line in text.splitlines():
        for field in () if line.startswith("#") else line.split():
            if field == "labels:":
                part, seen = parts[1], set()
                continue
            entry = _entry(field)
            if entry.word in seen:
                raise ConfigError(f"{entry.word!r} stands twice in the reviewed list")
            seen.add(entry.word)
            part.append(entry)
    return parts


def _entry(field: str) -> Entry:
    found = _ENTRY.fullmatch(field)
    if not found:
        raise ConfigError(f"cannot read {field!r} in the reviewed list: write noun, noun#2, noun<word#2 or noun+word")
    targets = tuple(
        (lemma, int(sense) if sense else None)
        for lemma, _, sense in (target.partition("#") for target in (found["targets"] or "").split(",") if target)
    )
    sense = int(found["sense"]) if found["sense"] else None
    return Entry(found["word"].replace("_", " "), sense, found["sign"] or "", targets)


def likely_senses(wordnet: WordNet, lemma: str) -> tuple[int, ...]:
    """Return the meanings of a lemma that a label may have: what can be seen, the most usual first.

    Left out are persons that a word for a thing also names (a *cat* that gossips), unless that is the word's first
    meaning or how texts use it more often; and what texts never mean by a common word beside what they do mean of the
    same sort (a *cat* that is a lion, a *boat* for gravy).
    """
    found = [offset for offset in wordnet.senses.get(lemma, ()) if _is_physical(wordnet, offset)]
    most: dict[int, int] = {}
    for offset in found:
        topic = wordnet.synsets[offset].topic
        most[topic] = max(most.get(topic, 0), wordnet.count(lemma, offset))
    thing = max((most[topic] for topic in VISIBLE if topic in most), default=-1)

    def is_likely(offset: int) -> bool:
        topic, count = wordnet.synsets[offset].topic, wordnet.count(lemma, offset)
        if topic == PERSON and thing >= count and offset != wordnet.senses[lemma][0]:
            return False
        return count > 0 or most[topic] < COMMON

    likely = [offset for offset in found if is_likely(offset)]
    return tuple(sorted(likely, key=lambda offset: -wordnet.count(lemma, offset)))  # WordNet's order among equals


def visible_senses(wordnet: WordNet, entry: Entry) -> tuple[int, ...]:
    """Return the synsets of a noun: the one that is meant, then the same fruit, plant or animal in other roles.

    Raises:
        ConfigError: If WordNet has no such noun that can be seen.
    """
    senses = wordnet.senses.get(entry.lemma, ())
    if entry.sense is not None:
        if not 1 <= entry.sense <= len(senses):
            raise ConfigError(f"WordNet has no {entry.lemma}#{entry.sense}")
        first = senses[entry.sense - 1]
    else:
        things = [offset for offset in senses if wordnet.synsets[offset].topic in VISIBLE]
        likely = [offset for offset in things or senses if _is_physical(wordnet, offset)]
        if not likely:
            raise ConfigError(f"WordNet has no {entry.lemma} that can be seen: write what it is a kind of")
        first = max(likely, key=lambda offset: wordnet.count(entry.lemma, offset))  # the first of equals
    topics = GROWN if entry.sense is None and wordnet.synsets[first].topic in GROWN else ()
    return (first, *(other for other in senses if other != first and wordnet.synsets[other].topic in topics))


def _is_physical(wordnet: WordNet, offset: int) -> bool:
    physical = wordnet.senses["physical_entity"][0]
    return not wordnet.synsets[offset].is_instance and physical in {offset, *wordnet.ancestors(offset)}


def _target(wordnet: WordNet, lemma: str, sense: int | None) -> tuple[int, ...]:
    return visible_senses(wordnet, Entry(lemma.replace("_", " "), sense, "", ()))


def add_by_hand(wordnet: WordNet, entries: Iterable[Entry]) -> dict[str, tuple[int, ...]]:
    """Put what the reviewed list says beside WordNet into it; returns word -> synsets, in order."""
    made: dict[str, tuple[int, ...]] = {}
    number = FIRST_OWN_ID
    for entry in entries:
        targets = tuple(offset for lemma, sense in entry.targets for offset in _own(wordnet, made, lemma, sense))
        if entry.sign == "=":
            made[entry.word] = targets
        elif entry.sign == "<":
            wordnet.synsets[number] = Synset((entry.lemma,), ARTIFACT, targets, (), False, "")
            made[entry.word] = (number,)
            number += 1
        else:
            made[entry.word] = visible_senses(wordnet, entry)
            first = made[entry.word][0]
            old = wordnet.synsets[first]
            if targets:
                parents = (*old.parents, *targets)
                wordnet.synsets[first] = Synset(old.words, old.topic, parents, old.wholes, old.is_instance, old.gloss)
    return made


def _own(wordnet: WordNet, made: Mapping[str, tuple[int, ...]], lemma: str, sense: int | None) -> tuple[int, ...]:
    word = lemma.replace("_", " ")
    return made[word] if sense is None and word in made else _target(wordnet, lemma, sense)


def write_relations(wordnet: WordNet, own: Mapping[str, tuple[int, ...]]) -> bytes:
    """Return the lookup as `clipdiy.others.relations` reads it: three blocks of lines, compressed.

    Synsets: difference of the offset to the one before, parents, wholes (each as differences of the line's number).
    Lemmas: word, numbers of its synsets' lines. Irregular plurals: plural, singulars.

    Args:
        wordnet: With what was written by hand in it.
        own: Words that mean what was written by hand, whatever WordNet says.
    """
    kept = sorted(offset for offset in wordnet.synsets if offset >= FIRST_OWN_ID or _is_physical(wordnet, offset))
    number = {offset: i for i, offset in enumerate(kept)}
    before = 0
    synsets = []
    for i, offset in enumerate(kept):
        synset = wordnet.synsets[offset]
        parents, wholes = (
            ",".join(str(i - number[target]) for target in targets if target in number)
            for targets in (synset.parents, synset.wholes)
        )
        synsets.append(f"{offset - before}\t{parents}\t{wholes}")
        before = offset
    senses = {lemma: likely_senses(wordnet, lemma) for lemma in wordnet.senses}
    senses |= {word.replace(" ", "_"): offsets for word, offsets in own.items()}
    lemmas = [
        f"{lemma}\t{','.join(str(number[offset]) for offset in offsets)}"
        for lemma, offsets in sorted(senses.items())
        if offsets
    ]
    plurals = [
        f"{plural}\t{','.join(kept_singulars)}"
        for plural, singulars in sorted(wordnet.exceptions.items())
        if (kept_singulars := [word for word in singulars if senses.get(word)])
    ]
    text = "\n\n".join("\n".join(block) for block in (synsets, lemmas, plurals))
    return lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)


def write_nouns(wordnet: WordNet, chosen: Mapping[str, tuple[int, ...]], seen_in: Mapping[str, str]) -> str:
    """Return the list as a table, the nouns that texts use most first."""
    parts = defaultdict(list)
    for offset, synset in wordnet.synsets.items():
        for whole in synset.wholes:
            parts[whole].append(offset)
    rows = []
    for word, offsets in chosen.items():
        synsets = [wordnet.synsets[offset] for offset in offsets]
        count = sum(
            wordnet.count(lemma.lower(), offset)
            for offset, synset in zip(offsets[:1], synsets[:1], strict=True)
            for lemma in synset.words
            if offset < FIRST_OWN_ID and offset in wordnet.senses.get(lemma.lower(), ())
        )
        synonyms = dict.fromkeys(lemma for synset in synsets for lemma in synset.words)
        kinds = sorted(
            {kind for offset in offsets for kind in wordnet.ancestors(offset) if _is_physical(wordnet, kind)}
        )
        columns = [
            word,
            " ".join(map(_id, offsets)),
            str(count),
            seen_in.get(word, ""),
            " ".join(lemma for lemma in synonyms if lemma.replace("_", " ") != word),
            _named(wordnet, kinds),
            _named(wordnet, sorted({part for offset in offsets for part in parts[offset]})),
            _named(wordnet, sorted({whole for synset in synsets for whole in synset.wholes})),
        ]
        rows.append((-count, -len(columns[3]), word, "\t".join(columns)))
    return "\n".join(["\t".join(HEADER), *(row for *_, row in sorted(rows))]) + "\n"


def _id(offset: int) -> str:
    return f"{offset:08d}"


def _named(wordnet: WordNet, offsets: Iterable[int]) -> str:
    return " ".join(f"{_id(offset)}:{wordnet.synsets[offset].words[0]}" for offset in offsets)


def read_class_names(text: str) -> dict[str, str]:
    """Read `class_names.txt`: lines of a data sets' letters and the nouns that those data sets name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        letters, colon, words = line.partition(":")
        if colon and not line.startswith("#"):
            found |= {word.replace("_", " "): letters for word in words.split()}
    return found


def main() -> None:
    """Make the files, or print which sense each noun has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", type=Path, default=FOLDER, help="folder with data.noun and index.noun")
    parser.add_argument("--show", action="store_true", help="print each noun's sense, write nothing")
    arguments = parser.parse_args()
    others, labels = read_reviewed((HERE / "reviewed.txt").read_text(encoding="utf-8"))
    wordnet = read_wordnet(arguments.wordnet)
    by_hand = add_by_hand(wordnet, [*others, *labels])
    chosen = {entry.word: by_hand[entry.word] for entry in others}
    if arguments.show:
        for word, offsets in chosen.items():
            print(f"{word}: {'; '.join(wordnet.synsets[offset].gloss[:70] for offset in offsets)}")
        return
    seen_in = read_class_names((HERE / "class_names.txt").read_text(encoding="utf-8"))
    NOUNS_FILE.parent.mkdir(exist_ok=True)
    NOUNS_FILE.write_text(write_nouns(wordnet, chosen, seen_in), encoding="utf-8")
    own = {entry.word: by_hand[entry.word] for entry in [*others, *labels] if entry.sign in ("<", "=")}
    RELATIONS_FILE.write_bytes(write_relations(wordnet, own))
    print(f"{len(chosen)} nouns, {NOUNS_FILE.stat().st_size} bytes; lookup of {RELATIONS_FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
