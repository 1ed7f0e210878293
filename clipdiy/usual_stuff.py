"""Which labels mean stuff by their name alone: sky, road, grass, wall. Pure words, no weights.

Reviewed by hand from what COCO-Stuff, Cityscapes and ADE20K call stuff. A word is here if what it names is a surface
that fills its part of a photo, so that nothing that looks for objects finds it. What stands on such a surface is not
(tree, building, bridge, fence, curtain), nor is what is as often a thing as stuff, or what people look for as a thing
(rug, rock, food, smoke, waterfall, crosswalk, swimming pool).

A phrase is stuff if its head is: its last word or words, before any *of*, *in*, *on*. So *blue sky*, *asphalt road* and
*body of water* are, and *wall clock*, *water bottle*, *grass skirt* and *mountain bike* are not.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

_LISTED: Final = """
sky, cloud
road, street, highway, motorway, freeway, roadway, driveway, asphalt, tarmac, railway, railroad, runway, dirt track
pavement, sidewalk, walkway, footpath, path, trail, parking lot, car park
ground, soil, earth, dirt, mud, sand, gravel, desert, beach, shore, seashore, snow
grass, lawn, meadow, field, grassland, pasture, turf, moss, undergrowth
terrain, land, valley, hill, hillside, mountain, mountain range
water, sea, ocean, lake, river, stream, creek, canal, pond, lagoon
wall, ceiling, floor, flooring, floorboard, parquet
"""
# COCO-Stuff writes the head first.
_AS_COCO_STUFF: Final = """
ceiling-other, ceiling-tile, floor-marble, floor-other, floor-stone, floor-tile, floor-wood, ground-other, sky-other
wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other
"""
_WORDS: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
# What follows says where it is or what it is made of. A `body of water` is water all the same.
_ENDS_THE_HEAD: Final = frozenset(
    {"at", "behind", "by", "during", "for", "from", "in", "near", "of", "on", "under", "with"}
)
_MEASURES: Final = frozenset({"area", "bit", "body", "expanse", "patch", "piece", "stretch", "strip"})


def _as_words(text: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(text.casefold()))


def _entries(text: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_as_words(entry) for line in text.splitlines() for entry in line.split(",") if entry.strip())


USUAL_STUFF: Final = _entries(_LISTED)
"""The listed words, in the singular, as tuples of words in small letters."""
_WHOLE: Final = _entries(_AS_COCO_STUFF)
_LONGEST: Final = max(map(len, USUAL_STUFF))


def is_usual_stuff(phrases: Iterable[str]) -> bool:
    """Say whether a label is stuff by its words: all of its phrases have to be, and there has to be one.

    Args:
        phrases: What CLIP is asked for, not yet put into a template.
    """
    asked = [_as_words(phrase) for phrase in phrases]
    return bool(asked) and all(_is_stuff(words) for words in asked)


def _is_stuff(words: Sequence[str]) -> bool:
    if tuple(words) in _WHOLE:
        return True
    end = next((place for place, word in enumerate(words) if place and word in _ENDS_THE_HEAD), len(words))
    if words[end : end + 1] == ("of",) and _singulars(words[end - 1]) & _MEASURES:
        return _is_stuff(words[end + 1 :])
    head = tuple(words[:end])
    for length in range(min(_LONGEST, len(head)), 0, -1):
        if any((*head[-length:-1], last) in USUAL_STUFF for last in _singulars(head[-1])):
            return True
    return False


def _singulars(word: str) -> set[str]:
    """Return what a word may be the plural of, itself among them."""
    found = {word}
    if len(word) > 3 and word.endswith("s"):
        found.add(word[:-1])
    if len(word) > 4 and word.endswith("es"):
        found.add(word[:-2])
    if len(word) > 4 and word.endswith("ies"):
        found.add(f"{word[:-3]}y")
    return found
