"""Which hosts and addresses are asked, however they are spelled."""

import pytest

from backend.errors import SettingsError, TaskError
from backend.images.addresses import split_url
from backend.images.policy import HostPolicy

ADDRESSES: dict[str, tuple[str, bool | None, bool | None]] = {
    # name: address, is it asked, and with private ones allowed; None: never, whatever is allowed
    "public": ("93.184.216.34", True, True),
    "public IPv6": ("2606:2800:220:1:248:1893:25c8:1946", True, True),
    "loopback": ("127.0.0.1", False, True),
    "loopback, another": ("127.8.9.1", False, True),
    "loopback IPv6": ("::1", False, True),
    "private 10": ("10.0.0.7", False, True),
    "private 172": ("172.18.0.2", False, True),
    "private 192": ("192.168.1.1", False, True),
    "private IPv6": ("fd00::1", False, True),
    "shared by a provider": ("100.64.0.1", False, True),
    "the cloud's credentials": ("169.254.169.254", None, None),
    "link-local": ("169.254.1.1", False, False),
    "link-local IPv6": ("fe80::1", False, False),
    "link-local IPv6 with a zone": ("fe80::1%eth0", False, False),
    "any": ("0.0.0.0", False, False),
    "any IPv6": ("::", False, False),
    "broadcast": ("255.255.255.255", False, False),
    "multicast": ("224.0.0.1", False, False),
    "loopback in IPv6": ("::ffff:127.0.0.1", False, True),
    "credentials in IPv6": ("::ffff:169.254.169.254", None, None),
    "loopback through NAT64": ("64:ff9b::7f00:1", False, True),
    "public through NAT64": ("64:ff9b::5db8:d822", True, True),
    "loopback through 6to4": ("2002:7f00:1::", False, True),
    "IPv4 in IPv6, an old form": ("::127.0.0.1", None, None),
    "public in that form": ("::93.184.216.34", None, None),
    "Azure's own": ("168.63.129.16", None, None),
    "Azure's own, in IPv6": ("::ffff:168.63.129.16", None, None),
    "Azure's own, through 6to4": ("2002:a83f:8110::1", None, None),
    "Alibaba's credentials": ("100.100.100.200", None, None),
    "AWS's credentials for containers": ("169.254.170.2", None, None),
    "AWS's credentials over IPv6": ("fd00:ec2::254", None, None),
    "site-local IPv6": ("fec0::1", None, None),
    "NAT64 of a local network": ("64:ff9b:1::5db8:d822", None, None),
}


@pytest.mark.parametrize(("address", "accepted", "with_private"), ADDRESSES.values(), ids=ADDRESSES)
def test_which_addresses_are_connected_to(address: str, accepted: bool | None, with_private: bool | None) -> None:
    def asks(**policy: object) -> bool:
        return HostPolicy(**policy).refusal("host.test", address) is None  # type: ignore[arg-type]

    assert asks() is bool(accepted)
    assert asks(allow_private_addresses=True) is bool(with_private)
    assert asks(private_hosts=("host.test",)) is (accepted is not None)
    assert asks(private_hosts=("other.test",)) is bool(accepted)


DENIED_ADDRESSES = {
    "as it is": ("10.0.0.7", "10.0.0.7"),
    "mapped into IPv6": ("10.0.0.7", "::ffff:10.0.0.7"),
    "through NAT64": ("10.0.0.7", "64:ff9b::a00:7"),
    "public": ("93.184.216.34", "93.184.216.34"),
    "IPv6, spelled otherwise": ("2606:2800:0::1", "2606:2800::1"),
    "the list has it mapped": ("::ffff:10.0.0.7", "::ffff:10.0.0.7"),
}


@pytest.mark.parametrize(("denied", "address"), DENIED_ADDRESSES.values(), ids=DENIED_ADDRESSES)
def test_a_denied_address_is_denied_under_every_name(denied: str, address: str) -> None:
    policy = HostPolicy(denied_hosts=(denied,), private_hosts=("host.test",), allow_private_addresses=True)
    assert "denied hosts" in str(policy.refusal("host.test", address))
    assert policy.refusal("host.test", "10.0.0.8") is None


HOSTS = {
    "anything": (HostPolicy(), "site.test", True),
    "allowed": (HostPolicy(allowed_hosts=("site.test",)), "site.test", True),
    "allowed, in other letters": (HostPolicy(allowed_hosts=("Site.TEST",)), "site.test", True),
    "allowed, with a dot at the end": (HostPolicy(allowed_hosts=("site.test",)), "site.test.", True),
    "not allowed": (HostPolicy(allowed_hosts=("site.test",)), "other.test", False),
    "not a part of a name": (HostPolicy(allowed_hosts=("site.test",)), "evilsite.test", False),
    "below": (HostPolicy(allowed_hosts=("*.site.test",)), "a.b.site.test", True),
    "below is not itself": (HostPolicy(allowed_hosts=("*.site.test",)), "site.test", False),
    "below is not beside": (HostPolicy(allowed_hosts=("*.site.test",)), "evilsite.test", False),
    "denied": (HostPolicy(denied_hosts=("site.test",)), "site.test", False),
    "denied with a dot": (HostPolicy(denied_hosts=("site.test",)), "site.test.", False),
    "denied though allowed": (HostPolicy(allowed_hosts=("*.test",), denied_hosts=("a.test",)), "a.test", False),
    "denied, full-width letters": (HostPolicy(denied_hosts=("site.test",)), "ｓｉｔｅ.test", False),
    "denied, ideographic full stop": (HostPolicy(denied_hosts=("site.test",)), "site。test", False),
    "denied, soft hyphen": (HostPolicy(denied_hosts=("site.test",)), "si\N{SOFT HYPHEN}te.test", False),
    "denied in another alphabet": (HostPolicy(denied_hosts=("bücher.test",)), "xn--bcher-kva.test", False),
    "denied as it is written in ASCII": (HostPolicy(denied_hosts=("XN--bcher-kva.test",)), "BÜCHER.test", False),
    "denied below, in another alphabet": (HostPolicy(denied_hosts=("*.bücher.test",)), "a.xn--bcher-kva.test", False),
    "denied by number, shortened": (HostPolicy(denied_hosts=("127.0.0.1",)), "127.1", False),
    "denied by number, hexadecimal": (HostPolicy(denied_hosts=("127.0.0.1",)), "0x7f000001", False),
    "denied by number, octal": (HostPolicy(denied_hosts=("127.0.0.1",)), "0177.0.0.01", False),
    "denied by one number": (HostPolicy(denied_hosts=("0x7f000001",)), "2130706433", False),
    "denied by number, full-width": (HostPolicy(denied_hosts=("127.0.0.1",)), "１２７.１", False),
    "denied IPv6": (HostPolicy(denied_hosts=("2001:db8:0::1",)), "[2001:DB8::0:1]", False),
    "allowed IPv6": (HostPolicy(allowed_hosts=("2001:db8::1",)), "[2001:db8:0:0::1]", True),
}


@pytest.mark.parametrize(("policy", "host", "allowed"), HOSTS.values(), ids=HOSTS)
def test_which_hosts_are_asked(policy: HostPolicy, host: str, allowed: bool) -> None:
    if allowed:
        policy.check(split_url(f"https://{host}/")[1])
        return
    with pytest.raises(TaskError, match="list of") as caught:
        policy.check(split_url(f"https://{host}/")[1])
    assert caught.value.reason == "refused"


@pytest.mark.parametrize(
    "pattern", ["", "http://site.test", "site.test/x", "*", "a.*.test", "*site.test", "a..b", "a b", "1:2", "*."]
)
def test_patterns_that_cannot_match_stop_the_start(pattern: str) -> None:
    with pytest.raises(SettingsError, match="expected a host name"):
        HostPolicy(allowed_hosts=(pattern,))
