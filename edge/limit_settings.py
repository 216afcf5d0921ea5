"""Settings of what one client may take, by address and by key. What they do: `edge/admission.py`.

An address is an IPv4 address or an IPv6 /64. Numbers are a node's; each of its workers grants its
share of them (docs/limits.md). 0 is no limit.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from ops.settings import setting


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What one client may take, by address (IPv4, or IPv6 /64) and by key; 0: no limit."""

    exempt: tuple[str, ...] = setting(
        ("127.0.0.0/8", "::1/128"), "Networks whose addresses are not limited, such as 10.0.0.0/8."
    )
    tracked_max: int = setting(
        20_000, "Addresses, and as many keys, that one worker remembers.", min=16, max=10_000_000
    )
    address_connections_max: int = setting(2_000, "Connections that an address holds.", min=0)
    address_requests_per_second_max: int = setting(
        3_000, "Requests a second of an address; two seconds' worth at once.", min=0
    )
    address_joins_per_minute_max: int = setting(
        600, "Offers to WHIP and WHEP a minute of an address, good or bad.", min=0
    )
    address_sessions_max: int = setting(
        1_000, "WebRTC sessions that an address holds, of the whole node.", min=0
    )
    address_blocked_max: int = setting(
        2_000, "HLS requests of an address that wait for a part.", min=0
    )
    address_failures_per_minute_max: int = setting(
        30, "Unknown keys a minute of an address; then its new keys are not even looked at.", min=0
    )
    key_requests_per_second_max: int = setting(
        0, "Requests a second that show one key; two seconds' worth at once.", min=0
    )
    key_joins_per_minute_max: int = setting(
        0, "Offers to WHIP and WHEP a minute that show one key.", min=0
    )
    key_sessions_max: int = setting(
        0, "WebRTC sessions that one key holds, of the whole node.", min=0
    )
    key_blocked_max: int = setting(0, "HLS requests that show one key and wait for a part.", min=0)
    joins_per_second_max: int = setting(
        500, "Offers a second that the node takes; two seconds' worth at once.", min=0
    )

    def __post_init__(self) -> None:
        check_networks("exempt", self.exempt)


def check_networks(name: str, networks: Sequence[str]) -> None:
    """Raises ValueError when one of them is no network."""
    for text in networks:
        try:
            ipaddress.ip_network(text)
        except ValueError as fault:
            raise ValueError(f"{name}: {fault}; write it as 192.0.2.0/24") from fault
