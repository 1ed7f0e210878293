"""What is allowed: where pictures may come from, how much of them is taken, and which Label Studio is meant. Pure.

Which Label Studio? The configured one. Only where none is configured, the one that introduced itself on /setup, with
the token that it sent, and then within the rules for hosts that nobody configured (no private addresses).
"""

from dataclasses import dataclass, field
from pathlib import Path

from backend.errors import SettingsError, TaskError
from backend.images.addresses import origin_of, split_url
from backend.images.host import LabelStudioHost
from backend.images.policy import HostPolicy
from backend.images.values import CLOUD_SCHEMES, SCHEMES, UNDERSTOOD


@dataclass(frozen=True)
class ImageLimits:
    """How much of an image is taken.

    Attributes:
        max_bytes: Largest file.
        max_px: Most pixels (height x width), known from the header before anything is decoded.
        max_scans: Most scans of a JPEG, each of which goes over the whole picture again.
        max_decoding_px: Most pixels that are decoded at the same time, over all requests. One takes up to 16 bytes
            meanwhile; a JPEG that is wanted small is decoded small. A larger picture is decoded when no other is.
        decode_s: For decoding one picture, as far as Pillow lets itself be stopped (see `clipdiy.photo.decode_photo`).
        timeout_s: For one download in all: looking up the host, redirects, every byte.
        connect_timeout_s: For each connection to be made.
        max_redirects: Redirects that are followed.
    """

    max_bytes: int = 50_000_000
    max_px: int = 100_000_000
    max_scans: int = 100
    max_decoding_px: int = 100_000_000
    decode_s: float = 20.0
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
        allow_private_addresses: Every host may; see `backend.images.policy.HostPolicy`.
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

    @property
    def host_policy(self) -> HostPolicy:
        """Which hosts may be asked."""
        return HostPolicy(
            allowed_hosts=self.allowed_hosts,
            denied_hosts=self.denied_hosts,
            # Files in a cloud come by https, to which Label Studio redirects.
            schemes=(*self.schemes, "https") if set(CLOUD_SCHEMES) & set(self.schemes) else self.schemes,
            private_hosts=self.private_hosts,
            allow_private_addresses=self.allow_private_addresses,
        )

    def check_scheme(self, scheme: str) -> None:
        """Refuse a kind of address.

        Raises:
            TaskError: `unsupported-source` if there is no such kind, `refused` if it is closed.
        """
        if scheme not in SCHEMES:
            raise TaskError("unsupported-source", f"{scheme}: addresses are not understood; expected {UNDERSTOOD}")
        if scheme not in self.schemes:
            raise TaskError("refused", f"{scheme}: addresses are not among those allowed")

    def label_studio(self, host: LabelStudioHost | None) -> LabelStudioHost | None:
        """Decide which Label Studio is meant, and which token it may get."""
        offered = (host.token if host else None) or None
        introduced = host.url if host and host.url and origin_of(host.url) else None
        if self.label_studio_url is not None:
            aliases = (*self.label_studio_aliases, *((introduced,) if introduced else ()))
            token = self.token or offered
            return LabelStudioHost(self.label_studio_url, token, aliases, is_configured=True)
        # Our own token stays here: whoever can reach /setup could introduce a host that collects it.
        near = host is not None and host.is_neighbour
        return LabelStudioHost(introduced, offered, is_neighbour=near) if introduced else None
