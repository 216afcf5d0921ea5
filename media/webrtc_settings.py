"""Settings of WebRTC, and the UDP sockets they ask for.

Kept apart from `plane.py` so that settings load where the native module is not built.
"""

import os
import socket
from dataclasses import dataclass
from typing import Final, Literal

from ops.settings import setting

WORKERS_AUTO_MAX: Final = 4
RECEIVE_BUFFER_BYTES: Final = 4_194_304
"""What a UDP socket asks the kernel for; the machine's `rmem_max` may give less."""


@dataclass(frozen=True, slots=True)
class WebrtcSettings:
    """WebRTC: where packets come in and go out, and how much of it is allowed."""

    listen: str = setting("0.0.0.0", "Address to bind UDP sockets to; 0.0.0.0 is all.")  # noqa: S104
    port: int = setting(
        8189, "First UDP port; each worker has its own, counting up.", min=0, max=65_000
    )
    workers: int = setting(
        0, "Packet workers, one UDP port each; 0: one a core, at most four.", min=0, max=64
    )
    addresses: tuple[str, ...] = setting(
        (), "Addresses to offer besides those found, such as a public one: 192.0.2.1 or with :port."
    )
    discover: bool = setting(True, "Whether to offer the addresses of this machine's interfaces.")  # noqa: FBT003
    ipv6: bool = setting(True, "Whether to use IPv6 where the machine has it.")  # noqa: FBT003
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
    gop_bytes_max: int = setting(
        8_388_608,
        "Bytes of the current group of pictures kept for new viewers.",
        min=65_536,
        max=268_435_456,
    )
    hold_us: int = setting(
        0, "Microseconds to gather packets before they are sent: saves CPU.", min=0, max=5_000
    )
    gso: bool = setting(True, "Whether to send by UDP segmentation offload where it works.")  # noqa: FBT003


def worker_count(settings: WebrtcSettings) -> int:
    """Packet workers, and so UDP ports, of a node."""
    return settings.workers or min(os.cpu_count() or 1, WORKERS_AUTO_MAX)


def bind(settings: WebrtcSettings) -> list[socket.socket]:
    """The workers' UDP sockets; for a media process that inherits none. **Owns**: the caller.

    Dual-stack when all addresses are listened on and IPv6 is wanted and there. Raises OSError.
    """
    bound: list[socket.socket] = []
    try:
        for index in range(worker_count(settings)):
            port = settings.port + index if settings.port else 0
            bound.append(_bind_one(settings, port))
    except OSError:
        for made in bound:
            made.close()
        raise
    return bound


def _bind_one(settings: WebrtcSettings, port: int) -> socket.socket:
    if settings.listen == "0.0.0.0" and settings.ipv6 and socket.has_dualstack_ipv6():  # noqa: S104
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        address = "::"
    else:
        family = socket.AF_INET6 if ":" in settings.listen else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM)
        address = settings.listen
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        made.setblocking(False)  # noqa: FBT003
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made
