"""How a value in a task's data becomes a photo: fetched from where it leads, within limits, and decoded."""

import base64
import re
from dataclasses import dataclass

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.addresses import is_at, show_url, split_url
from backend.images.data_uri import read_data_uri
from backend.images.host import LabelStudioHost
from backend.images.local_files import read_local_file
from backend.images.outbound import Outbound, Resolve, resolve_host
from backend.images.pixel_budget import PixelBudget
from backend.images.sources import ImageLimits, ImageSources
from backend.images.tokens import AccessTokens
from backend.images.values import as_path, is_local_file, path_at, scheme_of, show_value
from backend.images.versions import Fetched, Validator
from clipdiy.errors import ImageError
from clipdiy.photo import ImageScansError, ImageTooLargeError, ImageTooSlowError, Photo, Window, decode_photo


@dataclass(frozen=True)
class _Asking:
    """What goes with a value while it is fetched.

    Attributes:
        label_studio: Which one is meant, if any.
        known: Version that the value gave before.
        deadline: Of whoever asks.
    """

    label_studio: LabelStudioHost | None
    known: Validator | None
    deadline: Deadline


class ImageLoader:
    """Fetches images. May be used by any number of threads."""

    def __init__(
        self,
        sources: ImageSources,
        limits: ImageLimits | None = None,
        *,
        keep_px: int | None = None,
        keep_short_px: int = 0,
        resolve: Resolve = resolve_host,
    ) -> None:
        """Keep the rules; nothing is opened yet.

        Args:
            sources: Where images may come from.
            limits: How much of them is taken.
            keep_px: Longer side that whoever uses the photos looks at; `None` keeps all pixels.
            keep_short_px: Shorter side that they look at.
            resolve: How host names are looked up.
        """
        self._sources = sources
        self._limits = limits or ImageLimits()
        self._keep_px = keep_px
        self._keep_short_px = keep_short_px
        self._outbound = Outbound(
            sources.host_policy,
            connect_timeout_s=self._limits.connect_timeout_s,
            max_redirects=self._limits.max_redirects,
            resolve=resolve,
        )
        self._tokens = AccessTokens(self._outbound)
        self._decoding = PixelBudget(
            self._limits.max_decoding_px, remedy="CLIPDIY_MAX_DECODING_PX lets more of them in at once"
        )

    def load(self, value: str, *, task_id: object = None, host: LabelStudioHost | None = None) -> Photo:
        """Fetch and decode an image; arguments and errors as `fetch` and `decode`."""
        return self.decode(self.fetch(value, task_id=task_id, host=host), value)

    def decode(
        self, data: bytes, value: str, *, window: Window | None = None, deadline: Deadline | None = None
    ) -> Photo:
        """Decode an image that was fetched, when there is room for its pixels.

        Args:
            data: The file.
            value: Where it came from, for the message.
            window: Only these rows and columns are wanted, with all of their pixels.
            deadline: Of whoever asks; `ImageLimits.decode_s` holds besides.

        Raises:
            TaskError: `deadline` if that has come; `too-large` (in pixels, or in scans of a JPEG), `timeout` or
                `not-an-image`. Where a setting allows more, the message names it.
        """
        deadline = deadline or Deadline.never()
        limits = self._limits
        try:
            return decode_photo(
                data,
                max_px=limits.max_px,
                keep_px=self._keep_px,
                keep_short_px=self._keep_short_px,
                window=window,
                max_scans=limits.max_scans,
                timeout_s=min(limits.decode_s, deadline.left_s),
                admit=lambda px: self._decoding.hold(px, deadline),
            )
        except ImageTooLargeError as err:
            raise TaskError("too-large", f"{show_value(value)}: {err} (CLIPDIY_MAX_IMAGE_PX)") from err
        except ImageScansError as err:
            raise TaskError("too-large", f"{show_value(value)}: {err} (CLIPDIY_MAX_JPEG_SCANS)") from err
        except ImageTooSlowError as err:
            if deadline.has_come:
                raise TaskError("deadline", f"{show_value(value)}: {err}") from err
            more = "CLIPDIY_DECODE_TIMEOUT_S allows more time"
            raise TaskError("timeout", f"{show_value(value)}: {err}; {more}") from err
        except ImageError as err:
            raise TaskError("not-an-image", f"{show_value(value)}: {err}") from err

    def fetch(self, value: str, *, task_id: object = None, host: LabelStudioHost | None = None) -> bytes:
        """Fetch an image's file whatever its version; see `fetch_if_changed`."""
        fetched = self.fetch_if_changed(value, task_id=task_id, host=host)
        assert fetched.data is not None, "no version was asked about"
        return fetched.data

    def fetch_if_changed(
        self,
        value: str,
        *,
        task_id: object = None,
        host: LabelStudioHost | None = None,
        known: Validator | None = None,
        deadline: Deadline | None = None,
    ) -> Fetched:
        """Fetch an image's file, unless its source says that it still is the version that is known.

        Args:
            value: From the task's data.
            task_id: Needed for cloud addresses, which Label Studio resolves task by task.
            host: The Label Studio that the request came from.
            known: Version that the same value gave before.
            deadline: Of whoever asks; `ImageLimits.timeout_s` holds besides.

        Raises:
            TaskError: `deadline` if that has come; `missing-data`, `unsupported-source`, `refused`, `unauthorized`,
                `not-found`, `download`, `too-many-redirects`, `too-large` or `timeout`.
        """
        value = value.strip()
        if not value:
            raise TaskError("missing-data", "the task's image is an empty text")
        try:
            value.encode()
        except UnicodeEncodeError as err:
            raise TaskError("unsupported-source", "the image's address holds half a character") from err
        scheme = scheme_of(value)
        if scheme == "data":
            self._sources.check_scheme(scheme)
            return Fetched(read_data_uri(value, self._limits.max_bytes))
        label_studio = self._sources.label_studio(host)
        asking = _Asking(label_studio, known, deadline or Deadline.never())
        if scheme is None:
            return self._from_label_studio_path(as_path(value), asking)
        path = path_at(value, label_studio) if scheme in ("http", "https") else None
        if path is not None:
            return self._from_label_studio_path(path, asking)
        self._sources.check_scheme(scheme)
        if scheme not in ("http", "https"):
            return self._from_cloud(value, task_id, asking)
        return self._download(value, asking)

    def _from_label_studio_path(self, path: str, asking: _Asking) -> Fetched:
        label_studio = asking.label_studio
        if self._sources.local_files_roots and is_local_file(path, label_studio):
            content = read_local_file(
                path, self._sources.local_files_roots, max_bytes=self._limits.max_bytes, known=asking.known
            )
            if content is not None:
                return content
            if label_studio is None:
                raise TaskError("not-found", "no configured folder has the local file, and no Label Studio is known")
        if label_studio is None:
            raise TaskError(
                "unsupported-source",
                f"{show_value(path)} is a path of Label Studio, and no Label Studio is known: configure its address",
            )
        return self._download(label_studio.address_of(path), asking)

    def _from_cloud(self, uri: str, task_id: object, asking: _Asking) -> Fetched:
        """Let Label Studio, which has the keys, resolve a cloud address."""
        label_studio = asking.label_studio
        if label_studio is None:
            raise TaskError(
                "unsupported-source",
                f"{show_value(uri)} can only be resolved by Label Studio, and none is known: configure its address",
            )
        if not re.fullmatch(r"[0-9]+", str(task_id)):
            raise TaskError("unsupported-source", f"{show_value(uri)} can only be resolved for a task with an id")
        encoded = base64.urlsafe_b64encode(uri.encode()).decode()
        address = label_studio.address_of(f"/tasks/{task_id}/presign/?fileuri={encoded}")
        try:
            return self._download(address, asking)
        except TaskError as err:
            if err.reason == "not-found":
                raise TaskError(
                    "not-found",
                    f"{show_value(uri)} is not there, or the task's project has no storage that it belongs to",
                ) from err
            raise

    def _download(self, url: str, asking: _Asking) -> Fetched:
        """Download, with credentials for Label Studio's origin only, and once more if they had just ended."""
        within = asking.deadline.at_most(self._limits.timeout_s)
        try:
            return self._download_within(url, asking, within)
        except TaskError as err:
            if err.reason == "timeout" and asking.deadline.has_come:
                raise TaskError("deadline", f"{show_url(url)} was still on its way when the deadline came") from err
            raise

    def _download_within(self, url: str, asking: _Asking, within: Deadline) -> Fetched:
        home = asking.label_studio
        if home is None or not is_at(split_url(url)[1], home.url):
            return self._get(url, asking, None, within)
        authorization = self._tokens.authorization(home, within)
        try:
            return self._get(url, asking, authorization, within)
        except TaskError as err:
            unauthorized = err.reason == "unauthorized"
            if not unauthorized or authorization is None or not self._tokens.forget(home, authorization):
                raise
        return self._get(url, asking, self._tokens.authorization(home, within), within)

    def _get(self, url: str, asking: _Asking, authorization: str | None, within: Deadline) -> Fetched:
        return self._outbound.get_if_changed(
            url,
            max_bytes=self._limits.max_bytes,
            deadline=within,
            home=asking.label_studio,
            authorization=authorization,
            known=asking.known,
        )
