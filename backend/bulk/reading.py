"""How the pictures of a bulk run are fetched: from folders and buckets, from the web within the service's rules."""

import threading

from backend.bulk.places import SCHEMES, Stores, scheme_of
from backend.deadline import Deadline
from backend.images.host import LabelStudioHost
from backend.images.loader import ImageLoader
from backend.images.versions import Fetched, Validator
from backend.predicting.feature_cache import content_of
from clipdiy.photo import Photo, Window


class BulkLoader:
    """A `PhotoLoader` that remembers the digests of what it fetched. May be used by any number of threads."""

    def __init__(self, stores: Stores, images: ImageLoader, *, max_bytes: int, timeout_s: float) -> None:
        """Take what opens, and what decodes.

        Args:
            stores: Opens folders and buckets.
            images: Decodes; fetches what is neither.
            max_bytes: Largest file.
            timeout_s: For one picture.
        """
        self._stores = stores
        self._images = images
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._digests: dict[str, str] = {}
        self._lock = threading.Lock()

    def fetch(self, value: str, *, task_id: object = None, host: LabelStudioHost | None = None) -> bytes:
        """Return a file; errors as `ImageLoader.fetch`."""
        data = self._fetch(value, task_id, host, Deadline.never())
        self.take_digest(value)
        return data

    def fetch_if_changed(
        self,
        value: str,
        *,
        task_id: object,
        host: LabelStudioHost,
        known: Validator | None = None,
        deadline: Deadline | None = None,
    ) -> Fetched:
        """Return the file; arguments and errors as `ImageLoader.fetch_if_changed`."""
        return Fetched(self._fetch(value, task_id, host, deadline or Deadline.never()))

    def _fetch(self, value: str, task_id: object, host: LabelStudioHost | None, deadline: Deadline) -> bytes:
        scheme = scheme_of(value)
        if scheme is None or scheme in SCHEMES:
            within = deadline.at_most(self._timeout_s)
            data = self._stores.read(value, max_bytes=self._max_bytes, deadline=within)
        else:
            data = self._images.fetch(value, task_id=task_id, host=host)
        digest = content_of(data)
        with self._lock:
            self._digests[value] = digest
        return data

    def decode(
        self, data: bytes, value: str, *, window: Window | None = None, deadline: Deadline | None = None
    ) -> Photo:
        """Decode it; as `ImageLoader.decode`."""
        return self._images.decode(data, value, window=window, deadline=deadline)

    def take_digest(self, value: str) -> str | None:
        """Return the SHA-256 of a file that was fetched, and forget it; `None` if it was not."""
        with self._lock:
            return self._digests.pop(value, None)
