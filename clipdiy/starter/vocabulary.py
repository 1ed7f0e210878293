"""Which words does the starter know?

The starter's text tower knows a closed list of words. Any other word silently lands on one of its
classes, so whoever shows results to a person should warn about `unknown_words` first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

BACKGROUND = "background"

# The prompts seen in training; the first one is the one used for inference (CLIP-DIY).
TEMPLATES: tuple[str, ...] = (
    "a photo of a {}",
    "a photo of the {}",
    "a photo of {}",
    "an image of a {}",
    "a picture of a {}",
    "a {}",
    "the {}",
    "{}",
)

# Other words for a noun, seen in training with every template. Plurals come first.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "dog": ("dogs", "puppy", "puppies", "hound"),
    "cat": ("cats", "kitten", "kittens", "kitty"),
    "horse": ("horses", "pony", "stallion", "mare"),
    "cow": ("cows", "cattle", "bull", "calf"),
    "pig": ("pigs", "piglet", "hog", "swine"),
    "sheep": ("lamb", "lambs", "ram", "ewe"),
    "rabbit": ("rabbits", "bunny", "bunnies", "hare"),
    "elephant": ("elephants",),
    "lion": ("lions", "lioness"),
    "bird": ("birds", "sparrow", "crow"),
    "penguin": ("penguins",),
    "fish": ("fishes", "goldfish"),
    "butterfly": ("butterflies", "moth"),
    "turtle": ("turtles", "tortoise"),
    "snake": ("snakes", "serpent"),
    "apple": ("apples",),
    "banana": ("bananas",),
    "strawberry": ("strawberries",),
    "pineapple": ("pineapples",),
    "carrot": ("carrots",),
    "pizza": ("pizzas", "pizza slice", "slice of pizza"),
    "hamburger": ("hamburgers", "burger", "burgers", "cheeseburger"),
    "cake": ("cakes", "birthday cake", "pie"),
    "bread": ("breads", "loaf", "loaf of bread", "toast", "baguette"),
    "car": ("cars", "automobile", "automobiles", "auto", "sedan"),
    "bus": ("buses", "coach"),
    "truck": ("trucks", "lorry", "lorries", "van"),
    "bicycle": ("bicycles", "bike", "bikes"),
    "train": ("trains", "locomotive", "railway"),
    "airplane": ("airplanes", "aeroplane", "plane", "planes", "aircraft", "jet"),
    "boat": ("boats", "sailboat", "ship", "ships"),
    "rocket": ("rockets", "spaceship", "spacecraft"),
    "house": ("houses", "home", "building", "buildings"),
    "chair": ("chairs", "seat", "stool"),
    "sofa": ("sofas", "couch", "couches", "settee"),
    "clock": ("clocks", "alarm clock", "watch"),
    "book": ("books", "notebook", "novel"),
    "laptop": ("laptops", "computer", "computers", "notebook computer"),
    "umbrella": ("umbrellas", "parasol"),
    "cup": ("cups", "mug", "mugs", "cup of coffee", "teacup", "coffee"),
    "bottle": ("bottles", "flask", "wine bottle"),
    "scissors": ("scissor", "pair of scissors", "shears"),
    "guitar": ("guitars", "electric guitar"),
    "balloon": ("balloons",),
    "shoe": ("shoes", "sneaker", "sneakers", "boot"),
    "tree": ("trees", "palm tree", "palm"),
    "cactus": ("cacti", "cactuses"),
    "sunflower": ("sunflowers", "flower", "flowers"),
    BACKGROUND: ("backdrop", "nothing", "empty background"),
}

# What competes with labels as an other (`clipdiy.others`): the starter knows nothing else.
OTHERS: tuple[str, ...] = tuple(noun for noun in SYNONYMS if noun != BACKGROUND)

# Words that change nothing about which noun is meant; seen in front of nouns in training.
ADJECTIVES: tuple[str, ...] = (
    "red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "black", "white",
    "gray", "grey", "small", "big", "large", "little",
)  # fmt: skip


def words_of(text: str) -> list[str]:
    """Lower-case words of a text; anything but letters and digits separates them."""
    return re.findall(r"[^\W_]+", text.lower())


def known_words() -> frozenset[str]:
    """Every word that occurred in a training text, lower case."""
    texts = [*TEMPLATES, *ADJECTIVES, *SYNONYMS]
    for synonyms in SYNONYMS.values():
        texts.extend(synonyms)
    return frozenset(word for text in texts for word in words_of(text))


def unknown_words(labels: Sequence[str]) -> list[str]:
    """Words of the labels that the starter never saw.

    Args:
        labels: Label names or prompts as a person wrote them, any case.

    Returns:
        The unknown words, lower case, each once, in order of appearance. A label with no word
        at all (empty, or only signs) is returned as it is. Empty when everything is known.
    """
    known = known_words()
    unknown: dict[str, None] = {}
    for label in labels:
        words = words_of(label)
        for word in words or [label]:
            if word not in known:
                unknown.setdefault(word)
    return list(unknown)
