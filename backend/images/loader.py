"""How a value in a task's data becomes a photo, within limits.

    /data/upload/1/x.png, upload/1/x.png      from Label Studio, with the token
    http://<Label Studio>/data/...            the same
    /data/local-files/?d=sub/x.png            from disk if a configured folder has it, else from Label Studio
    s3://bucket/x.png, gs://, azure-blob://   from Label Studio, which passes it on or redirects to a signed address
    https://elsewhere/x.png                   from there, never with the token
    data:image/png;base64,...                 from the value itself

Which Label Studio? The configured one. Only where none is configured, the one that introduced itself on /setup, with
the token that it sent, and then within the rules for hosts that nobody configured (no private addresses).

"""

import base64
import binascii
import os
import posixpath
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from backend.deadline import Deadline
from backend.errors import SettingsError, TaskError
from backend.images.host import LabelStudioHost
from backend.images.outbound import (
    Fetched,
    HostPolicy,
    Origin,
    Outbound,
    Resolve,
    Validator,
    resolve_host,
    show_url,
    split_url,
)
from backend.images.tokens import AccessTokens
from clipdiy.errors import ImageError
from clipdiy.photo import ImageTooLargeError, Photo, decode_photo

_CLOUD = ("s3", "s3s", "gs", "azure-blob")
SCHEMES = ("http", "https", "data", *_CLOUD)
_LOCAL_FILES_PATH = "/data/local-files"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_UNDERSTOOD = (
    "an upload of Label Studio (/data/upload/...), a local file of it (/data/local-files/?d=...), an http or https "
    "address, a cloud address (s3://, gs://, azure-blob://) or a data: URI with base64"
)


@dataclass(frozen=True)
class ImageLimits:
    """How much of an image is taken.

    Attributes:
        max_bytes: Largest file.
        max_px: Most pixels (height x width), known from the header before anything is decoded.
        timeout_s: For one download in all: looking for the host, redirects, every byte.
        connect_timeout_s: For each connection to be made.
        max_redirects: Redirects that are followed.
    """

    max_bytes: int = 50_000_000
    max_px: int = 100_000_000
    timeout_s: float = 30.0
    connect_timeout_s: float = 5.0
    max_redirects: int = 5


@dataclass(frozen=True)
class ImageSources:
    """Where images may come from.

    Attributes:
        label_studio_url: Where Label Studio is for this service. It may have any address, also a private one.
        label_studio_aliases: Other addresses under which the same Label Studio appears in tasks, for example its public
            one; they are replaced by `label_studio_url`.
        token: Legacy or personal access token; else the one that Label Studio sends on /setup.
        local_files_roots: Folders in which /data/local-files/ is looked for first.
        schemes: Kinds of addresses that are followed, out of `SCHEMES`; Label Studio itself always may be asked.
        allowed_hosts: If not empty, the only hosts besides Label Studio. `*.example.org` stands for all names below.
        denied_hosts: Hosts that are never asked.
        private_hosts: Hosts that may have private addresses, for example an object store of your own.
        allow_private_addresses: Every host may; see `backend.images.outbound.HostPolicy`.
    """

    label_studio_url: str | None = None
    label_studio_aliases: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    local_files_roots: tuple[Path, ...] = ()
    schemes: tuple[str, ...] = SCHEMES
    allowed_hosts: tuple[str, ...] = ()
    denied_hosts: tuple[str, ...] = ()
    private_hosts: tuple[str, ...] = ()
    allow_private_addresses: bool = False

    def __post_init__(self) -> None:
        """Refuse addresses and schemes that cannot be meant."""
        for url in (self.label_studio_url, *self.label_studio_aliases):
            try:
                if url is not None:
                    split_url(url)
            except TaskError as err:
                raise SettingsError(f"the address of Label Studio: {err}") from err
        unknown = sorted(set(self.schemes) - set(SCHEMES))
        if unknown:
            raise SettingsError(f"expected schemes out of {', '.join(SCHEMES)}, got {', '.join(unknown)}")
        for root in self.local_files_roots:
            if root.resolve() == Path(root.resolve().anchor):
                raise SettingsError(f"{root} as a folder for local files would open every file: name a folder in it")


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
        policy = HostPolicy(
            allowed_hosts=sources.allowed_hosts,
            denied_hosts=sources.denied_hosts,
            # Files in a cloud come by https, to which Label Studio redirects.
            schemes=(*sources.schemes, "https") if set(_CLOUD) & set(sources.schemes) else sources.schemes,
            private_hosts=sources.private_hosts,
            allow_private_addresses=sources.allow_private_addresses,
        )
        self._outbound = Outbound(
            policy,
            connect_timeout_s=self._limits.connect_timeout_s,
            max_redirects=self._limits.max_redirects,
            resolve=resolve,
        )
        self._tokens = AccessTokens(self._outbound)

    def load(self, value: str, *, task_id: object = None, host: LabelStudioHost | None = None) -> Photo:
        """Fetch and decode an image; arguments and errors as `fetch` and `decode`."""
        return self.decode(self.fetch(value, task_id=task_id, host=host), value)

    def decode(self, data: bytes, value: str, *, whole: bool = False) -> Photo:
        """Decode an image that was fetched.

        Args:
            data: The file.
            value: Where it came from, for the message.
            whole: Keep all of its pixels.

        Raises:
            TaskError: `too-large` (in pixels) or `not-an-image`.
        """
        try:
            keep_px = None if whole else self._keep_px
            return decode_photo(data, max_px=self._limits.max_px, keep_px=keep_px, keep_short_px=self._keep_short_px)
        except ImageTooLargeError as err:
            raise TaskError("too-large", str(err)) from err
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
        scheme = _scheme(value)
        if scheme == "data":
            self._check_scheme(scheme)
            return Fetched(self._from_data_uri(value))
        label_studio = self._label_studio(host)
        asking = _Asking(label_studio, known, deadline or Deadline.never())
        if scheme is None:
            return self._from_label_studio_path(_as_path(value), asking)
        path = _path_at(value, label_studio) if scheme in ("http", "https") else None
        if path is not None:
            return self._from_label_studio_path(path, asking)
        self._check_scheme(scheme)
        if scheme not in ("http", "https"):
            return self._from_cloud(value, task_id, asking)
        return self._download(value, asking)

    def _check_scheme(self, scheme: str) -> None:
        if scheme not in SCHEMES:
            raise TaskError("unsupported-source", f"{scheme}: addresses are not understood; expected {_UNDERSTOOD}")
        if scheme not in self._sources.schemes:
            raise TaskError("refused", f"{scheme}: addresses are not among those allowed")

    def _label_studio(self, host: LabelStudioHost | None) -> LabelStudioHost | None:
        """Decide which Label Studio is meant, and which token it may get."""
        offered = (host.token if host else None) or None
        introduced = host.url if host and host.url and _origin(host.url) else None
        if self._sources.label_studio_url is not None:
            aliases = (*self._sources.label_studio_aliases, *((introduced,) if introduced else ()))
            token = self._sources.token or offered
            return LabelStudioHost(self._sources.label_studio_url, token, aliases, is_configured=True)
        # Our own token stays here: whoever can reach /setup could introduce a host that collects it.
        return LabelStudioHost(introduced, offered) if introduced else None

    def _from_label_studio_path(self, path: str, asking: _Asking) -> Fetched:
        label_studio = asking.label_studio
        if self._sources.local_files_roots and _is_local_file(path, label_studio):
            content = self._from_disk(path, asking.known)
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
        if home is None or not _is_of(split_url(url)[1], home.url):
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

    def _from_disk(self, path: str, known: Validator | None) -> Fetched | None:
        """Read a local file of Label Studio; `None` if no configured folder has it."""
        values = parse_qs(urlsplit(path).query, keep_blank_values=True).get("d") or [""]
        wanted = values[-1].replace("\\", "/")
        if ".." in wanted.split("/") or "\0" in wanted:
            raise TaskError("refused", "a local file's path may not lead out of its folder (..)")
        relative = posixpath.normpath(wanted).lstrip("/")
        for root in self._sources.local_files_roots:
            content = self._read_below(root, relative, known)
            if content is not None:
                return content
        return None

    def _read_below(self, root: Path, relative: str, known: Validator | None) -> Fetched | None:
        """Read a file if it lies below a folder, after all links are followed."""
        try:
            real_root = root.resolve(strict=True)
            real = (real_root / relative).resolve(strict=True)
            if not real.is_relative_to(real_root):
                return None
            # Not blocking, so that a named pipe cannot hold us; no link in place of what was just resolved.
            descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            with open(descriptor, "rb") as file:
                facts = os.fstat(descriptor)
                if not stat.S_ISREG(facts.st_mode):
                    return None
                version = Validator(f"{facts.st_dev}-{facts.st_ino}-{facts.st_size}-{facts.st_mtime_ns}")
                if version == known:
                    return Fetched(None, known)
                content = file.read(self._limits.max_bytes + 1)
        except (OSError, RuntimeError):
            return None
        if len(content) > self._limits.max_bytes:
            raise TaskError("too-large", f"expected at most {self._limits.max_bytes:,} bytes, the local file has more")
        return Fetched(content, version)

    def _from_data_uri(self, uri: str) -> bytes:
        head, comma, body = uri.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise TaskError("unsupported-source", "expected a data URI with base64: data:image/png;base64,...")
        # Four characters stand for three bytes; percent-encoding and line breaks only make it longer.
        if len(body) > self._limits.max_bytes * 4:
            raise TaskError("too-large", f"expected at most {self._limits.max_bytes:,} bytes in the data URI, got more")
        try:
            text = b"".join(unquote_to_bytes(body).split())
            content = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError) as err:
            raise TaskError("not-an-image", "the data URI holds no valid base64") from err
        if len(content) > self._limits.max_bytes:
            raise TaskError(
                "too-large", f"expected at most {self._limits.max_bytes:,} bytes, the data URI has {len(content):,}"
            )
        return content


def show_value(value: str) -> str:
    """Return a value fit for a message: without what may be secret or long."""
    if value[:5].lower() == "data:":
        return "the data URI"
    return show_url(value)


def _scheme(value: str) -> str | None:
    found = _SCHEME.match(value)
    return found[1].lower() if found else None


def _as_path(value: str) -> str:
    """Bring a value without scheme to a path of Label Studio."""
    if value.startswith("//") or "\\" in value.partition("?")[0]:
        raise TaskError("unsupported-source", f"{show_value(value)} is not understood; expected {_UNDERSTOOD}")
    if value.startswith("/upload/"):
        return "/data" + value
    if value.startswith("/"):
        return value
    if value.startswith("upload/"):
        return "/data/" + value
    if value.startswith(("data/", "storage-data/")):
        return "/" + value
    raise TaskError("unsupported-source", f"{show_value(value)} is not understood; expected {_UNDERSTOOD}")


def _path_at(url: str, label_studio: LabelStudioHost | None) -> str | None:
    """Return the path (with query) of an address on Label Studio under any of its names, else `None`."""
    if label_studio is None:
        return None
    parts, origin = split_url(url)
    if not any(_is_of(origin, known) for known in (label_studio.url, *label_studio.aliases)):
        return None
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _origin(url: str) -> Origin | None:
    """Return an address's origin, `None` if it is no address: what a Label Studio says of itself can be anything."""
    try:
        return split_url(url)[1]
    except TaskError:
        return None


def _is_of(origin: Origin, url: str | None) -> bool:
    """Whether an origin is that of an address."""
    known = _origin(url) if url else None
    return known is not None and known.serves(origin)


def _is_local_file(path: str, label_studio: LabelStudioHost | None) -> bool:
    prefix = label_studio.prefix if label_studio else ""
    return urlsplit(path).path.removeprefix(prefix).rstrip("/") == _LOCAL_FILES_PATH
