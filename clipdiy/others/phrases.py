"""Which nouns does a prompt name? Enough grammar for labels and templates: `a photo of a red fire truck`."""

import re
from collections.abc import Callable

ARTICLES = frozenset(("a", "an", "the", "some", "one", "this", "that", "my", "any", "many", "several"))
# Two things side by side, or one and what it is made of: both count.
JOINTS = frozenset(("of", "and", "or"))
# What follows says where or how a thing is, not what it is.
ENDS = frozenset(
    (
        "in",
        "on",
        "at",
        "with",
        "without",
        "by",
        "for",
        "from",
        "to",
        "under",
        "over",
        "near",
        "behind",
        "inside",
        "against",
    )
)
# `a ... photo of` is what templates begin with; it is not what is to be found.
MEDIA = frozenset(("photo", "photos", "photograph", "picture", "image", "view", "shot", "close-up", "closeup", "itap"))
_TOKEN = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*|[,;/|]")


def named_nouns(prompt: str, is_known: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the nouns that a prompt names, small letters.

    Of each part (`cup of coffee` has two) the longest ending that is known: a compound means what its last word means
    unless it is a word of its own (`hot dog`). An ending that is not known is left out.

    Args:
        prompt: A label's name or a whole text for CLIP.
        is_known: Whether a phrase is a word.
    """
    found: dict[str, None] = {}
    for part in _parts(prompt):
        for start in range(len(part)):
            phrase = " ".join(part[start:])
            if is_known(phrase):
                found.setdefault(phrase)
                break
    return tuple(found)


def whole_phrases(prompt: str) -> tuple[str, ...]:
    """Return what a prompt names as it stands, known or not: its parts without articles."""
    return tuple(dict.fromkeys(" ".join(part) for part in _parts(prompt)))


def _parts(prompt: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    skipping = False
    for token in _TOKEN.findall(prompt.lower()):
        if token in JOINTS or not token[0].isalnum():
            if token == "of" and parts[-1] and parts[-1][-1] in MEDIA:
                parts[-1] = []
            parts.append([])
            skipping = False
        elif token in ENDS:
            skipping = bool(parts[-1])
        elif not skipping and not (token in ARTICLES and not parts[-1]):
            parts[-1].append(token)
    return [part for part in parts if part]
