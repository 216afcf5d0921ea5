"""Which addresses to offer to peers as ICE candidates.

Given ones come first, then those found on the machine's interfaces: IPv4 and IPv6, no link-local
ones (they need a zone that a candidate cannot carry). It looks once, at start; a machine whose
addresses change restarts its media process.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

import ifaddr

ADDRESSES_MAX: Final = 8
"""More would only slow connecting down: peers try every pair."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def candidates(
    *,
    bound: str,
    given: Sequence[str],
    found: Iterable[str],
    ipv6: bool,
    loopback_first: bool,
) -> list[str]:
    """Candidate addresses as `_native.Sfu` takes them, best first.

    bound: the address the sockets are bound to; when it is one of the machine's, nothing that was
    found elsewhere can be reached. given: as in the settings, an address with or without a port.
    found: addresses of the interfaces. loopback_first: whoever signals comes over loopback.
    Raises ValueError naming what is wrong with a given one.
    """
    offered = [_given(text) for text in given]
    own = ipaddress.ip_address(bound)
    reachable = found if own.is_unspecified else [bound]
    usable = [address for address in map(_parsed, reachable) if address is not None]
    kept = [address for address in usable if ipv6 or address.version == 4]
    kept.sort(key=lambda address: (address.is_loopback != loopback_first, address.version))
    offered += [_written(address) for address in kept]
    return list(dict.fromkeys(offered))[:ADDRESSES_MAX]


def interface_addresses() -> list[str]:
    """Every address of every interface of this machine."""
    entries = (entry.ip for adapter in ifaddr.get_adapters() for entry in adapter.ips)
    return [ip if isinstance(ip, str) else ip[0] for ip in entries]


def _parsed(text: str) -> _Address | None:
    address = ipaddress.ip_address(text)
    unusable = address.is_link_local or address.is_multicast or address.is_unspecified
    return None if unusable else address


def _written(address: _Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def _given(text: str) -> str:
    """Checks and normalises `192.0.2.1`, `192.0.2.1:4000`, `2001:db8::1`, `[2001:db8::1]:4000`."""
    try:
        return _written(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError:
        number = 0
    if not 0 < number < 65_536:
        raise ValueError(f"{text!r} is not an IP address with or without a port")
    return f"{_written(address)}:{number}"
