"""Settings of WebRTC.

Kept apart from `plane.py` so that settings load where the native module is not built.
"""

import os
from dataclasses import dataclass
from typing import Final, Literal

from ops.settings import setting

WORKERS_AUTO_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class WebrtcSettings:
    """WebRTC: where packets come in and go out, and how much of it is allowed."""

    listen: str = setting(
        "0.0.0.0",  # noqa: S104  behind DTLS, and settings say otherwise where that is too much
        "Address to bind UDP sockets to; 0.0.0.0 is all, of IPv6 too.",
    )
    port: int = setting(
        8189, "First UDP port; each worker has its own, counting up.", min=0, max=65_000
    )
    workers: int = setting(
        0, "Packet workers, one UDP port each; 0: one a core, at most four.", min=0, max=64
    )
    addresses: tuple[str, ...] = setting(
        (), "Addresses to offer besides those found, such as a public one: 192.0.2.1 or with :port."
    )
    discover: bool = setting(
        default=True, help="Whether to offer the addresses of this machine's interfaces."
    )
    ipv6: bool = setting(default=True, help="Whether to use IPv6 where the machine has it.")
    takeover: Literal["newest", "refuse"] = setting(
        "newest", "When a stream is published twice: the newest replaces the former, or is refused."
    )
    streams_max: int = setting(1_000, "Streams at once; more are answered 503.", min=1, max=100_000)
    sessions_max: int = setting(
        5_000, "Publishers and viewers at once; more are answered 503.", min=1, max=1_000_000
    )
    handshake_ms: int = setting(
        10_000, "A peer must have connected within so many milliseconds.", min=500, max=60_000
    )
    silence_ms: int = setting(
        30_000, "A peer unheard for so many milliseconds is gone.", min=2_000, max=600_000
    )
    handshakes_max: int = setting(
        1_000, "Sessions that may be connecting at once; more are answered 503.", min=1, max=100_000
    )
    handshakes_per_address_max: int = setting(
        500,
        "The same of one address (IPv6: one /64) on one worker; more must wait for their turn.",
        min=1,
        max=100_000,
    )
    sessions_per_address_max: int = setting(
        0,
        "Sessions of one address (IPv6: one /64) on one worker; 0: any number.",
        min=0,
        max=1_000_000,
    )
    early_bytes_max: int = setting(
        131_072,
        "Bytes of ICE checks kept for sessions about to be known, by each worker.",
        min=0,
        max=16_777_216,
    )
    publisher_packets_per_second_max: int = setting(
        20_000, "Packets a second that a publisher may send; 0: any number.", min=0, max=10_000_000
    )
    publisher_bits_per_second_max: int = setting(
        0,
        "Bits of media a second that a publisher may send; 0: any number.",
        min=0,
        max=100_000_000_000,
    )
    feedback_per_second_max: int = setting(
        500, "RTCP packets a second that a peer may send; 0: any number.", min=0, max=1_000_000
    )
    resends_per_second_max: int = setting(
        5_000, "Packets a second sent again to one viewer; 0: any number.", min=0, max=10_000_000
    )
    keyframes_per_minute_max: int = setting(
        30, "Key frames a minute that one viewer may ask for; 0: any number.", min=0, max=60_000
    )
    gop_bytes_max: int = setting(
        8_388_608,
        "Bytes of the current group of pictures kept for new viewers.",
        min=65_536,
        max=268_435_456,
    )
    hold_us: int = setting(
        3_000,
        "Microseconds that a packet waits at most to leave together with others: 30 for each viewer"
        " of a packet worker. The end of a picture waits for none.",
        min=0,
        max=5_000,
    )
    gso: bool = setting(
        default=True, help="Whether to send by UDP segmentation offload where it works."
    )


def worker_count(settings: WebrtcSettings) -> int:
    """Packet workers, and so UDP ports, of a node."""
    return settings.workers or min(os.cpu_count() or 1, WORKERS_AUTO_MAX)
