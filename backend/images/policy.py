"""Which hosts may be asked, and which addresses they may have. Pure."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from backend.errors import SettingsError, TaskError
from backend.images.addresses import Origin

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class HostPolicy:
    """Which hosts may be asked. Label Studio itself always may.

    A pattern is a host name or address, or `*.example.org` for every name below it.

    Attributes:
        allowed_hosts: If not empty, only these.
        denied_hosts: Never these.
        schemes: Ways to ask; also for every hop of a redirect.
        private_hosts: These may have any address.
        allow_private_addresses: Every host may have a private or loopback address. Link-local ones, where clouds keep
            their credentials, stay refused.
    """

    allowed_hosts: tuple[str, ...] = ()
    denied_hosts: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ("http", "https")
    private_hosts: tuple[str, ...] = ()
    allow_private_addresses: bool = False

    def __post_init__(self) -> None:
        """Refuse patterns that would never match."""
        for pattern in (*self.allowed_hosts, *self.denied_hosts, *self.private_hosts):
            if not pattern or "/" in pattern or "*" in pattern.removeprefix("*."):
                raise SettingsError(f"expected a host name or '*.example.org' without scheme or path, got {pattern!r}")

    def check(self, origin: Origin) -> None:
        """Refuse a host by its name, or the way it would be asked.

        Raises:
            TaskError: `refused`.
        """
        host = origin.host
        if origin.scheme not in self.schemes:
            raise TaskError("refused", f"{origin.scheme}: addresses are not among those allowed")
        if _matches(host, self.denied_hosts):
            raise TaskError("refused", f"the host {host} is on the list of denied hosts")
        if self.allowed_hosts and not _matches(host, self.allowed_hosts):
            raise TaskError("refused", f"the host {host} is not on the list of allowed hosts")

    def accepts(self, host: str, address: str) -> bool:
        """Whether a host may have this address (as text)."""
        ip = _innermost(ipaddress.ip_address(address))
        if ip.is_global and not ip.is_multicast:
            return True
        if _matches(host, self.private_hosts):
            return True
        if not self.allow_private_addresses:
            return False
        # ::1 counts as reserved too.
        return ip.is_loopback or not (ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved)


def _matches(host: str, patterns: Iterable[str]) -> bool:
    host = host.rstrip(".")
    return any(
        host.endswith(pattern[1:].lower()) if pattern.startswith("*.") else host == pattern.lower()
        for pattern in patterns
    )


def _innermost(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip
