"""Settings of the HTTP side: where it listens, how many workers, how much a client may take."""

from dataclasses import dataclass

from edge.limit_settings import check_networks
from ops.settings import setting


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server that browsers are told of."""

    url: str
    """Such as stun:stun.example.org:3478 or turn:turn.example.org:3478?transport=udp."""
    username: str = ""
    credential: str = setting("", "Password of a TURN server.", secret=True)

    def __post_init__(self) -> None:
        if not self.url.startswith(("stun:", "stuns:", "turn:", "turns:")):
            raise ValueError("url: an ICE server starts with stun:, stuns:, turn: or turns:")
        if any(
            character in self.url + self.username + self.credential for character in '<>"\\\r\n'
        ):
            raise ValueError("url: an ICE server holds no quotes, angle brackets or line ends")


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The one public port and its limits."""

    listen: tuple[str, ...] = setting(
        ("127.0.0.1:8080",),
        "Addresses to listen on for HTTP, host:port or [IPv6]:port; other than loopback needs"
        " keys or a hook in [auth].",
    )
    workers: int = setting(0, "Edge worker processes; 0 is one per core.", min=0, max=256)
    backlog: int = setting(
        4_096, "Connections that the kernel keeps until a worker takes them.", min=16, max=65_535
    )
    connections_max: int = setting(
        18_000, "Connections a worker serves; more are answered 503.", min=1, max=1_000_000
    )
    head_seconds: float = setting(
        10.0, "Seconds in which the head of a request must arrive.", min=0.1, max=300
    )
    body_seconds: float = setting(
        10.0, "Seconds in which the body of a request must arrive.", min=0.1, max=300
    )
    idle_seconds: float = setting(
        75.0, "Seconds after which a connection without a request is closed.", min=0.1, max=3_600
    )
    stalled_seconds: float = setting(
        30.0, "Seconds after which a client that takes no bytes is cut.", min=1, max=3_600
    )
    stalled_bytes: int = setting(
        16_384, "Bytes that a slow client must take in `stalled_seconds`, or it is cut.", min=1
    )
    spare_connections_max: int = setting(
        16,
        "Connections beyond `connections_max` that are served for /livez, /readyz, /metrics and"
        " /api/v1 alone.",
        min=0,
        max=1_000,
    )
    reserved_files_max: int = setting(
        256,
        "Descriptors that are kept from connections, for HLS files and all else; connections are"
        " lowered to what the limit of open files then carries.",
        min=8,
        max=100_000,
    )
    handshakes_max: int = setting(
        1_000, "TLS handshakes that a worker has in hand at once.", min=1, max=100_000
    )
    sdp_bytes_max: int = setting(
        65_536, "Longest SDP offer or trickle fragment in bytes.", min=1_024, max=131_072
    )
    pipelined_bytes_max: int = setting(
        65_536, "Bytes of further requests that are read while one is answered.", min=16_384
    )
    unsent_bytes_max: int = setting(
        4_194_304, "Unsent bytes of a client above which it gets no further answer.", min=65_536
    )
    hls_cache_bytes_max: int = setting(
        536_870_912, "Bytes of HLS files that one worker keeps in memory.", min=16_777_216
    )
    events_max: int = setting(
        500, "Clients of /api/events that one worker serves.", min=1, max=100_000
    )
    events_heartbeat_seconds: float = setting(
        15.0, "Seconds between signs of life on /api/events.", min=1, max=300
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Networks of proxies whose X-Forwarded-For is believed, such as 192.0.2.0/28; they"
        " themselves are free of limits by address.",
    )
    metrics_public: bool = setting(
        default=False,
        help="Whether /metrics is shown without a key that may control.",
    )
    ice_servers: tuple[IceServer, ...] = setting(
        (),
        "STUN and TURN servers that WHIP and WHEP clients are told of: url, username, credential.",
    )

    def __post_init__(self) -> None:
        if not self.listen:
            raise ValueError("listen: at least one address is needed")
        for address in self.listen:
            split_address(address)
        check_networks("trusted_proxies", self.trusted_proxies)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[IPv6]:port`. Raises ValueError with what is wrong."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"listen: {address!r} is not host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"listen: write an IPv6 address in brackets: [{host}]:{port}")
    if not host:
        raise ValueError(f"listen: {address!r} names no host; write 0.0.0.0 or [::] for all")
    return host, int(port)
