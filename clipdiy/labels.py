"""How a person writes labels: the syntax of `--labels`."""

import csv
from collections.abc import Iterable, Sequence

from clipdiy.config import PUBLISHED_TEMPLATE
from clipdiy.errors import VocabularyError
from clipdiy.usual_stuff import is_usual_stuff
from clipdiy.vocabulary import BACKGROUND, Vocabulary, make_vocabulary

USUAL, NONE = "usual", "none"


def parse_labels(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """Read labels separated by commas or line ends: `cat, "bread, sliced", pet=dog|hamster`.

    A label that holds a comma stands in double quotes (a double quote inside is written twice). After `=` come the
    phrases that CLIP is asked for instead of the name, separated by `|`.

    Returns:
        (name, phrases) in the order given; the name alone is its own phrase. Names may repeat.

    Raises:
        VocabularyError: If a quote is not closed, a name or phrase is empty, or there is no label.
    """
    labels: list[tuple[str, tuple[str, ...]]] = []
    for field in _fields(text):
        name, equals, words = field.partition("=")
        name = name.strip()
        phrases = tuple(phrase.strip() for phrase in words.split("|")) if equals else (name,)
        if not name or not all(phrases):
            raise VocabularyError(f"label {field.strip()!r} is incomplete: write name, or name=phrase|other phrase")
        labels.append((name, phrases))
    if not labels:
        raise VocabularyError("there is no label: write for example cat, dog")
    return labels


def parse_vocabulary(
    text: str, template: str | Sequence[str] = PUBLISHED_TEMPLATE, stuff: str | None = None
) -> Vocabulary:
    """Make a vocabulary of what was written after `--labels`, and after `--stuff`.

    A label called background (any case) stands for position 0, which every vocabulary has: `background=wall|floor`
    gives it other phrases.

    Args:
        text: See `parse_labels`.
        template: As for `make_vocabulary`.
        stuff: The labels that are stuff, written as they are; `usual`: those that are by their words
            (`clipdiy.usual_stuff`); `none` or `None`: no label is.

    Raises:
        VocabularyError: As `parse_labels` does, and if there is nothing but background, or what is stuff is no label.
    """
    labels = parse_labels(text)
    background = [phrase for name, phrases in labels if name.casefold() == BACKGROUND for phrase in phrases]
    background = [BACKGROUND if phrase.casefold() == BACKGROUND else phrase for phrase in background]
    named = [(name, phrases) for name, phrases in labels if name.casefold() != BACKGROUND]
    chosen = (stuff or "").strip()
    if chosen.casefold() == USUAL:
        lying = [name for name, phrases in named if is_usual_stuff(phrases)]
    else:
        lying = [] if stuff is None or chosen.casefold() == NONE else [name for name, _ in parse_labels(stuff)]
    return make_vocabulary(named, template=template, background=background or (BACKGROUND,), stuff=lying)


def _fields(text: str) -> Iterable[str]:
    try:
        for row in csv.reader(text.splitlines(), skipinitialspace=True, strict=True):
            for field in row:
                # A surplus comma, as at the end of a list, makes no label.
                if field.strip():
                    yield field
    except csv.Error as err:
        raise VocabularyError(
            f"the labels cannot be read: {err}. Put a label that holds a comma in double quotes, and double the quotes "
            "inside it"
        ) from err
