"""Which hosts may be asked, and which addresses they may have. Pure."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from backend.errors import SettingsError, TaskError
from backend.images.addresses import Origin, normal_host

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")
_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.169.254",  # what a cloud tells its machines, with their credentials
        "169.254.170.2",  # the same for containers of AWS
        "169.254.170.23",
        "fd00:ec2::/32",  # the same over IPv6
        "168.63.129.16",  # Azure's
        "100.100.100.200",  # Alibaba's
        "fec0::/10",  # site-local, given up in 2004; Python takes it for public
        "64:ff9b:1::/48",  # NAT64 of a local network: what is behind it cannot be told
    )
)


@dataclass(frozen=True)
class HostPolicy:
    """Which hosts may be asked. Label Studio itself always may.

    A pattern is a host name or address, or `*.example.org` for every name below it, in any spelling.

    Some addresses belong to nobody who has pictures, and are refused whatever is allowed: where clouds keep the
    credentials of their machines, and ways around what can be checked.

    Attributes:
        allowed_hosts: If not empty, only these.
        denied_hosts: Never these. An address among them is refused under every name.
        schemes: Ways to ask; also for every hop of a redirect.
        private_hosts: These may have private, loopback and link-local addresses.
        allow_private_addresses: Every host may have a private or loopback address. Link-local ones stay refused.
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
            try:
                normal_host(pattern.removeprefix("*."))
            except ValueError as err:
                raise SettingsError(f"expected a host name or an address, got {pattern!r}") from err

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

    def refusal(self, host: str, address: str) -> str | None:
        """Say why a host may not be asked at an address that its name leads to; `None` if it may.

        Args:
            host: As in an `Origin`.
            address: An IP address as text.
        """
        outer = ipaddress.ip_address(address)
        ip = _innermost(outer)
        if _is_never_asked(ip):
            return f"{host} leads to an address that is never asked: no pictures are there"
        if _matches(str(ip), self.denied_hosts) or _matches(str(outer), self.denied_hosts):
            return f"{host} leads to an address on the list of denied hosts"
        if (ip.is_global and not ip.is_multicast) or _matches(host, self.private_hosts):
            return None
        # ::1 counts as reserved too.
        is_private = ip.is_loopback or not (ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved)
        if is_private and self.allow_private_addresses:
            return None
        return (
            f"{host} has a private, loopback or link-local address, which is only fetched from if it is the "
            "configured Label Studio or explicitly allowed"
        )


def _matches(host: str, patterns: Iterable[str]) -> bool:
    """Whether a host, in its one form, is on a list."""
    return any(
        host.endswith("." + normal_host(pattern[2:])) if pattern.startswith("*.") else host == normal_host(pattern)
        for pattern in patterns
    )


def _is_never_asked(ip: IpAddress) -> bool:
    if ip in _IPV4_COMPATIBLE and int(ip) > 1:  # ::7f00:1 is 127.0.0.1, by a form given up in 2006; :: and ::1 are not
        return True
    return any(ip in network for network in _NEVER)


def _innermost(ip: IpAddress) -> IpAddress:
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
