"""Which classes an image is to be segmented into, and the prompts that stand for each in CLIP."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from clipdiy.config import PUBLISHED_TEMPLATE
from clipdiy.errors import VocabularyError

BACKGROUND = "background"


@dataclass(frozen=True)
class Label:
    """One class of the vocabulary.

    Attributes:
        name: What a person calls the class. Two labels may have the same name: labels are told apart by position.
        prompts: Whole texts for CLIP's text tower (`a photo of a cat`), at least one. Several are averaged as unit
            vectors.
        stuff: Whether it is stuff (sky, road, grass), not things that can be counted. What finds objects finds no
            stuff, so that it competes with the background (see `clipdiy.guide`).
    """

    name: str
    prompts: tuple[str, ...]
    stuff: bool = False

    def __post_init__(self) -> None:
        if not self.prompts or any(not prompt.strip() for prompt in self.prompts):
            raise VocabularyError(f"label {self.name!r} has no prompt, or an empty one: {self.prompts!r}")


@dataclass(frozen=True)
class Vocabulary:
    """The classes of a segmentation, by position; position 0 is always the background (t0 of the paper).

    Attributes:
        labels: Background first, then the labels in the order they were given.
        others: Classes that compete with the labels for objects, as one of them, and are drawn as nothing. They have
            no position in what comes out: `len`, `names` and every label map are of the labels alone.
    """

    labels: tuple[Label, ...]
    others: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise VocabularyError("a vocabulary needs at least one label besides the background")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Names by position, background first."""
        return tuple(label.name for label in self.labels)

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """Prompts by position, background first, the others last. This, not the names, decides what is found."""
        return tuple(label.prompts for label in (*self.labels, *self.others))

    def with_others(self, others: Iterable[Label]) -> "Vocabulary":
        """Return the same labels beside these others instead."""
        return Vocabulary(self.labels, tuple(others))

    @property
    def stuff(self) -> tuple[int, ...]:
        """Positions of the labels that are stuff, ascending; the background is not one of them."""
        return tuple(i for i, label in enumerate(self.labels) if i and label.stuff)


def phrases_to_prompts(phrases: Iterable[str], templates: Sequence[str] = (PUBLISHED_TEMPLATE,)) -> tuple[str, ...]:
    """Put every phrase into every template, phrases first; `{}` is where the phrase goes.

    Raises:
        VocabularyError: If a template has no `{}` in it.
    """
    for template in templates:
        if "{}" not in template:
            raise VocabularyError(f"a prompt template must hold {{}} where the label goes, got {template!r}")
    # str.replace, not str.format: a label may hold braces of its own.
    return tuple(template.replace("{}", phrase) for phrase in phrases for template in templates)


def make_vocabulary(
    labels: Iterable[str | tuple[str, Sequence[str]]],
    *,
    template: str | Sequence[str] = PUBLISHED_TEMPLATE,
    background: Sequence[str] = (BACKGROUND,),
    stuff: Collection[str] = (),
) -> Vocabulary:
    """Build a vocabulary from label names, adding the background at position 0.

    Args:
        labels: Names, or (name, phrases) where CLIP is to be asked for other words than the name.
        template: Text the words are put into, or several. The published numbers use `a photo of a {}` even before a
            vowel.
        background: Phrases that stand for the background.
        stuff: Names of those labels that are stuff.

    Raises:
        VocabularyError: If there is no label, a label is blank, the template has no `{}`, or stuff is no label.
    """
    templates = (template,) if isinstance(template, str) else tuple(template)
    made = [Label(BACKGROUND, phrases_to_prompts(background, templates))]
    for entry in labels:
        name, phrases = (entry, (entry,)) if isinstance(entry, str) else entry
        words = [phrase.strip() for phrase in phrases]
        if not all(words):
            raise VocabularyError(f"label {name!r} is blank: give it a name or a phrase that CLIP can be asked for")
        made.append(Label(name, phrases_to_prompts(words, templates), name in stuff))
    unknown = sorted(set(stuff) - {label.name for label in made[1:]})
    if unknown:
        raise VocabularyError(f"what is stuff must be a label too, and {', '.join(map(repr, unknown))} is none")
    return Vocabulary(tuple(made))
