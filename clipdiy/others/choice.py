"""Which others compete with the labels of a vocabulary, and why not the rest?

First WordNet decides (`clipdiy.others.kin`), then what the words are to this CLIP: an other whose text embedding is
nearly a label's would only take its pixels. How near is too near is read off the list itself, because cosines of texts
lie high in one model and low in the next. Take of every noun the cosine to the nearest noun that is not of its kind:
that is how near different things come to each other. Nine tenths of them (`APART`) stay below some cosine q. An other
goes if its cosine to a label is above

    q            where WordNet does not know the label (a brand, another language): nothing else decides;
    (1 + q) / 2  where it does, half way from q to the same text: WordNet has said already what belongs to the label.

So an other goes for nothing with one in ten of the labels that WordNet does not know: one of 900, while a label that
loses to itself is lost whole. Chosen without real weights: with the starter's, q is 0.686, different nouns come as near
as 0.721, and each of the 143 synonyms lies within 0.995 of its noun (`python -m benchmarks.others --near`).
"""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from clipdiy.config import PUBLISHED_TEMPLATE
from clipdiy.others.kin import Kin, Kinship, meaning_of, noun_for
from clipdiy.others.nouns import Noun, default_nouns
from clipdiy.others.phrases import whole_phrases
from clipdiy.others.relations import load_relations
from clipdiy.recent import Recent
from clipdiy.vocabulary import BACKGROUND, Label, Vocabulary, phrases_to_prompts

APART = 0.9
LEAST_NOUNS = 8  # of fewer, one cannot tell what is near
KEPT_CHOICES = 64
EmbedTexts = Callable[[Sequence[str]], Tensor]
EmbedVocabulary = Callable[[Vocabulary], Tensor]


@dataclass(frozen=True)
class LeftOut:
    """An other that does not compete.

    Attributes:
        other: Its name.
        label: Name of the label that it belongs to.
        why: How.
        cosine: Of their text embeddings, where that is why.
    """

    other: str
    label: str
    why: Kinship
    cosine: float | None = None

    def __str__(self) -> str:
        """Say it to a person."""
        measured = "" if self.cosine is None else f" (cosine {self.cosine:.3f})"
        return self.why.value.format(other=self.other, label=self.label) + measured


@dataclass(frozen=True)
class Choice:
    """What was decided for one vocabulary.

    Attributes:
        competing: The others that compete, as classes.
        left_out: The rest, and why; an other that belongs to several labels stands here once, with the first.
    """

    competing: tuple[Label, ...]
    left_out: tuple[LeftOut, ...]

    def left_out_by_label(self) -> dict[str, list[LeftOut]]:
        """Return what does not compete, label by label, both in the order in which they stand in `left_out`."""
        by_label: dict[str, list[LeftOut]] = {}
        for left in self.left_out:
            by_label.setdefault(left.label, []).append(left)
        return by_label


@dataclass(frozen=True)
class _List:
    """The list, as one CLIP reads it.

    Attributes:
        labels: As classes.
        kin: Who belongs to a label.
        embeddings: (N, D) float32 unit vectors.
        near: See `near_cosines`.
    """

    labels: tuple[Label, ...]
    kin: Kin
    embeddings: Tensor
    near: tuple[float, float]


class Chooser:
    """Chooses others for the vocabularies of one CLIP. Safe to use from several threads."""

    def __init__(
        self,
        embed_texts: EmbedTexts,
        embed_vocabulary: EmbedVocabulary,
        *,
        names: Sequence[str] | None = None,
        templates: Sequence[str] = (PUBLISHED_TEMPLATE,),
    ) -> None:
        """Take the text tower. Nothing is embedded and no file is read yet.

        Args:
            embed_texts: Whole texts to (N, D) unit vectors.
            embed_vocabulary: A vocabulary to (C, D) unit vectors.
            names: The list; `None` for the one that comes with the product.
            templates: Texts that the others' words are put into; several are averaged.
        """
        self._embed_texts = embed_texts
        self._embed_vocabulary = embed_vocabulary
        self._names = names
        self._templates = tuple(templates)
        self._choices: Recent[Hashable, Choice] = Recent(KEPT_CHOICES)
        self._lock = threading.Lock()

    def choose(self, vocabulary: Vocabulary, words: Sequence[str] | None = None) -> Choice:
        """Choose the others that compete with a vocabulary's labels.

        Args:
            vocabulary: Its own others are not looked at.
            words: Others that a person named, instead of the list. They compete whatever they are kinds of, unless
                they are a label's own word: who names them knows why. The same holds for what a person wrote that the
                background is, which also competes as an object.
        """
        key = (vocabulary.labels, None if words is None else tuple(words))
        with self._lock:
            known = self._choices.get(key)
            if known is None:
                named = _background_words(vocabulary)
                if words is None:
                    known = self._listed(vocabulary, named)
                else:
                    known = self._named(vocabulary, named | {word: self._prompts(word) for word in words})
                self._choices.put(key, known)
        return known

    def prompts(self, words: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the texts of everything that may compete: embedded before, they make choosing quick.

        Args:
            words: As for `choose`.
        """
        if words is None:
            words = self._names if self._names is not None else [noun.name for noun in default_nouns()]
        return tuple(prompt for word in words for prompt in self._prompts(word))

    def near(self) -> tuple[float, float]:
        """Return the cosines beyond which an other of the list is too near to a label: known, and not known to WordNet.

        Infinite if the list is too short to say.
        """
        with self._lock:
            return self._list.near

    @cached_property
    def _list(self) -> "_List":
        relations = load_relations()
        nouns = default_nouns()
        if self._names is not None:
            known = {noun.name: noun for noun in nouns}
            nouns = tuple(noun_for(name, relations, known) for name in self._names)
        labels = tuple(Label(noun.name, self._prompts(noun.name)) for noun in nouns)
        texts = self._embed_texts([prompt for label in labels for prompt in label.prompts])
        embeddings = F.normalize(texts.reshape(len(labels), len(self._templates), -1).mean(dim=1), dim=-1)
        return _List(labels, Kin(nouns, relations), embeddings, near_cosines(embeddings, kin_matrix(nouns)))

    def _listed(self, vocabulary: Vocabulary, named: Mapping[str, tuple[str, ...]]) -> Choice:
        others, relations = self._list, load_relations()
        left_out: dict[int, LeftOut] = {}
        meanings = [meaning_of(label.prompts, relations) for label in vocabulary.labels[1:]]
        for label, meaning in zip(vocabulary.labels[1:], meanings, strict=True):
            for number, why in others.kin.of(meaning).items():
                left_out.setdefault(number, LeftOut(others.labels[number].name, label.name, why))
        near, near_unknown = others.near
        limits = torch.tensor([near if meaning.synsets else near_unknown for meaning in meanings])
        cosines = (self._embed_vocabulary(Vocabulary(vocabulary.labels))[1:] @ others.embeddings.T).cpu()
        for row, number in (cosines > limits[:, None]).nonzero().tolist():
            names = others.labels[number].name, vocabulary.labels[1 + row].name
            left_out.setdefault(number, LeftOut(*names, Kinship.CLOSE, float(cosines[row, number])))
        by_name = self._named(vocabulary, named)
        listed = (
            label for number, label in enumerate(others.labels) if number not in left_out and label.name not in named
        )
        left = (left_out[number] for number in sorted(left_out) if left_out[number].other not in named)
        return Choice((*by_name.competing, *listed), (*by_name.left_out, *left))

    def _named(self, vocabulary: Vocabulary, prompts: Mapping[str, tuple[str, ...]]) -> Choice:
        relations, words = load_relations(), list(prompts)
        kin = Kin([noun_for(word, relations, {}) for word in words], relations)
        left_out: dict[str, LeftOut] = {}
        for label in vocabulary.labels[1:] if words else ():
            for number, why in kin.of(meaning_of(label.prompts, relations)).items():
                if why is Kinship.SAME:
                    left_out.setdefault(words[number], LeftOut(words[number], label.name, why))
        competing = (Label(word, texts) for word, texts in prompts.items() if word not in left_out)
        return Choice(tuple(competing), tuple(left_out.values()))

    def _prompts(self, word: str) -> tuple[str, ...]:
        return phrases_to_prompts((word,), self._templates)


def _background_words(vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """Return what a person wrote that the background is, with its prompts; the word *background* is none of it.

    One word in several templates (`a photo of a wall`, `the origami wall`) is one other.
    """
    found: dict[str, tuple[str, ...]] = {}
    named = {prompt: phrases[-1] for prompt in vocabulary.labels[0].prompts if (phrases := whole_phrases(prompt))}
    for prompt, phrase in named.items():
        word = min((other for other in named.values() if phrase.endswith(other)), key=len)
        if not word.endswith(BACKGROUND):
            found[word] = (*found.get(word, ()), prompt)
    return found


def kin_matrix(nouns: Sequence[Noun]) -> Tensor:
    """Say which nouns of a list are the same, or one a kind of the other: (N, N) bool, symmetric."""
    number = {synset: i for i, synset in enumerate({s for noun in nouns for s in noun.synsets | noun.kind_of})}
    own, above = torch.zeros(2, len(nouns), len(number))
    for row, noun in enumerate(nouns):
        own[row, [number[synset] for synset in noun.synsets]] = 1
        above[row, [number[synset] for synset in noun.synsets | noun.kind_of]] = 1
    kind = above @ own.T > 0
    related: Tensor = kind | kind.T | torch.eye(len(nouns), dtype=torch.bool)
    return related


def near_cosines(embeddings: Tensor, kin: Tensor) -> tuple[float, float]:
    """Return beyond which cosines an other is too near to a label that WordNet knows, and to one that it does not.

    Args:
        embeddings: (N, D) float32 unit vectors of a list's nouns.
        kin: (N, N) bool, the diagonal true: between which the cosine says nothing.

    Returns:
        (1 + q) / 2 and q of the module's docstring, or twice infinity for fewer than `LEAST_NOUNS`.
    """
    if len(embeddings) < LEAST_NOUNS:
        return float("inf"), float("inf")
    cosines = (embeddings @ embeddings.T).float().cpu().masked_fill_(kin, -1)
    apart = float(cosines.amax(dim=1).quantile(APART))
    return (1 + apart) / 2, apart
