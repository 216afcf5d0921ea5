"""The media process's metrics: what the native plane, the streams and joins count.

The plane's own counters only grow within a process; the differences are added here once a second,
so that they go on growing when the process is replaced. What is told of single streams are tables
(`ops/metric_tables.py`): it goes with the stream. Joins and parts are observed as they happen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from media.messages import StreamChanged
from ops import metric_tables, metrics

_COUNTED: Final = {
    "packets_in": ("received_packets", "Packets received over UDP."),
    "bytes_in": ("received_bytes", "Bytes received over UDP."),
    "packets_out": ("sent_packets", "Packets sent over UDP."),
    "bytes_out": ("sent_bytes", "Bytes sent over UDP."),
    "drops_out": ("unsent_packets", "Packets that could not be sent."),
    "dropped_in": (
        "refused_packets",
        "Packets received and thrown away: malformed, unknown or forged.",
    ),
    "dropped_between": ("overrun_packets", "Packets that another worker had no room for."),
    "units_dropped": ("dropped_units", "Frames and sounds that HLS did not take in time."),
    "rtx_out": ("resent_packets", "Packets sent again on a viewer's request."),
    "nacks_out": ("requested_packets", "Packets that publishers were asked to send again."),
    "plis_out": ("keyframe_requests", "Requests to publishers for a key frame."),
    **{
        name: (name, text)
        for name, text in (
            ("packets_limited", "Packets of publishers that sent more than they may."),
            ("feedback_limited", "RTCP packets of peers that sent more than they may."),
            ("resends_limited", "Packets not sent again: the viewer asked for more than it may."),
            ("keyframes_limited", "Key frames not asked for: the viewer wanted more than it may."),
            (
                "peers_limited",
                "ICE checks unanswered: the address has enough sessions, or is another's.",
            ),
            ("early_dropped", "ICE checks of unknown sessions thrown away."),
        )
    },
    "panics": ("panics", "Sessions ended by a bug in the native plane."),
}
_counters: Final = {
    name: metrics.counter(f"nexus_webrtc_{told}", text) for name, (told, text) in _COUNTED.items()
}
_cpu = metrics.counter("nexus_webrtc_worker_cpu_seconds", "CPU time of the packet workers.")
_sessions = metrics.gauge("nexus_webrtc_sessions", "Publishers and viewers, connecting ones too.")
_opening = metrics.gauge("nexus_webrtc_handshakes", "Sessions that are connecting.")
_streams = metrics.gauge("nexus_streams", "Streams by state: live or waiting.", ["state"])
_overloaded = metrics.counter(
    "nexus_webrtc_overloaded", "Offers refused because the node has no room, by limit.", ("limit",)
)
_ended = metrics.counter(
    "nexus_webrtc_sessions_ended", "Sessions that ended, by reason.", ("reason",)
)
_join = metrics.histogram(
    "nexus_join_seconds",
    "From the POST at the edge until the peer is connected, or until its first media packet: what a"
    " publisher sent or a viewer was sent.",
    ("protocol", "until"),
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0),
)
_late = metrics.histogram(
    "nexus_hls_part_late_seconds",
    "How long after its last sample was captured a part was published.",
    ("rendition",),
    buckets=(0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0),
)
_overloaded.expect(("sessions",), ("handshakes",), ("streams",), ("requests",))
_ENDS: Final = {
    "handshake timed out": "handshake",
    "silent": "silent",
    "peer said goodbye": "goodbye",
    "grant expired": "expired",
}
"""What the native plane and `media/streams.py` say, in a word each."""
_ended.expect(*((word,) for word in (*_ENDS.values(), "failed", "closed")))
_join.expect(*((way, until) for way in ("whip", "whep") for until in ("connected", "media")))
_late.expect(("v",), ("a",))

_STREAM: Final = ("stream",)
_MEDIUM: Final = ("stream", "medium")
_PAIRS: Final = {
    ("bytes_in", "video_bytes_in"): metric_tables.counters(
        "nexus_stream_received_bytes", "RTP payload that came from publishers.", _MEDIUM
    ),
    ("packets_in", "video_packets_in"): metric_tables.counters(
        "nexus_stream_received_packets", "RTP packets that came from publishers.", _MEDIUM
    ),
    ("bytes_out", "video_bytes_out"): metric_tables.counters(
        "nexus_stream_sent_bytes", "RTP payload sent to WebRTC viewers.", _MEDIUM
    ),
    ("packets_out", "video_packets_out"): metric_tables.counters(
        "nexus_stream_sent_packets", "RTP packets sent to WebRTC viewers.", _MEDIUM
    ),
}
"""All media's and video's figure of a native row; the rest of it is audio."""
_SINGLE: Final = {
    "frames_in": metric_tables.counters(
        "nexus_stream_received_frames", "Pictures that came from publishers.", _STREAM
    ),
    "lost_total": metric_tables.counters(
        "nexus_stream_lost_packets",
        "Packets of publishers that did not come, nor were recovered within a second or so.",
        _STREAM,
    ),
    "rtx_in": metric_tables.counters(
        "nexus_stream_recovered_packets", "Lost packets that publishers sent again.", _STREAM
    ),
    "nacks_out": metric_tables.counters(
        "nexus_stream_requested_packets", "Packets that publishers were asked for again.", _STREAM
    ),
    "plis_out": metric_tables.counters(
        "nexus_stream_keyframe_requests", "Key frames that publishers were asked for.", _STREAM
    ),
    "rtx_out": metric_tables.counters(
        "nexus_stream_resent_packets", "Packets sent again to viewers.", _STREAM
    ),
    "nacks_in": metric_tables.counters(
        "nexus_stream_viewer_nacks", "Reports of loss (NACK) by viewers.", _STREAM
    ),
    "plis_in": metric_tables.counters(
        "nexus_stream_viewer_keyframe_requests", "Key frames that viewers asked for.", _STREAM
    ),
}
_restarts = metric_tables.counters(
    "nexus_stream_publisher_restarts", "Publishers that came on air after another one.", _STREAM
)
_live = metric_tables.gauges("nexus_stream_live", "1: live; 0: waits for a publisher.", _STREAM)
_age = metric_tables.gauges(
    "nexus_stream_keyframe_age_seconds", "Since the last key frame of a live stream.", _STREAM
)
_viewers = metric_tables.gauges(
    "nexus_stream_viewers",
    "Viewers: webrtc counts connected sessions, hls estimates players by their requests.",
    ("stream", "protocol"),
)
_rtt = metric_tables.gauges(
    "nexus_stream_publisher_rtt_seconds", "Round trip to the publisher, once known.", _STREAM
)
_hls_age = metric_tables.gauges(
    "nexus_stream_hls_age_seconds", "Since something was published in a live HLS.", _STREAM
)
SETTLED_SECONDS: Final = 2
"""A packet counts as lost once it has been missing for so many rounds of `Gauges.show`."""


@dataclass(frozen=True, slots=True)
class StreamReport:
    """One stream as `Gauges.show` takes it."""

    public: StreamChanged
    native: Mapping[str, Any]
    """The native plane's row, or empty."""
    restarts: int
    hls_age_seconds: float | None
    """None: it has no HLS, or is not live."""


def overloaded(limit: str) -> None:
    """An offer was refused because of that limit of the node."""
    _overloaded.inc(labels=(limit,))


def ended(reason: str) -> None:
    """A session ended; `reason` as the "closed" event has it."""
    word = "failed" if reason.startswith("failed") else _ENDS.get(reason, "closed")
    _ended.inc(labels=(word,))


def joined(protocol: Literal["whip", "whep"], until: str, seconds: float) -> None:
    """A peer has come so far: until "connected" or "media"."""
    _join.observe(max(seconds, 0.0), labels=(protocol, until))


def part_published(rendition: str, late_seconds: float) -> None:
    """A part of HLS can be asked for."""
    _late.observe(max(late_seconds, 0.0), labels=(rendition,))


@dataclass(slots=True)
class _Losses:
    """Packets missing in the last rounds, and the most that was missing all that time."""

    recent: list[int] = field(default_factory=list)
    told: int = 0
    received: int = 0

    def settle(self, missing: int) -> int:
        """What is lost for good: recovery makes `missing` shrink, what was told never does."""
        self.recent = [*self.recent, missing][-1 - SETTLED_SECONDS :]
        self.told = max(self.told, min(self.recent))
        return self.told


class Gauges:
    """Remembers what was counted last."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._losses: dict[str, _Losses] = {}

    def show(self, *, workers: Sequence[dict[str, int]], streams: Sequence[StreamReport]) -> None:
        """Takes over the counts of now; to be called once a second."""
        for name, counter in _counters.items():
            counter.inc(self._grown(name, sum(row.get(name, 0) for row in workers)))
        _cpu.inc(self._grown("cpu_ns", sum(row.get("cpu_ns", 0) for row in workers)) / 1e9)
        _sessions.set(sum(row.get("sessions", 0) for row in workers))
        _opening.set(sum(row.get("handshakes", 0) for row in workers))
        for state in ("live", "waiting"):
            _streams.set(sum(row.public.state == state for row in streams), labels=(state,))
        self._settle_losses(streams)
        _show_counts(streams, {name: losses.told for name, losses in self._losses.items()})
        _show_states(streams)

    def _grown(self, name: str, count: int) -> int:
        before = self._before.get(name, 0)
        self._before[name] = count
        return max(count - before, 0)

    def _settle_losses(self, streams: Sequence[StreamReport]) -> None:
        before, self._losses = self._losses, {}
        for row in streams:
            name = row.public.stream
            losses, received = before.get(name), int(row.native.get("packets_in", 0))
            if losses is None or received < losses.received:
                losses = _Losses()
            losses.received = received
            losses.settle(int(row.native.get("lost_total", 0)))
            self._losses[name] = losses


def _show_counts(streams: Sequence[StreamReport], lost: Mapping[str, int]) -> None:
    for (whole, video), table in _PAIRS.items():
        rows = {}
        for row in streams:
            of_video = int(row.native.get(video, 0))
            rows[row.public.stream, "video"] = float(of_video)
            rows[row.public.stream, "audio"] = float(int(row.native.get(whole, 0)) - of_video)
        table.replace(rows)
    for name, table in _SINGLE.items():
        counts = {(row.public.stream,): float(row.native.get(name, 0)) for row in streams}
        if name == "lost_total":
            counts = {(stream,): float(count) for stream, count in lost.items()}
        table.replace(counts)
    _restarts.replace({(row.public.stream,): float(row.restarts) for row in streams})


def _show_states(streams: Sequence[StreamReport]) -> None:
    live = [row for row in streams if row.public.state == "live"]
    _live.replace({(row.public.stream,): float(row.public.state == "live") for row in streams})
    _age.replace(
        {
            (row.public.stream,): row.public.keyframe_age_ms / 1_000
            for row in live
            if row.public.keyframe_age_ms >= 0
        }
    )
    _viewers.replace(
        {(row.public.stream, "webrtc"): float(row.public.viewers_webrtc) for row in streams}
        | {(row.public.stream, "hls"): float(row.public.viewers_hls) for row in streams}
    )
    _rtt.replace(
        {
            (row.public.stream,): int(row.native["rtt_ms"]) / 1_000
            for row in live
            if int(row.native.get("rtt_ms", -1)) >= 0
        }
    )
    _hls_age.replace(
        {
            (row.public.stream,): row.hls_age_seconds
            for row in live
            if row.hls_age_seconds is not None
        }
    )
