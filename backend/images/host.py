"""Which Label Studio is meant: the one type for it, from /setup to what is asked for a picture. Pure."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit


@dataclass(frozen=True)
class LabelStudioHost:
    """A Label Studio, as the operator configured it or as it introduced itself on /setup.

    Attributes:
        url: Its address, or `None` if it gave none. What it said of itself may be anything, also no address at all.
        token: Legacy or personal access token; never logged.
        aliases: Other addresses under which it appears in tasks.
        is_configured: The operator named it, so it may have any address. One that only introduced itself is a host like
            any other, but for the credentials that it sent itself.
        is_neighbour: It runs on this machine and said so from here, so it may have a loopback address.
    """

    url: str | None = None
    token: str | None = field(default=None, repr=False)
    aliases: tuple[str, ...] = ()
    is_configured: bool = False
    is_neighbour: bool = False

    @property
    def is_loopback(self) -> bool:
        """Its address means whichever machine it is asked from."""
        try:
            name = urlsplit(self.url or "").hostname or ""
            return name == "localhost" or ip_address(name).is_loopback
        except ValueError:
            return False

    @property
    def base_url(self) -> str:
        """Its address without query, fragment and slash at the end; empty if it has none."""
        return urlsplit(self.url or "")._replace(query="", fragment="").geturl().rstrip("/")

    @property
    def prefix(self) -> str:
        """The path below which it lives, with a slash before and none behind; mostly empty."""
        return urlsplit(self.base_url).path

    def address_of(self, path: str) -> str:
        """Return the full address of a path that begins with a slash."""
        # Where Label Studio lives below a path, it writes that path into its own addresses.
        if self.prefix and path.startswith(self.prefix + "/"):
            path = path.removeprefix(self.prefix)
        return self.base_url + path
