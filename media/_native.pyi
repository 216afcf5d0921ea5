"""The packet data plane (Rust, `media/native`). Typed by hand; checked against the built module.

One `Sfu` is one media shard: worker threads that own one UDP socket each and never hold the GIL.
Python signals (`publish`, `play`, `close`), and drains what happened (`events`) and what was
received (`units`) when `fileno()` becomes readable. All times `*_ns` are nanoseconds; `at_ns` is
the stream's clock: unix time of the instant the unit was captured, the same clock that viewers get
in sender reports.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, final

class SdpError(ValueError):
    """The SDP cannot be read; the message names the line and the reason (HTTP 400)."""

class NotAcceptable(ValueError):
    """The SDP is sound but cannot be served, e.g. no common codec (HTTP 406)."""

class Overloaded(RuntimeError):
    """No room for another session: a limit is reached (HTTP 503).

    Its arguments: the message, and the limit's name: "sessions", "handshakes" or "streams".
    """

class Answer(NamedTuple):
    """What the server answers; the session is registered with its worker before this returns."""

    session: int
    sdp: str
    remote_ufrag: str
    """The peer's ICE username fragment, to tell a trickle fragment from an ICE restart."""

class Event(NamedTuple):
    """Something that happened to a session.

    kind: "connected" (media may flow), "tracks" (a publisher's first media packet has been seen;
    detail is JSON {"video": "H264"|"VP8"|"VP9"|"AV1"|null, "audio": "opus"|null,
    "video_format": fmtp, "audio_format": fmtp}), "playing" (a viewer has been sent its first media
    packet; detail is when, in nanoseconds of CLOCK_MONOTONIC), "closed" (gone; detail is the
    reason: "closed by request", "silent", "handshake timed out", "peer said goodbye", "replaced",
    "stopped", "failed: …"). "closed" is the last event of a session and comes exactly once.
    """

    session: int
    stream: str
    kind: str
    detail: str

class Unit(NamedTuple):
    """One complete access unit of a tapped stream.

    data: H.264: AVCC, 4-byte lengths, without SPS, PPS and AUD; Opus: the packet.
    sps, pps: non-empty on a key frame whenever they changed, and always on a publisher's first.
    lost: something before this unit was lost and not recovered.
    timestamp: RTP timestamp extended to 64 bits, in the track's clock rate (90000 or 48000).
    """

    stream: str
    session: int
    video: bool
    at_ns: int
    timestamp: int
    keyframe: bool
    lost: bool
    data: bytes
    sps: bytes
    pps: tuple[bytes, ...]

@final
class Sfu:
    def __init__(
        self,
        *,
        sockets: Sequence[int],
        addresses: Sequence[str],
        certificate: tuple[bytes, bytes] | None = None,
        gso: bool = True,
        hold_us: int = 0,
        gop_bytes_max: int = 8_388_608,
        sessions_max: int = 5_000,
        silence_ms: int = 30_000,
        handshake_ms: int = 10_000,
        handshakes_max: int = 1_000,
        handshakes_per_address_max: int = 500,
        sessions_per_address_max: int = 0,
        early_bytes_max: int = 131_072,
        publisher_packets_per_second_max: int = 20_000,
        publisher_bits_per_second_max: int = 0,
        feedback_per_second_max: int = 500,
        resends_per_second_max: int = 5_000,
        keyframes_per_minute_max: int = 30,
    ) -> None:
        """Starts one worker thread a socket.

        sockets: descriptors of bound UDP sockets, one a worker; duplicated, the caller keeps its
        own.
        addresses: what to offer as candidates: "192.0.2.1" or "[2001:db8::1]" (with each socket's
        own port) or "198.51.100.7:4000" (a public address behind NAT with its port).
        certificate: DER certificate and DER PKCS#8 key (ECDSA P-256); None makes a new one.
        """
    def publish(self, stream: str, offer: str) -> Answer:
        """A publisher for `stream`. Once its first media arrives it replaces the one before it
        (whose session is closed as "replaced"); viewers stay, their sequence numbers and
        timestamps go on.

        Raises: SdpError, NotAcceptable, Overloaded. Releases the GIL.
        """
    def play(self, stream: str, offer: str) -> Answer:
        """A viewer of `stream`. Raises: as `publish`; NotAcceptable also: nothing is published."""
    def close(self, session: int, reason: str = "closed by request") -> bool:
        """False when there is no such session."""
    def keyframe(self, stream: str) -> bool:
        """Asks the publisher for a key frame, at most once a second. False: no publisher."""
    def tap(self, stream: str, on: bool) -> None:
        """Whether the stream's H.264 and Opus units come out of `units`; it need not exist yet."""
    def fileno(self) -> int:
        """An eventfd, readable when events or units wait."""
    def events(self) -> list[Event]: ...
    def units(self) -> list[Unit]:
        """Drains the units assembled since; batched, at most 50 wake-ups a second."""
    def stats(self) -> list[dict[str, int]]:
        """One dict a worker: packets_out, bytes_out, messages_out, syscalls_out, drops_out,
        packets_in, bytes_in, sessions, handshakes, rtx_out, nacks_out, plis_out, stun_in,
        dropped_in, dropped_between (packets another worker had no room for), units_dropped (first
        worker only: the caller was too slow), panics, cpu_ns, thread_id. What limits turned away:
        packets_limited (of publishers), feedback_limited (RTCP compounds), resends_limited and
        keyframes_limited (that viewers asked for), peers_limited (checks of peers whose address
        has enough sessions, or is another's), early_dropped (checks that came before their
        session)."""
    def streams(self) -> list[dict[str, object]]:
        """One dict a stream: stream, publisher (session or 0), viewers, packets_in, bytes_in,
        video_packets_in, video_bytes_in, frames_in (pictures whose last packet came), lost_in (of
        the publisher on air), lost_total, rtx_in (recovered), nacks_out (packets asked for again),
        keyframe_age_ms (-1: none yet), gop_packets, gop_bytes, plis_out, rtt_ms (-1: unknown), and
        of all its viewers so far packets_out, bytes_out, video_packets_out, video_bytes_out,
        rtx_out, nacks_in, plis_in. lost_total shrinks when a packet is recovered late."""
    def sessions(self) -> list[dict[str, object]]:
        """One dict a session: session, stream, publisher (bool), connected (bool), remote
        ("ip:port" or ""), packets, bytes, lost, rtx, nacks, plis, age_ms, idle_ms, rtt_ms (-1:
        unknown)."""
    def stop(self) -> None:
        """Says goodbye (RTCP BYE), ends the threads, closes the sockets' duplicates. Idempotent."""

@final
class Swarm:
    """The client role, for load tests: many WHIP/WHEP clients, one UDP socket each, on one thread.

    HTTP is the caller's: `offer_viewer` or `offer_publisher` makes an SDP offer, `answer` takes
    what the server said.
    """

    def __init__(self, *, bind: str = "127.0.0.1") -> None: ...
    def offer_viewer(self, *, decrypt: bool = True, feedback: bool = True) -> tuple[int, str]:
        """decrypt: open every SRTP packet (else count by header only); feedback: send RTCP RR."""
    def offer_publisher(
        self,
        *,
        units: Sequence[tuple[bool, int, bool, bytes]],
        loop_ms: int,
        answer_pli: bool = True,
        stamp: bool = False,
        pace_ms: int = 0,
    ) -> tuple[int, str]:
        """units: (video, milliseconds from start, key frame, H.264 Annex B or Opus), looped; a
        picture's packets are spread over pace_ms (0 to 20). stamp: mark each picture, by an SEI in
        a packet of its own, with the time when its last packet is due. Raises ValueError."""
    def answer(self, client: int, sdp: str) -> None: ...
    def close(self, client: int) -> None: ...
    def stats(self, client: int | None = None) -> list[dict[str, int]]:
        """One dict a client, or that of one: client, server_port (the worker's; 0 no answer yet),
        connected_us (offer made to DTLS done, -1 not yet), first_packet_us, packets, bytes, lost,
        duplicates, reordered, decrypt_errors, index_repeats, frames, keyframes, rtx,
        plis_received."""
    def latency(self, *, reset: bool = False) -> list[tuple[int, int]]:
        """How long stamped pictures took, from the stamp to the reading of their last packet by a
        viewer that decrypts: (microseconds at most, how many) since the start or the last reset,
        ascending, to 3 %. The publisher may be another process of this machine."""
    def stop(self) -> None: ...

def send_floor(*, packets: int, sinks: int = 300, gso: bool = False) -> dict[str, int]:
    """What sending costs where nothing is decided: copies, seals (AES-128-GCM) and sends packets of
    1,196 bytes to `sinks` sockets of loopback by sendmmsg, or by segmentation offload. Returns
    packets, cpu_ns of the sending thread, lost. Releases the GIL."""

VERSION: Final[str]
