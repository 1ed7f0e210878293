"""What is done with each task of a request, in which threads: loading, words, networks, regions."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

from backend.images.asking import Asker
from backend.images.pages import ImageKey, pictures_of
from backend.labeling.controls import LabelConfig
from backend.predicting.fair_pool import FairPool, Lane
from backend.predicting.pictures import LoadedPicture, Pictures
from backend.predicting.words import Words
from clipdiy.method import Features

Kept = TypeVar("Kept")
Prediction = dict[str, Any]
Make = Callable[[Mapping[str, Any], Mapping[ImageKey, Features]], Kept]
"""Makes the answer of a task of the features of its pictures, in a thread that computes alone."""


class RequestStages(Generic[Kept]):
    """The stages of one request. Close it when the request has been answered.

    Pictures are downloaded and decoded in threads of the request's own, so that one that waits for a slow server keeps
    nobody else waiting; the networks and the threads that make regions are shared, in turns among projects.
    """

    def __init__(
        self,
        config: LabelConfig,
        asker: Asker,
        make: Make[Kept],
        *,
        pictures: Pictures,
        words: Words,
        finishing: FairPool,
        load_threads: int,
        lane: Lane = Lane.REQUEST,
    ) -> None:
        """Take what works, and for whom.

        Args:
            config: The project's.
            asker: Where the request came from, and when it has to be answered.
            make: Makes a task's answer of the features of its pictures.
            pictures: Brings features.
            words: Embeds prompts.
            finishing: The threads in which answers are made.
            load_threads: Pictures of this request that are downloaded and decoded at the same time.
            lane: How urgent it is.
        """
        self._config = config
        self._asker = asker
        self._make = make
        self._pictures = pictures
        self._words = words
        self._finishing = finishing
        self._lane = lane
        self._loading = ThreadPoolExecutor(load_threads, thread_name_prefix="load")

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Begin no more downloads; those under way end by themselves, with the deadline at the latest."""
        self._loading.shutdown(wait=False, cancel_futures=True)

    def load(self, task: Mapping[str, Any]) -> "Future[dict[ImageKey, LoadedPicture]]":
        """Bring in the pictures of a task, by field and page."""

        def job() -> dict[ImageKey, LoadedPicture]:
            data = task.get("data")
            self._config.for_task(data)  # labels that are missing are better known before anything is downloaded
            values = pictures_of(data, self._config.controls)
            return {key: self._pictures.load(value, task.get("id"), self._asker) for key, value in values.items()}

        return self._loading.submit(job)

    def words(self, task: Mapping[str, Any]) -> "Sequence[Future[None]]":
        """Embed the prompts that are not known yet."""
        config = self._config.for_task(task.get("data"))
        return self._words_of_all if config is self._config else self._learn(config)

    @cached_property
    def _words_of_all(self) -> "list[Future[None]]":
        return self._learn(self._config)

    def _learn(self, config: LabelConfig) -> "list[Future[None]]":
        return self._words.learn(config, self._asker.owner, self._lane)

    def encode(self, picture: LoadedPicture) -> "Future[Features]":
        """Bring the features of a picture."""
        return self._pictures.encode(picture, self._asker.owner, self._lane)

    def finish(self, task: Mapping[str, Any], features: Mapping[ImageKey, Features]) -> "Future[Kept]":
        """Make the answer of a task."""
        return self._finishing.submit(lambda: self._make(task, features), owner=self._asker.owner, lane=self._lane)
