"""Which candidates a media process offers."""

import ipaddress

import pytest

from media.addresses import ADDRESSES_MAX, candidates, interface_addresses

FOUND = ("127.0.0.1", "::1", "192.0.2.2", "2001:db8::2", "fe80::1", "169.254.3.4")


def offered(**changes: object) -> list[str]:
    arguments: dict[str, object] = {
        "bound": "::",
        "given": (),
        "found": FOUND,
        "ipv6": True,
        "loopback_first": False,
    }
    return candidates(**(arguments | changes))  # type: ignore[arg-type]


def test_loopback_comes_last_unless_signalling_is_there() -> None:
    assert offered() == ["192.0.2.2", "[2001:db8::2]", "127.0.0.1", "[::1]"]
    assert offered(loopback_first=True) == ["127.0.0.1", "[::1]", "192.0.2.2", "[2001:db8::2]"]


def test_ipv6_can_be_left_out() -> None:
    assert offered(ipv6=False) == ["192.0.2.2", "127.0.0.1"]


def test_an_ipv4_socket_offers_ipv4() -> None:
    assert offered(bound="0.0.0.0", ipv6=False) == ["192.0.2.2", "127.0.0.1"]


def test_a_socket_on_one_address_offers_that_one() -> None:
    assert offered(bound="127.0.0.1") == ["127.0.0.1"]


def test_given_addresses_come_first_and_once() -> None:
    given = ("198.51.100.7:4000", "2001:db8::9", "[2001:db8::9]:5000", "192.0.2.2")
    assert offered(given=given)[:5] == [
        "198.51.100.7:4000",
        "[2001:db8::9]",
        "[2001:db8::9]:5000",
        "192.0.2.2",
        "[2001:db8::2]",
    ]


def test_there_are_never_more_than_peers_can_try() -> None:
    many = [f"192.0.2.{number}" for number in range(1, 40)]
    assert len(offered(found=many)) == ADDRESSES_MAX


@pytest.mark.parametrize("wrong", ["host.example", "192.0.2.1:0", "192.0.2.1:99999", "1.2.3", ""])
def test_a_wrong_address_is_named(wrong: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address"):
        offered(given=(wrong,))


def test_this_machine_has_loopback() -> None:
    found = [ipaddress.ip_address(text) for text in interface_addresses()]
    assert any(address.is_loopback for address in found)
