"""Prompts are embedded before masks are made with them: in slices, so that nobody waits for another's long list."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol

from backend.labeling.controls import LabelConfig
from backend.predicting.fair_pool import FairPool, Lane
from clipdiy.recent import Recent
from clipdiy.vocabulary import Vocabulary, make_vocabulary

SLICE = 64
"""Prompts that are embedded together: a fraction of a second on a CPU."""
REMEMBERED = 20_000


class TextEmbedder(Protocol):
    """What is used of a method: prompts that were embedded once are known to it from then on."""

    def other_prompts(self, words: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the texts of others: of those that were named, or of its list."""

    def embed_prompts(self, prompts: Sequence[str]) -> None:
        """Embed what is not known yet."""

    def choose_others(self, vocabulary: Vocabulary, words: Sequence[str] | None = None) -> object:
        """Choose what competes with labels; the first choice takes longest."""


class Words:
    """Embeds prompts, each once. Safe from any thread."""

    def __init__(self, core: TextEmbedder, networks: FairPool) -> None:
        """Take what embeds, and the thread in which it does."""
        self._core = core
        self._networks = networks
        self._known: Recent[str, None] = Recent(REMEMBERED)

    def learn(self, config: LabelConfig, owner: str, lane: Lane = Lane.REQUEST) -> "list[Future[None]]":
        """Begin to embed what is new in a config.

        Args:
            config: With the labels of its task, if some stand there.
            owner: With whom others take turns.
            lane: How urgent it is.

        Returns:
            One future for each slice, to be waited for before a picture is segmented; none if all is known.
        """
        return self._begin(self._prompts(config), owner, lane)

    @contextmanager
    def learning(self, config: LabelConfig, owner: str, lane: Lane) -> "Iterator[list[Future[None]]]":
        """Begin as `learn` does, for somebody who may give up: nothing that has not begun is embedded afterwards."""
        begun = self.learn(config, owner, lane)
        try:
            yield begun
        finally:
            for future in begun:
                future.cancel()

    def learn_others(self) -> "list[Future[Any]]":
        """Begin to embed the list of others, which most projects need, and to look once what belongs to whom."""
        learning = self._begin(self._core.other_prompts(None), "", Lane.REQUEST)
        anything = make_vocabulary(["object"])
        return [*learning, self._networks.submit(lambda: self._core.choose_others(anything))]

    def _begin(self, prompts: Iterable[str], owner: str, lane: Lane) -> "list[Future[None]]":
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        slices = [new[start : start + SLICE] for start in range(0, len(new), SLICE)]
        return [self._networks.submit(lambda part=part: self._embed(part), owner=owner, lane=lane) for part in slices]  # type: ignore[misc]

    def _embed(self, prompts: Sequence[str]) -> None:
        self._core.embed_prompts(prompts)
        for prompt in prompts:
            self._known.put(prompt, None)

    def _prompts(self, config: LabelConfig) -> Iterator[str]:
        drawn = [control for control in config.controls if control.drawn]
        for control in drawn:
            yield from control.background
            for label in control.drawn:
                yield from label.prompts
        for others in dict.fromkeys(control.others for control in drawn):
            if others is not None:
                yield from self._core.other_prompts(others.words)
