"""What brings a picture's features: known ones from the cache, else from its file through the networks, once.

    value -> file (only if it may have changed) -> features from the cache
                                                -> or photo -> queue -> networks -> cache -> features

Features are kept the moment they exist, whoever still waits for them: a request whose deadline has come loses nothing
that was begun. A picture that several wait for goes through the networks once.
"""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Protocol

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.asking import Asker
from backend.images.host import LabelStudioHost
from backend.images.values import source_key
from backend.images.versions import Fetched, Validator
from backend.interactive.interactor import Picture, ReadWindow
from backend.metrics import Metrics
from backend.predicting.fair_pool import FairPool, FairQueue, Lane
from backend.predicting.feature_cache import FeatureCache, content_of
from backend.predicting.segmenting import Segmenting
from clipdiy.method import Features
from clipdiy.photo import Photo, Window
from clipdiy.recent import Recent

logger = logging.getLogger(__name__)

UNCLAIMED = 16
"""Pictures whose features were ready when nobody waited any more."""
FILES = 8
HANDED_OVER = "the picture"
"""What stands for its address in messages."""
FILE_BYTES = 64_000_000
"""Files of pictures that boxes are drawn on, so that not every box downloads its picture again."""


class PhotoLoader(Protocol):
    """Where photos come from; `backend.images.loader.ImageLoader`, or a fake in tests."""

    def fetch_if_changed(
        self,
        value: str,
        *,
        task_id: object,
        host: LabelStudioHost,
        known: Validator | None = None,
        deadline: Deadline | None = None,
    ) -> Fetched:
        """Return the file that a task's value names, or that it is still the known one; or raise `TaskError`."""

    def decode(
        self, data: bytes, value: str, *, window: Window | None = None, deadline: Deadline | None = None
    ) -> Photo:
        """Decode it, or a window of it with all of its pixels, or raise `TaskError`."""


@dataclass(frozen=True)
class LoadedPicture:
    """One picture of a task, as far as it had to be brought in.

    Attributes:
        content: SHA-256 of its file.
        photo: Its pixels, unless its features are known.
        features: Its features, if they are known.
    """

    content: str
    photo: Photo | None = None
    features: Features | None = None


@dataclass
class _Encoding:
    """A picture on its way through the networks, and all who wait for it.

    Attributes:
        content: SHA-256 of its file.
        photo: Its pixels.
        lane: How urgent it is to the one who is most in a hurry.
        waiting: All who wait.
        has_begun: It is in the networks, or has been; it may still stand in the queue for those who came later.
    """

    content: str
    photo: Photo
    lane: Lane
    waiting: "list[Future[Features]]" = field(default_factory=list)
    has_begun: bool = False


class Pictures:
    """Brings features of pictures, for any number of requests at the same time."""

    def __init__(
        self,
        methods: Segmenting,
        loader: PhotoLoader,
        cache: FeatureCache,
        networks: FairPool,
        metrics: Metrics,
        *,
        image_batch: int = 1,
    ) -> None:
        """Take what loads, encodes and keeps.

        Args:
            methods: Encode whole pictures and pieces of them.
            loader: Fetches and decodes files.
            cache: Keeps features.
            networks: The thread in which they do.
            metrics: Where it is counted.
            image_batch: Pictures that go through the networks together, whoever asked for them.
        """
        self._methods = methods
        self._loader = loader
        self._cache = cache
        self._networks = networks
        self._metrics = metrics
        self._image_batch = image_batch
        self._keeping = FairPool(1, "keep")
        self._files: Recent[str, bytes] = Recent(FILES, most_bytes=FILE_BYTES, size_of=len)
        self._queue: FairQueue[_Encoding] = FairQueue()
        self._encodings: dict[str, _Encoding] = {}
        self._unclaimed: Recent[str, Features] = Recent(UNCLAIMED)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Keep what has been encoded. The networks' thread is to be ended first."""
        self._keeping.close(finish=True)
        with self._lock:
            for encoding in self._encodings.values():
                for future in encoding.waiting:
                    future.cancel()

    def load(self, value: str, task_id: object, asker: Asker) -> LoadedPicture:
        """Bring in the picture that a task's value names: its features where they are known, else its pixels.

        Raises:
            TaskError: If it cannot be had, or not in time.
        """
        with self._metrics.stage_seconds.labels("load").time():
            return self._load(value, task_id, asker)

    def _load(self, value: str, task_id: object, asker: Asker) -> LoadedPicture:
        source = source_key(value, task_id, asker.host)
        known = self._cache.source(source)
        if known is not None:
            fetched = self._fetch(value, task_id, asker, known.validator)
            if fetched.data is None:
                features = self.known(known.content)
                if features is not None:
                    self._metrics.cache.labels("not-downloaded").inc()
                    return LoadedPicture(known.content, features=features)
                # Unchanged, but its features have been dropped meanwhile: the file is needed after all.
                fetched = self._fetch(value, task_id, asker)
        else:
            fetched = self._fetch(value, task_id, asker)
        if fetched.data is None:
            raise TaskError("download", "the source says that nothing has changed, though nothing was known")
        content = content_of(fetched.data)
        self._cache.remember_source(source, content, fetched.validator)
        features = self.known(content)
        if features is not None:
            self._metrics.cache.labels("hit").inc()
            return LoadedPicture(content, features=features)
        self._metrics.cache.labels("miss").inc()
        return LoadedPicture(content, photo=self._loader.decode(fetched.data, value, deadline=asker.deadline))

    def _fetch(self, value: str, task_id: object, asker: Asker, known: Validator | None = None) -> Fetched:
        return self._loader.fetch_if_changed(
            value, task_id=task_id, host=asker.host, known=known, deadline=asker.deadline
        )

    def known(self, content: str) -> Features | None:
        """Return the features of a picture by the SHA-256 of its file, if they are kept."""
        return self._cache.get(content, self._methods.whole.encoder_identity) or self._unclaimed.pop(content)

    def encode(self, picture: LoadedPicture, owner: str, lane: Lane = Lane.REQUEST) -> "Future[Features]":
        """Return the features of a picture, known or to come.

        Args:
            picture: As `load` returned it.
            owner: With whom others take turns.
            lane: How urgent it is.

        Returns:
            A future of the caller's own. Once all who wait for a picture have cancelled theirs, it is left out if it
            has not begun; what has begun is finished and kept.
        """
        future: Future[Features] = Future()
        if picture.features is not None:
            future.set_result(picture.features)
            return future
        assert picture.photo is not None, "what has no features has pixels"
        with self._lock:
            encoding = self._encodings.get(picture.content)
            if encoding is not None:
                encoding.waiting.append(future)
                if encoding.has_begun or encoding.lane <= lane:
                    return future
                encoding.lane = lane  # who is in more of a hurry does not wait where the first one stands
            else:
                features = self.known(picture.content)  # somebody else may have been quicker since it was loaded
                if features is not None:
                    future.set_result(features)
                    return future
                encoding = _Encoding(picture.content, picture.photo, lane, [future])
                self._encodings[picture.content] = encoding
            self._queue.put(encoding, owner, lane)
        self._networks.submit(self._encode_next, owner=owner, lane=lane)
        return future

    def _encode_next(self) -> None:
        """In the networks' thread: encode a batch of what is waiting, and pass it on to be kept."""
        batch = self._take_batch()
        if not batch:
            return  # an earlier batch took it along
        begun = time.monotonic()
        outcomes = self._encode_batch([encoding.photo for encoding in batch])
        per_picture = (time.monotonic() - begun) / len(batch)
        for encoding, outcome in zip(batch, outcomes, strict=True):
            self._metrics.stage_seconds.labels("encode").observe(per_picture)
            # Writing to a disk must not keep the networks waiting.
            self._keeping.submit(lambda encoding=encoding, outcome=outcome: self._keep(encoding, outcome))  # type: ignore[misc]

    def _take_batch(self) -> list[_Encoding]:
        batch: list[_Encoding] = []
        up_to = Lane.BACKGROUND
        with self._lock:
            while len(batch) < self._image_batch and (encoding := self._queue.take(up_to)) is not None:
                if encoding.has_begun:
                    continue  # from where it stood before somebody was in more of a hurry
                encoding.has_begun = True
                if all(future.cancelled() for future in encoding.waiting):
                    del self._encodings[encoding.content]
                else:
                    batch.append(encoding)
                    # What nobody waits for does not make the way longer for those who wait.
                    up_to = max(Lane.REQUEST, encoding.lane)
        return batch

    def _encode_batch(self, photos: Sequence[Photo]) -> "list[Features | Exception]":
        """Encode photos together; if that fails, one by one, to find out which of them it was."""
        try:
            return [*self._methods.whole.encode(photos)]
        except Exception as err:  # noqa: BLE001 - whatever it is, it concerns one photo
            if len(photos) == 1:
                return [err]
            logger.warning(
                "a batch of %d pictures failed (unexpected %s): trying them one by one", len(photos), type(err).__name__
            )
        return [outcome for photo in photos for outcome in self._encode_batch([photo])]

    def _keep(self, encoding: _Encoding, outcome: "Features | Exception") -> None:
        """Keep the features, then give them to all who wait: from here on they are known.

        If nobody does, they are held for the next who asks, also where nothing is cached: a deadline that is shorter
        than the networks take must not begin the same picture again and again.
        """
        if not isinstance(outcome, Exception):
            try:
                self._cache.put(encoding.content, self._methods.whole.encoder_identity, outcome)
            except Exception as err:  # noqa: BLE001 - those who wait get their features all the same
                logger.error("features could not be kept: unexpected %s", type(err).__name__)
        with self._lock:
            del self._encodings[encoding.content]
            waiting = [future for future in encoding.waiting if future.set_running_or_notify_cancel()]
            if not waiting and not isinstance(outcome, Exception):
                self._unclaimed.put(encoding.content, outcome)
        for future in waiting:
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def bring_behind(self, value: str, task_id: object, asker: Asker) -> tuple[str, Features]:
        """Return SHA-256 and features of the picture that a task's value names; behind all that somebody waits for.

        Raises:
            TaskError: If it cannot be had, or not in time.
        """
        loaded = self.load(value, task_id, asker)
        return loaded.content, _in_time(self.encode(loaded, asker.owner, Lane.BACKGROUND), asker.deadline)

    # For those who wait with the mouse in the hand.

    def bring(self, value: str, task_id: object, asker: Asker) -> Picture:
        """Return the picture that a task's value names, encoded.

        Raises:
            TaskError: If it cannot be had, or not in time.
        """
        loaded = self.load(value, task_id, asker)
        features = _in_time(self.encode(loaded, asker.owner, Lane.INTERACTIVE), asker.deadline)
        return Picture(loaded.content, features, self._reader(value, task_id, asker.host, loaded.content))

    def _reader(self, value: str, task_id: object, host: LabelStudioHost, content: str) -> ReadWindow:
        def read(window: Window, deadline: Deadline) -> Photo:
            data = self._files.get(content)
            if data is None:
                data = self._loader.fetch_if_changed(value, task_id=task_id, host=host, deadline=deadline).data
                if data is None or content_of(data) != content:
                    raise TaskError("download", "the picture has changed since it was opened; open the task again")
                self._files.put(content, data)
            return self._loader.decode(data, value, window=window, deadline=deadline)

        return read

    def bring_file(self, data: bytes, asker: Asker) -> tuple[Photo, Features]:
        """Return a picture that somebody has handed over, decoded and encoded.

        Raises:
            TaskError: If it cannot be read, or not in time.
        """
        with self._metrics.stage_seconds.labels("load").time():
            photo = self._loader.decode(data, HANDED_OVER, deadline=asker.deadline)
        content = content_of(data)
        known = self.known(content)
        self._metrics.cache.labels("miss" if known is None else "hit").inc()
        loaded = LoadedPicture(content, photo, known)
        return photo, _in_time(self.encode(loaded, asker.owner, Lane.INTERACTIVE), asker.deadline)

    def encode_piece(self, photo: Photo, asker: Asker) -> Features:
        """Encode a piece of a picture now, the quick way; see `clipdiy.method.Method.for_pieces`.

        Raises:
            TaskError: `deadline`, if the networks were not free in time.
        """
        pieces = self._methods.pieces
        piece = self._networks.submit(lambda: pieces.encode([photo])[0], owner=asker.owner, lane=Lane.INTERACTIVE)
        return _in_time(piece, asker.deadline)


def _in_time(future: "Future[Features]", deadline: Deadline) -> Features:
    try:
        return future.result(deadline.left_s)
    except FutureTimeoutError as err:
        if future.done():  # the job's own
            raise
        future.cancel()
        raise TaskError("deadline", "the networks were busy until the deadline") from err
