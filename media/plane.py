"""Settings of the packet plane."""

from dataclasses import dataclass

from ops.settings import setting


@dataclass(frozen=True, slots=True)
class WebrtcSettings:
    """Where WebRTC media goes in and out."""

    listen: str = setting("0.0.0.0", "Address of the UDP sockets.")  # noqa: S104
    port: int = setting(8189, "First UDP port; one a worker from there on.", min=0, max=65_535)
    workers: int = setting(
        0, "Native worker threads; 0: one a core, at most four.", min=0, max=64
    )
    ipv6: bool = setting(default=True, help="Whether the UDP sockets also take IPv6.")
